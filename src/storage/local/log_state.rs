//! The offsets of one partition's log: what is written, what is durable, what consumers may read.
//!
//! ```text
//! log_start ≤ last_stable ≤ high_watermark ≤ log_end        durable ≤ log_end
//! ```
//!
//! A [`LogState`] does the bookkeeping only, always under its partition's lock and never across I/O. Its rules:
//!
//! * The high watermark does not pass a batch that awaits its flush (`acks=all`), nor anything behind that batch, so
//!   consumers always read a prefix. Other batches can be read at once.
//! * The last stable offset is where the first unstable transaction begins (see [`Unstable`]), at most the high watermark.
//!   Without transactions the two are equal.
//! * One flush runs at a time. It covers what was written when it started; later waiters are served by the next one.
//! * A failed flush ends the partition: nothing is acknowledged, written or made readable afterwards. The kernel marks
//!   pages clean that it could not write, so a retry would report success for data that is lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::Error;
use super::segment::Segment;
use super::unstable::Unstable;
use crate::storage::Offsets;

/// A position between two batches of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogPosition {
    pub offset: i64,
    /// The segment's base offset.
    pub segment: i64,
    pub position: u64,
}

/// A wait until everything below an offset is durable.
type Waiter = (i64, oneshot::Sender<Result<(), Error>>);

/// Log positions of one partition: `log_start ≤ last_stable ≤ high_watermark ≤ end`.
pub(super) struct LogState {
    pub log_start: i64,
    pub end: LogPosition,
    /// Consumers may read up to here.
    pub high_watermark: LogPosition,
    /// Transactions that hold the last stable offset back.
    pub unstable: Unstable,
    /// Everything below this offset is durable.
    pub durable: i64,
    pub active: Arc<Segment>,
    /// Starts of batches whose acknowledgement awaits a flush.
    awaiting_flush: VecDeque<LogPosition>,
    /// End of the last batch that was to be flushed.
    flush_end: i64,
    /// Closed segments that are not known to be durable.
    unsynced: Vec<Arc<Segment>>,
    /// Set when files were created or removed and the directory was not synced since.
    directory_changed: bool,
    syncing: bool,
    waiters: Vec<Waiter>,
    failure: Option<Error>,
    /// When the oldest data that is not durable was written.
    unsynced_since: Option<Duration>,
}

/// The work of one flush.
pub(super) struct Sync {
    pub segments: Vec<Arc<Segment>>,
    pub active: Arc<Segment>,
    pub directory: bool,
    /// Everything below this offset is durable afterwards.
    pub end: i64,
}

/// The result of a successful flush.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Synced {
    /// Number of waits that it ended.
    pub served: usize,
    /// Set when waits began meanwhile, so that another flush is due at once.
    pub again: bool,
}

/// How to wait for durability.
pub(super) enum Wait {
    Done(Result<(), Error>),
    /// Ends with a flush; `start` is set when the caller has to run it.
    For {
        result: oneshot::Receiver<Result<(), Error>>,
        start: bool,
    },
}

impl LogState {
    /// Creates the state of a log that ends at `end` and is durable below `durable`.
    pub fn new(
        log_start: i64,
        end: LogPosition,
        durable: i64,
        active: Arc<Segment>,
        unstable: Unstable,
    ) -> Self {
        Self {
            log_start,
            end,
            high_watermark: end,
            unstable,
            durable,
            active,
            awaiting_flush: VecDeque::new(),
            flush_end: durable,
            unsynced: Vec::new(),
            // The process that created or removed files may have ended before it synced the directory.
            directory_changed: true,
            syncing: false,
            waiters: Vec::new(),
            failure: None,
            unsynced_since: (durable < end.offset).then_some(Duration::ZERO),
        }
    }

    /// Adds segments that an earlier run closed to the next flush.
    pub fn add_unsynced(&mut self, segments: Vec<Arc<Segment>>) {
        self.unsynced.extend(segments);
    }

    pub fn offsets(&self) -> Offsets {
        let high_watermark = self.high_watermark.offset;
        let first_unstable = self.unstable.first_offset();
        Offsets {
            log_start: self.log_start,
            // The records where a transaction began may have been deleted.
            last_stable: first_unstable.max(self.log_start).min(high_watermark),
            high_watermark,
            log_end: self.end.offset,
        }
    }

    /// Returns the failure that ended the log, if one did.
    pub fn check(&self) -> Result<(), Error> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Notes that batches were written from `start` to `end`. Returns whether everything was durable or being flushed before.
    pub fn appended(
        &mut self,
        start: LogPosition,
        end: LogPosition,
        needs_flush: bool,
        now: Duration,
    ) -> bool {
        debug_assert_eq!(start.offset, self.end.offset);
        if needs_flush {
            self.awaiting_flush.push_back(start);
            self.flush_end = end.offset;
        }
        self.end = end;
        self.advance_high_watermark();
        let was_clean = self.unsynced_since.is_none();
        self.unsynced_since.get_or_insert(now);
        was_clean
    }

