//! What can be wrong with the bytes of a batch.

use super::compression::Compression;

/// Why bytes are not the batch or record they claim to be: they were damaged, or the writer made a batch that must not be
/// stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer bytes than a batch header, or than the batch's own length field, calls for.
    #[error("batch cut short: {needed} bytes needed, {available} there")]
    Truncated { needed: usize, available: usize },

    /// Bytes left after the end of the batch where exactly one batch was expected.
    #[error("{extra} bytes after the end of the batch")]
    TrailingBytes { extra: usize },

    /// The length field is smaller than the rest of the header.
    #[error("batch length {0} is too small to hold a header")]
    InvalidLength(i32),

    /// A message format other than v2.
    #[error("record format (magic) {0} is not supported, only 2")]
    UnsupportedMagic(i8),

    /// The checksum does not match the bytes it covers.
    #[error("CRC-32C mismatch: the batch says {stored:#010x}, its bytes give {computed:#010x}")]
    Crc { stored: u32, computed: u32 },

    /// Attribute bits that this format does not define, or a codec number no codec has.
    #[error("unknown attributes {0:#06x}")]
    UnknownAttributes(i16),

    /// The record count and the span of offsets contradict each other.
    #[error("record count {record_count} does not fit last offset delta {last_offset_delta}")]
    InvalidCount {
        record_count: i32,
        last_offset_delta: i32,
    },

    /// The record at `index` (0 is the first of its batch) does not parse or contradicts its batch.
    #[error("record {index} of the batch is invalid: {reason}")]
    InvalidRecord { index: usize, reason: &'static str },

    /// The compressed bytes are not what their codec can read.
    #[error("{codec} data is invalid: {reason}")]
    Codec { codec: Compression, reason: String },

    /// Decompression was stopped: the output is larger than the caller allows.
    #[error("decompressed records exceed the limit of {limit} bytes")]
    DecompressedTooLarge { limit: u64 },

    /// The records do not fit into one batch (lengths are 32-bit).
    #[error("the records are too large for one batch")]
    TooLarge,

    /// A batch without any record was to be built or produced.
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
