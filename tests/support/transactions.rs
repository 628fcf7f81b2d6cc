//! Model of a log's transactions, for the tests that compare the log with it.

use std::collections::HashSet;
use std::sync::Arc;

use streamline::record::{DecompressLimit, RecordBatch};
use streamline::storage::{
    Fetched, Isolation, PartitionLog, ReadOptions, TransactionMarker, TransactionOutcome,
    local::Partition,
};

use crate::model::Written;

/// Content of a marker's record: version and coordinator epoch, both 0.
const MARKER_VALUE: &str = "\0\0\0\0\0\0";

struct Transaction {
    producer_id: i64,
    /// Offsets of its batches, first and last.
    batches: Vec<(i64, i64)>,
    end: Option<(i64, TransactionOutcome)>,
}

impl Transaction {
    fn first_offset(&self) -> i64 {
        self.batches[0].0
    }
}

/// All transactions of a log, by first offset, and the offsets of all markers.
#[derive(Default)]
pub struct Transactions {
    transactions: Vec<Transaction>,
    markers: HashSet<i64>,
}

/// Returns a marker, and the record that it becomes.
pub fn marker(
    producer_id: i64,
    outcome: TransactionOutcome,
    now_ms: i64,
) -> (TransactionMarker, Written) {
    let marker = TransactionMarker {
        producer_id,
        producer_epoch: 0,
        coordinator_epoch: 0,
        outcome,
    };
    let written = Written {
        timestamp_ms: now_ms,
        value: MARKER_VALUE.to_string(),
    };
    (marker, written)
}

impl Transactions {
    /// Notes a transactional batch, which begins a transaction if none of its producer is open.
    pub fn note_batch(&mut self, producer_id: i64, first_offset: i64, last_offset: i64) {
        let batch = (first_offset, last_offset);
        match self.open_of(producer_id) {
            Some(open) => open.batches.push(batch),
            None => self.transactions.push(Transaction {
                producer_id,
                batches: vec![batch],
                end: None,
            }),
        }
    }

    pub fn note_marker(&mut self, producer_id: i64, offset: i64, outcome: TransactionOutcome) {
        self.markers.insert(offset);
        if let Some(open) = self.open_of(producer_id) {
            open.end = Some((offset, outcome));
        }
    }

    fn open_of(&mut self, producer_id: i64) -> Option<&mut Transaction> {
        let mut transactions = self.transactions.iter_mut();
        transactions.find(|it| it.producer_id == producer_id && it.end.is_none())
    }

    /// Forgets what a log lost that ends at `log_end` now.
    pub fn truncate(&mut self, log_end: i64) {
        for transaction in &mut self.transactions {
            transaction.batches.retain(|(first, _)| *first < log_end);
            transaction.end.take_if(|(marker, _)| *marker >= log_end);
        }
        self.transactions.retain(|it| !it.batches.is_empty());
        self.markers.retain(|marker| *marker < log_end);
    }

    /// Returns the producers with an open transaction.
    pub fn open(&self) -> Vec<i64> {
        let open = self.transactions.iter().filter(|it| it.end.is_none());
        open.map(|it| it.producer_id).collect()
    }

    /// Compares the open transactions, the last stable offset, and what a reader of committed records sees.
    ///
    /// A power failure may lose deleted records, and with them what the log knew of producers before `first_producer`.
    pub fn check(&mut self, partition: &Arc<Partition>, written: &[Written], first_producer: i64) {
        self.adopt_unknown(partition, first_producer);
        let open = open_in(partition).into_iter().map(|(id, _)| id);
        assert_eq!(
            open.collect::<HashSet<_>>(),
            self.open().into_iter().collect()
        );
        let offsets = partition.offsets();
        assert_eq!(
            offsets.last_stable,
            self.last_stable(offsets.high_watermark)
                .max(offsets.log_start)
        );
        let aborted = self.transactions.iter().filter(|it| {
            it.end
                .is_some_and(|(_, outcome)| outcome == TransactionOutcome::Abort)
        });
        let hidden: HashSet<i64> = aborted
            .flat_map(|it| &it.batches)
            .flat_map(|(first, last)| *first..=*last)
            .chain(self.markers.iter().copied())
            .collect();
        let expected: Vec<i64> = (offsets.log_start..offsets.last_stable)
            .filter(|offset| !hidden.contains(offset))
            .collect();
        for max_bytes in [1, 500, 1 << 20] {
            assert_eq!(committed(partition, max_bytes, written), expected);
        }
    }