    /// Notes that the active segment was closed and another one opened.
    pub fn rolled(&mut self, closed: Arc<Segment>, opened: Arc<Segment>) {
        if self.durable < self.end.offset {
            self.unsynced.push(closed);
        }
        self.directory_changed = true;
        self.end.segment = opened.base_offset;
        self.end.position = 0;
        self.active = opened;
        self.advance_high_watermark();
    }

    /// Drops segments before this base offset from the next flush: they were removed from the log.
    pub fn removed_before(&mut self, base_offset: i64) {
        self.unsynced
            .retain(|segment| segment.base_offset >= base_offset);
    }

    /// Moves the high watermark to the first batch that awaits its flush, or to the end.
    fn advance_high_watermark(&mut self) {
        let high_watermark = self.awaiting_flush.front().copied().unwrap_or(self.end);
        if self.failure.is_none() && high_watermark.offset >= self.high_watermark.offset {
            self.high_watermark = high_watermark;
            self.unstable.high_watermark_moved(high_watermark.offset);
        }
    }

    /// Returns true if [`wait`](Self::wait) would have to wait for a flush.
    pub fn is_awaited(&self, offset: i64, acknowledged_only: bool) -> bool {
        self.durable < self.awaited_offset(offset, acknowledged_only)
    }

    fn awaited_offset(&self, offset: i64, acknowledged_only: bool) -> i64 {
        match acknowledged_only {
            true => offset.min(self.flush_end),
            false => offset,
        }
    }

    /// Waits until everything below `offset` is durable, or, with `acknowledged_only`, until every batch below it is that
    /// awaits a flush.
    pub fn wait(&mut self, offset: i64, acknowledged_only: bool) -> Wait {
        let offset = self.awaited_offset(offset, acknowledged_only);
        if self.durable >= offset {
            return Wait::Done(Ok(()));
        }
        if let Some(failure) = &self.failure {
            return Wait::Done(Err(failure.clone()));
        }
        let (sender, result) = oneshot::channel();
        self.waiters.push((offset, sender));
        Wait::For {
            result,
            start: self.claim(),
        }
    }

    /// Claims the right to flush, if it is free.
    pub fn claim(&mut self) -> bool {
        let free = !self.syncing && self.failure.is_none();
        self.syncing |= free;
        free
    }

    /// Releases that right. Waits that are left, because no flush ran, end with an error.
    pub fn release(&mut self) {
        if std::mem::replace(&mut self.syncing, false) {
            for (_, waiter) in self.waiters.drain(..) {
                let _ = waiter.send(Err(Error::Closed));
            }
        }
    }

    pub fn is_syncing(&self) -> bool {
        self.syncing
    }

    /// Begins a flush of everything written so far.
    pub fn begin(&mut self) -> Sync {
        self.unsynced_since = None;
        Sync {
            segments: std::mem::take(&mut self.unsynced),
            active: Arc::clone(&self.active),
            directory: std::mem::take(&mut self.directory_changed),
            end: self.end.offset,
        }
    }

    /// Notes that the flush succeeded.
    pub fn synced(&mut self, sync: &Sync) -> Synced {
        self.durable = self.durable.max(sync.end);
        while self
            .awaiting_flush
            .front()
            .is_some_and(|start| start.offset < self.durable)
        {
            self.awaiting_flush.pop_front();
        }
        self.advance_high_watermark();
        let durable = self.durable;
        let mut served = 0;
        for (_, waiter) in self.waiters.extract_if(.., |waiter| waiter.0 <= durable) {
            // The waiter may be gone, with its connection.
            let _ = waiter.send(Ok(()));
            served += 1;
        }
        let again = !self.waiters.is_empty() && self.failure.is_none();
        self.syncing = again;
        Synced { served, again }
    }

    /// Ends the log: nothing more is acknowledged, written or made readable.
    pub fn fail(&mut self, failure: Error) {
        for (_, waiter) in self.waiters.drain(..) {
            let _ = waiter.send(Err(failure.clone()));
        }
        self.failure.get_or_insert(failure);
        self.syncing = false;
        self.unsynced_since = None;
    }

    pub fn unsynced_since(&self) -> Option<Duration> {
        self.unsynced_since
    }

    /// Returns the number of records that may not be durable.
    pub fn unsynced_records(&self) -> i64 {
        self.end.offset - self.durable
    }

    /// Returns whether batches await a flush.
    pub fn awaits_flush(&self) -> bool {
        self.flush_end > self.durable
    }

