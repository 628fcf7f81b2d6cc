//! Running work on many logs in parallel, and reporting its progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::info;

use super::error::Error;
use super::opening::Opening;
use super::recovery::Report;
use crate::clock::Clock;

/// Interval at which a long recovery logs its progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Logs the progress of a long recovery.
pub(super) struct Progress<'a> {
    clock: &'a Arc<dyn Clock>,
    opening: &'a Opening,
    state: Mutex<(Duration, Report)>,
}

impl<'a> Progress<'a> {
    pub fn new(total: usize, opening: &'a Opening, clock: &'a Arc<dyn Clock>) -> Self {
        opening.begin(total);
        Self {
            clock,
            opening,
            state: Mutex::new((clock.monotonic(), Report::default())),
        }
    }

    pub fn note(&self, report: Report) {
        let (done, of) = self.opening.note_opened();
        let mut state = self.state.lock();
        state.1.add(report);
        let now = self.clock.monotonic();
        if now - state.0 >= PROGRESS_INTERVAL {
            state.0 = now;
            info!(done, of, bytes_read = state.1.bytes_read, "opening logs");
        }
    }

    pub fn report(&self) -> Report {
        self.state.lock().1
    }
}

/// Runs `work` for `0..count` on as many threads as there are processors. Returns the results in order, or the first
/// error.
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
