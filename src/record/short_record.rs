//! Records of the shape that nearly all records have, parsed with few instructions.
//!
//! This parser only ever accepts. If it does not recognise a record, whether that is valid or not, the parser of
//! [`iter`](super::iter) decides and gives the reason. Both must accept the same bytes; a property test compares them.

use super::varint;

/// A valid record whose numbers have at most [`varint::SHORT_LEN_MAX`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShortRecord {
    pub timestamp_delta: i32,
    pub offset_delta: i32,
    /// Length in bytes, including the length prefix.
    pub len: usize,
}

impl ShortRecord {
    /// Parses the record at the start of `bytes`; `None` if it is not short, not valid or not complete.
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Option<ShortRecord> {
        let (body_len, body) = count(bytes, 0)?;
        let len = body + body_len;
        // No field is read past the record's end.
        let record = bytes.get(..len)?;
        let (timestamp_delta, at) = varint::read_short(record, body + ATTRIBUTES_LEN)?;
        let (offset_delta, key) = varint::read_short(record, at)?;
        let value = after_nullable_blob(record, key)?;
        let headers = after_nullable_blob(record, value)?;
        let (header_count, mut end) = count(record, headers)?;
        for _ in 0..header_count {
            let (key_len, key) = count(record, end)?;
            end = after_nullable_blob(record, key + key_len)?;
        }
        (end == len).then_some(ShortRecord {
            timestamp_delta: varint::unzigzag_short(timestamp_delta),
            offset_delta: varint::unzigzag_short(offset_delta),
            len,
        })
    }
}

const ATTRIBUTES_LEN: usize = 1;

/// Reads a number that is not negative at position `at`. Returns it with the position that follows.
#[inline(always)]
fn count(record: &[u8], at: usize) -> Option<(usize, usize)> {
    let (raw, after) = varint::read_short(record, at)?;
    is_not_negative(raw).then_some(((raw >> 1) as usize, after))
}

/// Returns the position after a blob, which may lie past the end of the record, where no number can be read. The length −1
/// stands for null.
#[inline(always)]
fn after_nullable_blob(record: &[u8], at: usize) -> Option<usize> {
    let (raw_len, blob) = varint::read_short(record, at)?;
    match raw_len {
        _ if is_not_negative(raw_len) => Some(blob + (raw_len >> 1) as usize),
        RAW_NULL => Some(blob),
        _ => None,
    }
}

/// The encoded length −1.
const RAW_NULL: u32 = 1;

/// Returns true for the encoding of a number that is not negative, which is then half of the encoded number.
#[inline(always)]
fn is_not_negative(raw: u32) -> bool {
    raw & 1 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, BatchHeader, Compression, Header};

    /// Builds the bytes of one record.
    fn record(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(1_000, key, value, headers);
        builder.build().unwrap().bytes()[BatchHeader::LEN..].to_vec()
    }

    #[test]
    fn common_records_are_recognised_with_all_their_bytes() {
        let header = Header {
            key: "trace".into(),
            value: None,
        };
        for bytes in [
            record(None, None, &[]),
            record(Some(b"key"), Some(&[7; 100]), &[]),
            record(None, Some(&[7; 10_000]), &[header.clone(), header]),
        ] {
            let len = bytes.len();
            let parsed = ShortRecord::parse(&[&bytes[..], &[0xff; 20]].concat());
            let expected = ShortRecord {
                timestamp_delta: 0,
                offset_delta: 0,
                len,
            };
            assert_eq!(parsed, Some(expected));
        }
    }

    #[test]
    fn no_incomplete_record_is_recognised() {
        let bytes = record(Some(b"key"), Some(b"value"), &[]);
        for len in 0..bytes.len() {
            assert_eq!(ShortRecord::parse(&bytes[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn a_record_longer_or_shorter_than_its_fields_is_not_recognised() {
        let bytes = record(Some(b"key"), Some(b"value"), &[]);
        for change in [-2, 2] {
            let mut bytes = [&bytes[..], &[0; 8]].concat();
            bytes[0] = bytes[0].wrapping_add_signed(change);
            assert_eq!(ShortRecord::parse(&bytes), None);
        }
    }

    #[test]
    fn longer_numbers_are_left_to_the_general_parser() {
        assert_eq!(
            ShortRecord::parse(&record(None, Some(&[7; 1 << 20]), &[])),
            None
        );
    }
}
