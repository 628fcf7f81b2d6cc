//! What tests of the whole server share: the real binary as a child process, its metrics, and a client that speaks the
//! protocol by hand.

// Several test binaries share this module, and none of them needs all of it.
#![allow(dead_code)]

pub mod exposition;
pub mod kafka;
pub mod server;
pub mod wire;

use std::time::{Duration, Instant};

pub use exposition::Exposition;
pub use server::Server;
pub use wire::Client;

/// How long anything may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; fails the test when it does not in time.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        pause();
    }
}

/// Lets a little time pass between two looks at a condition.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
