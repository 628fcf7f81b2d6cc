//! Model of a log's records and producers, for the tests that compare the log with it.

use std::sync::Arc;

use streamline::record::{DecompressLimit, RecordBatch};
use streamline::storage::{Acks, AppendOptions, local::Partition};

/// Batches per producer that a partition remembers.
const REMEMBERED: usize = 5;

/// A record that was appended.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub timestamp_ms: i64,
    pub value: String,
}

/// A batch that an idempotent producer sent.
#[derive(Clone)]
pub struct Sent {
    pub batch: RecordBatch,
    pub base_offset: i64,
    pub last_offset: i64,
}

#[derive(Default)]
pub struct Producer {
    pub next_sequence: i32,
    pub sent: Vec<Sent>,
}

impl Producer {
    /// Returns the batches of which the log still recognises a retry.
    pub fn recent(&self) -> &[Sent] {
        &self.sent[self.sent.len().saturating_sub(REMEMBERED)..]
    }

    /// Sends those batches again and checks that each is recognised as a duplicate.
    pub fn check_recognised(&self, partition: &Arc<Partition>, id: i64) {
        for sent in self.recent() {
            let options = AppendOptions { acks: Acks::Leader };
            let again = partition.append_unflushed(vec![sent.batch.clone()], options);
            let found = again.map(|again| (again.duplicate, again.base_offset));
            assert_eq!(found.ok(), Some((true, sent.base_offset)), "by {id}");
        }
    }
}

/// Compares a batch that was read with the appended records, which are indexed by offset.
pub fn compare(batch: &RecordBatch, appended: &[Written]) {
    for record in batch.records(DecompressLimit::default()).unwrap() {
        let record = record.unwrap();
        let found = Written {
            timestamp_ms: record.timestamp_ms,
            value: String::from_utf8(record.value.unwrap().to_vec()).unwrap(),
        };
        let expected = &appended[record.offset as usize];
        assert_eq!(found, *expected, "at {}", record.offset);
    }
}
