//! One partition: a log, the producers that write to it, what of it readers may see, and who waits for more.
//!
//! Two locks, taken in this order and never across an await:
//!
//! * the **writer** (append lock): who holds it may write, roll, delete and rewrite segments;
//! * the **tail**: the offsets, held for as long as it takes to copy a few numbers. Readers and scrapes take only this.
//!
//! Disk synchronisation runs under neither, on the blocking pool, one at a time.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tracing::{error, warn};

use super::admission;
use super::checkpoint::LeaderEpochs;
use super::durability::{Mark, Tail, Wait};
use super::error::{Error, IoContext};
use super::inspection;
use super::log::{Log, Writer, Written};
use super::producer_state::{ProducerState, Verdict};
use super::recovery::{Opened, Producers};
use super::segment::{Located, Segment, file_path};
use super::topics::{Environment, TopicInfo};
use crate::config::{Durability, TopicConfig};
use crate::record::{DecompressLimit, FileRegion, RecordBatch, Records};

/// Regions up to this size are copied; larger ones are sent from the file.
const COPIED_BYTES_MAX: u64 = 16 * 1024;

/// How often one call tries to put damage right before it gives up.
const REPAIRS_MAX: usize = 8;

/// What a producer is promised when its append is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Nothing.
    None,
    /// The record survives the end of the process.
    Leader,
    /// It survives a loss of power, once [`Partition::wait_durable`] has returned.
    All,
}

#[derive(Debug, Clone, Copy)]
pub struct AppendOptions {
    pub acks: Acks,
}

/// Where batches went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    pub last_offset: i64,
    /// The time stamped on the records, if the topic does that.
    pub log_append_time_ms: Option<i64>,
    pub log_start_offset: i64,
    /// They had been appended before; the offsets are those of then.
    pub duplicate: bool,
}

/// `log_start ≤ last_stable ≤ high_watermark ≤ log_end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    pub log_start: i64,
    pub last_stable: i64,
    pub high_watermark: i64,
    pub log_end: i64,
}

/// Which records a reader wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// What a read found, and the offsets at that moment.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Whole batches; the first may begin before the offset asked for.
    pub records: Option<Records>,
    pub offsets: Offsets,
}

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampedOffset {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub leader_epoch: i32,
}

/// A partition's numbers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionSnapshot {
    pub offsets: Offsets,
    pub size_bytes: u64,
    pub segments: usize,
    /// Records written since the server started.
    pub records_total: u64,
}

pub struct Partition {
    topic: Arc<TopicInfo>,
    number: i32,
    environment: Arc<Environment>,
    log: Log,
    epochs: OnceLock<LeaderEpochs>,
    writer: Mutex<PartitionWriter>,
    tail: Mutex<Tail>,
    /// Where the log ended when it was opened; what lies behind was written by this process.
    opened_end: i64,
    /// Signalled when a synchronisation ends.
    sync_ended: Condvar,
    records_total: AtomicU64,
    /// Whether it stands in the list of partitions with unsynchronised data.
    enqueued: AtomicBool,
    watchers: Watchers,
}

/// What the append lock protects.
struct PartitionWriter {
    log: Writer,
    producers: Producers,
    /// The active segment was begun without a snapshot of the producers as they were then. Nothing is appended before
    /// there is one: recovery could not tell retries of batches whose segments have been deleted.
    snapshot_due: bool,
}

