//! The state of a partition's idempotent producers, which ensures that a retried batch is stored once.
//!
//! The last five batches of each producer are kept, as many as a client may have in flight. A batch equal to one of
//! them is a duplicate; otherwise its first sequence must follow the last one. Sequences wrap from 2³¹−1 to 0. An
//! unknown producer, new or expired, may start at any sequence: clients differ in how they recover, and there is
//! nothing to compare it with.
//!
//! A snapshot is Kafka's `.snapshot` file (version 1), which holds one batch per producer. The others follow in an
//! appendix that Kafka's reader ignores, though its CRC covers it:
//!
//! ```text
//! version i16 = 1 │ crc32c u32, of all that follows │ count i32 │ count × Kafka's entry │ "SL01" │ count × ours
//! Kafka's entry: id i64, epoch i16, last sequence i32, last offset i64, offset delta i32, timestamp i64,
//!                coordinator epoch i32, first offset of the open transaction i64
//! ours:          last seen i64, batches u8, batches × (last sequence i32, last offset i64, delta i32, timestamp i64)
//! ```

use std::collections::HashMap;

use super::error::Error;
use crate::record::BatchHeader;
use crate::storage::Appended;

/// Batches kept per producer: the most that an idempotent client has in flight.
const BATCHES_MAX: usize = 5;

const VERSION: i16 = 1;
const APPENDIX_MAGIC: &[u8; 4] = b"SL01";
const ENTRY_LEN: usize = 46;

/// A batch that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Stored {
    last_sequence: i32,
    last_offset: i64,
    /// Last offset minus first offset; equal to last sequence minus first sequence.
    offset_delta: i32,
    timestamp_ms: i64,
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

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// Oldest first; the first `len` are in use.
    batches: [Stored; BATCHES_MAX],
    len: u8,
    /// Time of its last append, by the server's clock.
    last_seen_ms: i64,
    /// Kafka's field, preserved for it.
    coordinator_epoch: i32,
    transaction_first_offset: i64,
}

impl Producer {
    fn new(epoch: i16) -> Self {
        Self {
            epoch,
            batches: [Stored::default(); BATCHES_MAX],
            len: 0,
            last_seen_ms: 0,
            coordinator_epoch: -1,
            transaction_first_offset: -1,
        }
    }

    fn batches(&self) -> &[Stored] {
        &self.batches[..usize::from(self.len)]
    }

    fn push(&mut self, batch: Stored) {
        if usize::from(self.len) == BATCHES_MAX {
            self.batches.rotate_left(1);
            self.len -= 1;
        }
        self.batches[usize::from(self.len)] = batch;
        self.len += 1;
    }

