//! The cluster's id.

use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::error::Error;

pub(super) fn load_or_create(db: &Connection) -> Result<String, Error> {
    let stored: Option<String> = db
        .query_row(
            "SELECT value FROM meta WHERE key = 'cluster_id'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(id) = stored {
        return Ok(id);
    }
    let id = random();
    db.execute(
        "INSERT INTO meta (key, value) VALUES ('cluster_id', ?1)",
        [&id],
    )?;
    Ok(id)
}

/// A random id whose text does not begin with a dash, which command lines would take for an option.
fn random() -> String {
    loop {
        let id = url_safe_base64(Uuid::new_v4().as_bytes());
        if !id.starts_with('-') {
            return id;
        }
    }
}

fn url_safe_base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .chain([&0, &0])
            .take(3)
            .fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        // A chunk of n bytes needs n + 1 digits; the padding is left out.
        for digit in 0..=chunk.len() {
            text.push(char::from(
                ALPHABET[(word >> (18 - 6 * digit) & 63) as usize],
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_kafka_writes_them() {
        assert_eq!(url_safe_base64(&[0xfb, 0xff, 0xfe]), "-__-");
        assert_eq!(url_safe_base64(b"M"), "TQ");
        assert_eq!(url_safe_base64(b"Ma"), "TWE");
        assert_eq!(random().len(), 22);
    }
}
