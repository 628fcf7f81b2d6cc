//! The decision which records of a batch are kept.
//!
//! * Of each key the latest record is kept, in the part of the log that the offset map covers. Records without a key, which
//!   the log has from before its topic was compacted, are dropped there.
//! * A tombstone is kept until the delete horizon of its batch, which is `delete.retention.ms` after the first compaction
//!   that found it (KIP-534). Until then a reader that started before it still sees that its key was deleted.
//! * Records of aborted transactions are dropped. A marker is kept as long as a batch of its transaction is, and then until
//!   a delete horizon.
//! * Two kinds of batches are kept even if no record of them is left: the last one of each producer, which has the sequence
//!   that its next batch continues, or its epoch, and the one at the end of the rewritten segments, which has their last
//!   offset. A marker among them is kept as it is.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::offset_map::OffsetMap;
use super::transactions::{Standing, Transactions};
use crate::record::{self, DecompressLimit, RecordBatch, Retained, StoredRecord};
use crate::storage::local::producer_state::LastBatch;

/// The dirty part of a log as far as it was read.
pub(super) struct Latest {
    map: OffsetMap,
    transactions: Transactions,
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
    pub transactions: Transactions,
    /// The last batch of each producer.
    pub producers: HashMap<i64, LastBatch>,
    pub now_ms: i64,
    pub delete_retention_ms: i64,
}

impl Latest {
    /// Creates the state at the start of the dirty part.
    pub fn new(map: OffsetMap, transactions: Transactions, start: i64) -> Self {
        Self {
            map,
            transactions,
            end: start,
        }
    }

    /// Adds the records of a batch. Returns false if the map is full before the batch's end.
    pub fn add(&mut self, batch: &RecordBatch) -> record::Result<bool> {
        let start = self.end;
        let mut is_full = false;
        if self.transactions.note(batch)? == Standing::Committed {
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
    /// Decides about the next batch, which is of segments that end at the offset `group_end`.
    pub fn decide(&mut self, batch: &RecordBatch, group_end: i64) -> record::Result<Fate> {
        let is_needed = self.is_needed(batch, group_end);
        match self.transactions.note(batch)? {
            Standing::Committed => self.decide_records(batch, is_needed),
            Standing::Aborted => Ok(without_records(batch, is_needed)),
            Standing::Marker { is_spent } if is_spent && !is_needed => self.decide_spent(batch),
            Standing::Marker { .. } => Ok(Fate::Keep),
        }
    }

    fn decide_records(&self, batch: &RecordBatch, is_needed: bool) -> record::Result<Fate> {
        let header = batch.header();
        if header.base_offset >= self.latest.end {
            return Ok(Fate::Keep);
        }
        let drops_tombstones = self.is_past_horizon(batch);
        let retained = batch.stored_records(DecompressLimit::default())?.retain(
            self.horizon_ms(),
            false,
            |record| self.keeps(record, drops_tombstones),
        )?;
        Ok(match retained {
            Retained::All => Fate::Keep,
            Retained::Some(batch) => Fate::Replace(batch),
            Retained::None => without_records(batch, is_needed),
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

    /// Decides about a marker of whose transaction nothing is left. It gets a delete horizon, for readers that have read
    /// batches of the transaction.
    fn decide_spent(&self, marker: &RecordBatch) -> record::Result<Fate> {
        if self.is_past_horizon(marker) {
            return Ok(Fate::Drop);
        }
        let records = marker.stored_records(DecompressLimit::default())?;
        Ok(match records.retain(self.horizon_ms(), true, |_| true)? {
            Retained::All => Fate::Keep,
            Retained::Some(marker) => Fate::Replace(marker),
            Retained::None => Fate::Drop,
        })
    }

    /// Returns the delete horizon of batches that need one now.
    fn horizon_ms(&self) -> i64 {
        self.now_ms.saturating_add(self.delete_retention_ms)
    }

    fn is_past_horizon(&self, batch: &RecordBatch) -> bool {
        let horizon_ms = batch.header().delete_horizon_ms();
        horizon_ms.is_some_and(|horizon_ms| horizon_ms <= self.now_ms)
    }

    /// Returns true if the batch is kept even without records.
    fn is_needed(&self, batch: &RecordBatch, group_end: i64) -> bool {
        let header = batch.header();
        if header.next_offset() == group_end {
            return true;
        }
        let last = self.producers.get(&header.producer_id);
        last.is_some_and(|last| match last.last_offset {
            Some(last_offset) => last_offset == header.last_offset(),
            None => header.attributes.is_control() && header.producer_epoch == last.producer_epoch,
        })
    }
}

/// Returns the fate of a batch of which no record is kept.
fn without_records(batch: &RecordBatch, is_needed: bool) -> Fate {
    match (is_needed, batch.header().record_count) {
        (false, _) => Fate::Drop,
        (true, 0) => Fate::Keep,
        (true, _) => Fate::Replace(batch.without_records()),
    }
}
