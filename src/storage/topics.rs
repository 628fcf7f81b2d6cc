//! The topics that are open, and what is done with all of them: opening, flushing, retaining, closing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::checkpoint::{self, LeaderEpochs, Offsets};
use super::data_dir::{
    CLEAN_SHUTDOWN, LOG_STARTS, LastRun, PARTITION_METADATA, RECOVERY_POINTS, directories, renamed,
};
use super::environment::{Environment, LogStarts};
use super::error::{Error, IoContext};
use super::health::Health;
use super::parallel::{Progress, in_parallel};
use super::partition::Partition;
use super::recovery::{self, Before, Report};
use super::stats::StorageCounters;
use crate::clock::Clock;
use crate::config::{Durability, TopicConfig};
use crate::fs::{File, Fs};
use crate::metrics::{Metrics, TopicCounters};

/// How often recovery points are written while the server runs.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(60);

/// How logs are kept.
#[derive(Debug, Clone)]
pub struct StorageOptions {
    pub data_dir: PathBuf,
    pub durability: Durability,
    /// A producer that was silent for this long is forgotten.
    pub producer_id_expiration_ms: i64,
    pub fs: Fs,
}

impl StorageOptions {
    /// With Kafka's expiration of producers, on the machine's file system.
    pub fn new(data_dir: impl Into<PathBuf>, durability: Durability) -> Self {
        Self {
            data_dir: data_dir.into(),
            durability,
            producer_id_expiration_ms: 24 * 60 * 60 * 1000,
            fs: Fs::new(),
        }
    }
}

/// A topic as it should be.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    pub name: String,
    pub id: Uuid,
    pub partitions: i32,
    pub config: TopicConfig,
}

/// What a topic's partitions know of it.
pub struct TopicInfo {
    pub name: Arc<str>,
    pub id: Uuid,
    pub counters: Arc<TopicCounters>,
    config: RwLock<Arc<TopicConfig>>,
}

impl TopicInfo {
    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read())
    }
}

/// One topic.
pub struct Topic {
    info: Arc<TopicInfo>,
    partitions: RwLock<Arc<[Arc<Partition>]>>,
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

