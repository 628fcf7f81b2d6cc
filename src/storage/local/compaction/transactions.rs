//! The transactions of a log while its batches are read in order, by the rules of Kafka's `CleanedTransactionMetadata`.
//!
//! Records of aborted transactions supersede none, and are dropped. The marker of a transaction is kept as long as one of its
//! batches is: without it, readers would take a committed transaction for an open one, and the producer's next records for
//! those of an aborted one. All that is read lies below the last stable offset, so every transaction has ended.

use std::collections::{HashMap, HashSet};

use crate::record::{self, ControlRecord, ControlType, DecompressLimit, RecordBatch};
use crate::storage::AbortedTransaction;

pub(super) struct Transactions {
    /// Aborted transactions that have not begun yet, the next one last.
    aborted: Vec<AbortedTransaction>,
    /// Producers in an aborted transaction, and whether a batch of it was read.
    in_aborted: HashMap<i64, bool>,
    /// Producers in a committed transaction of which a batch was read.
    in_committed: HashSet<i64>,
}

/// Role of a batch in its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its records are committed, or not part of a transaction.
    Committed,
    Aborted,
    /// It is a marker. `is_spent` is set if no batch of its transaction is left.
    Marker {
        is_spent: bool,
    },
}

impl Transactions {
    /// Creates the state at the start of a range with these aborted transactions, in the order of their first offsets.
    pub fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.reverse();
        Self {
            aborted,
            in_aborted: HashMap::new(),
            in_committed: HashSet::new(),
        }
    }

    /// Notes the next batch.
    pub fn note(&mut self, batch: &RecordBatch) -> record::Result<Standing> {
        let header = batch.header();
        let has_begun = |next: &mut AbortedTransaction| next.first_offset <= header.last_offset();
        while let Some(begun) = self.aborted.pop_if(has_begun) {
            self.in_aborted.entry(begun.producer_id).or_insert(false);
        }
        if header.attributes.is_control() {
            let is_spent = self.note_marker(batch)?;
            return Ok(Standing::Marker { is_spent });
        }
        if !header.attributes.is_transactional() {
            return Ok(Standing::Committed);
        }
        Ok(match self.in_aborted.get_mut(&header.producer_id) {
            Some(was_read) => {
                *was_read = true;
                Standing::Aborted
            }
            None => {
                self.in_committed.insert(header.producer_id);
                Standing::Committed
            }
        })
    }

    /// Notes a marker. Returns true if no batch of its transaction is left.
    fn note_marker(&mut self, marker: &RecordBatch) -> record::Result<bool> {
        let producer_id = marker.header().producer_id;
        let Some(record) = marker.records(DecompressLimit::default())?.next() else {
            // Another server has dropped its record.
            return Ok(true);
        };
        let control = ControlRecord::of(&record?);
        Ok(match control.map(|control| control.control_type) {
            Some(ControlType::Abort) => self.in_aborted.remove(&producer_id) != Some(true),
            Some(ControlType::Commit) => !self.in_committed.remove(&producer_id),
            Some(ControlType::Other(_)) | None => false,
        })
    }
}
