//! Shared support for tests of the whole server: the binary as a child process, its metrics, and a minimal protocol
//! client.

// Several test binaries share this module, and none of them uses all of it.
#![allow(dead_code)]

pub mod exposition;
pub mod kafka;
pub mod server;
pub mod wire;

use std::time::{Duration, Instant};

pub use exposition::Exposition;
pub use server::Server;
pub use wire::Client;

/// Timeout of everything that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds. Fails the test after [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        pause();
    }
}

/// Sleeps briefly between two checks of a condition.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
