//! The log on local disk, in the format Kafka itself writes.
//!
//! From the outside in:
//!
//! * [`Topics`] holds all topics of a data directory: creates and deletes them, `topics/opening` opens them,
//!   `topics/upkeep` flushes, retains and closes them. [`Topic`] is one of them.
//! * [`Partition`] is one log with its producers, its durability and its readers.
//! * `log` is the list of segments and the end that is written; `segment` one file, `segment/lookup` how to find things
//!   in it; `index` its two sparse indexes; `scan` the walk over its batches.
//! * `recovery` opens logs and puts those in order that were not closed cleanly, `inspection` finds and takes out damage,
//!   `retention` says what may go, `durability` keeps the books of what is written, on disk and visible,
//!   `producer_state` recognises retries, `checkpoint` reads and writes Kafka's small text files, `admission` says what
//!   may be appended, `space` refuses records while the disk is full, `health` probes the disk, `stats` is what a scrape
//!   shows.
//!
//! What holds everywhere: what readers see is a prefix of the log and whole batches; nothing that is damaged is served;
//! a failed append leaves no trace; what a disk has promised is never given up for what it has not.
//!
//! Deliberately not known here: API keys, error codes, sockets, HTTP, and who asks.

mod checkpoint;
mod data_dir;
mod environment;
mod error;
mod health;
mod index;
mod log;
mod log_state;
mod parallel;
mod partition;
mod producer_state;
mod recovery;
mod repair;
mod retention;
mod scan;
mod segment;
mod space;
mod stats;
#[cfg(test)]
mod tests;
mod topic;
mod topics;
mod validation;

pub use data_dir::FoundTopic;
pub use error::{Error, TimestampsOutOfRange};
pub use parallel::Opening;
pub use partition::{
    Acks, AppendOptions, Appended, FetchWaiter, Fetched, Offsets, Partition, PartitionSnapshot,
    TimestampedOffset,
};
pub use stats::ScrapedOffsets;
pub use topic::{Topic, TopicInfo, TopicSpec};
pub use topics::{StorageOptions, Topics};
