//! The logs of all topics.
//!
//! * `common` holds what every engine shares: errors, validation of batches, producer state, topics.
//! * `local` is the engine on local disk.
//!
//! Deliberately unknown here: API keys, error codes, sockets, HTTP, and clients.

mod common;
mod local;

pub use common::error::{Error, TimestampsOutOfRange};
pub use common::fetch_waiters::FetchWaiter;
pub use common::opening::Opening;
pub use common::scrape::ScrapedOffsets;
pub use common::topic::{Topic, TopicInfo, TopicSpec};
pub use local::{
    Acks, AppendOptions, Appended, Fetched, FoundTopic, Offsets, Partition, PartitionSnapshot,
    StorageOptions, TimestampedOffset, Topics,
};
