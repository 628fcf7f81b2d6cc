//! Flushing a partition's data: one flush at a time, which serves all waiters.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::error;

use super::super::error::{Error, IoContext};
use super::super::log_state::Wait;
use super::super::segment::Segment;
use super::Partition;

impl Partition {
    /// Waits until all records below `end_offset` are durable.
    ///
    /// With `durability = os` this waits only where `flush.messages` requires it.
    pub async fn wait_durable(&self, end_offset: i64) -> Result<(), Error> {
        let wait = self.log_state.lock().wait(end_offset, !self.syncs_acks());
        match wait {
            Wait::Done(result) => result,
            Wait::For { result, start } => {
                if start {
                    let claim = Claim::of(self);
                    tokio::task::spawn_blocking(move || claim.run());
                }
                // The sender is dropped without a result only when the runtime shuts down.
                result.await.unwrap_or(Err(Error::Closed))
            }
        }
    }

    /// Flushes everything written so far. Blocks.
    pub fn flush(&self) -> Result<(), Error> {
        let target = {
            let mut log_state = self.log_state.lock();
            let target = log_state.end.offset;
            while log_state.is_syncing() {
                self.sync_ended.wait(&mut log_state);
            }
            log_state.check()?;
            if log_state.durable >= target {
                return Ok(());
            }
            log_state.claim();
            target
        };
        Claim::of(self).run();
        let log_state = self.log_state.lock();
        match log_state.durable >= target {
            true => Ok(()),
            false => Err(log_state.failure().cloned().unwrap_or(Error::Closed)),
        }
    }

    /// Runs flushes as long as there are waiters. The caller has claimed the right to flush.
    fn run_flushes(&self) {
        loop {
            let sync = self.log_state.lock().begin();
            let result = self.flush_once(&sync.segments, &sync.active, sync.directory);
            let again = match result {
                Ok(()) => {
                    let synced = self.log_state.lock().synced(&sync);
                    self.environment.points_stale.store(true, Ordering::Relaxed);
                    if synced.served > 0 {
                        let batches = &self.environment.metrics.log_flush_batches;
                        batches.record(synced.served as u64);
                    }
                    synced.again
                }
                Err(failure) => {
                    self.environment.metrics.log_flush_failures.inc();
                    self.poison(&failure);
                    false
                }
            };
            self.watchers.notify();
            if !again {
                self.sync_ended.notify_all();
                return;
            }
        }
    }

    fn flush_once(
        &self,
        closed: &[Arc<Segment>],
        active: &Segment,
        directory: bool,
    ) -> Result<(), Error> {
        for segment in closed {
            self.timed_sync(segment)?;
            segment.sync_index()?;
        }
        self.timed_sync(active)?;
        if directory {
            self.sync_directories()?;
        }
        Ok(())
    }

    /// Makes the log's file names durable, and the name of its directory.
    fn sync_directories(&self) -> Result<(), Error> {
        let fs = &self.environment.fs;
        let dir = &self.log.dir;
        fs.sync_dir(dir).during("sync", dir)?;
        match dir.parent() {
            Some(parent) => fs.sync_dir(parent).during("sync", parent),
            None => Ok(()),
        }
    }

    fn timed_sync(&self, segment: &Segment) -> Result<(), Error> {
        let clock = &self.environment.clock;
        let started = clock.monotonic();
        segment.sync()?;
        self.environment
            .metrics
            .log_flush_duration
            .record_duration(clock.monotonic() - started);
        Ok(())
    }

    /// Ends writes to the partition after a failure: the state of the disk is unknown.
    pub(super) fn poison(&self, failure: &Error) {
        let reason = failure.to_string();
        let deleted = matches!(self.log_state.lock().failure(), Some(Error::Deleted));
        if deleted {
            return;
        }
        error!(partition = %self, reason, "partition failed, refusing records until the server is restarted");
        self.environment
            .health
            .note_poisoned(self.to_string(), &reason);
        self.log_state.lock().fail(Error::Poisoned {
            topic: self.topic.name.to_string(),
            partition: self.number,
            reason,
        });
        self.watchers.notify();
    }
}

/// The right to flush a partition. A runtime that shuts down drops queued work without running it; the right is then
/// released.
struct Claim {
    partition: Arc<Partition>,
    held: bool,
}

impl Claim {
    fn of(partition: &Partition) -> Self {
        Self {
            partition: partition.me(),
            held: true,
        }
    }

    fn run(mut self) {
        self.partition.run_flushes();
        self.held = false;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.held {
            self.partition.log_state.lock().release();
            self.partition.sync_ended.notify_all();
        }
    }
}
