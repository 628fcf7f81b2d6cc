//! Progress of opening the logs, for the readiness check.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Progress of opening the logs.
#[derive(Debug, Default)]
pub struct Opening {
    total: AtomicUsize,
    done: AtomicUsize,
}

impl Opening {
    pub(in crate::storage) fn begin(&self, total: usize) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Counts a log as opened. Returns how many are, of the total.
    pub(in crate::storage) fn note_opened(&self) -> (usize, usize) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        (done, self.total.load(Ordering::Relaxed))
    }
}

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = self.done.load(Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed);
        write!(f, "{done} of {total} logs opened")
    }
}
