//! One topic: its name, id, settings and partitions.

use std::sync::Arc;

use parking_lot::RwLock;
use uuid::Uuid;

use crate::config::TopicConfig;
use crate::metrics::TopicCounters;
use crate::storage::local::Partition;

/// The specification of a topic.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    pub name: String,
    pub id: Uuid,
    pub partitions: i32,
    pub config: TopicConfig,
}

/// The part of a topic that its partitions share.
pub struct TopicInfo {
    pub name: Arc<str>,
    pub id: Uuid,
    pub counters: Arc<TopicCounters>,
    pub(in crate::storage) config: RwLock<Arc<TopicConfig>>,
}

impl TopicInfo {
    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read())
    }
}

/// One topic.
pub struct Topic {
    pub(in crate::storage) info: Arc<TopicInfo>,
    pub(in crate::storage) partitions: RwLock<Arc<[Arc<Partition>]>>,
}

impl Topic {
    pub fn name(&self) -> &Arc<str> {
        &self.info.name
    }

    pub fn id(&self) -> Uuid {
        self.info.id
    }

    pub fn config(&self) -> Arc<TopicConfig> {
        self.info.config()
    }

    pub fn counters(&self) -> &Arc<TopicCounters> {
        &self.info.counters
    }

    pub fn partition(&self, number: i32) -> Option<Arc<Partition>> {
        let number = usize::try_from(number).ok()?;
        self.partitions.read().get(number).cloned()
    }

    /// Returns the partitions, by number.
    pub fn partitions(&self) -> Arc<[Arc<Partition>]> {
        Arc::clone(&self.partitions.read())
    }

    pub fn partition_count(&self) -> i32 {
        self.partitions.read().len() as i32
    }
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Topic({}, {})", self.info.name, self.info.id)
    }
}
