//! The decision which records of a batch are kept.
//!
//! * Of each key the latest record is kept, in the part of the log that the offset map covers. Records without a key, which
//!   the log has from before its topic was compacted, are dropped there.
//! * A tombstone is kept until the delete horizon of its batch, which is `delete.retention.ms` after the first compaction
//!   that found it (KIP-534). Until then a reader that started before it still sees that its key was deleted.
//! * Two kinds of batches are kept even if no record of them is left: the last one of each producer, which has the sequence
//!   that its next batch continues, and the one at the end of the rewritten segments, which has their last offset.
//! * Transactional batches and markers are kept as they are.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::offset_map::OffsetMap;
use crate::record::{self, DecompressLimit, RecordBatch, Retained, StoredRecord};

/// The dirty part of a log as far as it was read.
pub(super) struct Latest {
    map: OffsetMap,
    /// The map covers records below this offset.
    pub end: i64,
}

/// The fate of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    Replace(RecordBatch),
    Drop,
}

/// The rules of one compaction.
pub(super) struct Filter {
    pub latest: Latest,
    /// The last offset of each producer.
    pub producers: HashMap<i64, i64>,
    pub now_ms: i64,
    pub delete_retention_ms: i64,
}

impl Latest {
    /// Creates the state at the start of the dirty part.
    pub fn new(map: OffsetMap, start: i64) -> Self {
        Self { map, end: start }
    }

    /// Adds the records of a batch. Returns false if the map is full before the batch's end.
    pub fn add(&mut self, batch: &RecordBatch) -> record::Result<bool> {
        let start = self.end;
        let mut is_full = false;
        if !batch.header().attributes.is_transactional() {
            let records = batch.stored_records(DecompressLimit::default())?;
            records.visit(|record| {
                if record.offset < start {
                    return ControlFlow::Continue(());
                }
                is_full = match record.key {
                    Some(key) => !self.map.put(key, record.offset),
                    None => false,
                };
                if is_full {
                    return ControlFlow::Break(());
                }
                self.end = record.offset + 1;
                ControlFlow::Continue(())
            })?;
        }
        if !is_full {
            self.end = self.end.max(batch.header().next_offset());
        }
        Ok(!is_full)
    }
}

impl Filter {
    /// Decides about a batch of segments that end at the offset `group_end`.
    pub fn decide(&self, batch: &RecordBatch, group_end: i64) -> record::Result<Fate> {
        let header = batch.header();
        if header.attributes.is_transactional() || header.attributes.is_control() {
            return Ok(Fate::Keep);
        }
        if header.base_offset >= self.latest.end {
            return Ok(Fate::Keep);
        }
        let drops_tombstones = header
            .delete_horizon_ms()
            .is_some_and(|horizon_ms| horizon_ms <= self.now_ms);
        let horizon_ms = self.now_ms.saturating_add(self.delete_retention_ms);
        let retained = batch.stored_records(DecompressLimit::default())?.retain(
            horizon_ms,
            false,
            |record| self.keeps(record, drops_tombstones),
        )?;
        Ok(match retained {
            Retained::All => Fate::Keep,
            Retained::Some(batch) => Fate::Replace(batch),
            Retained::None if !self.is_needed(batch, group_end) => Fate::Drop,
            Retained::None if header.record_count == 0 => Fate::Keep,
            Retained::None => Fate::Replace(batch.without_records()),
        })
    }

    fn keeps(&self, record: StoredRecord<'_>, drops_tombstones: bool) -> bool {
        if record.offset >= self.latest.end {
            return true;
        }
        let Some(key) = record.key else {
            return false;
        };
        let is_latest = (self.latest.map.get(key)).is_none_or(|latest| record.offset >= latest);
        is_latest && (record.has_value || !drops_tombstones)
    }

    /// Returns true if the batch is kept even without records.
    fn is_needed(&self, batch: &RecordBatch, group_end: i64) -> bool {
        let header = batch.header();
        let last = self.producers.get(&header.producer_id);
        header.next_offset() == group_end || last == Some(&header.last_offset())
    }
}
