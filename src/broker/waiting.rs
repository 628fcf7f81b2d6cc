//! Fetches that wait for records: how many there are, for whoever looks at the server.
//!
//! Only a fetch that really waits is counted, so that one which finds its records at once costs nothing. Each holds a
//! guard, so that none stays counted whose client has gone.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::{Collector, Samples, catalog};

/// The number of fetches that wait.
#[derive(Debug, Default)]
pub struct WaitingFetches {
    count: AtomicU64,
}

/// A fetch that waits for as long as this lives.
pub struct WaitingFetch<'a>(&'a WaitingFetches);

impl WaitingFetches {
    /// Counts one more.
    pub fn enter(&self) -> WaitingFetch<'_> {
        self.count.fetch_add(1, Ordering::Relaxed);
        WaitingFetch(self)
    }
}

impl Drop for WaitingFetch<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Collector for WaitingFetches {
    fn collect(&self, out: &mut Samples) {
        out.family(&catalog::FETCHES_WAITING)
            .sample(&[], self.count.load(Ordering::Relaxed));
    }
}
