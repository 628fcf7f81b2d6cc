//! The set of open topics: looking them up, creating, deleting and extending them.

#[expect(
    clippy::disallowed_methods,
    reason = "lists directories and checks for files directly"
)]
mod opening;
mod upkeep;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tracing::{error, warn};
use uuid::Uuid;

use super::data_dir::renamed;
use super::environment::Environment;
use super::error::{Error, IoContext};
use super::parallel::{Opening, in_parallel};
use super::partition::Partition;
use super::recovery::{Before, Report};
use super::space::Space;
use super::stats::StorageCounters;
use super::topic::{Topic, TopicInfo, TopicSpec};
use crate::config::{Durability, TopicConfig};
use crate::fs::{Fs, Reserve};

/// Options of the storage layer.
#[derive(Debug, Clone)]
pub struct StorageOptions {
    pub data_dir: PathBuf,
    pub durability: Durability,
    /// The state of a producer that was idle for this long is dropped.
    pub producer_id_expiration_ms: i64,
    pub fs: Fs,
    /// Space for work that must succeed when the disk is full.
    pub reserve: Arc<Reserve>,
    /// Receives the progress of opening.
    pub opening: Arc<Opening>,
    /// Topics whose logs were written by another server and are opened here for the first time.
    pub adopted: HashSet<String>,
}

impl StorageOptions {
    /// Creates options with Kafka's producer expiration, the machine's file system and no reserve.
    pub fn new(data_dir: impl Into<PathBuf>, durability: Durability) -> Self {
        Self {
            data_dir: data_dir.into(),
            durability,
            producer_id_expiration_ms: 24 * 60 * 60 * 1000,
            fs: Fs::new(),
            reserve: Reserve::none(),
            opening: Arc::default(),
            adopted: HashSet::new(),
        }
    }
}

#[derive(Default)]
struct Registry {
    by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

/// All topics of one data directory.
pub struct Topics {
    environment: Arc<Environment>,
    registry: RwLock<Registry>,
    /// Held for changes to the set of topics, their partitions or the checkpoints.
    changes: Mutex<Changes>,
}

struct Changes {
    checkpointed_at: Duration,
    /// Set if the recovery point checkpoint may name deleted partitions.
    points_name_deleted: bool,
    /// Threads that remove the files of deleted topics.
    removals: Vec<std::thread::JoinHandle<()>>,
    closed: bool,
}

impl Topics {
    fn info(&self, spec: &TopicSpec) -> Arc<TopicInfo> {
        Arc::new(TopicInfo {
            name: Arc::from(spec.name.as_str()),
            id: spec.id,
            counters: self.environment.metrics.topic(&spec.name),
            config: RwLock::new(Arc::new(spec.config.clone())),
        })
    }

    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.registry.read().by_name.get(name).cloned()
    }

