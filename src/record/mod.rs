//! Record batches: Kafka's message format v2, the only one Streamline stores and speaks.
//!
//! This area owns the bytes of a batch: a zero-copy view over one ([`RecordBatch`]), its checks (length, magic,
//! CRC-32C, counts, attributes), iteration over its records, the four compression codecs, and the builder that makes
//! new batches. It knows nothing of topics, files' names, requests or error codes.
//!
//! Invariants:
//! * A [`RecordBatch`] in hand has passed every check that needs no decompression. Parse once, then trust.
//! * No length read from a batch is used for an allocation before the bytes it speaks of have been seen, and
//!   decompression stops at a [`DecompressLimit`]. Nothing here panics, whatever the bytes are.
//!
//! Start reading at [`batch`]; the layout is drawn there.

mod batch;
mod builder;
mod codec;
mod compression;
mod control;
mod error;
#[cfg(test)]
mod fixture_tests;
mod iter;
#[cfg(test)]
mod property_tests;
#[expect(
    clippy::module_inception,
    reason = "the noun `record` lives in the area `record`"
)]
mod record;
mod records;
mod varint;

pub use batch::{Attributes, BatchHeader, RecordBatch, TimestampType};
pub use builder::BatchBuilder;
pub use compression::{Compression, DecompressLimit, compress, decompress};
pub use control::{ControlRecord, ControlType};
pub use error::Error;
pub use iter::{RecordIter, RecordsSummary};
pub use record::{Header, Record};
pub use records::{FileRegion, Records};

/// What this area's fallible functions return.
pub type Result<T> = std::result::Result<T, Error>;
