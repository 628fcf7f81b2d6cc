//! Record batches: Kafka's message format v2, the only format that Streamline stores and serves.
//!
//! This area owns the bytes of a batch: a zero-copy view of it ([`RecordBatch`]), its checks (length, magic, CRC-32C,
//! counts, attributes), iteration over its records, the four compression codecs, and the builder of new batches. It
//! knows nothing of topics, file names, requests or error codes.
//!
//! Invariants:
//! * A [`RecordBatch`] has passed every check that needs no decompression. Parse once, then trust.
//! * No length read from a batch is used for an allocation before that many bytes have been seen, and decompression
//!   stops at a [`DecompressLimit`]. Nothing here panics, whatever the input.
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
    reason = "the type of a single record belongs to a file of its name"
)]
mod record;
mod records;
mod retain;
mod short_record;
mod varint;

pub use batch::{Attributes, BatchHeader, RecordBatch, TimestampType};
pub use builder::BatchBuilder;
pub use compression::{Compression, DecompressLimit, compress, decompress};
pub use control::{ControlRecord, ControlType};
pub use error::Error;
pub use iter::{RecordIter, RecordsSummary};
pub use record::{Header, Record};
pub use records::{FileRegion, Records};
pub use retain::{Retained, StoredRecord, StoredRecords};

/// The result type of this area.
pub type Result<T> = std::result::Result<T, Error>;
