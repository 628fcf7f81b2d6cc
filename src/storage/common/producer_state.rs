//! The state of a partition's producers: their sequences, which ensure that a retried batch is stored once, and their open
//! transactions.
//!
//! The last five batches of each producer are kept, as many as a client may have in flight. A batch equal to one of
//! them is a duplicate; otherwise its first sequence must follow the last one. Sequences wrap from 2³¹−1 to 0. An
//! unknown producer, new or expired, may start at any sequence: clients differ in how they recover, and there is
//! nothing to compare it with.
//!
//! A transaction is open from its first batch to its marker. Which transactions the coordinator knows is not checked here.

mod producer;
mod snapshot;

use std::collections::{BTreeMap, HashMap};

use self::producer::Producer;
pub(in crate::storage) use self::producer::{Duplicate, SequenceCheck};
use super::error::Error;
use super::transaction::{EndedTransaction, ProducerInfo, TransactionMarker};
use crate::record::BatchHeader;

/// The batch or marker that has the state of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) struct LastBatch {
    pub producer_epoch: i16,
    /// Last offset of its last batch; `None` if it has written none in this epoch, which its last marker began.
    pub last_offset: Option<i64>,
}

/// All producers known to a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::storage) struct ProducerState {
    producers: HashMap<i64, Producer>,
    /// Producers with an open transaction, by its first offset.
    open: BTreeMap<i64, i64>,
}

impl ProducerState {
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Returns the largest producer id.
    pub fn largest_id(&self) -> Option<i64> {
        self.producers.keys().copied().max()
    }

    /// Returns the last batch of each producer.
    pub fn last_batches(&self) -> HashMap<i64, LastBatch> {
        let last_batch = |producer: &Producer| LastBatch {
            producer_epoch: producer.epoch,
            last_offset: producer.batches().last().map(|last| last.last_offset),
        };
        let producers = self.producers.iter();
        producers
            .map(|(id, producer)| (*id, last_batch(producer)))
            .collect()
    }

