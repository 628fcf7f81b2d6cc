//! A partition as a [`PartitionLog`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::error::Error;
use super::super::fetch_waiters::FetchWaiter;
use super::super::topic::TopicInfo;
use super::{Partition, Unflushed};
use crate::record::RecordBatch;
use crate::storage::{
    AppendOptions, Appended, Offsets, PartitionLog, PartitionSnapshot, ProducerInfo, ReadOptions,
    ReadTicket, Ticket, TimestampedOffset, TransactionMarker,
};
use crate::sync::Notify;

impl PartitionLog for Partition {
    fn topic(&self) -> &Arc<TopicInfo> {
        &self.topic
    }

    fn number(&self) -> i32 {
        self.number
    }

    fn append(&self, batches: Vec<RecordBatch>, options: AppendOptions) -> Ticket<Appended> {
        self.acknowledged(self.append_now(batches, options))
    }

    fn end_transaction(
        &self,
        marker: TransactionMarker,
        options: AppendOptions,
    ) -> Ticket<Appended> {
        self.acknowledged(self.end_transaction_now(marker, options))
    }

    fn read(&self, options: ReadOptions) -> ReadTicket {
        if options.may_block {
            return ReadTicket::Ready(self.read_now(options));
        }
        if self.read_may_block(options.offset) {
            return ReadTicket::WouldBlock;
        }
        match self.read_once(options) {
            // A repair blocks.
            Err(Error::Corrupt { .. }) => ReadTicket::WouldBlock,
            Err(error) if error.is_absent() => ReadTicket::WouldBlock,
            result => ReadTicket::Ready(result),
        }
    }

    fn watch(&self, waiter: &Arc<Notify>) -> FetchWaiter {
        self.watchers.add(waiter)
    }

    fn offsets(&self) -> Offsets {
        self.log_state.lock().offsets()
    }

    fn snapshot(&self) -> PartitionSnapshot {
        let offsets = self.offsets();
        let segments = self.log.segments();
        PartitionSnapshot {
            offsets,
            size_bytes: segments.iter().map(|segment| segment.size()).sum(),
            segments: segments.len(),
            records_total: self.records_total.load(Ordering::Relaxed),
        }
    }

    fn offset_for_timestamp(&self, timestamp_ms: i64) -> Ticket<Option<TimestampedOffset>> {
        self.on_disk(move |partition| partition.find_timestamp(timestamp_ms))
    }

    fn max_timestamp(&self) -> Ticket<Option<TimestampedOffset>> {
        self.on_disk(|partition| partition.find_max_timestamp())
    }

    fn leader_epoch(&self) -> Result<i32, Error> {
        Ok(self.epochs()?.current())
    }

    fn end_offset_for_epoch(&self, epoch: i32) -> Result<(i32, i64), Error> {
        let log_end = self.offsets().log_end;
        let found = self.epochs()?.end_offset(epoch, log_end);
        Ok(found.unwrap_or((-1, -1)))
    }

    fn delete_before(&self, offset: i64) -> Ticket<i64> {
        self.on_disk(move |partition| partition.delete_records(offset))
    }

    fn largest_producer_id(&self) -> Result<Option<i64>, Error> {
        Ok(self.producer_state(&mut self.writer.lock())?.largest_id())
    }

    fn producers(&self) -> Result<Vec<ProducerInfo>, Error> {
        Ok(self.producer_state(&mut self.writer.lock())?.infos())
    }
}

impl Partition {
    /// Returns the result of an append, once it may be acknowledged.
    fn acknowledged(&self, appended: Result<Unflushed, Error>) -> Ticket<Appended> {
        match appended {
            Ok(Unflushed {
                appended,
                awaits_flush: true,
            }) => {
                let partition = self.me();
                // The wait begins when it is polled: one flush then covers all appends made until then.
                Ticket::Pending(Box::pin(async move {
                    partition.wait_durable(appended.last_offset + 1).await?;
                    Ok(appended)
                }))
            }
            appended => Ticket::Ready(appended.map(|unflushed| unflushed.appended)),
        }
    }

    /// Runs work that may wait for the disk on a blocking thread.
    fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Self>) -> Result<T, Error> + Send + 'static,
    ) -> Ticket<T> {
        let partition = self.me();
        Ticket::Pending(Box::pin(async move {
            let working = tokio::task::spawn_blocking(move || work(&partition));
            working.await.unwrap_or(Err(Error::Interrupted))
        }))
    }
}
