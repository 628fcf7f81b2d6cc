//! Decoding of data from the network. Every length is checked before memory is allocated for it.
//!
//! Three bounds hold for any input:
//! * a string, byte field or tagged field is no longer than the remaining bytes;
//! * an array has no more elements than the remaining bytes could encode at the element's smallest encoding;
//! * all strings and arrays of a message together take at most [`memory_budget`] bytes.
//!
//! Byte fields and record batches are slices of the frame and take no memory of their own.

use std::ops::Range;

use bytes::Bytes;
use thiserror::Error;

use super::wire::{Version, Wire};

/// Longest string in any version of any message, in bytes.
pub(super) const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// A decoding error and its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{problem} (at byte {at} of the body)")]
pub struct DecodeError {
    /// Distance from the start of the decoded bytes.
    pub at: usize,
    pub problem: Problem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Problem {
    #[error("{wanted} bytes needed, {left} left")]
    Truncated { wanted: usize, left: usize },
    #[error("array of {count} elements does not fit into the {left} bytes left")]
    CountExceedsBytes { count: usize, left: usize },
    #[error("negative length {0}")]
    NegativeLength(i64),
    #[error("null is not allowed here")]
    UnexpectedNull,
    #[error("variable-length integer longer than 32 bits")]
    VarintTooLong,
    #[error("string of {0} bytes is longer than the {STRING_BYTES_MAX} allowed")]
    StringTooLong(usize),
    #[error("string is not valid UTF-8")]
    NotUtf8,
    #[error("message would take more memory than its size allows")]
    OverBudget,
    #[error("tagged field has {0} bytes after its value")]
    TagNotConsumed(usize),
    #[error("{0} bytes follow the end of the message")]
    TrailingBytes(usize),
    #[error("version {0} of the message is not supported")]
    UnsupportedVersion(i16),
}

/// Maximum ratio of an element's size in memory to its smallest encoding; checked by `Decoder::nullable_array`.
const MEMORY_RATIO_MAX: usize = 32;

/// Returns the memory in bytes that the strings and arrays of a decoded frame of `frame_bytes` may take.
///
/// A message takes more memory than wire bytes: an empty string is 1 byte on the wire and 24 in memory. The highest ratio
/// of any element in any message is 32, so small frames always fit, whatever they contain. No legitimate frame of many
/// megabytes exists that is neither Produce nor Fetch. For such sizes the bound flattens to 64 MiB plus twice the frame,
/// still several times the size of a request with a million partitions.
pub fn memory_budget(frame_bytes: usize) -> usize {
    let steep = (64 << 10) + frame_bytes.saturating_mul(MEMORY_RATIO_MAX);
    let flat = (64 << 20) + frame_bytes.saturating_mul(2);
    steep.min(flat)
}

/// A cursor over one message.
#[derive(Debug)]
pub struct Decoder {
    bytes: Bytes,
    /// The unread part. Inside a tagged field it ends with the field.
    rest: Range<usize>,
    version: Version,
    budget: usize,
}

impl Decoder {
    pub fn new(bytes: Bytes, version: Version) -> Decoder {
        Decoder {
            rest: 0..bytes.len(),
            budget: memory_budget(bytes.len()),
            version,
            bytes,
        }
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the number of unread bytes.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    pub fn error(&self, problem: Problem) -> DecodeError {
        DecodeError {
            at: self.rest.start,
            problem,
        }
    }

    /// Finishes decoding. Fails if unread bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            left => Err(self.error(Problem::TrailingBytes(left))),
        }
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<Range<usize>, DecodeError> {
        if len > self.rest.len() {
            return Err(self.error(Problem::Truncated {
                wanted: len,
                left: self.rest.len(),
            }));
        }
        let start = self.rest.start;
        self.rest.start += len;
        Ok(start..start + len)
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let range = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[range]);
        Ok(array)
    }

