//! The wall clock, and threads that wake on time.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Unix time.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

/// Returns the CPU time of this thread.
pub fn thread_cpu() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = stat.split(' ').next().and_then(|first| first.parse().ok());
    nanoseconds
        .map(Duration::from_nanos)
        .ok_or_else(|| io::Error::other("schedstat starts with a number"))
}

/// Asks the kernel to wake this thread on time rather than up to 50 µs later.
pub fn wake_this_thread_on_time() {
    // If this fails, both sides of a comparison wake equally late.
    if let Ok(thread) = fs::read_link("/proc/thread-self")
        && let Some(id) = thread.file_name()
        && let Err(error) = fs::write(format!("/proc/{}/timerslack_ns", id.display()), "1")
    {
        eprintln!("cannot set the timer slack: {error}");
    }
}

/// Sleeps until a time, unless it is past.
pub fn sleep_until(when: Instant) {
    let left = when.saturating_duration_since(Instant::now());
    if left > Duration::ZERO {
        thread::sleep(left);
    }
}