    /// By number.
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

#[derive(Default)]
struct Registry {
    by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

/// All topics of one data directory.
pub struct Topics {
    environment: Arc<Environment>,
    registry: RwLock<Registry>,
    /// Held by whoever changes the set of topics, their partitions or the files that speak of all of them.
    changes: Mutex<Changes>,
}

struct Changes {
    checkpointed_at: Duration,
    /// Threads that remove the files of deleted topics.
    removals: Vec<std::thread::JoinHandle<()>>,
    closed: bool,
}

impl Topics {
    /// Opens the logs of all topics, recovering those that need it. Blocks.
    pub fn open(
        options: StorageOptions,
        specs: Vec<TopicSpec>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, Error> {
        let StorageOptions {
            data_dir,
            durability,
            producer_id_expiration_ms,
            fs,
        } = options;
        fs.create_dir_all(&data_dir).during("create", &data_dir)?;
        let last_run = LastRun::read(&fs, &data_dir)?;
        let environment = Arc::new(Environment {
            log_starts: LogStarts::new(data_dir.join(LOG_STARTS), last_run.log_starts),
            health: Health::new(&fs, &data_dir),
            counters: StorageCounters::new(metrics.enabled()),
            fs,
            clock: Arc::clone(&clock),
            metrics,
            durability,
            producer_id_expiration_ms,
            data_dir,
            unsynced: Mutex::default(),
        });
        let topics = Arc::new(Self {
            registry: RwLock::default(),
            changes: Mutex::new(Changes {
                checkpointed_at: clock.monotonic(),
                removals: Vec::new(),
                closed: false,
            }),
            environment,
        });
        topics.finish_deletions()?;
        topics.open_all(
            &specs,
            last_run.clean,
            last_run.same_boot,
            &last_run.recovery_points,
        )?;
        let collector = Arc::new(Arc::downgrade(&topics));
        topics.environment.metrics.register(collector);
        Ok(topics)
    }

    fn open_all(
        &self,
        specs: &[TopicSpec],
        clean: bool,
        same_boot: bool,
        recovery_points: &Offsets,
    ) -> Result<(), Error> {
        let clock = &self.environment.clock;
        let started = clock.monotonic();
        let infos: Vec<_> = specs.iter().map(|spec| self.info(spec)).collect();
        let work: Vec<(usize, i32)> = specs
            .iter()
            .enumerate()
            .flat_map(|(topic, spec)| (0..spec.partitions).map(move |number| (topic, number)))
            .collect();
        let progress = Progress::new(work.len(), clock);
        let opened = in_parallel(work.len(), |place| {
            let (topic, number) = work[place];
            let info = &infos[topic];
            let before = Before {
                clean,
                same_boot,
                recovery_point: recovery_points
                    .get(&(info.name.to_string(), number))
                    .copied(),
                log_start: self.environment.log_starts.get(&info.name, number),
            };
            let opened = self.open_partition(info, number, before)?;
            progress.note(opened.1);
            Ok(opened.0)
        })?;
        let mut opened = opened.into_iter();
        let mut registry = self.registry.write();
        for (spec, info) in specs.iter().zip(infos) {
            let partitions: Vec<_> = opened.by_ref().take(spec.partitions as usize).collect();
            registry.insert(Topic {
                info,
                partitions: RwLock::new(partitions.into()),
            });
        }
        drop(registry);
        self.forget_unknown(specs, recovery_points)?;
        let report = progress.report();
        let took = clock.monotonic() - started;
        let counters = &self.environment.counters;
        let _ = counters.recovery.set((took, work.len() as u64));
        counters.truncated_bytes.add(report.bytes_truncated);
        counters.damaged_ranges.add(report.ranges_damaged);
        info!(
            partitions = work.len(),
            clean,
            segments_read = report.segments_read,
            bytes_read = report.bytes_read,
            bytes_truncated = report.bytes_truncated,
            ranges_damaged = report.ranges_damaged,
            seconds = took.as_secs_f64(),
            "logs are open"
        );
        Ok(())
    }

    /// Drops what checkpoints say of topics that are gone, lest a new topic of that name be taken for the old one.
    fn forget_unknown(&self, specs: &[TopicSpec], recovery_points: &Offsets) -> Result<(), Error> {
        let known: HashSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let is_unknown = |(topic, _): &&(String, i32)| !known.contains(topic.as_str());
        let mut stale: BTreeSet<String> = self.environment.log_starts.topics();
        stale.retain(|topic| !known.contains(topic.as_str()));
        for topic in stale {
            self.environment
                .log_starts
                .forget(&self.environment.fs, &topic)?;
        }
        match recovery_points.keys().any(|key| is_unknown(&key)) {
            true => self.write_recovery_points(&mut self.changes.lock()),
            false => Ok(()),
        }
    }

    fn info(&self, spec: &TopicSpec) -> Arc<TopicInfo> {
        Arc::new(TopicInfo {
            name: Arc::from(spec.name.as_str()),
            id: spec.id,
            counters: self.environment.metrics.topic(&spec.name),
            config: RwLock::new(Arc::new(spec.config.clone())),
        })
    }

    fn open_partition(
        &self,
        info: &Arc<TopicInfo>,
        number: i32,
        before: Before,
    ) -> Result<(Arc<Partition>, Report), Error> {
        let environment = &self.environment;
        let dir = environment.data_dir.join(format!("{}-{number}", info.name));
        self.prepare_dir(&dir, info.id)?;
        let dir: Arc<Path> = dir.into();
        let now_ms = environment.clock.now_ms();
        let opened = recovery::open(&environment.fs, &dir, before, now_ms)?;
        let report = opened.report;
        let partition = Partition::new(
            Arc::clone(info),
            number,
            Arc::clone(environment),
            dir,
            opened,
        );
        Ok((partition, report))
    }

    /// Sees to it that the directory exists and belongs to the topic with this id.
    fn prepare_dir(&self, dir: &Path, id: Uuid) -> Result<(), Error> {
        let fs = &self.environment.fs;
        let metadata = dir.join(PARTITION_METADATA);
        match checkpoint::read_partition_metadata(fs, &metadata)? {
            Some(found) if found == id => return Ok(()),
            Some(found) => {
                let aside = renamed(dir, found, "stray");
                error!(dir = %dir.display(), aside = %aside.display(), found = %found, expected = %id,
                    "a log belongs to another topic of the same name and is set aside");
                fs.rename(dir, &aside).during("rename", dir)?;
            }
            None => {}
        }
        fs.create_dir_all(dir).during("create", dir)?;
        // Before there are records: if they outlived the id of their topic, one that gets the name of a deleted one could
        // find itself with the old one's records.
        write_small(fs, &metadata, &checkpoint::partition_metadata_text(id))?
            .sync_data()
            .during("synchronise", &metadata)?;
        let epochs = dir.join("leader-epoch-checkpoint");
        if !epochs.exists() {
            // Without this one a log has the one epoch it speaks of.
            write_small(fs, &epochs, &LeaderEpochs::new().to_text())?;
        }
        Ok(())
    }

    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.registry.read().by_name.get(name).cloned()
    }