    #[inline]
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    #[inline]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    /// Reads an unsigned integer in groups of 7 bits, lowest first; the top bit of a byte means that another follows.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                return Err(self.error(Problem::VarintTooLong));
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    /// Reads a length or count. In flexible versions it is compact: the length plus one, or 0 for null. Otherwise `fixed`
    /// reads it, with −1 for null.
    fn length(
        &mut self,
        fixed: impl FnOnce(&mut Decoder) -> Result<i32, DecodeError>,
    ) -> Result<Option<usize>, DecodeError> {
        let length = if self.version.flexible {
            i64::from(self.unsigned_varint()?) - 1
        } else {
            i64::from(fixed(self)?)
        };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(self.error(Problem::NegativeLength(length))),
        }
    }

    #[inline]
    fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        match self.budget.checked_sub(bytes) {
            Some(budget) => {
                self.budget = budget;
                Ok(())
            }
            None => Err(self.error(Problem::OverBudget)),
        }
    }

    pub fn nullable_string(&mut self) -> Result<Option<String>, DecodeError> {
        let Some(range) = self.nullable_text()? else {
            return Ok(None);
        };
        match std::str::from_utf8(&self.bytes[range]) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(self.error(Problem::NotUtf8)),
        }
    }

    /// Reads a string that is only displayed. Replaces invalid UTF-8 with `?`, so that the string never becomes longer.
    pub fn nullable_string_for_display(&mut self) -> Result<Option<String>, DecodeError> {
        let Some(range) = self.nullable_text()? else {
            return Ok(None);
        };
        let bytes = &self.bytes[range];
        Ok(Some(match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => replaced(bytes),
        }))
    }

    /// Returns the position of a string in the frame and charges the memory for a copy to the budget.
    fn nullable_text(&mut self) -> Result<Option<Range<usize>>, DecodeError> {
        let Some(len) = self.length(|d| d.i16().map(i32::from))? else {
            return Ok(None);
        };
        // A compact length can be larger, but Kafka allows no longer strings.
        if len > STRING_BYTES_MAX {
            return Err(self.error(Problem::StringTooLong(len)));
        }
        let range = self.take(len)?;
        self.charge(len)?;
        Ok(Some(range))
    }

    /// Reads a byte field or record batches as a slice of the frame.
    pub fn nullable_bytes(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let Some(len) = self.length(Decoder::i32)? else {
            return Ok(None);
        };
        let range = self.take(len)?;
        Ok(Some(self.bytes.slice(range)))
    }

    pub fn nullable_array<T: Wire>(&mut self) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length(Decoder::i32)? else {
            return Ok(None);
        };
        let element_min = T::size_min(self.version).max(1);
        // Depends only on the type and the version, never on the input.
        debug_assert!(
            size_of::<T>() <= MEMORY_RATIO_MAX * element_min,
            "{} takes {} bytes for {element_min} on the wire",
            std::any::type_name::<T>(),
            size_of::<T>(),
        );
        if count > self.left() / element_min {
            return Err(self.error(Problem::CountExceedsBytes {
                count,
                left: self.left(),
            }));
        }
        self.charge(count.saturating_mul(size_of::<T>()))?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::decode(self)?);
        }
        Ok(Some(elements))
    }

    /// Reads the tagged fields at the end of every structure of a flexible version. `field` decodes a known tag and returns
    /// true; tags for which it returns false are skipped. As in Kafka, tags may come in any order, and the last of a
    /// repeated tag wins.
    pub fn tagged_fields(
        &mut self,
        mut field: impl FnMut(&mut Decoder, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.version.flexible {
            return Ok(());
        }
        self.tagged_section(&mut field)
    }

    /// Skips the tagged fields of a header.
    pub(super) fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_section(&mut |_, _| Ok(false))
    }

    fn tagged_section(
        &mut self,
        field: &mut dyn FnMut(&mut Decoder, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let len = self.unsigned_varint()? as usize;
            let value = self.take(len)?;
            let after = value.end..self.rest.end;
            self.rest = value;
            if field(self, tag)? && self.left() > 0 {
                return Err(self.error(Problem::TagNotConsumed(self.left())));
            }
            self.rest = after;
        }
        Ok(())
    }
}

