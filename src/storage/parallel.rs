//! Doing the same for many logs at once, and saying how far it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::info;

use super::error::Error;
use super::recovery::Report;
use crate::clock::Clock;

/// How often a long recovery says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Says now and then how far a long recovery is.
pub(super) struct Progress<'a> {
    clock: &'a Arc<dyn Clock>,
    total: usize,
    done: AtomicU64,
    state: Mutex<(Duration, Report)>,
}

impl<'a> Progress<'a> {
    pub fn new(total: usize, clock: &'a Arc<dyn Clock>) -> Self {
        Self {
            clock,
            total,
            done: AtomicU64::new(0),
            state: Mutex::new((clock.monotonic(), Report::default())),
        }
    }

    pub fn note(&self, report: Report) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let mut state = self.state.lock();
        state.1.add(report);
        let now = self.clock.monotonic();
        if now - state.0 >= PROGRESS_INTERVAL {
            state.0 = now;
            info!(
                done,
                of = self.total,
                bytes_read = state.1.bytes_read,
                "opening logs"
            );
        }
    }

    pub fn report(&self) -> Report {
        self.state.lock().1
    }
}

/// Runs `work` for `0..count` on as many threads as there are processors, and returns the results in order, or the
/// first error.
pub(super) fn in_parallel<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    if threads == 1 || count <= 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Result<T, Error>)>> = Mutex::new(Vec::with_capacity(count));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= count {
                        break;
                    }
                    let result = work(place);
                    results.lock().push((place, result));
                }
            });
        }
    });
    let mut results = results.into_inner();
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}
