//! The engine on local disk, in the format Kafka itself writes.
//!
//! From the outside in:
//!
//! * [`LocalEngine`] owns all topics of a data directory: it creates and deletes them, `engine/opening` opens them,
//!   `engine/upkeep` flushes them, applies retention and closes them.
//! * [`Partition`] is one log with its producers, its durability and its readers.
//! * `log` is the list of segments and the append position; `segment` is one segment file, `segment/lookup` finds batches
//!   in it; `index` holds its two sparse indexes; `scan` reads its batches.
//! * `recovery` opens logs and recovers those that were not closed cleanly, `repair` finds and removes corrupt ranges,
//!   `rewrite` replaces segments atomically, `kafka_swaps` completes replacements that Kafka began, `offset_gap` decides
//!   which gaps between offsets are legal, `compaction` drops superseded records, `retention` selects expired segments, `log_state` tracks what is written,
//!   durable and visible, `checkpoint` reads and writes Kafka's small text files, `space` refuses records while the disk
//!   is full, `health` probes the disk, `stats` counts recoveries, corruption and deletions by retention.
//!
//! Invariants: readers see a prefix of the log in whole batches; corrupt data is never served; a failed append leaves
//! no trace; durable data is never given up for data that is not durable.

mod checkpoint;
mod compaction;
mod data_dir;
mod engine;
mod environment;
mod health;
mod index;
mod kafka_swaps;
mod log;
mod log_state;
mod offset_gap;
mod parallel;
mod partition;
mod recovery;
mod repair;
mod retention;
mod rewrite;
mod scan;
mod segment;
mod space;
mod stats;
#[cfg(test)]
mod tests;
mod transaction_index;
mod unstable;

use super::common::{
    aborted, error, fetch_waiters, opening, producer_state, registry, search, topic, transaction,
    validation,
};

pub use compaction::CompactionOptions;
pub use engine::{LocalEngine, LocalStorage, StorageOptions};
pub use partition::Partition;
