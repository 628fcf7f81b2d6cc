//! The coordinator's view of the topics.

use std::sync::Arc;

use crate::storage::Engine;

/// Topics and their partitions, as the coordinator sees them.
pub trait TopicView: Send + Sync {
    /// Returns the number of partitions, or `None` if the topic does not exist.
    fn partition_count(&self, topic: &str) -> Option<i32>;

    fn has_partition(&self, topic: &str, partition: i32) -> bool {
        let count = self.partition_count(topic);
        count.is_some_and(|count| (0..count).contains(&partition))
    }
}

impl TopicView for Arc<dyn Engine> {
    fn partition_count(&self, topic: &str) -> Option<i32> {
        self.get(topic).map(|topic| topic.partition_count())
    }
}
