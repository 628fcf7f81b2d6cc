//! One partition in memory.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::log::{LEADER_EPOCH, Log};
use crate::clock::Clock;
use crate::config::TimestampType;
use crate::record::RecordBatch;
use crate::storage::common::aborted::{Aborted, AbortedSearch};
use crate::storage::common::fetch_waiters::{FetchWaiter, FetchWaiters};
use crate::storage::common::producer_state::{ProducerState, SequenceCheck};
use crate::storage::common::search::{first_record, newest_record};
use crate::storage::common::topic::TopicInfo;
use crate::storage::common::validation::{self, Validated};
use crate::storage::{
    AbortedTransaction, AppendOptions, Appended, Error, Fetched, Isolation, Offsets, PartitionLog,
    PartitionSnapshot, ProducerInfo, ReadOptions, ReadTicket, Ticket, TimestampedOffset,
    TransactionMarker,
};
use crate::sync::Notify;

/// A partition whose records are in memory.
pub(super) struct Partition {
    topic: Arc<TopicInfo>,
    number: i32,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    waiters: Arc<FetchWaiters>,
}

#[derive(Default)]
struct State {
    log: Log,
    producers: ProducerState,
    /// In the order of their markers.
    aborted: Vec<Aborted>,
    records_total: u64,
    /// Set once the partition accepts no more records.
    end: Option<Error>,
}

impl Partition {
    pub fn new(topic: Arc<TopicInfo>, number: i32, clock: Arc<dyn Clock>) -> Self {
        Self {
            topic,
            number,
            clock,
            state: Mutex::default(),
            waiters: Arc::default(),
        }
    }

    fn append_now(&self, batches: Vec<RecordBatch>) -> Result<Appended, Error> {
        let now_ms = self.clock.now_ms();
        let wire_bytes: usize = batches.iter().map(RecordBatch::size_bytes).sum();
        let validated = validation::validate(batches, &self.topic.config(), now_ms)?;
        let appended = self.state.lock().append(&validated, now_ms)?;
        if !appended.duplicate {
            self.topic.counters.add_bytes_in(wire_bytes as u64);
            self.waiters.notify();
        }
        Ok(appended)
    }

    fn end_transaction_now(&self, marker: TransactionMarker) -> Result<Appended, Error> {
        let now_ms = self.clock.now_ms();
        let stamps = self.topic.config().message_timestamp_type == TimestampType::LogAppendTime;
        let batch = marker.to_batch(now_ms, stamps)?;
        let appended = self.state.lock().end_transaction(marker, &batch, now_ms)?;
        self.topic.counters.add_bytes_in(batch.size_bytes() as u64);
        self.waiters.notify();
        Ok(Appended {
            log_append_time_ms: stamps.then_some(now_ms),
            ..appended
        })
    }

    fn read_now(&self, options: ReadOptions) -> Result<Fetched, Error> {
        let state = self.state.lock();
        if let Some(Error::Deleted) = state.end {
            return Err(Error::Deleted);
        }
        let offsets = state.offsets();
        state.check_range(options.offset, offsets.log_end)?;
        let range = options.offset..offsets.readable_to(options.isolation);
        let read = state
            .log
            .read(range, options.max_bytes, options.at_least_one);
        let aborted = match (&read, options.isolation) {
            (Some((_, end)), Isolation::ReadCommitted) => state.aborted_in(options.offset..*end),
            _ => Vec::new(),
        };
        Ok(Fetched {
            records: read.map(|(records, _)| records),
            offsets,
            aborted,
            ends_early: false,
        })
    }

    /// Deletes expired batches and forgets producers not seen since `producers_before_ms`. Returns the deleted bytes.
    pub fn retain(&self, now_ms: i64, producers_before_ms: i64) -> u64 {
        let config = self.topic.config();
        let mut state = self.state.lock();
        state.producers.expire(producers_before_ms);
        if !config.cleanup_policy.delete || state.end.is_some() {
            return 0;
        }
        let bytes = state.log.retain(&config, now_ms);
        state.forget_aborted();
        bytes
    }

