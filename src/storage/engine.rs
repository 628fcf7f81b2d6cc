//! Storage of all topics as its callers see it.

use std::collections::HashSet;
use std::sync::Arc;

use uuid::Uuid;

use super::common::error::Error;
use super::common::scrape::ScrapedOffsets;
use super::common::topic::{Topic, TopicSpec};
use crate::config::TopicConfig;
use crate::metrics::Samples;

/// All topics of a server. Changes block, and so does upkeep.
pub trait Engine: Send + Sync {
    fn get(&self, name: &str) -> Option<Arc<Topic>>;

    fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>>;

    /// Returns all topics, sorted by name.
    fn list(&self) -> Vec<Arc<Topic>>;

    /// Prepares the creation of a topic before it is recorded anywhere. Returns an error if it could not be created.
    fn admit_topic(&self, name: &str) -> Result<(), Error>;

    /// Returns an error if there is no space for more topics or partitions. Does not block.
    fn admit_growth(&self) -> Result<(), Error>;

    /// Creates a topic with empty partitions.
    fn create(&self, spec: TopicSpec) -> Result<Arc<Topic>, Error>;

    /// Adds partitions to a topic, up to `total`.
    fn add_partitions(&self, name: &str, total: i32) -> Result<(), Error>;

    /// Replaces a topic's config. Does not block.
    fn set_config(&self, name: &str, config: TopicConfig) -> Result<(), Error>;

    /// Deletes a topic. Its name is free when this returns.
    fn delete(&self, name: &str) -> Result<(), Error>;

    /// Applies retention to all topics.
    fn retain(&self, now_ms: i64);

    /// Compacts the log that needs it most. Returns false if none does, or none can be compacted now. May take minutes, and
    /// ends early when the engine is closed.
    fn compact(&self) -> bool {
        false
    }

    /// Returns true if [`flush_due`](Self::flush_due) has anything to do, now or soon. Does not block.
    fn awaits_flush(&self) -> bool {
        false
    }

    /// Makes data durable that has waited for long enough. Called several times a second.
    fn flush_due(&self) {}

    /// Checks the free space. Called about once a second.
    fn watch_space(&self) {}

    /// Checks that records can be written; the error says why not. Blocks.
    fn health(&self) -> Result<(), String>;

    /// Returns where the logs are stored, and its space.
    fn volume(&self) -> Volume;

    /// Writes the samples of every log and returns the offsets among them. Does not block.
    fn collect(&self, out: &mut Samples) -> ScrapedOffsets;

    /// Makes everything durable and closes all logs. Appends are refused afterwards.
    fn close(&self) -> Result<(), Error>;
}

/// The place of an engine's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Such as the path of a directory.
    pub name: String,
    /// `None` if unknown.
    pub total_bytes: Option<u64>,
    pub usable_bytes: Option<u64>,
}

/// Storage whose engine is not open yet.
pub trait Storage: Send {
    /// Finds the topics that the storage holds. They include those that the catalog does not know, such as those written
    /// by another server. Blocks.
    fn found_topics(&self) -> Result<Vec<FoundTopic>, Error> {
        Ok(Vec::new())
    }

    /// Removes the records of a topic that was found. Blocks.
    fn remove_topic(&self, _found: &FoundTopic) -> Result<(), Error> {
        Ok(())
    }

    /// Opens the logs of all topics, recovering those that need it. `adopted` names those that another server wrote and
    /// that are opened here for the first time. Blocks.
    fn open(
        self: Box<Self>,
        specs: Vec<TopicSpec>,
        adopted: HashSet<String>,
    ) -> Result<Arc<dyn Engine>, Error>;
}

/// A topic found in storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTopic {
    pub name: String,
    /// The id stored with it; a new one if there is none.
    pub id: Uuid,
    /// One more than the highest partition number found.
    pub partitions: i32,
}
