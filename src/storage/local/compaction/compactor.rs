//! The settings of compaction, its pace, and its numbers for metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::pass::Work;
use super::selection::Dirt;
use crate::clock::Clock;
use crate::metrics::{Counter, Samples, catalog};
use crate::storage::local::environment::Environment;
use crate::storage::local::error::Error;

/// Time after which a log is tried again that could not be compacted.
const RETRY_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// Options of compaction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionOptions {
    pub is_enabled: bool,
    /// Maximum memory for the keys of a log.
    pub dedupe_buffer_bytes: usize,
    /// Maximum rate of reading and writing together.
    pub io_bytes_per_second: f64,
}

impl Default for CompactionOptions {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            is_enabled: true,
            dedupe_buffer_bytes: 128 << 20,
            io_bytes_per_second: f64::MAX,
        }
    }
}

/// A log, by topic and partition number.
pub(in crate::storage::local) type LogName = (Arc<str>, i32);

/// The state of compaction of all logs.
pub(in crate::storage::local) struct Compactor {
    options: CompactionOptions,
    clock: Arc<dyn Clock>,
    is_stopped: Mutex<bool>,
    stopped: Condvar,
    pace: Mutex<Pace>,
    /// When to try again to compact logs for which that failed.
    uncleanable: Mutex<BTreeMap<LogName, Duration>>,
    /// The compacted topics as the last search found them.
    found: Mutex<Found>,
    /// Bytes that the running compaction has yet to read.
    bytes_left: AtomicU64,
    counters: Counters,
}

/// The result of a search for logs to compact.
#[derive(Default)]
struct Found {
    at: Option<Duration>,
    dirty_bytes: BTreeMap<Arc<str>, u64>,
    max_dirty_ratio: f64,
}

/// The bytes of a compaction since it began.
struct Pace {
    began: Duration,
    bytes: f64,
}

struct Counters {
    logs: Counter,
    micros: Counter,
    bytes_read: Counter,
    bytes_written: Counter,
    records_removed: Counter,
}

impl Compactor {
    pub fn new(options: CompactionOptions, environment: &Environment) -> Self {
        let is_counted = environment.metrics.enabled();
        Self {
            options,
            clock: Arc::clone(&environment.clock),
            is_stopped: Mutex::new(false),
            stopped: Condvar::new(),
            pace: Mutex::new(Pace {
                began: Duration::ZERO,
                bytes: 0.0,
            }),
            uncleanable: Mutex::default(),
            found: Mutex::default(),
            bytes_left: AtomicU64::new(0),
            counters: Counters {
                logs: Counter::new(is_counted),
                micros: Counter::new(is_counted),
                bytes_read: Counter::new(is_counted),
                bytes_written: Counter::new(is_counted),
                records_removed: Counter::new(is_counted),
            },
        }
    }

    pub fn is_enabled(&self) -> bool {
        self.options.is_enabled && !*self.is_stopped.lock()
    }

    pub fn dedupe_buffer_bytes(&self) -> usize {
        self.options.dedupe_buffer_bytes
    }

    /// Ends a running compaction soon, and prevents others.
    pub fn stop(&self) {
        *self.is_stopped.lock() = true;
        self.stopped.notify_all();
    }

    /// Begins a compaction that reads at most `bytes`.
    pub fn begin(&self, bytes: u64) {
        self.bytes_left.store(bytes, Ordering::Relaxed);
        *self.pace.lock() = Pace {
            began: self.clock.monotonic(),
            bytes: 0.0,
        };
    }

    /// Ends a compaction.
    pub fn end(&self) {
        self.bytes_left.store(0, Ordering::Relaxed);
    }

    /// Counts bytes that were read, and waits if they were read too fast.
    pub fn note_read(&self, bytes: usize) -> Result<(), Error> {
        self.counters.bytes_read.add(bytes as u64);
        self.bytes_left.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.throttle(bytes)
    }

    /// Counts bytes that are written, and waits if they were written too fast.
    pub fn note_written(&self, bytes: usize) -> Result<(), Error> {
        self.counters.bytes_written.add(bytes as u64);
        self.throttle(bytes)
    }

