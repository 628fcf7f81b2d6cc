//! One partition: its log, the state of its producers, the offsets readers may see, and the waiting fetches.
//!
//! Three locks, taken in this order and never across an await:
//!
//! * **maintenance**: its holder may remove and rewrite closed segments, and nobody else does. It is held during all of
//!   the file operations of that, which neither appends nor reads wait for;
//! * the **writer** (append lock): its holder may write, roll and change the list of segments;
//! * the **log state**: the offsets, held only to copy a few numbers. Readers and scrapes take only this lock.
//!
//! Flushes run one at a time per partition, on threads that may block, and hold none of them while the disk works. Two
//! callers wait for a flush with locks held: the close of a log with the first two, and a repair of batches that await a
//! flush with the first.

mod partition_log;
mod reading;
mod repairing;
mod syncing;
mod transactions;
mod trimming;
mod unsynced;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing::{error, warn};

use self::trimming::Maintenance;
use super::aborted::Aborted;
use super::checkpoint::LeaderEpochs;
use super::environment::Environment;
use super::error::{Error, IoContext};
use super::fetch_waiters::FetchWaiters;
use super::log::{Log, Writer, Written};
use super::log_state::{LogPosition, LogState};
use super::producer_state::{ProducerState, SequenceCheck};
use super::recovery::{Opened, Producers};
use super::segment::file_path;
use super::topic::TopicInfo;
use super::transaction::{EndedTransaction, TransactionMarker};
use super::unstable::Unstable;
use super::validation;
use crate::config::{Durability, TopicConfig};
use crate::record::RecordBatch;
use crate::storage::{Acks, AppendOptions, Appended};

pub(super) use self::unsynced::Unsynced;

pub struct Partition {
    me: Weak<Partition>,
    topic: Arc<TopicInfo>,
    number: i32,
    environment: Arc<Environment>,
    unsynced: Arc<Unsynced>,
    log: Log,
    epochs: OnceLock<LeaderEpochs>,
    maintenance: Mutex<Maintenance>,
    writer: Mutex<PartitionWriter>,
    log_state: Mutex<LogState>,
    /// Log end offset when the log was opened; this process wrote everything from there on.
    opened_end: i64,
    /// Signalled when a flush ends.
    sync_ended: Condvar,
    records_total: AtomicU64,
    /// Set while the partition is in `unsynced`.
    enqueued: AtomicBool,
    watchers: Arc<FetchWaiters>,
}

/// The state that the append lock protects.
struct PartitionWriter {
    log: Writer,
    producers: Producers,
}

/// Batches to append, which were checked.
struct Append<'a> {
    batches: &'a [RecordBatch],
    /// Size of the batches as their producer sent them.
    wire_bytes: usize,
    /// Set if the only batch is this marker.
    marker: Option<&'a TransactionMarker>,
    acks: Acks,
    now_ms: i64,
    /// The timestamp given to the records, if the topic uses `LogAppendTime`.
    log_append_time_ms: Option<i64>,
    log_start_offset: i64,
}

/// An append whose batches may not be durable yet.
struct Unflushed {
    appended: Appended,
    /// Set if the append is not acknowledged before a flush.
    awaits_flush: bool,
}

