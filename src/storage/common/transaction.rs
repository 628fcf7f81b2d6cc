//! Transactions as a partition sees them: the markers that end them, the producers that write them, and which of them
//! were aborted.

use super::error::Error;
use crate::record::{
    BatchBuilder, Compression, ControlRecord, ControlType, DecompressLimit, RecordBatch,
};

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionOutcome {
    Commit,
    Abort,
}

/// The end of a producer's transaction in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionMarker {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub coordinator_epoch: i32,
    pub outcome: TransactionOutcome,
}

impl TransactionMarker {
    /// Builds the control batch that a log stores; `stamps` is true if the topic uses `LogAppendTime`.
    pub(in crate::storage) fn to_batch(
        self,
        now_ms: i64,
        stamps: bool,
    ) -> Result<RecordBatch, Error> {
        let control_type = match self.outcome {
            TransactionOutcome::Commit => ControlType::Commit,
            TransactionOutcome::Abort => ControlType::Abort,
        };
        let control = ControlRecord::end_of_transaction(control_type, self.coordinator_epoch);
        let mut builder = BatchBuilder::new(Compression::None)
            .producer(self.producer_id, self.producer_epoch, -1)
            .transactional()
            .control();
        let (key, value) = (control.to_key(), control.to_value());
        builder.push(now_ms, Some(&key), Some(&value), &[]);
        let batch = builder.build()?;
        Ok(match stamps {
            true => batch.with_log_append_time(now_ms),
            false => batch,
        })
    }

    /// Reads a control batch of a log; `None` if it ends no transaction. Compaction leaves such a batch without a record
    /// once no record of the transaction is left.
    pub(in crate::storage) fn of(batch: &RecordBatch) -> Result<Option<Self>, Error> {
        let header = batch.header();
        let Some(record) = batch.records(DecompressLimit::default())?.next() else {
            return Ok(None);
        };
        let control = ControlRecord::of(&record?);
        let ended = control.and_then(|control| {
            let outcome = match control.control_type {
                ControlType::Commit => TransactionOutcome::Commit,
                ControlType::Abort => TransactionOutcome::Abort,
                ControlType::Other(_) => return None,
            };
            Some((outcome, control.coordinator_epoch?))
        });
        Ok(ended.map(|(outcome, coordinator_epoch)| Self {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            coordinator_epoch,
            outcome,
        }))
    }
}

/// The state of a producer in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerInfo {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// −1 if no batch of this epoch is known.
    pub last_sequence: i32,
    /// Timestamp of its last batch or marker.
    pub last_timestamp_ms: i64,
    /// Epoch of the coordinator that wrote its last marker; −1 if there was none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub transaction_start_offset: Option<i64>,
}

/// A transaction whose records a reader of committed records skips, from `first_offset` to the producer's next marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

/// A transaction whose marker was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage) struct EndedTransaction {
    pub producer_id: i64,
    pub outcome: TransactionOutcome,
    pub first_offset: i64,
    /// Offset of the marker.
    pub last_offset: i64,
    /// The first offset of the transactions that were open then, or the offset after the marker.
    pub last_stable: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_from_the_batch_that_was_built_of_it() {
        for outcome in [TransactionOutcome::Commit, TransactionOutcome::Abort] {
            let marker = TransactionMarker {
                producer_id: 7,
                producer_epoch: 3,
                coordinator_epoch: 12,
                outcome,
            };
            let batch = marker.to_batch(1_000, false).unwrap();
            let header = batch.header();
            assert!(header.attributes.is_control() && header.attributes.is_transactional());
            assert_eq!((header.base_sequence, header.max_timestamp), (-1, 1_000));
            assert_eq!(TransactionMarker::of(&batch).unwrap(), Some(marker));
        }
    }

    #[test]
    fn control_batches_of_other_kinds_end_no_transaction() {
        for key in [&[0, 0, 0, 2][..], &[0, 0], &[]] {
            let mut builder = BatchBuilder::new(Compression::None).control();
            builder.push(0, Some(key), Some(&[0; 6]), &[]);
            let marker = TransactionMarker::of(&builder.build().unwrap());
            assert_eq!(marker.unwrap(), None, "{key:?}");
        }
    }
}