impl Partition {
    pub(super) fn new(
        topic: Arc<TopicInfo>,
        number: i32,
        environment: Arc<Environment>,
        dir: Arc<Path>,
        opened: Opened,
    ) -> Arc<Self> {
        let active = opened.segments.last().expect("recovery leaves a segment");
        let mut tail = Tail::new(
            opened.log_start,
            opened.end,
            opened.durable,
            Arc::clone(active),
        );
        tail.add_unsynced(opened.unsynced);
        let needs_flush = tail.unsynced_since().is_some();
        let log = Log::new(&environment.fs, dir, opened.segments);
        let partition = Arc::new(Self {
            topic,
            number,
            writer: Mutex::new(PartitionWriter {
                log: log.writer(opened.end.offset),
                producers: opened.producers,
                snapshot_due: false,
            }),
            environment,
            log,
            epochs: OnceLock::new(),
            tail: Mutex::new(tail),
            opened_end: opened.end.offset,
            sync_ended: Condvar::new(),
            records_total: AtomicU64::new(0),
            enqueued: AtomicBool::new(false),
            watchers: Watchers::default(),
        });
        if needs_flush {
            partition.environment.note_unsynced(&partition);
        }
        partition
    }

    pub fn topic(&self) -> &Arc<TopicInfo> {
        &self.topic
    }

    /// The partition's number within its topic.
    pub fn number(&self) -> i32 {
        self.number
    }

    pub(super) fn dir(&self) -> &Arc<Path> {
        &self.log.dir
    }

    /// Appends batches: all of them, or none.
    ///
    /// The data is in the page cache when this returns. What was appended with [`Acks::All`] becomes visible, and may be
    /// acknowledged, once [`wait_durable`](Self::wait_durable) has returned.
    pub fn append(
        self: &Arc<Self>,
        batches: Vec<RecordBatch>,
        options: AppendOptions,
    ) -> Result<Appended, Error> {
        let config = self.topic.config();
        let now_ms = self.environment.clock.now_ms();
        let wire_bytes: usize = batches.iter().map(RecordBatch::size_bytes).sum();
        let admitted = admission::admit(batches, &config, now_ms)?;
        let batches = &admitted.batches;

        let mut writer = self.writer.lock();
        let log_start_offset = {
            let tail = self.tail.lock();
            tail.check()?;
            tail.log_start
        };
        let verdict = self.judge(&mut writer, batches)?;
        if let Verdict::Duplicate(original) = verdict {
            return Ok(Appended {
                base_offset: original.base_offset,
                last_offset: original.last_offset,
                log_append_time_ms: admitted.log_append_time_ms.and(Some(original.timestamp_ms)),
                log_start_offset,
                duplicate: true,
            });
        }
        let written = match self.write(&mut writer, batches, &config) {
            Ok(written) => written,
            Err(failure) => {
                self.environment
                    .health
                    .note_write_failure(&failure, wire_bytes);
                if self.log.is_broken(&writer.log) {
                    self.poison(&failure);
                }
                return Err(failure);
            }
        };
        let mut base_offset = written.base_offset;
        if let Producers::Loaded(producers) = &mut writer.producers {
            for batch in batches {
                producers.record(base_offset, batch.header(), now_ms);
                base_offset += i64::from(batch.header().last_offset_delta) + 1;
            }
        }
        let next_offset = writer.log.next_offset;
        let records: i64 = batches
            .iter()
            .map(|batch| i64::from(batch.header().record_count))
            .sum();
        let acked_by_disk = options.acks == Acks::All && self.syncs_acks();
        let mark = |offset, position| Mark {
            offset,
            segment: written.segment.base_offset,
            position,
        };
        let was_clean = {
            let mut tail = self.tail.lock();
            let was_clean = tail.appended(
                mark(written.base_offset, written.start),
                mark(next_offset, written.end),
                acked_by_disk,
                self.environment.clock.monotonic(),
            );
            if tail.unsynced_records() >= config.flush_messages {
                tail.promise_all();
            }
            was_clean
        };
        drop(writer);

        self.records_total
            .fetch_add(records as u64, Ordering::Relaxed);
        self.topic.counters.add_bytes_in(wire_bytes as u64);
        self.environment.health.note_write_success(wire_bytes);
        if was_clean {
            self.environment.note_unsynced(self);
        }
        if !acked_by_disk {
            self.watchers.notify();
        }
        Ok(Appended {
            base_offset: written.base_offset,
            last_offset: next_offset - 1,
            log_append_time_ms: admitted.log_append_time_ms,
            log_start_offset,
            duplicate: false,
        })
    }

