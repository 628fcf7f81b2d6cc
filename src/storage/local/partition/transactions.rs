//! Markers of transactions.

use super::super::error::Error;
use super::{Append, Partition, Unflushed};
use crate::config::TimestampType;
use crate::storage::{AppendOptions, TransactionMarker};

impl Partition {
    /// Appends the control batch that ends a producer's transaction, and does not wait for a flush.
    pub(super) fn end_transaction_now(
        &self,
        marker: TransactionMarker,
        options: AppendOptions,
    ) -> Result<Unflushed, Error> {
        let config = self.topic.config();
        let now_ms = self.environment.clock.now_ms();
        let stamps = config.message_timestamp_type == TimestampType::LogAppendTime;
        let batch = marker.to_batch(now_ms, stamps)?;

        let mut writer = self.writer.lock();
        let log_start_offset = self.check_writable()?;
        self.producer_state(&mut writer)?.check_marker(&marker)?;
        let append = Append {
            wire_bytes: batch.size_bytes(),
            batches: std::slice::from_ref(&batch),
            marker: Some(&marker),
            acks: options.acks,
            now_ms,
            log_append_time_ms: stamps.then_some(now_ms),
            log_start_offset,
        };
        self.store(writer, &append, &config)
    }
}