    /// Has everything written so far flushed, as `flush.messages` asks. The high watermark stays.
    pub fn require_flush(&mut self) {
        self.flush_end = self.end.offset;
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::SparseIndex;
    use super::*;
    use crate::fs::Fs;
    use std::path::Path;

    fn segment(base_offset: i64) -> Arc<Segment> {
        let dir = Arc::from(Path::new("nowhere"));
        Arc::new(Segment::sound(
            &Fs::new(),
            &dir,
            base_offset,
            0,
            SparseIndex::new(),
        ))
    }

    fn position(offset: i64) -> LogPosition {
        LogPosition {
            offset,
            segment: 0,
            position: offset as u64 * 100,
        }
    }

    fn log_state() -> LogState {
        LogState::new(0, position(0), 0, segment(0), Unstable::default())
    }

    fn append(log_state: &mut LogState, until: i64, needs_flush: bool) {
        log_state.appended(log_state.end, position(until), needs_flush, Duration::ZERO);
    }

    #[test]
    fn batches_that_await_no_flush_can_be_read_at_once() {
        let mut log_state = log_state();
        append(&mut log_state, 3, false);
        assert_eq!(log_state.high_watermark, position(3));
        assert_eq!(log_state.durable, 0);
    }

    #[test]
    fn a_batch_that_awaits_its_flush_holds_back_itself_and_all_behind_it() {
        let mut log_state = log_state();
        append(&mut log_state, 3, false);
        append(&mut log_state, 5, true);
        append(&mut log_state, 8, false);
        assert_eq!(log_state.high_watermark, position(3));
        assert!(log_state.claim());
        let sync = log_state.begin();
        append(&mut log_state, 9, true);
        assert!(!log_state.synced(&sync).again);
        assert_eq!(
            (log_state.high_watermark, log_state.durable),
            (position(8), 8)
        );
    }

    #[test]
    fn waiters_are_served_by_the_next_flush_that_starts() {
        let mut log_state = log_state();
        append(&mut log_state, 3, true);
        let Wait::For {
            result: mut first,
            start: true,
        } = log_state.wait(3, true)
        else {
            panic!("no flush is running yet");
        };
        let sync = log_state.begin();
        append(&mut log_state, 5, true);
        let Wait::For {
            result: mut second,
            start: false,
        } = log_state.wait(5, true)
        else {
            panic!("a flush is running");
        };
        let synced = Synced {
            served: 1,
            again: true,
        };
        assert_eq!(
            log_state.synced(&sync),
            synced,
            "the second waiter needs another flush"
        );
        assert!(first.try_recv().unwrap().is_ok());
        second.try_recv().unwrap_err();
        let sync = log_state.begin();
        let synced = Synced {
            served: 1,
            again: false,
        };
        assert_eq!(log_state.synced(&sync), synced);
        assert!(second.try_recv().unwrap().is_ok());
        assert!(matches!(log_state.wait(5, true), Wait::Done(Ok(()))));
    }

    #[test]
    fn without_batches_that_await_a_flush_there_is_nothing_to_wait_for() {
        let mut log_state = log_state();
        append(&mut log_state, 3, false);
        assert!(matches!(log_state.wait(3, true), Wait::Done(Ok(()))));
        assert!(matches!(log_state.wait(3, false), Wait::For { .. }));
    }

    #[test]
    fn after_a_failure_nothing_becomes_visible_and_waits_fail() {
        let mut log_state = log_state();
        append(&mut log_state, 2, false);
        append(&mut log_state, 3, true);
        let Wait::For { mut result, .. } = log_state.wait(3, true) else {
            panic!("there is something to wait for");
        };
        log_state.begin();
        log_state.fail(Error::Closed);
        assert!(result.try_recv().unwrap().is_err());
        assert_eq!(log_state.high_watermark, position(2));
        assert!(!log_state.claim());
        log_state.check().unwrap_err();
        assert!(matches!(log_state.wait(3, true), Wait::Done(Err(_))));
        assert!(matches!(log_state.wait(0, true), Wait::Done(Ok(()))));
    }

    #[test]
    fn closed_segments_are_flushed_with_the_active_one() {
        let mut log_state = log_state();
        append(&mut log_state, 3, true);
        log_state.rolled(segment(0), segment(3));
        let sync = log_state.begin();
        assert_eq!(sync.segments.len(), 1);
        assert!(sync.directory);
        assert_eq!(sync.active.base_offset, 3);
    }
    #[test]
    fn removed_segments_are_not_flushed() {
        let mut log_state = log_state();
        append(&mut log_state, 3, true);
        log_state.rolled(segment(0), segment(3));
        append(&mut log_state, 5, true);
        log_state.rolled(segment(3), segment(5));
        log_state.removed_before(3);
        let left = log_state.begin().segments;
        let left: Vec<i64> = left.iter().map(|segment| segment.base_offset).collect();
        assert_eq!(left, [3]);
    }
}
