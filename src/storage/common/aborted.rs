//! The aborted transactions of a range of a log.
//!
//! Transactions are listed by the offsets of their markers, each with the last stable offset when its marker was appended.
//! Both only grow. So a search begins with the first marker in or after the range and ends with the first transaction whose
//! last stable offset is past it: later ones began after that.

use std::ops::Range;

use super::transaction::{AbortedTransaction, EndedTransaction, TransactionOutcome};

/// An aborted transaction of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) struct Aborted {
    pub producer_id: i64,
    pub first_offset: i64,
    /// Offset of its marker.
    pub last_offset: i64,
    /// The last stable offset after its marker.
    pub last_stable: i64,
}

impl Aborted {
    /// Returns the transaction if it was aborted.
    pub fn of(ended: &EndedTransaction) -> Option<Self> {
        (ended.outcome == TransactionOutcome::Abort).then_some(Self {
            producer_id: ended.producer_id,
            first_offset: ended.first_offset,
            last_offset: ended.last_offset,
            last_stable: ended.last_stable,
        })
    }
}

/// A search for the aborted transactions that overlap a range of offsets.
#[derive(Debug)]
pub(in crate::storage) struct AbortedSearch {
    range: Range<i64>,
    found: Vec<AbortedTransaction>,
}

impl AbortedSearch {
    pub fn new(range: Range<i64>) -> Self {
        Self {
            range,
            found: Vec::new(),
        }
    }

    /// Returns true if a transaction ended before the range.
    pub fn is_before(&self, transaction: &Aborted) -> bool {
        transaction.last_offset < self.range.start
    }

    /// Adds a transaction that did not end before the range, in the order of their markers. Returns false once no later one
    /// overlaps the range.
    pub fn add(&mut self, transaction: &Aborted) -> bool {
        if transaction.first_offset < self.range.end {
            self.found.push(AbortedTransaction {
                producer_id: transaction.producer_id,
                first_offset: transaction.first_offset,
            });
        }
        transaction.last_stable < self.range.end
    }

    /// Adds the transactions of a list, which is in the order of their markers. Returns false once no later one overlaps
    /// the range.
    pub fn add_from(&mut self, list: &[Aborted]) -> bool {
        let first = list.partition_point(|transaction| self.is_before(transaction));
        list[first..]
            .iter()
            .all(|transaction| self.add(transaction))
    }

    /// Returns the transactions found, by first offset.
    pub fn finish(mut self) -> Vec<AbortedTransaction> {
        self.found.sort_unstable_by_key(|found| found.first_offset);
        self.found
    }
}
