//! One producer: the epochs and sequences that it must send next, and its open transaction.

use super::super::error::Error;
use super::super::transaction::{ProducerInfo, TransactionMarker};
use crate::record::BatchHeader;
use crate::storage::Appended;

/// Batches kept per producer: the most that an idempotent client has in flight.
const BATCHES_MAX: usize = 5;

/// A batch that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stored {
    pub last_sequence: i32,
    pub last_offset: i64,
    /// Last offset minus first offset; equal to last sequence minus first sequence.
    pub offset_delta: i32,
    pub timestamp_ms: i64,
}

impl Stored {
    fn base_sequence(&self) -> i32 {
        wrap(i64::from(self.last_sequence) - i64::from(self.offset_delta))
    }

    fn base_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }
}

/// Reduces a sequence modulo 2³¹.
fn wrap(sequence: i64) -> i32 {
    (sequence & i64::from(i32::MAX)) as i32
}

pub(super) fn sequence_after(sequence: i32) -> i32 {
    wrap(i64::from(sequence) + 1)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Producer {
    pub epoch: i16,
    /// Oldest first; the first `len` are in use.
    batches: [Stored; BATCHES_MAX],
    pub len: u8,
    /// Time of its last append, by the server's clock.
    pub last_seen_ms: i64,
    /// Timestamp of its last batch or marker.
    pub last_timestamp_ms: i64,
    /// Epoch of the coordinator that wrote its last marker; −1 if there was none.
    pub coordinator_epoch: i32,
    pub transaction_first_offset: Option<i64>,
}

impl Producer {
    pub fn new(epoch: i16) -> Self {
        Self {
            epoch,
            batches: [Stored::default(); BATCHES_MAX],
            len: 0,
            last_seen_ms: 0,
            last_timestamp_ms: -1,
            coordinator_epoch: -1,
            transaction_first_offset: None,
        }
    }

    pub fn batches(&self) -> &[Stored] {
        &self.batches[..usize::from(self.len)]
    }

    pub fn push(&mut self, batch: Stored) {
        if usize::from(self.len) == BATCHES_MAX {
            self.batches.rotate_left(1);
            self.len -= 1;
        }
        self.batches[usize::from(self.len)] = batch;
        self.len += 1;
    }

    pub fn is_in_transaction(&self) -> bool {
        self.transaction_first_offset.is_some()
    }

    /// Returns true if the producer was seen at or after `time_ms`.
    pub fn is_seen(&self, time_ms: i64) -> bool {
        self.last_seen_ms >= time_ms
    }

    pub fn check_sequence(&self, header: &BatchHeader) -> Result<SequenceCheck, Error> {
        self.check_epoch(header.producer_id, header.producer_epoch)?;
        let expected = match self.batches().last() {
            Some(last) if header.producer_epoch == self.epoch => sequence_after(last.last_sequence),
            _ => 0,
        };
        if header.producer_epoch == self.epoch
            && let Some(same) = self.batches().iter().find(|stored| {
                stored.base_sequence() == header.base_sequence
                    && stored.last_sequence == header.last_sequence()
            })
        {
            return Ok(SequenceCheck::Duplicate(Duplicate {
                base_offset: same.base_offset(),
                last_offset: same.last_offset,
                timestamp_ms: same.timestamp_ms,
            }));
        }
        if header.base_sequence != expected {
            return Err(Error::OutOfOrderSequence {
                producer_id: header.producer_id,
                epoch: header.producer_epoch,
                expected,
                got: header.base_sequence,
            });
        }
        if self.is_in_transaction() && !header.attributes.is_transactional() {
            return Err(Error::TransactionOpen {
                producer_id: header.producer_id,
            });
        }
        Ok(SequenceCheck::Append)
    }

    pub fn check_marker(&self, marker: &TransactionMarker) -> Result<(), Error> {
        self.check_epoch(marker.producer_id, marker.producer_epoch)?;
        match marker.coordinator_epoch < self.coordinator_epoch {
            true => Err(Error::CoordinatorFenced {
                producer_id: marker.producer_id,
                current: self.coordinator_epoch,
                got: marker.coordinator_epoch,
            }),
            false => Ok(()),
        }
    }

    fn check_epoch(&self, producer_id: i64, epoch: i16) -> Result<(), Error> {
        match epoch < self.epoch {
            true => Err(Error::ProducerFenced {
                producer_id,
                current: self.epoch,
                got: epoch,
            }),
            false => Ok(()),
        }
    }

    /// Records a batch. Returns true if a transaction begins with it.
    pub fn record(&mut self, base_offset: i64, header: &BatchHeader, now_ms: i64) -> bool {
        self.set_epoch(header.producer_epoch);
        self.push(Stored {
            last_sequence: header.last_sequence(),
            last_offset: base_offset + i64::from(header.last_offset_delta),
            offset_delta: header.last_offset_delta,
            timestamp_ms: header.max_timestamp,
        });
        self.last_timestamp_ms = header.max_timestamp;
        self.last_seen_ms = now_ms;
        let begins = header.attributes.is_transactional() && !self.is_in_transaction();
        if begins {
            self.transaction_first_offset = Some(base_offset);
        }
        begins
    }

    /// Records a marker. Returns the first offset of the transaction that it ends, if one is open.
    pub fn end_transaction(
        &mut self,
        marker: &TransactionMarker,
        timestamp_ms: i64,
        now_ms: i64,
    ) -> Option<i64> {
        self.set_epoch(marker.producer_epoch);
        self.coordinator_epoch = marker.coordinator_epoch;
        self.last_timestamp_ms = timestamp_ms;
        self.last_seen_ms = now_ms;
        self.transaction_first_offset.take()
    }

    /// Sets the epoch. The batches of another one say nothing about the next sequence, which is 0.
    fn set_epoch(&mut self, epoch: i16) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.batches = [Stored::default(); BATCHES_MAX];
            self.len = 0;
        }
    }

    pub fn info(&self, id: i64) -> ProducerInfo {
        ProducerInfo {
            producer_id: id,
            producer_epoch: self.epoch,
            last_sequence: self.batches().last().map_or(-1, |last| last.last_sequence),
            last_timestamp_ms: self.last_timestamp_ms,
            coordinator_epoch: self.coordinator_epoch,
            transaction_start_offset: self.transaction_first_offset,
        }
    }
}

/// The offsets and timestamp of the first copy of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) struct Duplicate {
    pub base_offset: i64,
    pub last_offset: i64,
    pub timestamp_ms: i64,
}

impl Duplicate {
    /// Returns the result of appending the batches again, with the offsets and the time of the first append.
    pub fn appended(self, stamps: bool, log_start_offset: i64) -> Appended {
        Appended {
            base_offset: self.base_offset,
            last_offset: self.last_offset,
            log_append_time_ms: stamps.then_some(self.timestamp_ms),
            log_start_offset,
            duplicate: true,
        }
    }
}

/// The result of checking the sequences of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) enum SequenceCheck {
    Append,
    /// The batches are already in the log.
    Duplicate(Duplicate),
}
