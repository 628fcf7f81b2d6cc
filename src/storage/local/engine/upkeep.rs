//! Upkeep of all topics while the server runs and when it stops: retention, flushing, closing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{error, info, warn};

use super::{Changes, LocalEngine};
use crate::storage::PartitionLog;
use crate::storage::local::checkpoint::{self, Offsets};
use crate::storage::local::data_dir::{CLEAN_SHUTDOWN, RECOVERY_POINTS};
use crate::storage::local::error::{Error, IoContext};
use crate::storage::local::parallel::in_parallel;

/// Interval at which recovery points are written while the server runs.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(60);

impl LocalEngine {
    /// Applies retention to all topics. Blocks.
    pub fn retain(&self, now_ms: i64) {
        for partition in self.registry.partitions() {
            match partition.retain(now_ms) {
                Ok((0, _)) => {}
                Ok((segments, bytes)) => {
                    info!(%partition, segments, bytes, "segments deleted by retention");
                    let counters = &self.environment.counters;
                    counters.retention_segments.add(segments);
                    counters.retention_bytes.add(bytes);
                }
                Err(error) => error!(%partition, %error, "retention failed"),
            }
        }
    }

    /// Returns true if [`flush_due`](Self::flush_due) has anything to do, now or soon. Does not block.
    pub fn awaits_flush(&self) -> bool {
        self.environment.points_stale.load(Ordering::Relaxed) || !self.unsynced.is_empty()
    }

    /// Flushes partitions whose data has waited for `flush.ms`, or that await a flush without a waiter, and
    /// periodically writes the recovery points. Blocks.
    pub fn flush_due(&self) {
        let now = self.environment.clock.monotonic();
        let mut due = Vec::new();
        for partition in self.unsynced.take() {
            let limit_ms = partition.topic().config().flush_ms;
            let limit = Duration::from_millis(u64::try_from(limit_ms).unwrap_or(0));
            match partition.unsynced_since() {
                None => {}
                // A running flush is not waited for: the disk may hang.
                Some(since)
                    if (now.saturating_sub(since) >= limit || partition.awaits_flush())
                        && !partition.is_syncing() =>
                {
                    due.push(partition);
                }
                Some(_) => self.unsynced.note(&partition),
            }
        }
        let flushed = in_parallel(due.len(), |place| {
            // A failure was logged, counted and recorded where it happened.
            let _ = due[place].flush();
            Ok(())
        });
        debug_assert!(flushed.is_ok());
        let mut changes = self.changes.lock();
        let is_time = now.saturating_sub(changes.checkpointed_at) >= CHECKPOINT_INTERVAL;
        if !changes.closed
            && is_time
            && self.environment.points_stale.swap(false, Ordering::Relaxed)
        {
            changes.checkpointed_at = now;
            if let Err(error) = self.write_checkpoints(&mut changes) {
                warn!(%error, "recovery points not written, retrying later");
                self.environment.points_stale.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Writes the recovery points, and the other checkpoints that name deleted topics.
    pub(super) fn write_checkpoints(&self, changes: &mut Changes) -> Result<(), Error> {
        let environment = &self.environment;
        for file in [&environment.log_starts, &environment.cleaner_offsets] {
            environment.spending(|| file.write_if_stale(&environment.fs))?;
        }
        self.write_recovery_points(changes)
    }

    pub(super) fn write_recovery_points(&self, changes: &mut Changes) -> Result<(), Error> {
        let mut points = Offsets::new();
        for partition in self.registry.partitions() {
            let name = partition.topic().name.to_string();
            points.insert((name, partition.number()), partition.durable_offset());
        }
        let path = self.environment.data_dir.join(RECOVERY_POINTS);
        let environment = &self.environment;
        environment.spending(|| checkpoint::write_offsets(&environment.fs, &path, &points))?;
        changes.points_name_deleted = false;
        Ok(())
    }

    /// Flushes and closes all logs and marks the shutdown as clean. Appends are refused afterwards. Blocks.
    pub fn close(&self) -> Result<(), Error> {
        self.compactor.stop();
        let mut changes = self.changes.lock();
        if std::mem::replace(&mut changes.closed, true) {
            return Ok(());
        }
        let partitions = self.registry.partitions();
        let failure = Mutex::new(None);
        let closed = in_parallel(partitions.len(), |place| {
            if let Err(error) = partitions[place].close() {
                error!(partition = %partitions[place], %error, "log not closed cleanly");
                failure.lock().get_or_insert(error);
            }
            Ok(())
        });
        debug_assert!(closed.is_ok());
        changes.join_removals();
        self.write_checkpoints(&mut changes)?;
        if let Some(failure) = failure.into_inner() {
            return Err(failure);
        }
        let data_dir = &self.environment.data_dir;
        let marker = data_dir.join(CLEAN_SHUTDOWN);
        let environment = &self.environment;
        environment.spending(|| {
            environment
                .fs
                .write_atomically(&marker, br#"{"version":0,"brokerEpoch":-1}"#)
                .during("write", &marker)
        })
    }
}