    pub fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.registry.read().by_id.get(&id).cloned()
    }

    /// Returns all topics, sorted by name.
    pub fn list(&self) -> Vec<Arc<Topic>> {
        self.registry.read().by_name.values().cloned().collect()
    }

    /// Prepares the creation of a topic before it is recorded anywhere. Returns an error if the disk is too full for
    /// it, or if checkpoints name a deleted topic of that name and cannot be rewritten. Blocks.
    pub fn admit_topic(&self, name: &str) -> Result<(), Error> {
        let mut changes = self.changes.lock();
        if self.get(name).is_some() {
            return Err(Error::TopicExists {
                topic: name.to_string(),
            });
        }
        self.admit_growth()?;
        self.clear_checkpoints(name, 0, &mut changes)
    }

    /// Creates a topic with empty partitions. Blocks.
    pub fn create(&self, spec: TopicSpec) -> Result<Arc<Topic>, Error> {
        let mut changes = self.changes.lock();
        if changes.closed {
            return Err(Error::Closed);
        }
        if self.get(&spec.name).is_some() {
            return Err(Error::TopicExists { topic: spec.name });
        }
        self.admit_growth()?;
        self.clear_checkpoints(&spec.name, 0, &mut changes)?;
        let info = self.info(&spec);
        let made = self.create_partitions(&info, 0, spec.partitions);
        let partitions = match made {
            Ok(partitions) => partitions,
            Err(error) => {
                self.environment.metrics.forget_topic(&spec.name);
                return Err(error);
            }
        };
        let topic = self.registry.write().insert(Topic {
            info,
            partitions: RwLock::new(partitions.into()),
        });
        Ok(topic)
    }

    fn create_partitions(
        &self,
        info: &Arc<TopicInfo>,
        from: i32,
        to: i32,
    ) -> Result<Vec<Arc<Partition>>, Error> {
        let new = Before {
            clean: false,
            same_boot: true,
            recovery_point: None,
            log_start: None,
        };
        let count = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
        let made = in_parallel(count, |place| {
            let number = from + place as i32;
            self.open_partition(info, number, new, &mut Report::default())
        });
        made.map_err(|refused| {
            for number in from..to {
                let dir = self
                    .environment
                    .data_dir
                    .join(format!("{}-{number}", info.name));
                if let Err(error) = self.environment.fs.remove_dir_all(&dir) {
                    warn!(dir = %dir.display(), %error, "incomplete log directory not removed");
                }
            }
            self.environment.space.refuse(refused, 0, self.now())
        })
    }

    /// Returns an error if the disk is too full for more topics or partitions; they do not get the reserve's space.
    pub fn admit_growth(&self) -> Result<(), Error> {
        let space = &self.environment.space;
        space
            .admit()
            .map_err(|full| space.refuse(full, 0, self.now()))
    }

    fn now(&self) -> Duration {
        self.environment.clock.monotonic()
    }

    /// Adds partitions to a topic, up to `total`. Blocks.
    pub fn add_partitions(&self, name: &str, total: i32) -> Result<(), Error> {
        let mut changes = self.changes.lock();
        if changes.closed {
            return Err(Error::Closed);
        }
        let topic = self.existing(name)?;
        let have = topic.partition_count();
        if total < have {
            return Err(Error::InvalidPartitionCount {
                topic: name.to_string(),
                have,
                want: total,
            });
        }
        self.admit_growth()?;
        self.clear_checkpoints(name, have, &mut changes)?;
        let added = self.create_partitions(&topic.info, have, total)?;
        let mut partitions = topic.partitions().to_vec();
        partitions.extend(added);
        *topic.partitions.write() = partitions.into();
        Ok(())
    }

    pub fn set_config(&self, name: &str, config: TopicConfig) -> Result<(), Error> {
        let topic = self.existing(name)?;
        *topic.info.config.write() = Arc::new(config);
        Ok(())
    }

    fn existing(&self, name: &str) -> Result<Arc<Topic>, Error> {
        self.get(name).ok_or_else(|| Error::UnknownTopic {
            topic: name.to_string(),
        })
    }

    /// Deletes a topic. Its name is free when this returns; its files are removed in the background. Blocks.
    pub fn delete(&self, name: &str) -> Result<(), Error> {
        let mut changes = self.changes.lock();
        let topic = self.existing(name)?;
        let fs = &self.environment.fs;
        for partition in topic.partitions().iter() {
            partition.retire();
        }
        let mut pending_deletion = Vec::new();
        for partition in topic.partitions().iter() {
            let dir = partition.dir();
            let aside = renamed(dir, Uuid::new_v4(), "delete");
            // A longer name may need space in the directory.
            self.environment.spending(|| match fs.rename(dir, &aside) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other.during("rename", dir),
            })?;
            pending_deletion.push(aside);
        }
        self.registry.write().remove(&topic);
        self.environment.metrics.forget_topic(name);
        // Before the checkpoints are written: on a full disk this makes room for them.
        self.remove_in_background(&mut changes, pending_deletion);
        self.forget_in_checkpoints([name], &mut changes);
        Ok(())
    }

    /// Removes deleted topics from the checkpoints. If those cannot be written now, they are written later, at the
    /// latest before a topic is created.
    fn forget_in_checkpoints<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
        changes: &mut Changes,
    ) {
        for name in names {
            self.environment.log_starts.forget(name, 0);
        }
        changes.points_name_deleted = true;
        let written = match self.write_checkpoints(changes) {
            Err(full) if full.is_disk_full() => {
                changes.join_removals();
                self.write_checkpoints(changes)
            }
            other => other,
        };
        if let Err(error) = written {
            warn!(%error, "checkpoints still name deleted topics, retrying later");
            self.environment.points_stale.store(true, Ordering::Relaxed);
        }
    }

    /// Ensures that no checkpoint names a topic's partitions from `first` on, which are about to be created: the next
    /// start would apply the offsets of a deleted topic to them.
    fn clear_checkpoints(
        &self,
        name: &str,
        first: i32,
        changes: &mut Changes,
    ) -> Result<(), Error> {
        let log_starts = &self.environment.log_starts;
        log_starts.forget(name, first);
        if !log_starts.is_file_stale() && !changes.points_name_deleted {
            return Ok(());
        }
        self.write_checkpoints(changes)
            .map_err(|refused| self.environment.space.refuse(refused, 0, self.now()))
    }

    fn remove_in_background(&self, changes: &mut Changes, pending_deletion: Vec<PathBuf>) {
        if pending_deletion.is_empty() {
            return;
        }
        let fs = self.environment.fs.clone();
        let remove = move || {
            for dir in pending_deletion {
                if let Err(error) = fs.remove_dir_all(&dir) {
                    error!(dir = %dir.display(), %error, "deleted log not removed, retrying at the next start");
                }
            }
        };
        changes.removals.retain(|removal| !removal.is_finished());
        match std::thread::Builder::new()
            .name("log-removal".to_string())
            .spawn(remove)
        {
            Ok(removal) => changes.removals.push(removal),
            Err(error) => warn!(%error, "deleted logs not removed, retrying at the next start"),
        }
    }

    pub(super) fn counters(&self) -> &StorageCounters {
        &self.environment.counters
    }

    pub(super) fn space(&self) -> &Space {
        &self.environment.space
    }

    /// Checks that records can be written; the error says why not. Probes the disk at most every few seconds. Blocks.
    pub fn health(&self) -> Result<(), String> {
        let environment = &self.environment;
        environment
            .health
            .check(environment.clock.as_ref(), &environment.space)
    }
}

impl Changes {
    /// Waits until the files of deleted topics are removed.
    fn join_removals(&mut self) {
        for removal in self.removals.drain(..) {
            if removal.join().is_err() {
                error!("thread that removes deleted logs panicked");
            }
        }
    }
}

impl Registry {
    fn insert(&mut self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        self.by_name
            .insert(Arc::clone(&topic.info.name), Arc::clone(&topic));
        self.by_id.insert(topic.info.id, Arc::clone(&topic));
        topic
    }

    fn remove(&mut self, topic: &Topic) {
        self.by_name.remove(&topic.info.name);
        self.by_id.remove(&topic.info.id);
    }
}
