//! One partition's log as its callers see it.
//!
//! An engine answers at once where it can. Where it has to wait, for a flush, a disk or a network, it returns a
//! [`Ticket`] that is awaited: this keeps the order of appends independent of when their results are known.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

use super::common::error::Error;
use super::common::fetch_waiters::FetchWaiter;
use super::common::topic::TopicInfo;
use super::common::transaction::{AbortedTransaction, ProducerInfo, TransactionMarker};
use crate::record::{RecordBatch, Records};
use crate::sync::Notify;

/// The log of one partition.
///
/// No method blocks the calling thread for long, except where it says so.
pub trait PartitionLog: Send + Sync {
    fn topic(&self) -> &Arc<TopicInfo>;

    /// Returns the partition's number within its topic.
    fn number(&self) -> i32;

    /// Appends all of the batches, or none. Appends are ordered by this call, not by when their tickets are awaited.
    ///
    /// The ticket is ready once the durability that `options.acks` asks for is reached. The append is completed even if
    /// the ticket is dropped.
    fn append(&self, batches: Vec<RecordBatch>, options: AppendOptions) -> Ticket<Appended>;

    /// Appends the control batch that ends a producer's transaction; ordered with appends, and ready like them.
    ///
    /// A marker of a greater epoch than the producer's raises that epoch, and the next sequence to expect is 0. A marker of
    /// a producer without an open transaction is appended, too: the coordinator may repeat one after a crash. Fails with
    /// [`Error::ProducerFenced`] or [`Error::CoordinatorFenced`] if the producer's epoch, or the coordinator epoch of its
    /// last marker, is greater than the marker's.
    fn end_transaction(
        &self,
        marker: TransactionMarker,
        options: AppendOptions,
    ) -> Ticket<Appended>;

    /// Reads whole batches, starting with the one that holds the offset or, if that was removed, with the next one.
    fn read(&self, options: ReadOptions) -> ReadTicket;

    /// Notifies `waiter` whenever there may be more to read, or the partition is retired, until the guard is dropped.
    /// Check the partition again after this call and before waiting.
    fn watch(&self, waiter: &Arc<Notify>) -> FetchWaiter;

    fn offsets(&self) -> Offsets;

    /// Returns the partition's metrics.
    fn snapshot(&self) -> PartitionSnapshot;

    /// Finds the first record below the high watermark whose timestamp is `timestamp_ms` or later.
    fn offset_for_timestamp(&self, timestamp_ms: i64) -> Ticket<Option<TimestampedOffset>>;

    /// Finds the record with the largest timestamp between the log start and the high watermark, the first if there are
    /// several.
    fn max_timestamp(&self) -> Ticket<Option<TimestampedOffset>>;

    /// Returns the leader epoch given to new records.
    fn leader_epoch(&self) -> Result<i32, Error>;

    /// Returns the leader epoch of the record at `offset`, or of the next one.
    fn leader_epoch_at(&self, offset: i64) -> Result<i32, Error>;

    /// Returns the largest leader epoch up to `epoch` and its end offset; `(-1, -1)` if there is none.
    fn end_offset_for_epoch(&self, epoch: i32) -> Result<(i32, i64), Error>;

    /// Deletes the records before `offset`. The ticket's result is the log start offset.
    fn delete_before(&self, offset: i64) -> Ticket<i64>;

    /// Returns the largest id in the producer state. May block.
    fn largest_producer_id(&self) -> Result<Option<i64>, Error>;

    /// Returns the producers whose state the partition keeps. May block.
    fn producers(&self) -> Result<Vec<ProducerInfo>, Error>;
}

impl fmt::Display for dyn PartitionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic().name, self.number())
    }
}

/// The result of an operation, or the wait for it.
pub enum Ticket<T> {
    Ready(Result<T, Error>),
    Pending(BoxFuture<'static, Result<T, Error>>),
}

impl<T: Unpin> Future for Ticket<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ticket = self.get_mut();
        if let Ticket::Pending(waiting) = ticket {
            return waiting.as_mut().poll(context);
        }
        // A future is not polled again after its result.
        match std::mem::replace(ticket, Ticket::Ready(Err(Error::Interrupted))) {
            Ticket::Ready(result) => Poll::Ready(result),
            Ticket::Pending(_) => unreachable!("polled above"),
        }
    }
}

/// The result of a read, or the wait for it.
pub enum ReadTicket {
    Ready(Result<Fetched, Error>),
    /// Nothing was read, since that would block the thread: read again on one that may block, with `may_block`.
    WouldBlock,
    Pending(BoxFuture<'static, Result<Fetched, Error>>),
}

/// The durability guarantee that a response to an append gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// No guarantee.
    None,
    /// The records survive the end of the process.
    Leader,
    /// The records survive a power failure.
    All,
}

#[derive(Debug, Clone, Copy)]
pub struct AppendOptions {
    pub acks: Acks,
}

/// The result of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    pub last_offset: i64,
    /// The timestamp given to the records, if the topic uses `LogAppendTime`.
    pub log_append_time_ms: Option<i64>,
    pub log_start_offset: i64,
    /// Set if the batches were already in the log; the offsets are those of the first append.
    pub duplicate: bool,
}

/// The records that a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Records below the high watermark.
    ReadUncommitted,
    /// Records below the last stable offset.
    ReadCommitted,
}

#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    pub offset: i64,
    pub max_bytes: usize,
    /// Read the first batch even if it is larger than `max_bytes`.
    pub at_least_one: bool,
    pub isolation: Isolation,
    /// Return records without copying them, even few, if the engine can: they take no memory until they are sent.
    pub in_place: bool,
    /// The calling thread may block.
    pub may_block: bool,
}

impl ReadOptions {
    /// Returns the options of a read on a thread that may block, of at least one batch up to the high watermark.
    pub fn at(offset: i64, max_bytes: usize) -> Self {
        ReadOptions {
            offset,
            max_bytes,
            at_least_one: true,
            isolation: Isolation::ReadUncommitted,
            in_place: false,
            may_block: true,
        }
    }
}

/// `log_start ≤ last_stable ≤ high_watermark ≤ log_end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    pub log_start: i64,
    pub last_stable: i64,
    pub high_watermark: i64,
    pub log_end: i64,
}

impl Offsets {
    /// Returns the offset up to which consumers may read.
    pub fn readable_to(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable,
        }
    }
}

/// The records that a read found, and the offsets at that moment.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Whole batches; the first may begin before the offset asked for.
    pub records: Option<Records>,
    pub offsets: Offsets,
    /// For a read of committed records, the aborted transactions that overlap the records, by first offset.
    pub aborted: Vec<AbortedTransaction>,
    /// Set if the read ended at an internal boundary of the log, such as the end of a segment, so that waiting for more
    /// records would not add to it.
    pub ends_early: bool,
}

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampedOffset {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub leader_epoch: i32,
}

/// A snapshot of a partition's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionSnapshot {
    pub offsets: Offsets,
    pub size_bytes: u64,
    pub segments: usize,
    /// Records written since the server started.
    pub records_total: u64,
}
