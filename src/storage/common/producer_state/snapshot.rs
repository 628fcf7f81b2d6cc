//! The producer state's snapshot file: Kafka's `.snapshot` (version 1), which holds one batch per producer. The others
//! follow in an appendix that Kafka's reader ignores, though its CRC covers it:
//!
//! ```text
//! version i16 = 1 │ crc32c u32, of all that follows │ count i32 │ count × Kafka's entry │ "SL01" │ count × ours
//! Kafka's entry: id i64, epoch i16, last sequence i32, last offset i64, offset delta i32, timestamp i64,
//!                coordinator epoch i32, first offset of the open transaction i64
//! ours:          last seen i64, batches u8, batches × (last sequence i32, last offset i64, delta i32, timestamp i64)
//! ```

use super::ProducerState;
use super::producer::{Producer, Stored};

const VERSION: i16 = 1;
const APPENDIX_MAGIC: &[u8; 4] = b"SL01";
pub(super) const ENTRY_LEN: usize = 46;

impl ProducerState {
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
            out.extend_from_slice(&producer.last_timestamp_ms.to_be_bytes());
            out.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            let first_offset = producer.transaction_first_offset.unwrap_or(-1);
            out.extend_from_slice(&first_offset.to_be_bytes());
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
            producer.last_timestamp_ms = batch.timestamp_ms;
            producer.coordinator_epoch = cursor.i32()?;
            producer.transaction_first_offset = Some(cursor.i64()?).filter(|offset| *offset >= 0);
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
        let open = producers.iter().filter_map(|(id, producer)| {
            let first_offset = producer.transaction_first_offset?;
            Some((first_offset, *id))
        });
        Some(Self {
            open: open.collect(),
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
