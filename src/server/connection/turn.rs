//! The clock of a connection, read as rarely as the precision allows.

use std::time::Duration;

use crate::clock::Clock;

/// Longest turn, for requests that take long: a batch of a few KiB may decompress to more than 100 MiB.
pub(super) const SLICE: Duration = Duration::from_millis(5);

/// The current turn of a connection's task, and its clock: read after a read, after a write, and before a further request.
/// Reading it more often would cost more than the precision is worth.
pub(super) struct Turn {
    now: Duration,
    /// First reading of the clock in this turn.
    began: Option<Duration>,
}

impl Turn {
    pub(super) fn new(now: Duration) -> Self {
        Turn { now, began: None }
    }

    /// Begins the next turn.
    pub(super) fn begin(&mut self) {
        self.began = None;
    }

    /// Reads the clock.
    pub(super) fn read(&mut self, clock: &dyn Clock) {
        self.now = clock.monotonic();
        self.began.get_or_insert(self.now);
    }

    /// Reads the clock unless it has been read in this turn.
    pub(super) fn read_once(&mut self, clock: &dyn Clock) {
        if self.began.is_none() {
            self.read(clock);
        }
    }

    /// Returns the clock as last read.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// Returns whether the task has to yield to other connections.
    pub(super) fn is_over(&self) -> bool {
        let began = self.began.unwrap_or(self.now);
        self.now.saturating_sub(began) >= SLICE
    }
}
