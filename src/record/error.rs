//! Errors in the bytes of a batch.

use super::compression::Compression;

/// A defect in the bytes of a batch: they are corrupt, or the producer built a batch that must not be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer bytes than a batch header has, or than the batch's length field says.
    #[error("batch is truncated: {needed} bytes needed, {available} available")]
    Truncated { needed: usize, available: usize },

    /// Bytes left after the end of the batch where exactly one batch was expected.
    #[error("{extra} bytes after the end of the batch")]
    TrailingBytes { extra: usize },

    /// The length field is smaller than the rest of the header.
    #[error("batch length {0} is too small to hold a header")]
    InvalidLength(i32),

    /// A message format other than v2.
    #[error("record format (magic) {0} is not supported; only 2 is")]
    UnsupportedMagic(i8),

    /// The checksum does not match the bytes it covers.
    #[error("CRC-32C mismatch: stored {stored:#010x}, computed {computed:#010x}")]
    Crc { stored: u32, computed: u32 },

    /// Attribute bits that the format does not define, or an unknown codec number.
    #[error("unknown attributes {0:#06x}")]
    UnknownAttributes(i16),

    /// The record count and the range of offsets contradict each other.
    #[error("record count {record_count} does not match last offset delta {last_offset_delta}")]
    InvalidCount {
        record_count: i32,
        last_offset_delta: i32,
    },

    /// The record at `index` (0 is the first of its batch) does not parse, or contradicts its batch.
    #[error("record {index} of the batch is invalid: {reason}")]
    InvalidRecord { index: usize, reason: &'static str },

    /// The codec cannot decompress the data, or compress it.
    #[error("{codec} data is invalid: {reason}")]
    Codec { codec: Compression, reason: String },

    /// Decompression was stopped because the output exceeds the caller's limit.
    #[error("decompressed records exceed the limit of {limit} bytes")]
    DecompressedTooLarge { limit: u64 },

    /// The records do not fit into one batch (lengths are 32-bit).
    #[error("the records are too large for one batch")]
    TooLarge,

    /// An attempt to build or produce a batch without records.
    #[error("a batch needs at least one record")]
    Empty,
}

impl Error {
    pub(super) fn record(index: usize, reason: &'static str) -> Error {
        Error::InvalidRecord { index, reason }
    }

    pub(super) fn codec(codec: Compression, reason: impl ToString) -> Error {
        Error::Codec {
            codec,
            reason: reason.to_string(),
        }
    }
}
