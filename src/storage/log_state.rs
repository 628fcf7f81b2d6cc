//! Where a partition ends: what is written, what the disk has, what readers may see.
//!
//! ```text
//! log_start ≤ high_watermark ≤ log_end        durable ≤ log_end
//! ```
//!
//! A [`LogState`] is the bookkeeping alone, always under its partition's lock and never across I/O. Its rules:
//!
//! * A batch that was promised to the disk (`acks=all`) is not shown before the disk has it, and nothing behind it is,
//!   so what readers see is always a prefix. Other batches are shown at once.
//! * One synchronisation runs at a time. It covers what was written when it started; whoever comes later rides on the
//!   next one.
//! * After a failed synchronisation nothing more is promised or shown, ever: the kernel marks pages clean that it could
//!   not write, so a retry would report success for data that is gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::Error;
use super::segment::Segment;

/// A place between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogPosition {
    pub offset: i64,
    /// The segment's base offset.
    pub segment: i64,
    pub position: u64,
}

/// Someone who waits for the disk to have everything below an offset.
type Waiter = (i64, oneshot::Sender<Result<(), Error>>);

pub(super) struct LogState {
    pub log_start: i64,
    pub end: LogPosition,
    /// Readers may go up to here.
    pub high_watermark: LogPosition,
    /// The disk has everything below.
    pub durable: i64,
    pub active: Arc<Segment>,
    /// Starts of batches promised to the disk that it does not have yet.
    awaiting_flush: VecDeque<LogPosition>,
    /// Where the last promise ends.
    flush_end: i64,
    /// Closed segments that are not known to be on disk.
    unsynced: Vec<Arc<Segment>>,
    /// Files were created that their directory may not remember.
    directory_changed: bool,
    syncing: bool,
    waiters: Vec<Waiter>,
    failure: Option<Error>,
    /// When the oldest data that the disk lacks was written.
    unsynced_since: Option<Duration>,
}

/// What a synchronisation has to do.
pub(super) struct Sync {
    pub segments: Vec<Arc<Segment>>,
    pub active: Arc<Segment>,
    pub directory: bool,
    /// What it makes durable.
    pub end: i64,
}

/// What a successful synchronisation came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Synced {
    /// How many had waited for it.
    pub served: usize,
    /// Another one is due at once, for those who came meanwhile.
    pub again: bool,
}

/// How to wait for durability.
pub(super) enum Wait {
    Done(Result<(), Error>),
    /// For a synchronisation; `start` says that the caller has to run it.
    For {
        result: oneshot::Receiver<Result<(), Error>>,
        start: bool,
    },
}

impl LogState {
    /// That of a log which is on disk up to `end`, if `durable`; otherwise nothing is known about the disk.
    pub fn new(log_start: i64, end: LogPosition, durable: i64, active: Arc<Segment>) -> Self {
        Self {
            log_start,
            end,
            high_watermark: end,
            durable,
            active,
            awaiting_flush: VecDeque::new(),
            flush_end: durable,
            unsynced: Vec::new(),
            // Whoever made the files, or took some away, may not have lived to have that synchronised.
            directory_changed: true,
            syncing: false,
            waiters: Vec::new(),
            failure: None,
            unsynced_since: (durable < end.offset).then_some(Duration::ZERO),
        }
    }

    /// Has segments that were closed in an earlier run synchronised with the next synchronisation.
    pub fn add_unsynced(&mut self, segments: Vec<Arc<Segment>>) {
        self.unsynced.extend(segments);
    }

