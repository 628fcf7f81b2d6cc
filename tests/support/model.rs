//! What a test of the log knows about its records and producers, to hold the log against.

use std::sync::Arc;

use streamline::record::{DecompressLimit, RecordBatch};
use streamline::storage::{Acks, AppendOptions, Partition};

/// Batches that a partition remembers of each producer.
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
    /// The batches by which the log still knows a retry.
    pub fn recent(&self) -> &[Sent] {
        &self.sent[self.sent.len().saturating_sub(REMEMBERED)..]
    }

    /// Sends those batches once more: each is recognised as what it is.
    pub fn check_recognised(&self, partition: &Arc<Partition>, id: i64) {
        for sent in self.recent() {
            let options = AppendOptions { acks: Acks::Leader };
            let again = partition.append(vec![sent.batch.clone()], options);
            let found = again.map(|again| (again.duplicate, again.base_offset));
            assert_eq!(found.ok(), Some((true, sent.base_offset)), "by {id}");
        }
    }
}

/// Holds a batch that was read against all that was appended, which stands by offset.
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
