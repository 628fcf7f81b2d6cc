//! Opening the logs of all topics, or of a new one, and creating their directories.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{error, info};
use uuid::Uuid;

use super::{Changes, LocalEngine, StorageOptions};
use crate::clock::Clock;
use crate::fs::{File, Fs};
use crate::metrics::Metrics;
use crate::storage::local::checkpoint::{self, LEADER_EPOCHS, LeaderEpochs, Offsets};
use crate::storage::local::compaction::Compactor;
use crate::storage::local::data_dir::{
    CLEANER_OFFSETS, LOG_STARTS, LastRun, PARTITION_METADATA, directories, renamed,
};
use crate::storage::local::environment::{Environment, OffsetFile};
use crate::storage::local::error::{Error, IoContext};
use crate::storage::local::health::Health;
use crate::storage::local::opening::Opening;
use crate::storage::local::parallel::{Progress, in_parallel};
use crate::storage::local::partition::Partition;
use crate::storage::local::recovery::{self, Before, Report};
use crate::storage::local::registry::Registry;
use crate::storage::local::space::Space;
use crate::storage::local::stats::StorageCounters;
use crate::storage::local::topic::{TopicInfo, TopicSpec};

impl LocalEngine {
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
            reserve,
            opening,
            adopted,
            compaction,
        } = options;
        fs.create_dir_all(&data_dir).during("create", &data_dir)?;
        let mut last_run = LastRun::read(&fs, &data_dir)?;
        let log_starts = std::mem::take(&mut last_run.log_starts);
        let cleaner_offsets = std::mem::take(&mut last_run.cleaner_offsets);
        let environment = Arc::new(Environment {
            log_starts: OffsetFile::new(data_dir.join(LOG_STARTS), log_starts),
            cleaner_offsets: OffsetFile::new(data_dir.join(CLEANER_OFFSETS), cleaner_offsets),
            health: Health::new(&fs, &data_dir),
            space: Space::new(&fs, &data_dir, reserve),
            counters: StorageCounters::new(metrics.enabled()),
            fs,
            clock: Arc::clone(&clock),
            metrics,
            durability,
            producer_id_expiration_ms,
            data_dir,
            points_stale: AtomicBool::new(false),
        });
        let engine = Arc::new(Self {
            compactor: Compactor::new(compaction, &environment),
            registry: Registry::default(),
            unsynced: Arc::default(),
            changes: Mutex::new(Changes {
                checkpointed_at: clock.monotonic(),
                points_name_deleted: false,
                removals: Vec::new(),
                closed: false,
            }),
            environment,
        });
        engine.finish_deletions()?;
        engine.open_all(&specs, &last_run, &opening, &adopted)?;
        engine.settle_adopted(&adopted)?;
        engine.note_boot(&last_run)?;
        Ok(engine)
    }

    /// Opens the logs of all topics in parallel.
    fn open_all(
        &self,
        specs: &[TopicSpec],
        last_run: &LastRun,
        opening: &Opening,
        adopted: &HashSet<String>,
    ) -> Result<(), Error> {
        let clock = &self.environment.clock;
        let started = clock.monotonic();
        let metrics = &self.environment.metrics;
        let infos: Vec<_> = (specs.iter())
            .map(|spec| TopicInfo::new(spec, metrics))
            .collect();
        let logs: Vec<_> = (specs.iter().zip(&infos))
            .flat_map(|(spec, info)| (0..spec.partitions).map(move |number| (info, number)))
            .collect();
        if !last_run.clean && !logs.is_empty() {
            info!(
                partitions = logs.len(),
                "unclean shutdown detected, recovering logs"
            );
        }
        let progress = Progress::new(logs.len(), opening, clock);
        let opened = in_parallel(logs.len(), |place| {
            let (info, number) = logs[place];
            let is_adopted = adopted.contains(&*info.name);
            let before = self.before(last_run, info, number, is_adopted);
            let mut report = Report::default();
            let partition = self.open_found(info, number, before, &mut report)?;
            progress.note(report);
            Ok(partition)
        })?;
        let count = opened.len();
        let mut opened = opened.into_iter();
        for (spec, info) in specs.iter().zip(infos) {
            let partitions: Vec<_> = opened.by_ref().take(spec.partitions as usize).collect();
            self.registry.insert(info, partitions);
        }
        self.forget_unknown(specs, &last_run.recovery_points);
        let took = clock.monotonic() - started;
        let report = progress.report();
        if report.epochs_raised > 0 {
            // A log directory that the power failure removed exists again, and must not lose its new epoch with its name.
            let data_dir = &self.environment.data_dir;
            self.environment
                .fs
                .sync_dir(data_dir)
                .during("sync", data_dir)?;
        }
        self.note_opened(count, last_run.clean, report, took);
        Ok(())
    }

    /// Notes the machine's boot. Only now: if recovery itself is interrupted, the next one must know of the restart, too.
    fn note_boot(&self, last_run: &LastRun) -> Result<(), Error> {
        let environment = &self.environment;
        environment.spending(|| last_run.note_boot(&environment.fs, &environment.data_dir))
    }

    /// Returns what is known about a log before its directory is read.
    fn before(
        &self,
        last_run: &LastRun,
        info: &TopicInfo,
        number: i32,
        is_adopted: bool,
    ) -> Before {
        let key = (info.name.to_string(), number);
        let recovery_point = last_run.recovery_points.get(&key).copied();
        Before {
            // The clean shutdown marker covers the logs that the recovery points name.
            clean: last_run.clean && (!is_adopted || recovery_point.is_some()),
            // A log written by another server may have gaps, such as from compaction, that no power failure caused.
            same_boot: last_run.same_boot || is_adopted,
            recovery_point,
            log_start: self.environment.log_starts.get(&info.name, number),
            compacted_to: self.environment.cleaner_offsets.get(&info.name, number),
        }
    }

    /// Opens a log of the last run. If the disk is too full for that, waits for unfinished deletions to make room.
    fn open_found(
        &self,
        info: &Arc<TopicInfo>,
        number: i32,
        before: Before,
        report: &mut Report,
    ) -> Result<Arc<Partition>, Error> {
        let mut open = || self.open_partition(info, number, before, report);
        match self.environment.spending(&mut open) {
            Err(full) if full.is_disk_full() => {
                self.changes.lock().join_removals();
                self.environment.spending(&mut open)
            }
            other => other,
        }
    }

    /// Reports the opening of all logs, in the log and the metrics.
    fn note_opened(&self, partitions: usize, clean: bool, report: Report, took: Duration) {
        let counters = &self.environment.counters;
        let _ = counters.recovery.set((took, partitions as u64));
        counters.truncated_bytes.add(report.bytes_truncated);
        counters.damaged_ranges.add(report.ranges_damaged);
        counters.raised_epochs.add(report.epochs_raised);
        info!(
            partitions,
            clean,
            segments_read = report.segments_read,
            bytes_read = report.bytes_read,
            bytes_truncated = report.bytes_truncated,
            ranges_damaged = report.ranges_damaged,
            leader_epochs_raised = report.epochs_raised,
            took_ms = took.as_millis() as u64,
            "logs opened"
        );
    }

    /// Flushes logs written by another server and writes recovery points for them, so that no later start takes their
    /// gaps for the effect of a power failure.
    fn settle_adopted(&self, adopted: &HashSet<String>) -> Result<(), Error> {
        if adopted.is_empty() {
            return Ok(());
        }
        let names = adopted.iter();
        let partitions: Vec<_> = names
            .flat_map(|name| self.registry.partitions_of(name))
            .collect();
        in_parallel(partitions.len(), |place| partitions[place].flush())?;
        self.write_recovery_points(&mut self.changes.lock())
    }

    /// Removes deleted topics from the checkpoints, so that their offsets do not apply to a new topic of that name.
    fn forget_unknown(&self, specs: &[TopicSpec], recovery_points: &Offsets) {
        let known: HashSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let mut unknown = self.environment.log_starts.topics();
        unknown.extend(self.environment.cleaner_offsets.topics());
        unknown.extend(recovery_points.keys().map(|(topic, _)| topic.clone()));
        unknown.retain(|topic| !known.contains(topic.as_str()));
        if !unknown.is_empty() {
            let names = unknown.iter().map(String::as_str);
            self.forget_in_checkpoints(names, &mut self.changes.lock());
        }
    }

    pub(super) fn open_partition(
        &self,
        info: &Arc<TopicInfo>,
        number: i32,
        before: Before,
        report: &mut Report,
    ) -> Result<Arc<Partition>, Error> {
        let environment = &self.environment;
        let dir = environment.data_dir.join(format!("{}-{number}", info.name));
        self.prepare_dir(&dir, info.id)?;
        let dir: Arc<Path> = dir.into();
        let now_ms = environment.clock.now_ms();
        let opened = recovery::open(&environment.fs, &dir, before, now_ms, report)?;
        Ok(Partition::new(
            Arc::clone(info),
            number,
            Arc::clone(environment),
            Arc::clone(&self.unsynced),
            dir,
            opened,
        ))
    }

    /// Ensures that the directory exists and belongs to the topic with this id.
    fn prepare_dir(&self, dir: &Path, id: Uuid) -> Result<(), Error> {
        let fs = &self.environment.fs;
        let metadata = dir.join(PARTITION_METADATA);
        match checkpoint::read_partition_metadata(fs, &metadata)? {
            Some(found) if found == id => return Ok(()),
            Some(found) => {
                let aside = renamed(dir, found, "stray");
                error!(dir = %dir.display(), aside = %aside.display(), found = %found, expected = %id,
                    "log directory belongs to another topic of the same name, renaming it");
                fs.rename(dir, &aside).during("rename", dir)?;
            }
            None => {}
        }
        fs.create_dir_all(dir).during("create", dir)?;
        // Durable before there are records: without the topic's id, a new topic with the name of a deleted one could
        // take over the old one's records.
        write_small(fs, &metadata, &checkpoint::partition_metadata_text(id))?
            .sync_data()
            .during("sync", &metadata)?;
        let epochs = dir.join(LEADER_EPOCHS);
        if !fs.exists(&epochs).during("look for", &epochs)? {
            // Not flushed: a log without this file has the one epoch that it names. Later ones are flushed.
            write_small(fs, &epochs, &LeaderEpochs::new().to_text())?;
        }
        Ok(())
    }

    /// Resumes deletions that the last run did not finish.
    fn finish_deletions(&self) -> Result<(), Error> {
        let pending_deletion = directories(&self.environment.fs, &self.environment.data_dir)?
            .into_iter()
            .filter(|(name, _)| name.ends_with("-delete"))
            .map(|(_, path)| path)
            .collect();
        self.remove_in_background(&mut self.changes.lock(), pending_deletion);
        Ok(())
    }
}

/// Writes a small file without flushing it.
fn write_small(fs: &Fs, path: &Path, text: &str) -> Result<File, Error> {
    let file = fs.create(path).during("create", path)?;
    file.write_all_at(text.as_bytes(), 0)
        .during("write", path)?;
    Ok(file)
}
