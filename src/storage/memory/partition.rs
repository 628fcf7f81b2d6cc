//! One partition in memory.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::log::{LEADER_EPOCH, Log};
use crate::clock::Clock;
use crate::record::RecordBatch;
use crate::storage::common::fetch_waiters::{FetchWaiter, FetchWaiters};
use crate::storage::common::producer_state::{ProducerState, SequenceCheck};
use crate::storage::common::search::{first_record, newest_record};
use crate::storage::common::topic::TopicInfo;
use crate::storage::common::validation::{self, Validated};
use crate::storage::{
    AppendOptions, Appended, Error, Fetched, Offsets, PartitionLog, PartitionSnapshot, ReadOptions,
    ReadTicket, Ticket, TimestampedOffset,
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

    fn read_now(&self, options: ReadOptions) -> Result<Fetched, Error> {
        let state = self.state.lock();
        if let Some(Error::Deleted) = state.end {
            return Err(Error::Deleted);
        }
        let offsets = state.offsets();
        state.check_range(options.offset, offsets.log_end)?;
        Ok(Fetched {
            records: state
                .log
                .read(options.offset, options.max_bytes, options.at_least_one),
            offsets,
            ends_early: false,
        })
    }

    /// Deletes expired batches and forgets producers not seen since `producers_before_ms`. Returns the deleted bytes.
    pub fn retain(&self, now_ms: i64, producers_before_ms: i64) -> u64 {
        let config = self.topic.config();
        let mut state = self.state.lock();
        state.producers.expire(producers_before_ms);
        match config.cleanup_policy.delete && state.end.is_none() {
            true => state.log.retain(&config, now_ms),
            false => 0,
        }
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

    /// Every record can be read at once.
    fn offsets(&self) -> Offsets {
        Offsets {
            log_start: self.log.log_start,
            last_stable: self.log.log_end,
            high_watermark: self.log.log_end,
            log_end: self.log.log_end,
        }
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
            Ok(state.log.log_start)
        });
        Ticket::Ready(deleted)
    }

    fn largest_producer_id(&self) -> Result<Option<i64>, Error> {
        Ok(self.state.lock().producers.largest_id())
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
