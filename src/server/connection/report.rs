//! The state of a connection as its registry knows it.
//!
//! The registry applies time-outs and limits of memory to it. What changes often is reported in steps, so that connections do
//! not contend for the registry's counters.

use std::time::Duration;

use super::super::registry::{ARRIVAL_STEP, Activity, ConnectionSlot, OVERDRAFT_STEPS_MAX};

/// Smallest change of the buffered bytes that is reported.
const WAITING_BYTES_STEP: usize = 4 * 1024;
/// Bytes of progress that restart a time-out; less is a trickle that must not keep a connection open.
pub(super) const PROGRESS_BYTES_MIN: usize = 4 * 1024;

/// State of a connection, as last reported to its slot in the registry.
pub(super) struct Report {
    pub(super) slot: ConnectionSlot,
    activity: Activity,
    /// Bytes read or written since `activity` was reported; a finished request counts as [`PROGRESS_BYTES_MIN`].
    progress_bytes: usize,
    /// Bytes of buffered responses.
    held_bytes: usize,
    /// A request that has arrived in part, if there is one.
    arriving: Option<Arriving>,
}

/// Progress of a request that has arrived in part.
#[derive(Debug, Clone, Copy)]
struct Arriving {
    /// Start of the current step of its arrival.
    since: Duration,
    /// Bytes of this step that have arrived.
    bytes: usize,
    /// Time at which the server stopped reading the rest; the pause does not count against the client.
    held_up_since: Option<Duration>,
}

impl Report {
    pub(super) fn new(slot: ConnectionSlot) -> Self {
        Report {
            slot,
            activity: Activity::Idle,
            progress_bytes: 0,
            held_bytes: 0,
            arriving: None,
        }
    }

    /// Adds progress, which restarts the time-out of the current activity with the next report.
    pub(super) fn add_progress(&mut self, bytes: usize) {
        self.progress_bytes += bytes;
    }

    /// Adds bytes that have been read.
    pub(super) fn add_read(&mut self, bytes: usize) {
        self.add_progress(bytes);
        if let Some(arriving) = &mut self.arriving {
            arriving.bytes += bytes;
        }
    }

    /// Returns whether the activity has to be reported.
    pub(super) fn is_due(&self, activity: Activity) -> bool {
        activity != self.activity || self.progress_bytes >= PROGRESS_BYTES_MIN
    }

    /// Reports the activity, which begins at `now`.
    pub(super) fn set_activity(&mut self, activity: Activity, now: Duration) {
        self.activity = activity;
        self.progress_bytes = 0;
        self.slot.entry.set_activity(activity, now);
    }

    /// Reports the bytes of buffered responses.
    pub(super) fn set_waiting(&mut self, waiting: usize) {
        let all_taken = waiting == 0 && self.held_bytes > 0;
        if all_taken || waiting.abs_diff(self.held_bytes) >= WAITING_BYTES_STEP {
            self.held_bytes = waiting;
            self.slot.hold(waiting);
        }
    }

    /// Reports that a request has arrived in part and holds memory, `overdraft` of it beyond the budget. The time during
    /// which the server holds it up does not count.
    pub(super) fn set_arriving(
        &mut self,
        holds: usize,
        overdraft: usize,
        is_held_up: bool,
        now: Duration,
    ) {
        // The rest of a request that exceeds the budget has to arrive faster, the larger it is.
        let step = ARRIVAL_STEP.max(overdraft / OVERDRAFT_STEPS_MAX);
        let arriving = self.arriving.get_or_insert(Arriving {
            since: now,
            bytes: 0,
            held_up_since: None,
        });
        if let Some(held_up_since) = arriving.held_up_since.take() {
            arriving.since += now.saturating_sub(held_up_since);
        }
        if arriving.bytes >= step {
            arriving.since = now;
            arriving.bytes = 0;
        }
        arriving.held_up_since = is_held_up.then_some(now);
        let blamed = if is_held_up { 0 } else { holds };
        self.slot.entry.set_arriving(blamed, arriving.since);
    }

    /// Reports that no request has arrived in part.
    pub(super) fn end_arriving(&mut self, now: Duration) {
        if self.arriving.take().is_some() {
            self.slot.entry.set_arriving(0, now);
        }
    }
}