    /// Refuses records from now on.
    pub fn end(&self, reason: Error) {
        self.state.lock().end.get_or_insert(reason);
        self.waiters.notify();
    }
}

impl State {
    fn check(&self) -> Result<(), Error> {
        match &self.end {
            Some(reason) => Err(reason.clone()),
            None => Ok(()),
        }
    }

    fn check_range(&self, offset: i64, end: i64) -> Result<(), Error> {
        let log_start = self.log.log_start;
        match (log_start..=end).contains(&offset) {
            true => Ok(()),
            false => Err(Error::OffsetOutOfRange {
                offset,
                log_start,
                log_end: end,
            }),
        }
    }

    fn append(&mut self, validated: &Validated, now_ms: i64) -> Result<Appended, Error> {
        self.check()?;
        let headers = || validated.batches.iter().map(RecordBatch::header);
        let log_start_offset = self.log.log_start;
        if let SequenceCheck::Duplicate(duplicate) = self.producers.check_sequence(headers())? {
            let stamps = validated.log_append_time_ms.is_some();
            return Ok(duplicate.appended(stamps, log_start_offset));
        }
        let base_offset = self.log.log_end;
        for batch in &validated.batches {
            let offset = self.log.push(batch, now_ms);
            self.producers.record(offset, batch.header(), now_ms);
            self.records_total += u64::from(batch.header().record_count.unsigned_abs());
        }
        Ok(Appended {
            base_offset,
            last_offset: self.log.log_end - 1,
            log_append_time_ms: validated.log_append_time_ms,
            log_start_offset,
            duplicate: false,
        })
    }

    fn end_transaction(
        &mut self,
        marker: TransactionMarker,
        batch: &RecordBatch,
        now_ms: i64,
    ) -> Result<Appended, Error> {
        self.check()?;
        self.producers.check_marker(&marker)?;
        let offset = self.log.push(batch, now_ms);
        let ended = self
            .producers
            .end_transaction(offset, &marker, now_ms, now_ms);
        self.aborted.extend(ended.as_ref().and_then(Aborted::of));
        self.records_total += 1;
        Ok(Appended {
            base_offset: offset,
            last_offset: offset,
            log_append_time_ms: None,
            log_start_offset: self.log.log_start,
            duplicate: false,
        })
    }

    /// Every record can be read at once, unless its transaction or an earlier one is open.
    fn offsets(&self) -> Offsets {
        let Log {
            log_start, log_end, ..
        } = self.log;
        let first_open = self.producers.first_open();
        Offsets {
            log_start,
            last_stable: first_open.map_or(log_end, |first_open| first_open.max(log_start)),
            high_watermark: log_end,
            log_end,
        }
    }

    /// Returns the aborted transactions that overlap a range of offsets.
    fn aborted_in(&self, range: Range<i64>) -> Vec<AbortedTransaction> {
        let mut search = AbortedSearch::new(range);
        search.add_from(&self.aborted);
        search.finish()
    }

    /// Forgets aborted transactions whose records and markers were deleted.
    fn forget_aborted(&mut self) {
        let log_start = self.log.log_start;
        let deleted = self
            .aborted
            .partition_point(|aborted| aborted.last_offset < log_start);
        self.aborted.drain(..deleted);
    }
}

impl PartitionLog for Partition {
    fn topic(&self) -> &Arc<TopicInfo> {
        &self.topic
    }

    fn number(&self) -> i32 {
        self.number
    }

    /// Ready at once, whatever the `acks`: no record outlives the process.
    fn append(&self, batches: Vec<RecordBatch>, _options: AppendOptions) -> Ticket<Appended> {
        Ticket::Ready(self.append_now(batches))
    }

    fn end_transaction(
        &self,
        marker: TransactionMarker,
        _options: AppendOptions,
    ) -> Ticket<Appended> {
        Ticket::Ready(self.end_transaction_now(marker))
    }

