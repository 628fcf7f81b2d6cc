//! Errors of the storage layer.
//!
//! Errors say what happened to the log and carry what an operator needs (path, position, the numbers that disagreed).
//! `handlers/error.rs` maps them to Kafka's error codes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fs::is_full;
use crate::record;

/// A failed operation on a log.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The request cannot be met; a different one may succeed.
    #[error("topic {topic:?} does not exist")]
    UnknownTopic { topic: String },
    #[error("topic {topic:?} already exists")]
    TopicExists { topic: String },
    #[error("topic {topic:?} has {have} partitions, cannot change it to {want}")]
    InvalidPartitionCount { topic: String, have: i32, want: i32 },
    #[error("offset {offset} is out of range {log_start}..={log_end}")]
    OffsetOutOfRange {
        offset: i64,
        log_start: i64,
        log_end: i64,
    },
    #[error("batch of {size} bytes exceeds the limit of {limit} bytes")]
    BatchTooLarge { size: usize, limit: usize },
    #[error(transparent)]
    TimestampsOutOfRange(Arc<TimestampsOutOfRange>),
    #[error(transparent)]
    RecordsWithoutKey(Arc<RecordsWithoutKey>),
    #[error("clients cannot write control batches, or transactional batches without a producer id")]
    NotAClientBatch,
    #[error(transparent)]
    InvalidBatch(#[from] Arc<record::Error>),

    // The producer's sequence or epoch does not match its state.
    #[error("producer {producer_id} (epoch {epoch}) sent sequence {got}, expected {expected}")]
    OutOfOrderSequence {
        producer_id: i64,
        epoch: i16,
        expected: i32,
        got: i32,
    },
    #[error("producer {producer_id} has epoch {current}; epoch {got} is fenced")]
    ProducerFenced {
        producer_id: i64,
        current: i16,
        got: i16,
    },
    #[error("producer {producer_id} has an open transaction, and the batch is not part of it")]
    TransactionOpen { producer_id: i64 },
    #[error(
        "the last marker of producer {producer_id} is of coordinator epoch {current}; epoch {got} is fenced"
    )]
    CoordinatorFenced {
        producer_id: i64,
        current: i32,
        got: i32,
    },

    // The disk failed; the log is as it was before the call.
    /// Records or topics are refused because the disk has no space for them.
    #[error(
        "the disk that holds {} is full: {shortage}; delete topics or records, or add space",
        data_dir.display()
    )]
    DiskFull {
        data_dir: PathBuf,
        /// Such as "100 bytes are free, 5000 are needed".
        shortage: String,
    },
    /// A single operation found the disk full.
    #[error("no space left on the disk to {action} {}", path.display())]
    NoSpace { action: &'static str, path: PathBuf },
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: Arc<io::Error>,
    },
    #[error("{} is corrupt at position {position}: {reason}", path.display())]
    Corrupt {
        path: PathBuf,
        position: u64,
        reason: String,
    },

    // The partition accepts no more operations.
    #[error("{topic}-{partition} refuses records until the server is restarted: {reason}")]
    Poisoned {
        topic: String,
        partition: i32,
        reason: String,
    },
    #[error("the partition was deleted")]
    Deleted,
    #[error("the log was closed")]
    Closed,
    /// The work was cancelled by the end of the runtime, or panicked.
    #[error("the operation was interrupted")]
    Interrupted,
}

/// Records of one batch whose timestamps are outside the range that the topic accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "timestamps out of range in {count} of the batch's records, the first is record {index}: {}{}",
    self.describe(self.timestamp_ms),
    self.unit_hint()
)]
pub struct TimestampsOutOfRange {
    /// Number of such records.
    pub count: usize,
    /// The first one's index within the batch.
    pub index: usize,
    /// The first one's timestamp.
    pub timestamp_ms: i64,
    /// Indexes and timestamps of all of them, up to [`Self::LISTED_MAX`].
    pub listed: Vec<(usize, i64)>,
    pub min_ms: i64,
    pub max_ms: i64,
    pub now_ms: i64,
}

/// Records of one batch that have no key, which a compacted topic requires.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{count} of the batch's records have no key, which a compacted topic requires; the first is record {}", self.listed[0])]
pub struct RecordsWithoutKey {
    /// Number of such records.
    pub count: usize,
    /// Indexes of all of them, up to [`TimestampsOutOfRange::LISTED_MAX`]; at least one.
    pub listed: Vec<usize>,
}

impl TimestampsOutOfRange {
    /// Limit of `listed`: a batch may have millions of records.
    pub const LISTED_MAX: usize = 10_000;

    /// Returns the error message for one of the timestamps.
    pub fn describe(&self, timestamp_ms: i64) -> String {
        format!(
            "timestamp {timestamp_ms} should be within [{}, {}]",
            self.min_ms, self.max_ms
        )
    }

    /// Returns a hint if the first timestamp appears to be in a unit other than milliseconds.
    fn unit_hint(&self) -> String {
        let is_recent = |ms: i64| (self.now_ms / 2..=self.max_ms).contains(&ms);
        let unit = if is_recent(self.timestamp_ms.saturating_mul(1000)) {
            "seconds"
        } else if is_recent(self.timestamp_ms / 1000) {
            "microseconds"
        } else if is_recent(self.timestamp_ms / 1_000_000) {
            "nanoseconds"
        } else {
            return String::new();
        };
        format!("; it seems to be in {unit}, Kafka expects milliseconds")
    }
}

impl Error {
    /// Wraps the file system's error from an attempt to `action` the file at `path`.
    pub(in crate::storage) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            Error::NoSpace {
                action,
                path: path.to_path_buf(),
            }
        } else {
            Error::Io {
                action,
                path: path.to_path_buf(),
                source: Arc::new(source),
            }
        }
    }

    pub(in crate::storage) fn corrupt(
        path: &Path,
        position: u64,
        reason: impl Into<String>,
    ) -> Self {
        Error::Corrupt {
            path: path.to_path_buf(),
            position,
            reason: reason.into(),
        }
    }

    /// Returns true if the disk was full, as opposed to failing.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Error::DiskFull { .. } | Error::NoSpace { .. })
    }

    /// Returns true if a file was not found.
    pub(in crate::storage) fn is_absent(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl From<record::Error> for Error {
    fn from(error: record::Error) -> Self {
        Error::InvalidBatch(Arc::new(error))
    }
}

/// Attaches the attempted action and the file's path to an I/O result.
pub(in crate::storage) trait IoContext<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::io(action, path, source))
    }
}