impl Partition {
    pub(super) fn new(
        topic: Arc<TopicInfo>,
        number: i32,
        environment: Arc<Environment>,
        unsynced: Arc<Unsynced>,
        dir: Arc<Path>,
        opened: Opened,
    ) -> Arc<Self> {
        let active = opened.segments.last().expect("recovery leaves a segment");
        let mut log_state = LogState::new(
            opened.log_start,
            opened.end,
            opened.durable,
            Arc::clone(active),
            Unstable::new(opened.producers.first_open()),
        );
        log_state.add_unsynced(opened.unsynced);
        let needs_flush = log_state.unsynced_since().is_some();
        if needs_flush && environment.durability == Durability::Acks {
            // Batches that the previous process may have left awaiting a flush cannot be told from the others, and
            // readers see them now.
            log_state.require_flush();
        }
        let log = Log::new(&environment.fs, dir, opened.segments);
        let partition = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            topic,
            number,
            writer: Mutex::new(PartitionWriter {
                log: log.writer(opened.end.offset),
                producers: opened.producers,
            }),
            maintenance: Mutex::default(),
            environment,
            unsynced,
            log,
            epochs: OnceLock::new(),
            log_state: Mutex::new(log_state),
            opened_end: opened.end.offset,
            sync_ended: Condvar::new(),
            records_total: AtomicU64::new(0),
            enqueued: AtomicBool::new(false),
            watchers: Arc::default(),
        });
        if needs_flush {
            partition.unsynced.note(&partition);
        }
        partition
    }

    pub(super) fn dir(&self) -> &Arc<Path> {
        &self.log.dir
    }

    fn me(&self) -> Arc<Self> {
        self.me.upgrade().expect("a method of it is running")
    }

    /// Appends all of the batches, or none, and does not wait for a flush.
    ///
    /// The data is in the page cache when this returns. Batches appended with [`Acks::All`] become visible, and may be
    /// acknowledged, once [`wait_durable`](Self::wait_durable) has returned.
    pub fn append_unflushed(
        &self,
        batches: Vec<RecordBatch>,
        options: AppendOptions,
    ) -> Result<Appended, Error> {
        Ok(self.append_now(batches, options)?.appended)
    }

    fn append_now(
        &self,
        batches: Vec<RecordBatch>,
        options: AppendOptions,
    ) -> Result<Unflushed, Error> {
        let config = self.topic.config();
        let now_ms = self.environment.clock.now_ms();
        let wire_bytes: usize = batches.iter().map(RecordBatch::size_bytes).sum();
        let validated = validation::validate(batches, &config, now_ms)?;

        let mut writer = self.writer.lock();
        let log_start_offset = self.check_writable()?;
        let check = self.check_sequence(&mut writer, &validated.batches)?;
        if let SequenceCheck::Duplicate(duplicate) = check {
            let stamps = validated.log_append_time_ms.is_some();
            let log_state = self.log_state.lock();
            let awaits_flush = options.acks == Acks::All
                && log_state.is_awaited(duplicate.last_offset + 1, !self.syncs_acks());
            return Ok(Unflushed {
                appended: duplicate.appended(stamps, log_start_offset),
                awaits_flush,
            });
        }
        let append = Append {
            batches: &validated.batches,
            wire_bytes,
            marker: None,
            acks: options.acks,
            now_ms,
            log_append_time_ms: validated.log_append_time_ms,
            log_start_offset,
        };
        self.store(writer, &append, &config)
    }

    /// Returns the log start offset, or why the partition accepts no more records.
    fn check_writable(&self) -> Result<i64, Error> {
        let log_state = self.log_state.lock();
        log_state.check()?;
        Ok(log_state.log_start)
    }

    /// Writes batches that were checked, updates the state of their producers and moves the log end past them.
    fn store(
        &self,
        mut writer: MutexGuard<'_, PartitionWriter>,
        append: &Append<'_>,
        config: &TopicConfig,
    ) -> Result<Unflushed, Error> {
        let &Append {
            batches,
            wire_bytes,
            acks,
            ..
        } = append;
        let written = self
            .write(&mut writer, batches, config)
            .map_err(|failure| self.refuse_append(&writer, failure, wire_bytes))?;
        let transactions = record_producers(&mut writer, append, written.base_offset);
        if let Some((_, Some(ended))) = &transactions
            && let Some(aborted) = Aborted::of(ended)
        {
            // Before a reader can see its records.
            written.segment.add_aborted(aborted);
        }
        let next_offset = writer.log.next_offset;
        let needs_flush = acks == Acks::All && self.syncs_acks();
        let (was_clean, awaits_flush) = {
            let mut log_state = self.log_state.lock();
            if let Some((first_open, ended)) = transactions {
                log_state.unstable.note(first_open, ended);
            }
            self.note_written(&mut log_state, &written, next_offset, acks, config)
        };
        drop(writer);

        self.count_written(batches, wire_bytes);
        if was_clean {
            self.unsynced.note(self);
        }
        if !needs_flush {
            self.watchers.notify();
        }
        let appended = Appended {
            base_offset: written.base_offset,
            last_offset: next_offset - 1,
            log_append_time_ms: append.log_append_time_ms,
            log_start_offset: append.log_start_offset,
            duplicate: false,
        };
        Ok(Unflushed {
            appended,
            awaits_flush,
        })
    }

    /// Returns the error of a failed append, and ends the partition if the log can no longer be written.
    #[cold]
    fn refuse_append(&self, writer: &PartitionWriter, failure: Error, wire_bytes: usize) -> Error {
        if self.log.is_broken(&writer.log) {
            self.poison(&failure);
        }
        let now = self.environment.clock.monotonic();
        self.environment.space.refuse(failure, wire_bytes, now)
    }

    /// Moves the log end past the batches written. Returns whether everything was durable or being flushed before, and
    /// whether the append is acknowledged only after a flush: if its `acks` ask for that, or if `flush.messages`
    /// unflushed records have accumulated.
    fn note_written(
        &self,
        log_state: &mut LogState,
        written: &Written,
        next_offset: i64,
        acks: Acks,
        config: &TopicConfig,
    ) -> (bool, bool) {
        let position = |offset, position| LogPosition {
            offset,
            segment: written.segment.base_offset,
            position,
        };
        let was_clean = log_state.appended(
            position(written.base_offset, written.start),
            position(next_offset, written.end),
            acks == Acks::All && self.syncs_acks(),
            self.environment.clock.monotonic(),
        );
        let flush_is_due = log_state.unsynced_records() >= config.flush_messages;
        if flush_is_due {
            log_state.require_flush();
        }
        let awaits_flush = match acks {
            Acks::None => false,
            Acks::Leader => flush_is_due,
            Acks::All => log_state.is_awaited(next_offset, !self.syncs_acks()),
        };
        (was_clean, awaits_flush)
    }

    fn count_written(&self, batches: &[RecordBatch], wire_bytes: usize) {
        let records: i64 = batches
            .iter()
            .map(|batch| i64::from(batch.header().record_count))
            .sum();
        self.records_total
            .fetch_add(records as u64, Ordering::Relaxed);
        self.topic.counters.add_bytes_in(wire_bytes as u64);
        self.environment.space.note_written(wire_bytes);
    }

    fn write(
        &self,
        writer: &mut PartitionWriter,
        batches: &[RecordBatch],
        config: &TopicConfig,
    ) -> Result<Written, Error> {
        let leader_epoch = self.epochs()?.current();
        if self.log.is_roll_due(&mut writer.log, batches, config)? {
            self.environment.space.admit()?;
            self.roll(writer)?;
        }
        self.environment.space.admit()?;
        self.log
            .append(&mut writer.log, batches, leader_epoch, config)
    }

    fn check_sequence(
        &self,
        writer: &mut PartitionWriter,
        batches: &[RecordBatch],
    ) -> Result<SequenceCheck, Error> {
        if !batches.iter().any(|batch| batch.header().is_idempotent()) {
            return Ok(SequenceCheck::Append);
        }
        self.producer_state(writer)?
            .check_sequence(batches.iter().map(RecordBatch::header))
    }

    /// Returns the producer state, reading it from its snapshot on first use.
    fn producer_state<'w>(
        &self,
        writer: &'w mut PartitionWriter,
    ) -> Result<&'w mut ProducerState, Error> {
        if let Producers::Snapshot(snapshot) = &writer.producers {
            let loaded = match snapshot {
                None => ProducerState::default(),
                Some(path) => {
                    let bytes = self.environment.fs.read(path).during("read", path)?;
                    let now_ms = self.environment.clock.now_ms();
                    ProducerState::from_snapshot(&bytes, now_ms).unwrap_or_else(|| {
                        error!(path = %path.display(), "producer snapshot corrupt, continuing without producer state");
                        ProducerState::default()
                    })
                }
            };
            writer.producers = Producers::Loaded(loaded);
        }
        match &mut writer.producers {
            Producers::Loaded(state) => Ok(state),
            Producers::Snapshot(_) => unreachable!("loaded above"),
        }
    }

    /// Rolls the log. The producer snapshot is written first, so that no power failure leaves the new segment without
    /// it: recovery takes a missing snapshot to mean that no producer was known, and would then not recognise retries
    /// of batches before the segment.
    fn roll(&self, writer: &mut PartitionWriter) -> Result<(), Error> {
        let offset = writer.log.next_offset;
        self.write_snapshot(writer, offset)?;
        let closed = self.log.roll(&mut writer.log)?;
        self.log_state.lock().rolled(closed, self.log.active());
        Ok(())
    }

    fn write_snapshot(&self, writer: &mut PartitionWriter, offset: i64) -> Result<(), Error> {
        let path = file_path(&self.log.dir, offset, "snapshot");
        let state = self.producer_state(writer)?;
        if state.is_empty() {
            return self
                .environment
                .fs
                .remove_file(&path)
                .during("remove", &path);
        }
        // A snapshot may exist already, if the log ends where its last segment begins, and it may be the only record of
        // producers whose segments were deleted.
        self.environment
            .fs
            .write_atomically(&path, &state.to_snapshot())
            .during("write", &path)
    }

    fn syncs_acks(&self) -> bool {
        self.environment.durability == Durability::Acks
    }

    /// Retires a deleted partition: refuses writes, notifies waiters and closes the log files, so that the disk frees
    /// their space when they are removed.
    pub(super) fn retire(&self) {
        self.log_state.lock().fail(Error::Deleted);
        self.watchers.notify();
        self.environment.health.forget_poisoned(&self.to_string());
        // Waits for a running append or deletion to finish.
        let mut maintenance = self.maintenance.lock();
        // The names of its files may soon be those of a new topic.
        maintenance.pending_swap = None;
        let _writer = self.writer.lock();
        let segments = self.log.segments();
        for segment in segments.iter().chain(&maintenance.pending_deletion) {
            segment.note_removal();
        }
    }

    /// Flushes the log and leaves its files in the state of a clean shutdown. Returns the log end offset.
    pub(super) fn close(self: &Arc<Self>) -> Result<i64, Error> {
        let mut maintenance = self.maintenance.lock();
        let mut writer = self.writer.lock();
        if self.log_state.lock().failure().is_none() {
            self.flush()?;
        }
        self.log_state.lock().check()?;
        // The next start would complete it, too, but Kafka would ignore the file.
        if let Err(error) = self.complete_swap(&mut maintenance) {
            warn!(partition = %self, %error, "files of rewritten segments not replaced, left to the next start");
        }
        let offset = writer.log.next_offset;
        let untouched = matches!(&writer.producers, Producers::Snapshot(path)
            if path.as_ref().is_none_or(|path| *path == file_path(&self.log.dir, offset, "snapshot")));
        self.environment.spending(|| {
            if !untouched {
                self.write_snapshot(&mut writer, offset)?;
            }
            let active = self.log.active();
            if active.has_index() && active.size() > 0 {
                active.close_index()?;
                active.sync_index()?;
            }
            Ok(())
        })?;
        self.log_state.lock().fail(Error::Closed);
        Ok(offset)
    }

    /// Returns the offset below which everything is durable.
    pub(crate) fn durable_offset(&self) -> i64 {
        self.log_state.lock().durable
    }

    /// Returns true while a flush is running.
    pub(super) fn is_syncing(&self) -> bool {
        self.log_state.lock().is_syncing()
    }

    /// Returns true if records await a flush.
    pub(super) fn awaits_flush(&self) -> bool {
        self.log_state.lock().awaits_flush()
    }

    /// Returns when the oldest unflushed record was written, if there is one.
    pub(super) fn unsynced_since(&self) -> Option<Duration> {
        self.log_state.lock().unsynced_since()
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic.name, self.number)
    }
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Partition({self})")
    }
}

/// Updates the producer state, if it is loaded, by batches appended from `base_offset` on. If they belong to transactions,
/// returns the first offset of the oldest open one, and the one that they ended.
fn record_producers(
    writer: &mut PartitionWriter,
    append: &Append<'_>,
    mut base_offset: i64,
) -> Option<(Option<i64>, Option<EndedTransaction>)> {
    let Producers::Loaded(producers) = &mut writer.producers else {
        return None;
    };
    if let Some(marker) = append.marker {
        let now_ms = append.now_ms;
        let ended = producers.end_transaction(base_offset, marker, now_ms, now_ms);
        return Some((producers.first_open(), ended));
    }
    let mut is_transactional = false;
    for batch in append.batches {
        let header = batch.header();
        producers.record(base_offset, header, append.now_ms);
        base_offset += i64::from(header.last_offset_delta) + 1;
        is_transactional |= header.attributes.is_transactional();
    }
    is_transactional.then(|| (producers.first_open(), None))
}
