//! The batches of one log.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::config::TopicConfig;
use crate::record::{RecordBatch, Records};

/// The epoch of all records: there is only one leader.
pub(super) const LEADER_EPOCH: i32 = 0;

/// A batch that was appended.
pub(super) struct Stored {
    pub next_offset: i64,
    pub max_timestamp_ms: i64,
    /// Time of the append, the age of a batch without timestamps.
    appended_ms: i64,
    pub bytes: Bytes,
}

/// Batches by offset.
#[derive(Default)]
pub(super) struct Log {
    batches: VecDeque<Stored>,
    pub log_start: i64,
    pub log_end: i64,
    pub size_bytes: u64,
}

impl Log {
    /// Appends a batch and returns its base offset. The batch is copied: it may be part of a larger request.
    pub fn push(&mut self, batch: &RecordBatch, now_ms: i64) -> i64 {
        let base_offset = self.log_end;
        let mut bytes = BytesMut::with_capacity(batch.size_bytes());
        bytes.extend_from_slice(&batch.stamped_prefix(base_offset, LEADER_EPOCH));
        bytes.extend_from_slice(batch.body());
        self.log_end += i64::from(batch.header().last_offset_delta) + 1;
        self.size_bytes += bytes.len() as u64;
        self.batches.push_back(Stored {
            next_offset: self.log_end,
            max_timestamp_ms: batch.header().max_timestamp,
            appended_ms: now_ms,
            bytes: bytes.freeze(),
        });
        base_offset
    }

    /// Returns batches from the one that holds `range.start` on, as far as they end by `range.end`, up to `max_bytes`; the
    /// first even if it is larger, with `at_least_one`. Also returns the offset after them.
    pub fn read(
        &self,
        range: Range<i64>,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<(Records, i64)> {
        let first = self
            .batches
            .partition_point(|batch| batch.next_offset <= range.start);
        let mut size = 0;
        let found = self.batches.range(first..).take_while(|batch| {
            size += batch.bytes.len();
            batch.next_offset <= range.end
                && (size <= max_bytes || (at_least_one && size == batch.bytes.len()))
        });
        let found: Vec<&Stored> = found.collect();
        let next_offset = found.last()?.next_offset;
        let bytes = match found[..] {
            [one] => one.bytes.clone(),
            _ => {
                let size = found.iter().map(|batch| batch.bytes.len()).sum();
                let mut bytes = BytesMut::with_capacity(size);
                for batch in found {
                    bytes.extend_from_slice(&batch.bytes);
                }
                bytes.freeze()
            }
        };
        Some((Records::Bytes(bytes), next_offset))
    }

    /// Returns the batches from the log start on.
    pub fn batches(&self) -> impl Iterator<Item = &Stored> {
        self.batches.iter()
    }

    /// Returns the batches that may hold the newest record: the first, of which records may be deleted, so that its
    /// largest timestamp is unknown, and the newest of the others.
    pub fn newest_batches(&self) -> impl Iterator<Item = &Stored> {
        let newest = self.batches.iter().skip(1).reduce(|newest, batch| {
            match batch.max_timestamp_ms > newest.max_timestamp_ms {
                true => batch,
                false => newest,
            }
        });
        self.batches.front().into_iter().chain(newest)
    }

    /// Moves the log start to `offset` and removes the batches that end before it.
    pub fn delete_before(&mut self, offset: i64) {
        self.log_start = self.log_start.max(offset);
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.next_offset <= self.log_start)
        {
            self.pop_front();
        }
    }

    /// Removes batches that have expired, oldest first. Returns their bytes.
    pub fn retain(&mut self, config: &TopicConfig, now_ms: i64) -> u64 {
        let before = self.size_bytes;
        while let Some(batch) = self.batches.front() {
            let newest_ms = match batch.max_timestamp_ms {
                ..0 => batch.appended_ms,
                newest_ms => newest_ms,
            };
            let is_old =
                config.retention_ms >= 0 && now_ms.saturating_sub(newest_ms) > config.retention_ms;
            let left = self.size_bytes - batch.bytes.len() as u64;
            let is_excess = u64::try_from(config.retention_bytes).is_ok_and(|limit| left >= limit);
            if !is_old && !is_excess {
                break;
            }
            self.log_start = self.log_start.max(batch.next_offset);
            self.pop_front();
        }
        before - self.size_bytes
    }

    fn pop_front(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.size_bytes -= batch.bytes.len() as u64;
        }
    }
}
