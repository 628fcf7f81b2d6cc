//! Display of a record: text for people, a JSON object for programs.

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::record::Record;

/// Bytes as text, with replacement characters for invalid UTF-8.
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A key or a value as text.
pub fn text(bytes: Option<&Bytes>) -> String {
    bytes.map_or_else(|| "null".to_owned(), |it| lossy(it))
}

/// Headers as text: `key=value`, separated by commas.
pub fn headers_text(record: &Record) -> String {
    record
        .headers
        .iter()
        .map(|it| format!("{}={}", lossy(&it.key), text(it.value.as_ref())))
        .collect::<Vec<_>>()
        .join(",")
}

/// Record as the fields of a JSON object: offset, timestamp (Unix ms), key, value, headers.
pub fn json(record: &Record) -> Map<String, Value> {
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|it| {
            let mut object = Map::new();
            object.insert("key".into(), lossy(&it.key).into());
            insert_bytes(&mut object, "value", it.value.as_ref());
            Value::Object(object)
        })
        .collect();
    let mut object = Map::new();
    object.insert("offset".into(), json!(record.offset));
    object.insert("timestamp".into(), json!(record.timestamp_ms));
    insert_bytes(&mut object, "key", record.key.as_ref());
    insert_bytes(&mut object, "value", record.value.as_ref());
    object.insert("headers".into(), headers.into());
    object
}

/// Inserts UTF-8 as text under `name`, other bytes as base64 under `name_base64`.
fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&Bytes>) {
    match bytes.map(|it| std::str::from_utf8(it)) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), text.into()),
        Some(Err(_)) => object.insert(
            format!("{name}_base64"),
            bytes.map(|it| BASE64_STANDARD.encode(it)).into(),
        ),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_utf8_is_shown_as_base64() {
        let mut object = Map::new();
        insert_bytes(&mut object, "key", Some(&Bytes::from_static(b"k")));
        insert_bytes(&mut object, "value", Some(&Bytes::from_static(&[0xff])));
        assert_eq!(
            Value::Object(object),
            json!({ "value_base64": "/w==", "key": "k" })
        );
    }
}
