//! One topic: its name, id, settings and partitions.

use std::sync::Arc;

use parking_lot::RwLock;
use uuid::Uuid;

use super::error::Error;
use crate::config::TopicConfig;
use crate::metrics::{Metrics, TopicCounters};
use crate::storage::PartitionLog;

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
    config: RwLock<Arc<TopicConfig>>,
}

impl TopicInfo {
    pub(in crate::storage) fn new(spec: &TopicSpec, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            name: Arc::from(spec.name.as_str()),
            id: spec.id,
            counters: metrics.topic(&spec.name),
            config: RwLock::new(Arc::new(spec.config.clone())),
        })
    }

    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read())
    }
}

/// One topic.
pub struct Topic {
    info: Arc<TopicInfo>,
    partitions: RwLock<Arc<[Arc<dyn PartitionLog>]>>,
}

impl Topic {
    pub(in crate::storage) fn new(
        info: Arc<TopicInfo>,
        partitions: Arc<[Arc<dyn PartitionLog>]>,
    ) -> Self {
        Self {
            info,
            partitions: RwLock::new(partitions),
        }
    }

    pub(in crate::storage) fn info(&self) -> &Arc<TopicInfo> {
        &self.info
    }

    /// Returns the number of partitions if it can be changed to `total`.
    pub(in crate::storage) fn check_growth(&self, total: i32) -> Result<i32, Error> {
        let have = self.partition_count();
        match total < have {
            true => Err(Error::InvalidPartitionCount {
                topic: self.name().to_string(),
                have,
                want: total,
            }),
            false => Ok(have),
        }
    }

    pub(in crate::storage) fn set_config(&self, config: TopicConfig) {
        *self.info.config.write() = Arc::new(config);
    }

    pub(in crate::storage) fn set_partitions(&self, partitions: Arc<[Arc<dyn PartitionLog>]>) {
        *self.partitions.write() = partitions;
    }

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

    pub fn partition(&self, number: i32) -> Option<Arc<dyn PartitionLog>> {
        let number = usize::try_from(number).ok()?;
        self.partitions.read().get(number).cloned()
    }

    /// Returns the partitions, by number.
    pub fn partitions(&self) -> Arc<[Arc<dyn PartitionLog>]> {
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
