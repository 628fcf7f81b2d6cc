//! The open topics of a data directory: creating, deleting and extending them.

mod opening;
mod seam;
mod upkeep;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{error, warn};
use uuid::Uuid;

pub use self::seam::LocalStorage;

use super::data_dir::renamed;
use super::environment::Environment;
use super::error::{Error, IoContext};
use super::opening::Opening;
use super::parallel::in_parallel;
use super::partition::{Partition, Unsynced};
use super::recovery::{Before, Report};
use super::registry::Registry;
use super::topic::{Topic, TopicInfo, TopicSpec};
use crate::config::Durability;
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

/// All topics of one data directory.
pub struct LocalEngine {
    pub(super) environment: Arc<Environment>,
    registry: Registry<Partition>,
    unsynced: Arc<Unsynced>,
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

impl LocalEngine {
    /// Returns a partition as this engine's own type.
    pub fn partition(&self, topic: &str, number: i32) -> Option<Arc<Partition>> {
        let partitions = self.registry.partitions_of(topic);
        partitions.get(usize::try_from(number).ok()?).cloned()
    }

    /// Prepares the creation of a topic before it is recorded anywhere. Returns an error if the disk is too full for
    /// it, or if checkpoints name a deleted topic of that name and cannot be rewritten. Blocks.
    pub fn admit_topic(&self, name: &str) -> Result<(), Error> {
        let mut changes = self.changes.lock();
        self.registry.check_free(name)?;
        self.admit_growth()?;
        self.clear_checkpoints(name, 0, &mut changes)
    }

    /// Creates a topic with empty partitions. Blocks.
    pub fn create(&self, spec: TopicSpec) -> Result<Arc<Topic>, Error> {
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
        let topic = self.registry.existing(name)?;
        let have = topic.check_growth(total)?;
        self.admit_growth()?;
        self.clear_checkpoints(name, have, &mut changes)?;
        let added = self.create_partitions(topic.info(), have, total)?;
        self.registry.extend(name, added);
        Ok(())
    }

    /// Deletes a topic. Its name is free when this returns; its files are removed in the background. Blocks.
    pub fn delete(&self, name: &str) -> Result<(), Error> {
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