    /// Takes over which transactions are open of those that such a producer began before the log start.
    fn adopt_unknown(&mut self, partition: &Arc<Partition>, first_producer: i64) {
        let log_start = partition.offsets().log_start;
        let mut unknown = open_in(partition);
        unknown.retain(|(id, first_offset)| *id < first_producer && *first_offset < log_start);
        self.transactions.retain(|it| {
            let is_known = it.producer_id >= first_producer || it.first_offset() >= log_start;
            is_known || it.end.is_some() || unknown.iter().any(|(id, _)| *id == it.producer_id)
        });
        let open = self.open();
        unknown.retain(|(id, _)| !open.contains(id));
        let adopted = unknown.iter().map(|(id, first_offset)| Transaction {
            producer_id: *id,
            batches: vec![(*first_offset, *first_offset)],
            end: None,
        });
        self.transactions.extend(adopted);
    }

    fn last_stable(&self, high_watermark: i64) -> i64 {
        let is_unstable =
            |it: &&Transaction| it.end.is_none_or(|(marker, _)| marker >= high_watermark);
        let unstable = self.transactions.iter().filter(is_unstable);
        let first = unstable.map(Transaction::first_offset).min();
        first.unwrap_or(i64::MAX).min(high_watermark)
    }
}

/// Returns the producers with an open transaction, and its first offset.
fn open_in(partition: &Arc<Partition>) -> Vec<(i64, i64)> {
    let producers = partition.producers().unwrap().into_iter();
    let open = producers.filter_map(|it| Some((it.producer_id, it.transaction_start_offset?)));
    open.collect()
}

/// Returns the offsets of the records that a consumer of committed records sees, which it compares with those written.
fn committed(partition: &Arc<Partition>, max_bytes: usize, written: &[Written]) -> Vec<i64> {
    let mut found = Vec::new();
    let mut offset = partition.offsets().log_start;
    loop {
        let options = ReadOptions {
            isolation: Isolation::ReadCommitted,
            ..ReadOptions::at(offset, max_bytes)
        };
        let fetched = partition.read_now(options).unwrap();
        let Some(next) = consume(&fetched, offset, written, &mut found) else {
            return found;
        };
        assert!(next <= fetched.offsets.last_stable);
        offset = next;
    }
}

/// Adds the records of one read that a consumer does not skip. Returns the offset after them.
fn consume(
    fetched: &Fetched,
    offset: i64,
    written: &[Written],
    found: &mut Vec<i64>,
) -> Option<i64> {
    let records = fetched.records.as_ref()?.to_bytes().unwrap();
    let mut aborted = fetched.aborted.iter().peekable();
    let mut skipped = HashSet::new();
    let mut next = offset;
    for batch in RecordBatch::split(records).unwrap() {
        let header = *batch.header();
        next = header.next_offset();
        while let Some(begun) = aborted.next_if(|it| it.first_offset <= header.last_offset()) {
            skipped.insert(begun.producer_id);
        }
        let mut records = batch.records(DecompressLimit::default()).unwrap();
        if header.attributes.is_control() {
            let key = records.next().unwrap().unwrap().key.unwrap();
            if key[3] == 0 {
                skipped.remove(&header.producer_id);
            }
        } else if !header.attributes.is_transactional() || !skipped.contains(&header.producer_id) {
            crate::model::compare(&batch, written);
            found.extend((header.base_offset.max(offset))..next);
        }
    }
    Some(next)
}