    fn write(
        &self,
        writer: &mut PartitionWriter,
        batches: &[RecordBatch],
        config: &TopicConfig,
    ) -> Result<Written, Error> {
        let leader_epoch = self.epochs()?.current();
        if let Some(closed) = self.log.roll_if_due(&mut writer.log, batches, config)? {
            self.after_roll(writer, closed);
        }
        self.write_due_snapshot(writer)?;
        self.log
            .append(&mut writer.log, batches, leader_epoch, config)
    }

    fn judge(
        &self,
        writer: &mut PartitionWriter,
        batches: &[RecordBatch],
    ) -> Result<Verdict, Error> {
        if !batches.iter().any(|batch| batch.header().is_idempotent()) {
            return Ok(Verdict::Append);
        }
        self.producers(writer)?
            .judge(batches.iter().map(RecordBatch::header))
    }

    /// The producers' state, read from its snapshot if nobody has asked for it yet.
    fn producers<'w>(
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
                        error!(path = %path.display(), "the snapshot of producers is damaged; none is known now");
                        ProducerState::default()
                    })
                }
            };
            writer.producers = Producers::Loaded(loaded);
        }
        match &mut writer.producers {
            Producers::Loaded(state) => Ok(state),
            Producers::Snapshot(_) => unreachable!("it was loaded above"),
        }
    }

    fn after_roll(&self, writer: &mut PartitionWriter, closed: Arc<Segment>) {
        self.tail.lock().rolled(closed, self.log.active());
        writer.snapshot_due = true;
    }

    fn write_due_snapshot(&self, writer: &mut PartitionWriter) -> Result<(), Error> {
        if writer.snapshot_due {
            let offset = writer.log.next_offset;
            self.write_snapshot(writer, offset)?;
            writer.snapshot_due = false;
        }
        Ok(())
    }

    fn write_snapshot(&self, writer: &mut PartitionWriter, offset: i64) -> Result<(), Error> {
        let path = file_path(&self.log.dir, offset, "snapshot");
        let state = self.producers(writer)?;
        if state.is_empty() {
            return self
                .environment
                .fs
                .remove_file(&path)
                .during("remove", &path);
        }
        let file = self.environment.fs.create(&path).during("create", &path)?;
        file.write_all_at(&state.to_snapshot(), 0)
            .and_then(|()| file.sync_data())
            .during("write", &path)
    }

    fn syncs_acks(&self) -> bool {
        self.environment.durability == Durability::Acks
    }

    /// Waits until all records below `end_offset` survive a loss of power.
    ///
    /// With `durability = os` that is only waited for where `flush.messages` asks for it.
    pub async fn wait_durable(self: &Arc<Self>, end_offset: i64) -> Result<(), Error> {
        let wait = self.tail.lock().wait(end_offset, !self.syncs_acks());
        match wait {
            Wait::Done(result) => result,
            Wait::For { result, start } => {
                if start {
                    let claim = Claim::of(self);
                    tokio::task::spawn_blocking(move || claim.run());
                }
                // The sender goes without a word only when the runtime shuts down.
                result.await.unwrap_or(Err(Error::Closed))
            }
        }
    }

    /// Brings everything written so far to the disk. Blocks.
    pub fn flush(self: &Arc<Self>) -> Result<(), Error> {
        let target = {
            let mut tail = self.tail.lock();
            let target = tail.end.offset;
            while tail.is_syncing() {
                self.sync_ended.wait(&mut tail);
            }
            tail.check()?;
            if tail.durable >= target {
                return Ok(());
            }
            tail.claim();
            target
        };
        Claim::of(self).run();
        let tail = self.tail.lock();
        match tail.durable >= target {
            true => Ok(()),
            false => Err(tail.failure().cloned().unwrap_or(Error::Closed)),
        }
    }

    /// Runs synchronisations for as long as there is someone to run them for. The caller has claimed the right to.
    fn synchronise(self: &Arc<Self>) {
        loop {
            let sync = self.tail.lock().begin();
            let result = self.synchronise_once(&sync.segments, &sync.active, sync.directory);
            let again = match result {
                Ok(()) => self.tail.lock().synced(&sync),
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

    fn synchronise_once(
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
            let dir = &self.log.dir;
            self.environment
                .fs
                .sync_dir(dir)
                .during("synchronise", dir)?;
            if let Some(parent) = dir.parent() {
                self.environment
                    .fs
                    .sync_dir(parent)
                    .during("synchronise", parent)?;
            }
        }
        Ok(())
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

    /// Takes no more records: the disk's state is unknown.
    fn poison(&self, failure: &Error) {
        let reason = failure.to_string();
        let deleted = matches!(self.tail.lock().failure(), Some(Error::Deleted));
        if deleted {
            return;
        }
        error!(partition = %self, reason, "the partition takes no more records until the server is restarted");
        self.environment
            .health
            .note_poisoned(self.to_string(), &reason);
        self.tail.lock().fail(Error::Poisoned {
            topic: self.topic.name.to_string(),
            partition: self.number,
            reason,
        });
        self.watchers.notify();
    }

    /// Ends the partition's life: nothing more is written, and whoever waits is told.
    pub(super) fn retire(&self) {
        self.tail.lock().fail(Error::Deleted);
        self.watchers.notify();
        self.environment.health.forget_poisoned(&self.to_string());
        // Whoever was writing has finished when this returns.
        drop(self.writer.lock());
    }

    /// Flushes, and leaves the files as a clean shutdown does. Returns the log's end.
    pub(super) fn close(self: &Arc<Self>) -> Result<i64, Error> {
        let mut writer = self.writer.lock();
        if self.tail.lock().failure().is_none() {
            self.flush()?;
        }
        self.tail.lock().check()?;
        let offset = writer.log.next_offset;
        let untouched = matches!(&writer.producers, Producers::Snapshot(path)
            if path.as_ref().is_none_or(|path| *path == file_path(&self.log.dir, offset, "snapshot")));
        if !untouched {
            self.write_snapshot(&mut writer, offset)?;
        }
        let active = self.log.active();
        if active.has_index() && active.size() > 0 {
            active.close_index()?;
            active.sync_index()?;
        }
        self.tail.lock().fail(Error::Closed);
        Ok(offset)
    }

    /// The offset below which the disk has everything, and whether anything was written past it.
    pub(super) fn durable_offset(&self) -> i64 {
        self.tail.lock().durable
    }

    /// Says that the partition now stands in the list of those with unsynchronised data; false if it did before.
    pub(super) fn enqueue(&self) -> bool {
        !self.enqueued.swap(true, Ordering::AcqRel)
    }

    /// It was taken off that list.
    pub(super) fn dequeued(&self) {
        self.enqueued.store(false, Ordering::Release);
    }

    /// Since when the oldest unsynchronised record has been waiting, if there is one.
    pub(super) fn unsynced_since(&self) -> Option<std::time::Duration> {
        self.tail.lock().unsynced_since()
    }

    pub fn offsets(&self) -> Offsets {
        offsets_of(&self.tail.lock())
    }

    pub fn snapshot(&self) -> PartitionSnapshot {
        let offsets = self.offsets();
        let segments = self.log.segments();
        PartitionSnapshot {
            offsets,
            size_bytes: segments.iter().map(|segment| segment.size()).sum(),
            segments: segments.len(),
            records_total: self.records_total.load(Ordering::Relaxed),
        }
    }

    pub fn size_bytes(&self) -> u64 {
        self.log.size_bytes()
    }

    /// Whether a read at `offset` may have to wait for the disk, or check bytes that nobody has looked at since the
    /// server started. Such a read does not belong on a thread that serves others.
    pub fn read_may_block(&self, offset: i64) -> bool {
        offset < self.opened_end || offset < self.log.active().base_offset
    }

    /// Whether what is at `offset` lies in a segment that nothing is appended to any more.
    pub fn is_before_active_segment(&self, offset: i64) -> bool {
        offset < self.log.active().base_offset
    }

    /// Reads whole batches from one segment, beginning with the one that holds `offset` or, where that was removed,
    /// with the next; only below the high watermark, and at most `max_bytes` of them. With `at_least_one` the first
    /// batch is read even if it is larger.
    pub fn read(
        self: &Arc<Self>,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
        _isolation: Isolation,
    ) -> Result<Fetched, Error> {
        self.repairing(|| self.read_once(offset, max_bytes, at_least_one))
    }

    fn read_once(
        &self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Fetched, Error> {
        let (offsets, visible) = {
            let tail = self.tail.lock();
            // A log that takes no more records can still be read, except when there is no log any more.
            if let Some(Error::Deleted) = tail.failure() {
                return Err(Error::Deleted);
            }
            (offsets_of(&tail), tail.visible)
        };
        if offset < offsets.log_start || offset > offsets.log_end {
            return Err(Error::OffsetOutOfRange {
                offset,
                log_start: offsets.log_start,
                log_end: offsets.log_end,
            });
        }
        let found = self.find(offset, visible)?;
        let records = match found {
            Some((segment, first, readable)) => {
                self.region(&segment, &first, readable, max_bytes as u64, at_least_one)?
            }
            None => None,
        };
        Ok(Fetched { records, offsets })
    }

    /// The batch that holds `offset`, or the next one, below `visible`.
    fn find(
        &self,
        offset: i64,
        visible: Mark,
    ) -> Result<Option<(Arc<Segment>, Located, Readable)>, Error> {
        if offset >= visible.offset {
            return Ok(None);
        }
        let segments = self.log.segments();
        let first = segments.partition_point(|segment| segment.base_offset <= offset);
        for place in first.saturating_sub(1)..segments.len() {
            let segment = &segments[place];
            let Some(readable) = readable(&segments, place, visible) else {
                break;
            };
            if let Some(located) = segment.locate(offset, readable.end)? {
                return Ok(Some((Arc::clone(segment), located, readable)));
            }
        }
        Ok(None)
    }

    fn region(
        &self,
        segment: &Arc<Segment>,
        first: &Located,
        readable: Readable,
        max_bytes: u64,
        at_least_one: bool,
    ) -> Result<Option<Records>, Error> {
        let run = segment.run_end(first, readable.end, max_bytes)?;
        let (start, end) = (first.position, run.end);
        if end - start > max_bytes && !at_least_one {
            return Ok(None);
        }
        if segment.needs_check(start, end) {
            let epochs = self.epochs()?;
            segment.check(start, end, readable.end, readable.offset_after, |offset| {
                epochs.at(offset)
            })?;
        }
        if end == readable.end {
            segment.remember(readable.offset_after, end);
        } else if let Some(offset) = run.next_offset {
            segment.remember(offset, end);
        }
        let len = (end - start) as usize;
        if end - start <= COPIED_BYTES_MAX {
            return Ok(Some(Records::Bytes(segment.read(start, len)?.into())));
        }
        Ok(Some(Records::File(FileRegion {
            file: Arc::clone(segment.file()?.handle()),
            position: start,
            len,
            cold: segment.base_offset != readable.active,
        })))
    }

    /// The first record, below the high watermark, whose timestamp is `timestamp_ms` or later. May block.
    pub fn offset_for_timestamp(
        self: &Arc<Self>,
        timestamp_ms: i64,
    ) -> Result<Option<TimestampedOffset>, Error> {
        self.repairing(|| self.offset_for_timestamp_once(timestamp_ms))
    }

    fn offset_for_timestamp_once(
        &self,
        timestamp_ms: i64,
    ) -> Result<Option<TimestampedOffset>, Error> {
        let (log_start, visible) = self.readable_now();
        let segments = self.log.segments();
        for (place, segment) in segments.iter().enumerate() {
            let Some(readable) = readable(&segments, place, visible) else {
                break;
            };
            if readable.offset_after <= log_start {
                continue;
            }
            let newest = segment.max_time(readable.end)?;
            if newest.is_none_or(|newest| newest.header.max_timestamp < timestamp_ms) {
                continue;
            }
            let mut next = segment.locate_time(timestamp_ms, log_start, readable.end)?;
            while let Some(located) = next {
                let record = self.first_record(segment, &located, |record| {
                    record.timestamp_ms >= timestamp_ms && record.offset >= log_start
                })?;
                if record.is_some() {
                    return Ok(record);
                }
                let after = located.header.next_offset();
                next = segment.locate_time(timestamp_ms, after, readable.end)?;
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp below the high watermark, the first if there are several. May block.
    pub fn max_timestamp(self: &Arc<Self>) -> Result<Option<TimestampedOffset>, Error> {
        self.repairing(|| {
            let (log_start, visible) = self.readable_now();
            let segments = self.log.segments();
            let mut newest: Option<(Arc<Segment>, Located)> = None;
            for (place, segment) in segments.iter().enumerate() {
                let Some(readable) = readable(&segments, place, visible) else {
                    break;
                };
                if readable.offset_after <= log_start {
                    continue;
                }
                if let Some(located) = segment.max_time(readable.end)?
                    && newest.as_ref().is_none_or(|(_, newest)| {
                        located.header.max_timestamp > newest.header.max_timestamp
                    })
                {
                    newest = Some((Arc::clone(segment), located));
                }
            }
            match newest {
                Some((segment, located)) if located.header.max_timestamp >= 0 => {
                    let timestamp_ms = located.header.max_timestamp;
                    self.first_record(&segment, &located, |record| {
                        record.timestamp_ms == timestamp_ms
                    })
                }
                _ => Ok(None),
            }
        })
    }

    fn readable_now(&self) -> (i64, Mark) {
        let tail = self.tail.lock();
        (tail.log_start, tail.visible)
    }

    fn first_record(
        &self,
        segment: &Segment,
        located: &Located,
        wanted: impl Fn(&crate::record::Record) -> bool,
    ) -> Result<Option<TimestampedOffset>, Error> {
        let bytes = segment.read(located.position, located.header.size_bytes())?;
        let batch = RecordBatch::parse_stored(Bytes::from(bytes))
            .map_err(|error| segment.corrupt(located.position, error.to_string()))?;
        for record in batch.records(DecompressLimit::default())? {
            let record = record?;
            if wanted(&record) {
                return Ok(Some(TimestampedOffset {
                    offset: record.offset,
                    timestamp_ms: record.timestamp_ms,
                    leader_epoch: located.header.partition_leader_epoch,
                }));
            }
        }
        Ok(None)
    }

    fn epochs(&self) -> Result<&LeaderEpochs, Error> {
        if let Some(epochs) = self.epochs.get() {
            return Ok(epochs);
        }
        let path = self.log.dir.join("leader-epoch-checkpoint");
        let read = LeaderEpochs::read(&self.environment.fs, &path)?;
        Ok(self
            .epochs
            .get_or_init(|| read.unwrap_or_else(LeaderEpochs::new)))
    }

    /// The epoch that new records are stamped with.
    pub fn leader_epoch(&self) -> Result<i32, Error> {
        Ok(self.epochs()?.current())
    }

    /// The largest leader epoch up to the one asked for, and the offset at which it ended; `(-1, -1)` if there is none.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> Result<(i32, i64), Error> {
        let log_end = self.offsets().log_end;
        Ok(self
            .epochs()?
            .end_offset(epoch, log_end)
            .unwrap_or((-1, -1)))
    }

    /// Makes the log start at `before`, and frees the segments that hold nothing else. Returns where it starts now.
    /// Blocks.
    pub fn delete_records(self: &Arc<Self>, before: i64) -> Result<i64, Error> {
        let writer = self.writer.lock();
        let log_start = {
            let mut tail = self.tail.lock();
            tail.check()?;
            if before < 0 || before > tail.visible.offset {
                return Err(Error::OffsetOutOfRange {
                    offset: before,
                    log_start: tail.log_start,
                    log_end: tail.visible.offset,
                });
            }
            tail.log_start = tail.log_start.max(before);
            tail.log_start
        };
        self.environment.log_starts.set(
            &self.environment.fs,
            &self.topic.name,
            self.number,
            log_start,
        )?;
        let segments = self.log.segments();
        let count = segments
            .windows(2)
            .take_while(|pair| pair[1].base_offset <= log_start)
            .count();
        self.remove_front(count)?;
        drop(writer);
        Ok(log_start)
    }

    /// Takes segments off the front of the log and removes their files. The caller holds the writer.
    fn remove_front(&self, count: usize) -> Result<u64, Error> {
        let mut bytes = 0;
        for segment in self.log.drop_front(count) {
            bytes += segment.size();
            segment.remove_files()?;
        }
        let first = self.log.segments()[0].base_offset;
        let mut tail = self.tail.lock();
        tail.log_start = tail.log_start.max(first);
        Ok(bytes)
    }

    /// Deletes segments by the topic's retention, oldest first. Blocks. Returns how many, and their bytes.
    pub(super) fn retain(self: &Arc<Self>, now_ms: i64) -> Result<(u64, u64), Error> {
        let config = self.topic.config();
        let mut writer = self.writer.lock();
        if self.tail.lock().failure().is_some() {
            return Ok((0, 0));
        }
        if let Producers::Loaded(state) = &mut writer.producers {
            state.expire(now_ms.saturating_sub(self.environment.producer_id_expiration_ms));
        }
        let (_, visible) = self.readable_now();
        let count =
            super::retention::expired(&self.log.segments(), visible.offset, &config, now_ms)?;
        let all = self.log.segments().len();
        if count == all {
            let closed = self.log.roll(&mut writer.log)?;
            self.after_roll(&mut writer, closed);
        }
        let bytes = self.remove_front(count)?;
        Ok((count as u64, bytes))
    }

    /// Runs a read; when it meets damage, the segment is put in order and the read is run again.
    fn repairing<T>(
        self: &Arc<Self>,
        mut read: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        for _ in 0..REPAIRS_MAX {
            match read() {
                Err(Error::Corrupt {
                    path,
                    position,
                    reason,
                }) => {
                    warn!(path = %path.display(), position, reason, "looking into a segment that seems damaged");
                    self.repair(&path)?;
                }
                // The segment was deleted between its being found and its being opened.
                Err(error) if error.is_absent() => {}
                other => return other,
            }
        }
        read()
    }

    /// Reads a segment from end to end and takes out what is damaged. Blocks.
    fn repair(self: &Arc<Self>, path: &Path) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        let is_sought = |segment: &&Arc<Segment>| segment.log_path() == path;
        if is_sought(&&self.log.active()) && self.log.active().size() > 0 {
            // Positions in the active segment are known in many places; a closed one can be exchanged.
            self.flush()?;
            let closed = self.log.roll(&mut writer.log)?;
            self.after_roll(&mut writer, closed);
        }
        let segments = self.log.segments();
        let Some(place) = segments.iter().position(|segment| is_sought(&segment)) else {
            return Ok(());
        };
        let segment = &segments[place];
        let following = segments.get(place + 1).map(|next| next.base_offset);
        let size = segment.size();
        let inspected = inspection::inspect(
            segment,
            size,
            following,
            i64::MAX,
            Some(self.epochs()?),
            |_| {},
        )?;
        inspection::mend_epochs(segment, &inspected)?;
        let mut damages = inspected.damages;
        damages.extend(inspected.tail);
        if damages.is_empty() {
            segment.mark_checked();
            segment.rebuild_index()?;
            return Ok(());
        }
        self.environment.note_damage(damages.len() as u64);
        let fs = &self.environment.fs;
        let rewritten = inspection::excise(fs, &self.log.dir, segment, size, &damages)?;
        rewritten.mark_checked();
        rewritten.rebuild_index()?;
        self.log.replace(segment, Arc::new(rewritten));
        Ok(())
    }

    /// Has `waiter` notified whenever there may be more to read, or the partition's life ends, until the guard is
    /// dropped. Look at the partition after this, before waiting.
    pub fn watch(self: &Arc<Self>, waiter: &Arc<Notify>) -> Watch {
        self.watchers.add(waiter);
        Watch {
            partition: Arc::clone(self),
            waiter: Arc::clone(waiter),
        }
    }
}

/// The right to synchronise a partition. A runtime that shuts down drops the work it was handed without running it; then
/// the right is given back.
struct Claim {
    partition: Arc<Partition>,
    held: bool,
}

impl Claim {
    fn of(partition: &Arc<Partition>) -> Self {
        Self {
            partition: Arc::clone(partition),
            held: true,
        }
    }

    fn run(mut self) {
        self.partition.synchronise();
        self.held = false;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.held {
            self.partition.tail.lock().release();
            self.partition.sync_ended.notify_all();
        }
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

fn offsets_of(tail: &Tail) -> Offsets {
    Offsets {
        log_start: tail.log_start,
        // Without transactions, everything that is visible is decided.
        last_stable: tail.visible.offset,
        high_watermark: tail.visible.offset,
        log_end: tail.end.offset,
    }
}

/// How far a segment may be read.
#[derive(Debug, Clone, Copy)]
struct Readable {
    /// The position at which what may be read ends.
    end: u64,
    /// The offset that follows.
    offset_after: i64,
    /// The active segment's base offset.
    active: i64,
}

/// How far the segment at `place` may be read; `None` if it lies past what is visible.
fn readable(segments: &[Arc<Segment>], place: usize, visible: Mark) -> Option<Readable> {
    let segment = &segments[place];
    let active = segments[segments.len() - 1].base_offset;
    if segment.base_offset == visible.segment {
        return Some(Readable {
            end: visible.position,
            offset_after: visible.offset,
            active,
        });
    }
    let next = segments.get(place + 1)?;
    (segment.base_offset < visible.segment).then(|| Readable {
        end: segment.size(),
        offset_after: next.base_offset,
        active,
    })
}

/// Those who wait for more records.
#[derive(Default)]
struct Watchers {
    count: AtomicUsize,
    waiters: Mutex<Vec<Arc<Notify>>>,
}

impl Watchers {
    fn add(&self, waiter: &Arc<Notify>) {
        let mut waiters = self.waiters.lock();
        waiters.push(Arc::clone(waiter));
        self.count.store(waiters.len(), Ordering::SeqCst);
    }

    fn remove(&self, waiter: &Arc<Notify>) {
        let mut waiters = self.waiters.lock();
        if let Some(place) = waiters.iter().position(|each| Arc::ptr_eq(each, waiter)) {
            waiters.swap_remove(place);
        }
        self.count.store(waiters.len(), Ordering::SeqCst);
    }

    /// The offsets were changed under the tail's lock before this. A watcher is added before it looks at them under the
    /// same lock; so either it saw the change, or it is counted here.
    fn notify(&self) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for waiter in &*self.waiters.lock() {
            waiter.notify_one();
        }
    }
}

/// A registration made by [`Partition::watch`]; ends when it is dropped.
pub struct Watch {
    partition: Arc<Partition>,
    waiter: Arc<Notify>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.partition.watchers.remove(&self.waiter);
    }
}
