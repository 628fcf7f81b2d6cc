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
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<ShortRecord> {
        let mut fields = Fields { bytes, at: 0 };
        let body_len = fields.count()?;
        let len = fields.at + body_len;
        // No field is read past the record's end.
        fields.bytes = bytes.get(..len)?;
        fields.at += ATTRIBUTES_LEN;
        let timestamp_delta = fields.number()?;
        let offset_delta = fields.number()?;
        fields.skip_nullable_blob()?; // The key.
        fields.skip_nullable_blob()?; // The value.
        for _ in 0..fields.count()? {
            fields.skip_blob()?;
            fields.skip_nullable_blob()?;
        }
        (fields.at == len).then_some(ShortRecord {
            timestamp_delta,
            offset_delta,
            len,
        })
    }
}

const ATTRIBUTES_LEN: usize = 1;

/// The position between two fields of a record. After a skipped field it may lie past the end, where no number can be read.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    #[inline]
    fn number(&mut self) -> Option<i32> {
        let (number, len) = varint::read_short(self.bytes.get(self.at..)?)?;
        self.at += len;
        Some(number)
    }

    /// Reads a number that is not negative.
    #[inline]
    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    #[inline]
    fn skip_blob(&mut self) -> Option<()> {
        self.at += self.count()?;
        Some(())
    }

    /// Skips a blob; the length −1 stands for null.
    #[inline]
    fn skip_nullable_blob(&mut self) -> Option<()> {
        match self.number()? {
            -1 => {}
            len => self.at += usize::try_from(len).ok()?,
        }
        Some(())
    }
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
