//! All topics in memory.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::info;
use uuid::Uuid;

use super::partition::Partition;
use crate::clock::Clock;
use crate::config::TopicConfig;
use crate::metrics::{Counter, Metrics, Samples, catalog};
use crate::storage::common::registry::Registry;
use crate::storage::common::scrape;
use crate::storage::{
    Engine, Error, PartitionLog, ScrapedOffsets, Storage, Topic, TopicInfo, TopicSpec, Volume,
};

/// An engine in memory that is not open yet.
pub struct MemoryStorage {
    /// The state of a producer that was idle for this long is dropped.
    pub producer_id_expiration_ms: i64,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
}

impl Storage for MemoryStorage {
    fn open(
        self: Box<Self>,
        specs: Vec<TopicSpec>,
        _adopted: HashSet<String>,
    ) -> Result<Arc<dyn Engine>, Error> {
        let engine = MemoryEngine {
            retention_bytes: Counter::new(self.metrics.enabled()),
            storage: *self,
            registry: Registry::default(),
            is_closed: Mutex::new(false),
        };
        for spec in specs {
            engine.create(spec)?;
        }
        Ok(Arc::new(engine))
    }
}

/// All topics of a server that keeps nothing.
struct MemoryEngine {
    storage: MemoryStorage,
    registry: Registry<Partition>,
    retention_bytes: Counter,
    /// Locked for changes to the set of topics or their partitions.
    is_closed: Mutex<bool>,
}

impl MemoryEngine {
    fn partitions(&self, info: &Arc<TopicInfo>, from: i32, to: i32) -> Vec<Arc<Partition>> {
        let clock = &self.storage.clock;
        (from..to)
            .map(|number| Partition::new(Arc::clone(info), number, Arc::clone(clock)))
            .map(Arc::new)
            .collect()
    }
}

impl Engine for MemoryEngine {
    fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.registry.get(name)
    }

    fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.registry.get_by_id(id)
    }

    fn list(&self) -> Vec<Arc<Topic>> {
        self.registry.list()
    }

    fn admit_topic(&self, name: &str) -> Result<(), Error> {
        self.registry.check_free(name)
    }

    fn admit_growth(&self) -> Result<(), Error> {
        Ok(())
    }

    fn create(&self, spec: TopicSpec) -> Result<Arc<Topic>, Error> {
        let is_closed = self.is_closed.lock();
        if *is_closed {
            return Err(Error::Closed);
        }
        self.registry.check_free(&spec.name)?;
        let info = TopicInfo::new(&spec, &self.storage.metrics);
        let partitions = self.partitions(&info, 0, spec.partitions);
        Ok(self.registry.insert(info, partitions))
    }

    fn add_partitions(&self, name: &str, total: i32) -> Result<(), Error> {
        let is_closed = self.is_closed.lock();
        if *is_closed {
            return Err(Error::Closed);
        }
        let topic = self.registry.existing(name)?;
        let have = topic.check_growth(total)?;
        let added = self.partitions(topic.info(), have, total);
        self.registry.extend(name, added);
        Ok(())
    }

    fn set_config(&self, name: &str, config: TopicConfig) -> Result<(), Error> {
        self.registry.existing(name)?.set_config(config);
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        let _is_closed = self.is_closed.lock();
        let topic = self.registry.existing(name)?;
        for partition in self.registry.partitions_of(name) {
            partition.end(Error::Deleted);
        }
        self.registry.remove(&topic);
        self.storage.metrics.forget_topic(name);
        Ok(())
    }

    fn retain(&self, now_ms: i64) {
        let producers_before_ms = now_ms.saturating_sub(self.storage.producer_id_expiration_ms);
        for partition in self.registry.partitions() {
            let bytes = partition.retain(now_ms, producers_before_ms);
            if bytes > 0 {
                info!(partition = %(&*partition as &dyn PartitionLog), bytes, "records deleted by retention");
                self.retention_bytes.add(bytes);
            }
        }
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn volume(&self) -> Volume {
        Volume {
            name: "memory".to_string(),
            total_bytes: None,
            usable_bytes: None,
        }
    }

    fn collect(&self, out: &mut Samples) -> ScrapedOffsets {
        out.family(&catalog::RETENTION_DELETED_BYTES_TOTAL)
            .sample(&[], self.retention_bytes.value());
        scrape::collect(&self.list(), out)
    }

    fn close(&self) -> Result<(), Error> {
        *self.is_closed.lock() = true;
        for partition in self.registry.partitions() {
            partition.end(Error::Closed);
        }
        Ok(())
    }
}
