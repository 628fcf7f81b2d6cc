//! The open topics of a data directory: creating, deleting and extending them.

mod compacting;
mod opening;
mod storage;
mod upkeep;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{error, warn};
use uuid::Uuid;

pub use self::storage::LocalStorage;

use super::compaction::{CompactionOptions, Compactor};
use super::data_dir::renamed;
use super::environment::Environment;
use super::error::{Error, IoContext};
use super::opening::Opening;
use super::parallel::in_parallel;
use super::partition::{Partition, Unsynced};
use super::recovery::{Before, Report};
use super::registry::Registry;
use super::topic::{Topic, TopicInfo, TopicSpec};
use crate::config::{Durability, TopicConfig};
use crate::fs::{Fs, Reserve};
use crate::metrics::Samples;
use crate::storage::common::scrape;
use crate::storage::{Engine, ScrapedOffsets, Volume};

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
    pub compaction: CompactionOptions,
}

impl StorageOptions {
    /// Creates options with Kafka's producer expiration and compaction, the machine's file system and no reserve.
    pub fn new(data_dir: impl Into<PathBuf>, durability: Durability) -> Self {
        Self {
            data_dir: data_dir.into(),
            durability,
            producer_id_expiration_ms: 24 * 60 * 60 * 1000,
            fs: Fs::new(),
            reserve: Reserve::none(),
            opening: Arc::default(),
            adopted: HashSet::new(),
            compaction: CompactionOptions::default(),
        }
    }
}

/// All topics of one data directory.
pub struct LocalEngine {
    pub(super) environment: Arc<Environment>,
    registry: Registry<Partition>,
    unsynced: Arc<Unsynced>,
    compactor: Compactor,
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

impl Engine for LocalEngine {
    fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.registry.get(name)
    }

    fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.registry.get_by_id(id)
    }

    fn list(&self) -> Vec<Arc<Topic>> {
        self.registry.list()
    }

    /// Prepares the creation of a topic before it is recorded anywhere. Returns an error if the disk is too full for
    /// it, or if checkpoints name a deleted topic of that name and cannot be rewritten. Blocks.
    fn admit_topic(&self, name: &str) -> Result<(), Error> {
        let mut changes = self.changes.lock();
        self.registry.check_free(name)?;
        self.admit_growth()?;
        self.clear_checkpoints(name, 0, &mut changes)
    }

    /// Returns an error if the disk is too full for more topics or partitions; they do not get the reserve's space.
    fn admit_growth(&self) -> Result<(), Error> {
        let space = &self.environment.space;
        space
            .admit()
            .map_err(|full| space.refuse(full, 0, self.now()))
    }

    /// Creates a topic with empty partitions. Blocks.
    fn create(&self, spec: TopicSpec) -> Result<Arc<Topic>, Error> {
        let mut changes = self.changes.lock();
        if changes.closed {
            return Err(Error::Closed);
        }
        self.registry.check_free(&spec.name)?;
        self.admit_growth()?;
        self.clear_checkpoints(&spec.name, 0, &mut changes)?;
        let info = TopicInfo::new(&spec, &self.environment.metrics);
        let made = self.create_partitions(&info, 0, spec.partitions);
        let partitions = match made {
            Ok(partitions) => partitions,
            Err(error) => {
                self.environment.metrics.forget_topic(&spec.name);
                return Err(error);
            }
        };
        Ok(self.registry.insert(info, partitions))
    }

    /// Adds partitions to a topic, up to `total`. Blocks.
    fn add_partitions(&self, name: &str, total: i32) -> Result<(), Error> {
        let mut changes = self.changes.lock();
        if changes.closed {
            return Err(Error::Closed);
        }
        let topic = self.registry.existing(name)?;
        let have = topic.check_growth(total)?;
        self.admit_growth()?;
        self.clear_checkpoints(name, have, &mut changes)?;
        let added = self.create_partitions(topic.info(), have, total)?;
        self.registry.extend(name, added);
        Ok(())
    }

    fn set_config(&self, name: &str, config: TopicConfig) -> Result<(), Error> {
        self.registry.existing(name)?.set_config(config);
        Ok(())
    }

    /// Deletes a topic. Its name is free when this returns; its files are removed in the background. Blocks.
    fn delete(&self, name: &str) -> Result<(), Error> {
        let mut changes = self.changes.lock();
        let topic = self.registry.existing(name)?;
        let fs = &self.environment.fs;
        let partitions = self.registry.partitions_of(name);
        for partition in &partitions {
            partition.retire();
        }
        let mut pending_deletion = Vec::new();
        for partition in &partitions {
            let dir = partition.dir();
            let aside = renamed(dir, Uuid::new_v4(), "delete");
            // A longer name may need space in the directory.
            self.environment.spending(|| match fs.rename(dir, &aside) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other.during("rename", dir),
            })?;
            pending_deletion.push(aside);
        }
        self.registry.remove(&topic);
        self.environment.metrics.forget_topic(name);
        // Before the checkpoints are written: on a full disk this makes room for them.
        self.remove_in_background(&mut changes, pending_deletion);
        self.forget_in_checkpoints([name], &mut changes);
        Ok(())
    }

    fn retain(&self, now_ms: i64) {
        LocalEngine::retain(self, now_ms);
    }

    fn compact(&self) -> bool {
        LocalEngine::compact(self)
    }

    fn awaits_flush(&self) -> bool {
        LocalEngine::awaits_flush(self)
    }

    fn flush_due(&self) {
        LocalEngine::flush_due(self);
    }

    fn watch_space(&self) {
        let environment = &self.environment;
        environment.space.watch(environment.clock.monotonic());
    }

    fn health(&self) -> Result<(), String> {
        let environment = &self.environment;
        environment
            .health
            .check(environment.clock.as_ref(), &environment.space)
    }

    fn volume(&self) -> Volume {
        self.environment.space.volume()
    }

    fn collect(&self, out: &mut Samples) -> ScrapedOffsets {
        self.environment.counters.collect(out);
        self.compactor.collect(out);
        self.environment.space.collect(out);
        scrape::collect(&self.list(), out)
    }

    fn close(&self) -> Result<(), Error> {
        LocalEngine::close(self)
    }
}

impl LocalEngine {
    /// Returns a partition as this engine's own type.
    pub fn partition(&self, topic: &str, number: i32) -> Option<Arc<Partition>> {
        let partitions = self.registry.partitions_of(topic);
        partitions.get(usize::try_from(number).ok()?).cloned()
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
            compacted_to: None,
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

    fn now(&self) -> Duration {
        self.environment.clock.monotonic()
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
            self.environment.cleaner_offsets.forget(name, 0);
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
        let environment = &self.environment;
        let files = [&environment.log_starts, &environment.cleaner_offsets];
        for file in files {
            file.forget(name, first);
        }
        if !files.iter().any(|file| file.is_file_stale()) && !changes.points_name_deleted {
            return Ok(());
        }
        self.write_checkpoints(changes)
            .map_err(|refused| environment.space.refuse(refused, 0, self.now()))
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
