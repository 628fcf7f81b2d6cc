//! Gauge of fetches that wait for records.
//!
//! Only fetches that really wait are counted, so that one which finds its records at once costs nothing. Each holds a
//! guard, so that a fetch of a disconnected client does not stay counted.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::{Collector, Samples, catalog};

/// Number of waiting fetches.
#[derive(Debug, Default)]
pub struct WaitingFetches {
    count: AtomicU64,
}

/// A waiting fetch, counted until dropped.
pub struct WaitingFetch<'a>(&'a WaitingFetches);

impl WaitingFetches {
    /// Counts a fetch that begins to wait.
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