    pub fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.registry.read().by_id.get(&id).cloned()
    }

    /// By name.
    pub fn list(&self) -> Vec<Arc<Topic>> {
        self.registry.read().by_name.values().cloned().collect()
    }

    /// Creates a topic with empty partitions. Blocks.
    pub fn create(&self, spec: TopicSpec) -> Result<Arc<Topic>, Error> {
        let changes = self.changes.lock();
        if changes.closed {
            return Err(Error::Closed);
        }
        if self.get(&spec.name).is_some() {
            return Err(Error::TopicExists { topic: spec.name });
        }
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
            Ok(self.open_partition(info, number, new)?.0)
        });
        if made.is_err() {
            for number in from..to {
                let dir = self
                    .environment
                    .data_dir
                    .join(format!("{}-{number}", info.name));
                if let Err(error) = self.environment.fs.remove_dir_all(&dir) {
                    warn!(dir = %dir.display(), %error, "a half-made log stays behind");
                }
            }
        }
        made
    }

    /// Gives a topic more partitions. Blocks.
    pub fn add_partitions(&self, name: &str, total: i32) -> Result<(), Error> {
        let changes = self.changes.lock();
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

    /// Deletes a topic. When this returns its name is free; its files go in the background. Blocks.
    pub fn delete(&self, name: &str) -> Result<(), Error> {
        let mut changes = self.changes.lock();
        let topic = self.existing(name)?;
        let fs = &self.environment.fs;
        for partition in topic.partitions().iter() {
            partition.retire();
        }
        let mut doomed = Vec::new();
        for partition in topic.partitions().iter() {
            let dir = partition.dir();
            let aside = renamed(dir, Uuid::new_v4(), "delete");
            match fs.rename(dir, &aside) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.during("rename", dir)?,
            }
            doomed.push(aside);
        }
        self.registry.write().remove(&topic);
        self.environment.metrics.forget_topic(name);
        self.environment.log_starts.forget(fs, name)?;
        self.write_recovery_points(&mut changes)?;
        self.remove_in_background(&mut changes, doomed);
        Ok(())
    }

    fn remove_in_background(&self, changes: &mut Changes, doomed: Vec<PathBuf>) {
        if doomed.is_empty() {
            return;
        }
        let fs = self.environment.fs.clone();
        let remove = move || {
            for dir in doomed {
                if let Err(error) = fs.remove_dir_all(&dir) {
                    error!(dir = %dir.display(), %error, "could not remove a deleted log; the next start tries again");
                }
            }
        };
        changes.removals.retain(|removal| !removal.is_finished());
        match std::thread::Builder::new()
            .name("log-removal".to_string())
            .spawn(remove)
        {
            Ok(removal) => changes.removals.push(removal),
            Err(error) => warn!(%error, "deleted logs stay until the next start"),
        }
    }

    /// Goes on with deletions that the end of the last run interrupted.
    fn finish_deletions(&self) -> Result<(), Error> {
        let doomed = directories(&self.environment.data_dir)?
            .into_iter()
            .filter(|(name, _)| name.ends_with("-delete"))
            .map(|(_, path)| path)
            .collect();
        self.remove_in_background(&mut self.changes.lock(), doomed);
        Ok(())
    }

    /// Deletes what the topics' retention says has to go. Blocks.
    pub fn retain(&self, now_ms: i64) {
        for topic in self.list() {
            for partition in topic.partitions().iter() {
                match partition.retain(now_ms) {
                    Ok((0, _)) => {}
                    Ok((segments, bytes)) => {
                        info!(%partition, segments, bytes, "deleted segments by retention");
                        let counters = &self.environment.counters;
                        counters.retention_segments.add(segments);
                        counters.retention_bytes.add(bytes);
                    }
                    Err(error) => error!(%partition, %error, "could not apply retention"),
                }
            }
        }
    }

    /// Brings to the disk what has waited for `flush.ms`, and now and then notes how far the disk is. Blocks.
    pub fn flush_due(&self) {
        let now = self.environment.clock.monotonic();
        let waiting = std::mem::take(&mut *self.environment.unsynced.lock());
        let mut due = Vec::new();
        for weak in waiting {
            let Some(partition) = weak.upgrade() else {
                continue;
            };
            let limit_ms = partition.topic().config().flush_ms;
            let limit = Duration::from_millis(u64::try_from(limit_ms).unwrap_or(0));
            // Taken off the list before it is looked at: an append that comes in between puts it there again.
            partition.dequeued();
            match partition.unsynced_since() {
                None => {}
                // One whose synchronisation is under way is not waited for: it may be that of a disk that hangs.
                Some(since) if now.saturating_sub(since) >= limit && !partition.is_syncing() => {
                    due.push(partition);
                }
                Some(_) => self.environment.note_unsynced(&partition),
            }
        }
        let flushed = in_parallel(due.len(), |place| {
            // A failure has been logged, counted and noted where it happened.
            let _ = due[place].flush();
            Ok(())
        });
        debug_assert!(flushed.is_ok());
        let mut changes = self.changes.lock();
        if !changes.closed && now.saturating_sub(changes.checkpointed_at) >= CHECKPOINT_INTERVAL {
            changes.checkpointed_at = now;
            if let Err(error) = self.write_recovery_points(&mut changes) {
                warn!(%error, "could not note how far the disk is");
            }
        }
    }

    fn write_recovery_points(&self, _changes: &mut Changes) -> Result<(), Error> {
        let mut points = Offsets::new();
        for topic in self.list() {
            for partition in topic.partitions().iter() {
                points.insert(
                    (topic.name().to_string(), partition.number()),
                    partition.durable_offset(),
                );
            }
        }
        let path = self.environment.data_dir.join(RECOVERY_POINTS);
        checkpoint::write_offsets(&self.environment.fs, &path, &points)
    }

    /// Flushes everything and leaves the directory as a clean shutdown does. Nothing can be appended any more. Blocks.
    pub fn close(&self) -> Result<(), Error> {
        let mut changes = self.changes.lock();
        if std::mem::replace(&mut changes.closed, true) {
            return Ok(());
        }
        let partitions: Vec<_> = self
            .list()
            .iter()
            .flat_map(|topic| topic.partitions().to_vec())
            .collect();
        let failure = Mutex::new(None);
        let closed = in_parallel(partitions.len(), |place| {
            if let Err(error) = partitions[place].close() {
                error!(partition = %partitions[place], %error, "a log was not closed cleanly");
                failure.lock().get_or_insert(error);
            }
            Ok(())
        });
        debug_assert!(closed.is_ok());
        for removal in changes.removals.drain(..) {
            if removal.join().is_err() {
                error!("a thread that removed deleted logs panicked");
            }
        }
        self.write_recovery_points(&mut changes)?;
        if let Some(failure) = failure.into_inner() {
            return Err(failure);
        }
        let data_dir = &self.environment.data_dir;
        let marker = data_dir.join(CLEAN_SHUTDOWN);
        self.environment
            .fs
            .write_atomically(&marker, br#"{"version":0,"brokerEpoch":-1}"#)
            .during("write", &marker)
    }

    pub(super) fn counters(&self) -> &StorageCounters {
        &self.environment.counters
    }

    /// Whether records can be written; the error says why not. Touches the disk, at most every few seconds. Blocks.
    pub fn health(&self) -> Result<(), String> {
        self.environment
            .health
            .check(self.environment.clock.as_ref())
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

/// Writes a small file, without waiting for the disk.
fn write_small(fs: &Fs, path: &Path, text: &str) -> Result<File, Error> {
    let file = fs.create(path).during("create", path)?;
    file.write_all_at(text.as_bytes(), 0)
        .during("write", path)?;
    Ok(file)
}