    fn check_sequence(&self, header: &BatchHeader) -> Result<SequenceCheck, Error> {
        if header.producer_epoch < self.epoch {
            return Err(Error::ProducerFenced {
                producer_id: header.producer_id,
                current: self.epoch,
                got: header.producer_epoch,
            });
        }
        let expected = match self.batches().last() {
            Some(last) if header.producer_epoch == self.epoch => {
                wrap(i64::from(last.last_sequence) + 1)
            }
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
        Ok(SequenceCheck::Append)
    }

    fn record(&mut self, base_offset: i64, header: &BatchHeader, now_ms: i64) {
        if header.producer_epoch != self.epoch {
            *self = Producer {
                coordinator_epoch: self.coordinator_epoch,
                ..Producer::new(header.producer_epoch)
            };
        }
        self.push(Stored {
            last_sequence: header.last_sequence(),
            last_offset: base_offset + i64::from(header.last_offset_delta),
            offset_delta: header.last_offset_delta,
            timestamp_ms: header.max_timestamp,
        });
        self.last_seen_ms = now_ms;
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

/// All producers known to a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::storage) struct ProducerState {
    producers: HashMap<i64, Producer>,
}

impl ProducerState {
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Returns the largest producer id.
    pub fn largest_id(&self) -> Option<i64> {
        self.producers.keys().copied().max()
    }

    /// Returns the last offset of each producer that has a batch in the log.
    pub fn last_offsets(&self) -> HashMap<i64, i64> {
        let producers = self.producers.iter();
        producers
            .filter_map(|(id, producer)| Some((*id, producer.batches().last()?.last_offset)))
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
                        expected: wrap(i64::from(header.last_sequence()) + 1),
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

    /// Records a batch that was appended to the log.
    pub fn record(&mut self, base_offset: i64, header: &BatchHeader, now_ms: i64) {
        if header.is_idempotent() && !header.attributes.is_control() {
            self.producers
                .entry(header.producer_id)
                .or_insert_with(|| Producer::new(header.producer_epoch))
                .record(base_offset, header, now_ms);
        }
    }

    /// Removes producers not seen since `before_ms`.
    pub fn expire(&mut self, before_ms: i64) {
        self.producers
            .retain(|_, producer| producer.last_seen_ms >= before_ms);
    }

    /// Returns the content of a snapshot file.
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(10 + self.producers.len() * (ENTRY_LEN + 60));
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.producers.len() as i32).to_be_bytes());
        for (id, producer) in &self.producers {
            let last = producer.batches().last();
            let of_last = |pick: fn(&Stored) -> i64, none| last.map_or(none, pick);
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&producer.epoch.to_be_bytes());
            out.extend_from_slice(
                &(of_last(|b| i64::from(b.last_sequence), -1) as i32).to_be_bytes(),
            );
            out.extend_from_slice(&of_last(|b| b.last_offset, -1).to_be_bytes());
            out.extend_from_slice(
                &(of_last(|b| i64::from(b.offset_delta), 0) as i32).to_be_bytes(),
            );
            out.extend_from_slice(&of_last(|b| b.timestamp_ms, -1).to_be_bytes());
            out.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            out.extend_from_slice(&producer.transaction_first_offset.to_be_bytes());
        }
        out.extend_from_slice(APPENDIX_MAGIC);
        for producer in self.producers.values() {
            out.extend_from_slice(&producer.last_seen_ms.to_be_bytes());
            out.push(producer.len);
            for batch in producer.batches() {
                out.extend_from_slice(&batch.last_sequence.to_be_bytes());
                out.extend_from_slice(&batch.last_offset.to_be_bytes());
                out.extend_from_slice(&batch.offset_delta.to_be_bytes());
                out.extend_from_slice(&batch.timestamp_ms.to_be_bytes());
            }
        }
        let crc = crc32c::crc32c(&out[6..]);
        out[2..6].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads a snapshot file, ours or Kafka's; `None` if it is corrupt. Without our appendix, producers count as last
    /// seen at `now_ms`.
    pub fn from_snapshot(bytes: &[u8], now_ms: i64) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        if cursor.i16()? != VERSION || cursor.i32()? as u32 != crc32c::crc32c(bytes.get(6..)?) {
            return None;
        }
        let count = usize::try_from(cursor.i32()?).ok()?;
        if count > cursor.0.len() / ENTRY_LEN {
            return None;
        }
        let mut producers = Vec::with_capacity(count);
        for _ in 0..count {
            let id = cursor.i64()?;
            let mut producer = Producer::new(cursor.i16()?);
            let batch = Stored {
                last_sequence: cursor.i32()?,
                last_offset: cursor.i64()?,
                offset_delta: cursor.i32()?,
                timestamp_ms: cursor.i64()?,
            };
            producer.coordinator_epoch = cursor.i32()?;
            producer.transaction_first_offset = cursor.i64()?;
            producer.last_seen_ms = now_ms;
            if batch.last_offset >= 0 {
                producer.push(batch);
            }
            producers.push((id, producer));
        }
        if cursor.take::<4>().as_ref() == Some(APPENDIX_MAGIC) {
            for (_, producer) in &mut producers {
                producer.last_seen_ms = cursor.i64()?;
                producer.len = 0;
                for _ in 0..cursor.take::<1>()?[0] {
                    producer.push(Stored {
                        last_sequence: cursor.i32()?,
                        last_offset: cursor.i64()?,
                        offset_delta: cursor.i32()?,
                        timestamp_ms: cursor.i64()?,
                    });
                }
            }
        }
        Some(Self {
            producers: producers.into_iter().collect(),
        })
    }
}

/// Reads big-endian numbers from the front of a slice.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
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
        bytes.truncate(10 + ENTRY_LEN);
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
