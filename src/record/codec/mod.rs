//! One file per codec: what its bytes look like in Kafka's batches, how they are read with bounds, how they are written.

pub(super) mod gzip;
pub(super) mod lz4;
pub(super) mod snappy;
pub(super) mod zstd;