    /// An error once the log takes no more records.
    pub fn check(&self) -> Result<(), Error> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Batches were written from `start` to `end`. Returns whether there was nothing unsynchronised before.
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
        self.show();
        let was_clean = self.unsynced_since.is_none();
        self.unsynced_since.get_or_insert(now);
        was_clean
    }

    /// The active segment was closed and another one begun.
    pub fn rolled(&mut self, closed: Arc<Segment>, opened: Arc<Segment>) {
        if self.durable < self.end.offset {
            self.unsynced.push(closed);
        }
        self.directory_changed = true;
        self.end.segment = opened.base_offset;
        self.end.position = 0;
        self.active = opened;
        self.show();
    }

    /// Segments before this base offset were taken off the log: they need not be synchronised any more.
    pub fn removed_before(&mut self, base_offset: i64) {
        self.unsynced
            .retain(|segment| segment.base_offset >= base_offset);
    }

    fn show(&mut self) {
        let high_watermark = self.awaiting_flush.front().copied().unwrap_or(self.end);
        if self.failure.is_none() && high_watermark.offset >= self.high_watermark.offset {
            self.high_watermark = high_watermark;
        }
    }

    /// Waits until everything below `offset` is durable, or, if `promised_only`, only until promises below it are kept.
    pub fn wait(&mut self, offset: i64, promised_only: bool) -> Wait {
        let offset = match promised_only {
            true => offset.min(self.flush_end),
            false => offset,
        };
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

    /// Takes the right to synchronise, if nobody has it.
    pub fn claim(&mut self) -> bool {
        let free = !self.syncing && self.failure.is_none();
        self.syncing |= free;
        free
    }

    /// Gives that right back. Those who still wait, because it was not made use of, are told that nobody will.
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

    /// Begins a synchronisation of all that is written so far.
    pub fn begin(&mut self) -> Sync {
        self.unsynced_since = None;
        Sync {
            segments: std::mem::take(&mut self.unsynced),
            active: Arc::clone(&self.active),
            directory: std::mem::take(&mut self.directory_changed),
            end: self.end.offset,
        }
    }

    /// It succeeded.
    pub fn synced(&mut self, sync: &Sync) -> Synced {
        self.durable = self.durable.max(sync.end);
        while self
            .awaiting_flush
            .front()
            .is_some_and(|start| start.offset < self.durable)
        {
            self.awaiting_flush.pop_front();
        }
        self.show();
        let durable = self.durable;
        let mut served = 0;
        for (_, waiter) in self.waiters.extract_if(.., |waiter| waiter.0 <= durable) {
            // Whoever does not wait any more does not need to know.
            let _ = waiter.send(Ok(()));
            served += 1;
        }
        let again = !self.waiters.is_empty() && self.failure.is_none();
        self.syncing = again;
        Synced { served, again }
    }

    /// Nothing more is promised, written or shown.
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

    /// Records that the disk may lack.
    pub fn unsynced_records(&self) -> i64 {
        self.end.offset - self.durable
    }

    /// Whether a promise is yet to be kept.
    pub fn owes_flush(&self) -> bool {
        self.flush_end > self.durable
    }

    /// Promises everything written so far to the disk, as `flush.messages` does; what is visible stays so.
    pub fn promise_all(&mut self) {
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

    fn mark(offset: i64) -> LogPosition {
        LogPosition {
            offset,
            segment: 0,
            position: offset as u64 * 100,
        }
    }

    fn log_state() -> LogState {
        LogState::new(0, mark(0), 0, segment(0))
    }

    fn append(log_state: &mut LogState, until: i64, needs_flush: bool) {
        log_state.appended(log_state.end, mark(until), needs_flush, Duration::ZERO);
    }

    #[test]
    fn batches_without_a_promise_show_at_once() {
        let mut log_state = log_state();
        append(&mut log_state, 3, false);
        assert_eq!(log_state.high_watermark, mark(3));
        assert_eq!(log_state.durable, 0);
    }

    #[test]
    fn a_promised_batch_holds_back_itself_and_all_behind_it() {
        let mut log_state = log_state();
        append(&mut log_state, 3, false);
        append(&mut log_state, 5, true);
        append(&mut log_state, 8, false);
        assert_eq!(log_state.high_watermark, mark(3));
        assert!(log_state.claim());
        let sync = log_state.begin();
        append(&mut log_state, 9, true);
        assert!(!log_state.synced(&sync).again);
        assert_eq!((log_state.high_watermark, log_state.durable), (mark(8), 8));
    }

    #[test]
    fn waiters_ride_on_the_sync_that_began_after_them() {
        let mut log_state = log_state();
        append(&mut log_state, 3, true);
        let Wait::For {
            result: mut first,
            start: true,
        } = log_state.wait(3, true)
        else {
            panic!("nobody synchronises yet");
        };
        let sync = log_state.begin();
        append(&mut log_state, 5, true);
        let Wait::For {
            result: mut second,
            start: false,
        } = log_state.wait(5, true)
        else {
            panic!("a synchronisation is under way");
        };
        let synced = Synced {
            served: 1,
            again: true,
        };
        assert_eq!(
            log_state.synced(&sync),
            synced,
            "the second needs another one"
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
    fn without_a_promise_there_is_nothing_to_wait_for() {
        let mut log_state = log_state();
        append(&mut log_state, 3, false);
        assert!(matches!(log_state.wait(3, true), Wait::Done(Ok(()))));
        assert!(matches!(log_state.wait(3, false), Wait::For { .. }));
    }

    #[test]
    fn after_a_failure_nothing_more_shows_and_nobody_is_told_otherwise() {
        let mut log_state = log_state();
        append(&mut log_state, 2, false);
        append(&mut log_state, 3, true);
        let Wait::For { mut result, .. } = log_state.wait(3, true) else {
            panic!("there is something to wait for");
        };
        log_state.begin();
        log_state.fail(Error::Closed);
        assert!(result.try_recv().unwrap().is_err());
        assert_eq!(log_state.high_watermark, mark(2));
        assert!(!log_state.claim());
        log_state.check().unwrap_err();
        assert!(matches!(log_state.wait(3, true), Wait::Done(Err(_))));
        assert!(matches!(log_state.wait(0, true), Wait::Done(Ok(()))));
    }

    #[test]
    fn closed_segments_are_synchronised_with_the_next_one() {
        let mut log_state = log_state();
        append(&mut log_state, 3, true);
        log_state.rolled(segment(0), segment(3));
        let sync = log_state.begin();
        assert_eq!(sync.segments.len(), 1);
        assert!(sync.directory);
        assert_eq!(sync.active.base_offset, 3);
    }
    #[test]
    fn removed_segments_are_not_synchronised() {
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
