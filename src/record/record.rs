//! One record: key, value, headers.
//!
//! ```text
//!  length            varint, bytes after this field
//!  attributes        i8, unused
//!  timestamp delta   varlong, from the batch's base timestamp
//!  offset delta      varint, from the batch's base offset
//!  key length, key   varint, −1 is null
//!  value length, …   varint, −1 is null (a tombstone in compacted topics)
//!  header count      varint; each: key length, key (UTF-8), value length (−1 is null), value
//! ```
//!
//! Kafka's description: <https://kafka.apache.org/documentation/#record>.

use bytes::Bytes;

use super::varint;

/// A record of a batch, with absolute offset and timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    /// Milliseconds since the Unix epoch; −1 when there is none.
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

/// A record header. Keys may repeat; their order is kept. Kafka requires UTF-8 keys, which is not checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// Appends one record in wire form.
pub(super) fn put(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header],
) {
    let body = 1
        + varint::len(timestamp_delta)
        + varint::len(offset_delta.into())
        + blob_len(key)
        + blob_len(value)
        + varint::len(headers.len() as i64)
        + headers
            .iter()
            .map(|header| blob_len(Some(&header.key)) + blob_len(header.value.as_deref()))
            .sum::<usize>();
    varint::put(out, body as i64);
    out.push(0);
    varint::put(out, timestamp_delta);
    varint::put(out, offset_delta.into());
    put_blob(out, key);
    put_blob(out, value);
    varint::put(out, headers.len() as i64);
    for header in headers {
        put_blob(out, Some(&header.key));
        put_blob(out, header.value.as_deref());
    }
}

fn blob_len(blob: Option<&[u8]>) -> usize {
    match blob {
        Some(blob) => varint::len(blob.len() as i64) + blob.len(),
        None => 1,
    }
}

fn put_blob(out: &mut Vec<u8>, blob: Option<&[u8]>) {
    match blob {
        Some(blob) => {
            varint::put(out, blob.len() as i64);
            out.extend_from_slice(blob);
        }
        None => varint::put(out, -1),
    }
}
