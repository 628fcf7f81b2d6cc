//! Encoding of messages: one growing buffer, plus record batches that are passed through without being copied.

use bytes::Bytes;
use thiserror::Error;

use super::decoder::STRING_BYTES_MAX;
use super::wire::{Version, Wire};
use crate::record::Records;

/// Record bytes up to this size are copied into the buffer, which costs less than another chunk for the socket.
const COPIED_RECORDS_BYTES_MAX: usize = 4 << 10;

/// Error of encoding a message at a version. Always a bug in this program, never an error of the peer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    #[error("{field} must not be null in version {version}")]
    NullNotAllowed { field: &'static str, version: i16 },
    #[error("{field} cannot be expressed in version {version}")]
    FieldUnknown { field: &'static str, version: i16 },
    #[error("{0} bytes or elements exceed the protocol's limit")]
    TooLong(usize),
    #[error("version {0} of the message is not supported")]
    UnsupportedVersion(i16),
}

/// A rope: `buffer`, with the records of `passed` inserted at the given positions of the buffer.
#[derive(Debug)]
pub struct Encoder {
    buffer: Vec<u8>,
    passed: Vec<(usize, Records)>,
    version: Version,
}

impl Encoder {
    pub fn new(version: Version) -> Encoder {
        Encoder {
            buffer: Vec::with_capacity(256),
            passed: Vec::new(),
            version,
        }
    }

    pub fn version(&self) -> Version {
        self.version
    }

    #[inline]
    pub fn put_i8(&mut self, value: i8) {
        self.put_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn put_u16(&mut self, value: u16) {
        self.put_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn put_i16(&mut self, value: i16) {
        self.put_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn put_i32(&mut self, value: i32) {
        self.put_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn put_i64(&mut self, value: i64) {
        self.put_slice(&value.to_be_bytes());
    }

    pub fn put_f64(&mut self, value: f64) {
        self.put_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    #[inline]
    pub fn put_unsigned_varint(&mut self, value: u32) {
        if value < 0x80 {
            self.buffer.push(value as u8);
        } else {
            let (bytes, len) = unsigned_varint(value);
            self.put_slice(&bytes[..len]);
        }
    }

    /// Writes a compact length, or calls `fixed` to write it in versions that are not flexible.
    fn put_length(
        &mut self,
        length: usize,
        fixed: impl FnOnce(&mut Encoder, usize) -> Option<()>,
    ) -> Result<(), EncodeError> {
        if self.version.flexible {
            let compact = i32::try_from(length)
                .ok()
                .and_then(|length| length.checked_add(1))
                .ok_or(EncodeError::TooLong(length))?;
            self.put_unsigned_varint(compact as u32);
            Ok(())
        } else {
            fixed(self, length).ok_or(EncodeError::TooLong(length))
        }
    }

    fn put_length_i32(&mut self, length: usize) -> Result<(), EncodeError> {
        self.put_length(length, |e, length| {
            e.put_i32(i32::try_from(length).ok()?);
            Some(())
        })
    }

    pub fn put_string(&mut self, text: &str) -> Result<(), EncodeError> {
        if text.len() > STRING_BYTES_MAX {
            return Err(EncodeError::TooLong(text.len()));
        }
        self.put_length(text.len(), |e, length| {
            e.put_i16(i16::try_from(length).ok()?);
            Some(())
        })?;
        self.put_slice(text.as_bytes());
        Ok(())
    }

    pub fn put_null_string(&mut self) {
        if self.version.flexible {
            self.put_unsigned_varint(0);
        } else {
            self.put_i16(-1);
        }
    }

    pub fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.put_length_i32(bytes.len())?;
        self.put_slice(bytes);
        Ok(())
    }

    /// Writes a null byte field, record field or array.
    pub fn put_null(&mut self) {
        if self.version.flexible {
            self.put_unsigned_varint(0);
        } else {
            self.put_i32(-1);
        }
    }

    pub fn put_records(&mut self, records: &Records) -> Result<(), EncodeError> {
        self.put_length_i32(records.len())?;
        match records {
            Records::Bytes(bytes) if bytes.len() <= COPIED_RECORDS_BYTES_MAX => {
                self.put_slice(bytes);
            }
            records => self.passed.push((self.buffer.len(), records.clone())),
        }
        Ok(())
    }

    pub fn put_array<T: Wire>(&mut self, elements: &[T]) -> Result<(), EncodeError> {
        self.put_length_i32(elements.len())?;
        self.buffer
            .reserve(elements.len() * T::size_min(self.version));
        for element in elements {
            element.encode(self)?;
        }
        Ok(())
    }

    /// Writes a tagged field: tag, length, value. The value is written first and then moved by the size of its length, so
    /// that no field is measured or buffered twice.
    pub fn put_tagged<T: Wire>(&mut self, tag: u32, value: &T) -> Result<(), EncodeError> {
        self.put_unsigned_varint(tag);
        let start = self.buffer.len();
        value.encode(self)?;
        let end = self.buffer.len();
        let (length, length_len) =
            unsigned_varint(u32::try_from(end - start).map_err(|_| EncodeError::TooLong(end))?);
        self.buffer.extend_from_slice(&length[..length_len]);
        self.buffer.copy_within(start..end, start + length_len);
        self.buffer[start..start + length_len].copy_from_slice(&length[..length_len]);
        Ok(())
    }

    /// Returns the number of bytes written so far, records included.
    pub fn len(&self) -> usize {
        self.buffer.len() + self.passed.iter().map(|(_, r)| r.len()).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Overwrites four bytes at `position` of the buffer.
    pub(super) fn set_i32(&mut self, position: usize, value: i32) {
        self.buffer[position..position + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Returns the message as chunks in wire order, none of them empty.
    pub fn into_chunks(self) -> Vec<Records> {
        let mut buffer = Bytes::from(self.buffer);
        let mut chunks = Vec::with_capacity(2 * self.passed.len() + 1);
        let mut cut = 0;
        for (position, records) in self.passed {
            let before = buffer.split_to(position - cut);
            cut = position;
            if !before.is_empty() {
                chunks.push(Records::Bytes(before));
            }
            chunks.push(records);
        }
        if !buffer.is_empty() {
            chunks.push(Records::Bytes(buffer));
        }
        chunks
    }

    /// Returns the message as one buffer, for messages without [`Records`].
    pub(super) fn into_bytes(self) -> Bytes {
        debug_assert!(self.passed.is_empty(), "records passed through");
        Bytes::from(self.buffer)
    }
}

/// Returns the encoded bytes of `value` and their number.
fn unsigned_varint(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut len = 0;
    while value >= 0x80 {
        bytes[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    bytes[len] = value as u8;
    (bytes, len + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::decoder::Decoder;

    const FLEXIBLE: Version = Version {
        number: 0,
        flexible: true,
    };

    #[test]
    fn tagged_fields_of_any_length_have_a_correct_length_prefix() {
        for len in [0, 1, 126, 127, 128, 16_382, 16_383, 20_000] {
            let text = "x".repeat(len);
            let mut encoder = Encoder::new(FLEXIBLE);
            encoder.put_tagged(7, &text).unwrap();
            let mut decoder = Decoder::new(encoder.into_bytes(), FLEXIBLE);
            assert_eq!(decoder.unsigned_varint(), Ok(7));
            assert_eq!(decoder.unsigned_varint(), Ok(decoder.left() as u32));
            assert_eq!(decoder.nullable_string(), Ok(Some(text)));
            assert_eq!(decoder.left(), 0);
        }
    }

    #[test]
    fn strings_above_the_length_limit_are_rejected() {
        let mut encoder = Encoder::new(FLEXIBLE);
        let refused = encoder.put_string(&"x".repeat(32_768));
        assert_eq!(refused, Err(EncodeError::TooLong(32_768)));
    }
}
