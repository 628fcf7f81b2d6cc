//! The codecs, one per file: its format in Kafka's batches, a bounded reader and a writer.

pub(super) mod gzip;
pub(super) mod lz4;
pub(super) mod snappy;
pub(super) mod zstd;
