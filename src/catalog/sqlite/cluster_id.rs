//! The cluster's id.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use crate::catalog::Error;

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

/// Returns a random id that does not begin with a dash, which command lines would take for an option.
fn random() -> String {
    loop {
        let id = BASE64_URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes());
        if !id.starts_with('-') {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_as_long_as_kafkas() {
        assert_eq!(random().len(), 22);
    }
}
