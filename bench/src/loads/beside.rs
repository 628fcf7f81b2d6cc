//! Background load while a server is measured.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Interval of checks for the end of the work.
const NOTICE: Duration = Duration::from_millis(10);

/// Runs `other` at even intervals on a separate thread until `work` is done.
pub fn beside<T>(
    every: Duration,
    mut other: impl FnMut() -> Result<()> + Send,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let beside = scope.spawn(|| -> Result<()> {
            let mut next = Instant::now();
            while !done.load(Ordering::Relaxed) {
                let wait = next.saturating_duration_since(Instant::now());
                if wait.is_zero() {
                    next += every;
                    other()?;
                } else {
                    thread::sleep(wait.min(NOTICE));
                }
            }
            Ok(())
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        beside.join().expect("the background load does not panic")?;
        result
    })
}