    /// Waits until the rate of a compaction is not above the limit. Returns an error if it is to end.
    fn throttle(&self, bytes: usize) -> Result<(), Error> {
        let due = {
            let mut pace = self.pace.lock();
            pace.bytes += bytes as f64;
            let seconds = pace.bytes / self.options.io_bytes_per_second;
            pace.began + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 2)
        };
        let mut is_stopped = self.is_stopped.lock();
        while !*is_stopped {
            let ahead = due.saturating_sub(self.clock.monotonic());
            if ahead.is_zero() {
                return Ok(());
            }
            self.stopped.wait_for(&mut is_stopped, ahead);
        }
        Err(Error::Closed)
    }

    /// Returns true if the log failed to be compacted a short time ago.
    pub fn is_uncleanable(&self, log: &LogName) -> bool {
        let retry_at = self.uncleanable.lock().get(log).copied();
        retry_at.is_some_and(|retry_at| self.clock.monotonic() < retry_at)
    }

    /// Notes that a log cannot be compacted.
    pub fn note_uncleanable(&self, log: LogName) {
        let retry_at = self.clock.monotonic() + RETRY_INTERVAL;
        self.uncleanable.lock().insert(log, retry_at);
    }

    /// Notes the compacted logs that exist, and their dirt.
    pub fn note_found<'a>(&self, logs: impl Iterator<Item = (&'a LogName, Option<&'a Dirt>)>) {
        let mut found = Found {
            at: Some(self.clock.monotonic()),
            ..Found::default()
        };
        let mut uncleanable = self.uncleanable.lock();
        let mut left = BTreeMap::new();
        for (log, dirt) in logs {
            if let Some(known) = uncleanable.remove_entry(log) {
                left.insert(known.0, known.1);
            }
            let bytes = found.dirty_bytes.entry(Arc::clone(&log.0)).or_default();
            if let Some(dirt) = dirt {
                *bytes += dirt.dirty_bytes;
                found.max_dirty_ratio = found.max_dirty_ratio.max(dirt.ratio());
            }
        }
        *uncleanable = left;
        *self.found.lock() = found;
    }

    /// Counts a compaction that ended.
    pub fn note_compacted(&self, log: &LogName, work: &Work, took: Duration) {
        self.uncleanable.lock().remove(log);
        let counters = &self.counters;
        counters.logs.add(1);
        counters.micros.add(took.as_micros() as u64);
        let removed = work.records_read - work.records_written;
        counters.records_removed.add(removed);
    }

    pub fn collect(&self, out: &mut Samples) {
        for (metric, counter) in [
            (&catalog::COMPACTION_LOGS_TOTAL, &self.counters.logs),
            (
                &catalog::COMPACTION_READ_BYTES_TOTAL,
                &self.counters.bytes_read,
            ),
            (
                &catalog::COMPACTION_WRITTEN_BYTES_TOTAL,
                &self.counters.bytes_written,
            ),
            (
                &catalog::COMPACTION_REMOVED_RECORDS_TOTAL,
                &self.counters.records_removed,
            ),
        ] {
            out.family(metric).sample(&[], counter.value());
        }
        let seconds = self.counters.micros.value() as f64 / 1e6;
        out.family(&catalog::COMPACTION_DURATION_SECONDS_TOTAL)
            .sample(&[], seconds);
        let left = self.bytes_left.load(Ordering::Relaxed);
        out.family(&catalog::COMPACTION_REMAINING_BYTES)
            .sample(&[], left);
        let uncleanable = self.uncleanable.lock().len() as u64;
        out.family(&catalog::COMPACTION_UNCLEANABLE_PARTITIONS)
            .sample(&[], uncleanable);
        let found = self.found.lock();
        out.family(&catalog::COMPACTION_MAX_DIRTY_RATIO)
            .sample(&[], found.max_dirty_ratio);
        for (topic, bytes) in &found.dirty_bytes {
            out.family(&catalog::COMPACTION_DIRTY_BYTES)
                .sample(&[("topic", topic)], *bytes);
        }
        if let Some(at) = found.at {
            let idle = self.clock.monotonic().saturating_sub(at);
            out.family(&catalog::COMPACTION_SINCE_LAST_CHECK_SECONDS)
                .sample(&[], idle.as_secs_f64());
        }
    }
}
