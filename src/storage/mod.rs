//! The logs of all topics, behind two traits.
//!
//! * `partition` has [`PartitionLog`], one log: appends, reads and offsets. `engine` has [`Engine`], all of them: creating,
//!   deleting, upkeep.
//! * `common` holds what every engine shares: errors, validation of batches, producer state, topics.
//! * [`local`] is the engine on local disk, [`memory`] the one that keeps nothing.
//!
//! Callers use the traits and know no engine, except where they choose one. Deliberately unknown here: API keys, error
//! codes, sockets, HTTP, and clients.

#[cfg(test)]
mod committed_reader;
mod common;
#[cfg(test)]
mod conformance;
mod engine;
pub mod local;
pub mod memory;
mod partition;

pub use common::error::{Error, RecordsWithoutKey, TimestampsOutOfRange};
pub use common::fetch_waiters::FetchWaiter;
pub use common::opening::Opening;
pub use common::scrape::ScrapedOffsets;
pub use common::topic::{Topic, TopicInfo, TopicSpec};
pub use common::transaction::{
    AbortedTransaction, ProducerInfo, TransactionMarker, TransactionOutcome,
};
pub use engine::{Engine, FoundTopic, Storage, Volume};
pub use partition::{
    Acks, AppendOptions, Appended, Fetched, Isolation, Offsets, PartitionLog, PartitionSnapshot,
    ReadOptions, ReadTicket, Ticket, TimestampedOffset,
};