    fn read(&self, options: ReadOptions) -> ReadTicket {
        ReadTicket::Ready(self.read_now(options))
    }

    fn watch(&self, waiter: &Arc<Notify>) -> FetchWaiter {
        self.waiters.add(waiter)
    }

    fn offsets(&self) -> Offsets {
        self.state.lock().offsets()
    }

    fn snapshot(&self) -> PartitionSnapshot {
        let state = self.state.lock();
        PartitionSnapshot {
            offsets: state.offsets(),
            size_bytes: state.log.size_bytes,
            segments: 1,
            records_total: state.records_total,
        }
    }

    fn offset_for_timestamp(&self, timestamp_ms: i64) -> Ticket<Option<TimestampedOffset>> {
        let (log_start, candidates) = {
            let state = self.state.lock();
            let batches = state.log.batches();
            let candidates = batches.filter(|batch| batch.max_timestamp_ms >= timestamp_ms);
            let candidates: Vec<Bytes> = candidates.map(|batch| batch.bytes.clone()).collect();
            (state.log.log_start, candidates)
        };
        search(move || {
            for bytes in candidates {
                let batch = RecordBatch::parse_stored(bytes)?;
                let found = first_record(&batch, |record| {
                    record.timestamp_ms >= timestamp_ms && record.offset >= log_start
                })?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        })
    }

    fn max_timestamp(&self) -> Ticket<Option<TimestampedOffset>> {
        let (log_start, candidates) = {
            let state = self.state.lock();
            let candidates = state.log.newest_batches().map(|batch| batch.bytes.clone());
            (state.log.log_start, candidates.collect::<Vec<Bytes>>())
        };
        search(move || {
            let mut newest: Option<TimestampedOffset> = None;
            for bytes in candidates {
                let found = newest_record(&RecordBatch::parse_stored(bytes)?, log_start)?;
                newest = match (newest, found) {
                    (Some(newest), Some(found)) if found.timestamp_ms > newest.timestamp_ms => {
                        Some(found)
                    }
                    (newest, found) => newest.or(found),
                };
            }
            Ok(newest.filter(|newest| newest.timestamp_ms >= 0))
        })
    }

    fn leader_epoch(&self) -> Result<i32, Error> {
        Ok(LEADER_EPOCH)
    }

    fn leader_epoch_at(&self, _offset: i64) -> Result<i32, Error> {
        self.leader_epoch()
    }

    fn end_offset_for_epoch(&self, epoch: i32) -> Result<(i32, i64), Error> {
        Ok(match epoch {
            LEADER_EPOCH => (epoch, self.offsets().log_end),
            _ => (-1, -1),
        })
    }

    fn delete_before(&self, offset: i64) -> Ticket<i64> {
        let mut state = self.state.lock();
        let checked = state.check();
        let log_end = state.log.log_end;
        let deleted = checked.and_then(|()| {
            if offset < 0 || offset > log_end {
                return Err(Error::OffsetOutOfRange {
                    offset,
                    log_start: state.log.log_start,
                    log_end,
                });
            }
            state.log.delete_before(offset);
            state.forget_aborted();
            Ok(state.log.log_start)
        });
        Ticket::Ready(deleted)
    }

    fn largest_producer_id(&self) -> Result<Option<i64>, Error> {
        Ok(self.state.lock().producers.largest_id())
    }

    fn producers(&self) -> Result<Vec<ProducerInfo>, Error> {
        Ok(self.state.lock().producers.infos())
    }
}

/// Searches on a blocking thread: batches may have to be decompressed.
fn search(
    work: impl FnOnce() -> Result<Option<TimestampedOffset>, Error> + Send + 'static,
) -> Ticket<Option<TimestampedOffset>> {
    Ticket::Pending(Box::pin(async move {
        let searching = tokio::task::spawn_blocking(work);
        searching.await.unwrap_or(Err(Error::Interrupted))
    }))
}