/// Returns the text of `bytes` with each invalid sequence replaced by `?`.
fn replaced(bytes: &[u8]) -> String {
    let pieces = bytes.utf8_chunks().flat_map(|chunk| {
        let replacement = if chunk.invalid().is_empty() { "" } else { "?" };
        [chunk.valid(), replacement]
    });
    pieces.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder(bytes: &'static [u8], flexible: bool) -> Decoder {
        let number = 0;
        Decoder::new(Bytes::from_static(bytes), Version { number, flexible })
    }

    fn problem<T>(result: Result<T, DecodeError>) -> Problem {
        match result {
            Ok(_) => panic!("the input should be rejected"),
            Err(error) => error.problem,
        }
    }

    #[test]
    fn a_varint_has_at_most_32_bits() {
        let mut d = decoder(
            b"\x00\x7f\x80\x01\xff\xff\xff\xff\x0f\x80\x80\x80\x80\x10",
            true,
        );
        let read: Vec<u32> = (0..4).map(|_| d.unsigned_varint().unwrap()).collect();
        assert_eq!(read, [0, 127, 128, u32::MAX]);
        assert_eq!(problem(d.unsigned_varint()), Problem::VarintTooLong);
    }

    #[test]
    fn a_length_of_minus_one_is_null_and_lower_ones_are_rejected() {
        assert_eq!(decoder(b"\xff\xff", false).nullable_string(), Ok(None));
        assert_eq!(decoder(b"\x00", true).nullable_string(), Ok(None));
        let mut below = decoder(b"\xff\xfe", false);
        assert_eq!(
            problem(below.nullable_string()),
            Problem::NegativeLength(-2)
        );
        let mut null = decoder(b"\xff\xff", false);
        assert_eq!(problem(String::decode(&mut null)), Problem::UnexpectedNull);
    }

    #[test]
    fn strings_must_be_utf_8_and_within_the_length_limit() {
        assert_eq!(
            problem(decoder(b"\x02\xff", true).nullable_string()),
            Problem::NotUtf8
        );
        let mut long = Vec::from(b"\x81\x80\x02");
        long.resize(40_000, b'x');
        let version = Version {
            number: 0,
            flexible: true,
        };
        let mut d = Decoder::new(long.into(), version);
        assert_eq!(problem(d.nullable_string()), Problem::StringTooLong(32_768));
    }

    #[test]
    fn invalid_utf_8_for_display_is_replaced_without_growing() {
        let shown = |bytes| decoder(bytes, true).nullable_string_for_display().unwrap();
        assert_eq!(shown(b"\x05caf\xe9"), Some("caf?".to_owned()));
        assert_eq!(shown(b"\x06caf\xc3\xa9"), Some("caf\u{e9}".to_owned()));
        assert_eq!(shown(b"\x05\xff\xff\xf0\x9f"), Some("???".to_owned()));
        assert_eq!(shown(b"\x00"), None);
    }

    #[test]
    fn byte_fields_are_slices_of_the_frame() {
        let frame = Bytes::from(b"\0\0\0\x03abc".to_vec());
        let version = Version {
            number: 0,
            flexible: false,
        };
        let field = Decoder::new(frame.clone(), version)
            .nullable_bytes()
            .unwrap()
            .unwrap();
        assert_eq!(field.as_ptr(), frame[4..].as_ptr());
        assert_eq!(field, "abc");
    }

    /// Reads tag 1 as an `i16` and skips every other.
    fn tag_1(bytes: &'static [u8]) -> Result<i16, DecodeError> {
        let mut d = decoder(bytes, true);
        let mut value = -1;
        d.tagged_fields(|d, tag| {
            if tag == 1 {
                value = d.i16()?;
            }
            Ok(tag == 1)
        })?;
        d.finish()?;
        Ok(value)
    }

    #[test]
    fn unknown_tags_are_skipped_and_the_last_of_a_repeated_tag_wins() {
        assert_eq!(tag_1(b"\x00"), Ok(-1));
        assert_eq!(tag_1(b"\x03\x09\x01x\x01\x02\0\x05\x00\x00"), Ok(5));
        assert_eq!(tag_1(b"\x02\x01\x02\0\x05\x01\x02\0\x06"), Ok(6));
    }

    #[test]
    fn a_tagged_field_must_fill_exactly_its_own_bytes() {
        let longer = tag_1(b"\x01\x01\x03\0\x05\0");
        assert_eq!(problem(longer), Problem::TagNotConsumed(1));
        let shorter = tag_1(b"\x01\x01\x01\0\x05");
        assert_eq!(problem(shorter), Problem::Truncated { wanted: 2, left: 1 });
        let beyond = tag_1(b"\x01\x09\xff\xff\xff\xff\x0f");
        let wanted = u32::MAX as usize;
        assert_eq!(problem(beyond), Problem::Truncated { wanted, left: 0 });
        assert!(tag_1(b"\xff\xff\xff\xff\x0f").is_err());
    }
}