    /// Checks the sequences of batches that are to be appended together, without recording them.
    ///
    /// Either all of them are new and in sequence, or all are duplicates; anything else is out of order.
    pub fn check_sequence<'a>(
        &self,
        batches: impl Iterator<Item = &'a BatchHeader>,
    ) -> Result<SequenceCheck, Error> {
        let mut staged: Vec<(i64, Producer)> = Vec::new();
        let mut check: Option<SequenceCheck> = None;
        let mut batches = batches.filter(|header| header.is_idempotent()).peekable();
        while let Some(header) = batches.next() {
            let id = header.producer_id;
            let place = staged.iter().position(|(staged_id, _)| *staged_id == id);
            let known = match place {
                Some(place) => Some(&staged[place].1),
                None => self.producers.get(&id),
            };
            let one = known.map_or(Ok(SequenceCheck::Append), |producer| {
                producer.check_sequence(header)
            })?;
            check = Some(match (check, one) {
                (None, one) => one,
                (Some(SequenceCheck::Append), SequenceCheck::Append) => SequenceCheck::Append,
                (Some(SequenceCheck::Duplicate(first)), SequenceCheck::Duplicate(next)) => {
                    SequenceCheck::Duplicate(Duplicate {
                        base_offset: first.base_offset,
                        ..next
                    })
                }
                _ => {
                    return Err(Error::OutOfOrderSequence {
                        producer_id: id,
                        epoch: header.producer_epoch,
                        expected: producer::sequence_after(header.last_sequence()),
                        got: header.base_sequence,
                    });
                }
            });
            // Only a later batch of the same append is checked against this one.
            if one == SequenceCheck::Append && batches.peek().is_some() {
                let mut next = known
                    .cloned()
                    .unwrap_or(Producer::new(header.producer_epoch));
                next.record(0, header, 0);
                match place {
                    Some(place) => staged[place].1 = next,
                    None => staged.push((id, next)),
                }
            }
        }
        Ok(check.unwrap_or(SequenceCheck::Append))
    }

    /// Checks the epochs of a marker.
    pub fn check_marker(&self, marker: &TransactionMarker) -> Result<(), Error> {
        match self.producers.get(&marker.producer_id) {
            Some(producer) => producer.check_marker(marker),
            None => Ok(()),
        }
    }

    /// Records a batch that was appended to the log, unless it is a control batch.
    pub fn record(&mut self, base_offset: i64, header: &BatchHeader, now_ms: i64) {
        if !header.is_idempotent() || header.attributes.is_control() {
            return;
        }
        let id = header.producer_id;
        let producer = self
            .producers
            .entry(id)
            .or_insert_with(|| Producer::new(header.producer_epoch));
        if producer.record(base_offset, header, now_ms) {
            self.open.insert(base_offset, id);
        }
    }

    /// Records a marker that was appended to the log at `offset`. Returns the transaction that it ended, if one was open.
    pub fn end_transaction(
        &mut self,
        offset: i64,
        marker: &TransactionMarker,
        timestamp_ms: i64,
        now_ms: i64,
    ) -> Option<EndedTransaction> {
        let producer = self
            .producers
            .entry(marker.producer_id)
            .or_insert_with(|| Producer::new(marker.producer_epoch));
        let first_offset = producer.end_transaction(marker, timestamp_ms, now_ms)?;
        self.open.remove(&first_offset);
        Some(EndedTransaction {
            producer_id: marker.producer_id,
            outcome: marker.outcome,
            first_offset,
            last_offset: offset,
            last_stable: self.first_open().unwrap_or(offset + 1),
        })
    }

    /// Returns the first offset of the oldest open transaction.
    pub fn first_open(&self) -> Option<i64> {
        self.open.keys().next().copied()
    }

    /// Returns the state of every producer.
    pub fn infos(&self) -> Vec<ProducerInfo> {
        let producers = self.producers.iter();
        producers.map(|(id, producer)| producer.info(*id)).collect()
    }

    /// Removes producers not seen since `before_ms`, except those with an open transaction.
    pub fn expire(&mut self, before_ms: i64) {
        self.producers
            .retain(|_, producer| producer.is_in_transaction() || producer.is_seen(before_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Compression};

    fn batch(id: i64, epoch: i16, base_sequence: i32, records: usize) -> BatchHeader {
        let mut builder = BatchBuilder::new(Compression::None).producer(id, epoch, base_sequence);
        for _ in 0..records {
            builder.push(1_000, None, Some(b"v"), &[]);
        }
        *builder.build().unwrap().header()
    }

    fn append(state: &mut ProducerState, at: i64, header: BatchHeader) {
        assert_eq!(
            state.check_sequence([&header].into_iter()).unwrap(),
            SequenceCheck::Append
        );
        state.record(at, &header, 5_000);
    }

    fn check_sequence(state: &ProducerState, header: BatchHeader) -> Result<SequenceCheck, Error> {
        state.check_sequence([&header].into_iter())
    }

    #[test]
    fn each_of_the_last_five_batches_is_recognised_and_the_sixth_is_not() {
        let mut state = ProducerState::default();
        for number in 0..6 {
            append(
                &mut state,
                i64::from(number) * 10,
                batch(7, 0, number * 2, 2),
            );
        }
        assert!(matches!(
            check_sequence(&state, batch(7, 0, 0, 2)),
            Err(Error::OutOfOrderSequence {
                expected: 12,
                got: 0,
                ..
            })
        ));
        for number in 1..6 {
            let Ok(SequenceCheck::Duplicate(duplicate)) =
                check_sequence(&state, batch(7, 0, number * 2, 2))
            else {
                panic!("batch {number} was not recognised");
            };
            assert_eq!(duplicate.base_offset, i64::from(number) * 10);
            assert_eq!(duplicate.last_offset, i64::from(number) * 10 + 1);
        }
    }

    #[test]
    fn a_gap_is_out_of_order() {
        let mut state = ProducerState::default();
        append(&mut state, 0, batch(7, 0, 0, 3));
        assert!(matches!(
            check_sequence(&state, batch(7, 0, 4, 1)),
            Err(Error::OutOfOrderSequence {
                expected: 3,
                got: 4,
                ..
            })
        ));
        append(&mut state, 3, batch(7, 0, 3, 1));
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
        let mut state = ProducerState::default();
        append(&mut state, 0, batch(7, 3, 0, 3));
        assert!(matches!(
            check_sequence(&state, batch(7, 4, 3, 1)),
            Err(Error::OutOfOrderSequence { expected: 0, .. })
        ));
        append(&mut state, 3, batch(7, 4, 0, 1));
        assert!(matches!(
            check_sequence(&state, batch(7, 3, 3, 1)),
            Err(Error::ProducerFenced {
                current: 4,
                got: 3,
                ..
            })
        ));
    }

    #[test]
    fn an_unknown_producer_may_start_at_any_sequence() {
        append(&mut ProducerState::default(), 0, batch(7, 3, 12_345, 3));
    }

    #[test]
    fn sequences_wrap_within_and_between_batches() {
        let mut state = ProducerState::default();
        append(&mut state, 0, batch(7, 0, i32::MAX - 1, 4));
        assert!(matches!(
            check_sequence(&state, batch(7, 0, i32::MAX - 1, 4)),
            Ok(SequenceCheck::Duplicate(_))
        ));
        append(&mut state, 4, batch(7, 0, 2, 1));
        let mut state = ProducerState::default();
        append(&mut state, 0, batch(8, 0, i32::MAX, 1));
        append(&mut state, 1, batch(8, 0, 0, 1));
    }

    #[test]
    fn batches_of_one_append_are_checked_in_order() {
        let mut state = ProducerState::default();
        append(&mut state, 0, batch(7, 0, 0, 2));
        let (second, third, gap) = (batch(7, 0, 2, 2), batch(7, 0, 4, 2), batch(7, 0, 5, 2));
        let check = state.check_sequence([&second, &third].into_iter());
        assert_eq!(check.unwrap(), SequenceCheck::Append);
        state
            .check_sequence([&second, &gap].into_iter())
            .unwrap_err();
        state.record(2, &second, 0);
        state
            .check_sequence([&second, &third].into_iter())
            .unwrap_err();
        state.record(4, &third, 0);
        assert!(matches!(
            state.check_sequence([&second, &third].into_iter()).unwrap(),
            SequenceCheck::Duplicate(Duplicate {
                base_offset: 2,
                last_offset: 5,
                ..
            })
        ));
    }

    #[test]
    fn a_snapshot_restores_all_five_batches() {
        let mut state = ProducerState::default();
        for number in 0..7 {
            append(&mut state, i64::from(number), batch(7, 1, number, 1));
        }
        append(&mut state, 7, batch(9, 0, i32::MAX - 1, 3));
        let restored = ProducerState::from_snapshot(&state.to_snapshot(), 0).unwrap();
        assert_eq!(restored, state);
    }

    #[test]
    fn a_snapshot_without_the_appendix_restores_the_last_batch() {
        let mut state = ProducerState::default();
        for number in 0..3 {
            append(&mut state, i64::from(number), batch(7, 1, number, 1));
        }
        let mut bytes = state.to_snapshot();
        bytes.truncate(10 + snapshot::ENTRY_LEN);
        let crc = crc32c::crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        let mut restored = ProducerState::from_snapshot(&bytes, 9_000).unwrap();
        assert!(matches!(
            check_sequence(&restored, batch(7, 1, 2, 1)),
            Ok(SequenceCheck::Duplicate(Duplicate { base_offset: 2, .. }))
        ));
        restored.expire(9_000);
        assert!(!restored.is_empty());
        restored.expire(9_001);
        assert!(restored.is_empty());
    }

    #[test]
    fn any_corruption_of_a_snapshot_is_detected() {
        let mut state = ProducerState::default();
        append(&mut state, 0, batch(7, 1, 0, 1));
        let sound = state.to_snapshot();
        for place in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[place] ^= 0x20;
            assert_eq!(ProducerState::from_snapshot(&damaged, 0), None, "{place}");
            assert_eq!(ProducerState::from_snapshot(&sound[..place], 0), None);
        }
    }
}
