//! What is done to a server.

pub mod beside;
pub mod http;
pub mod lean;
pub mod librdkafka;

use std::time::Duration;

/// What was moved in which time.
#[derive(Debug, Clone, Copy)]
pub struct Moved {
    pub bytes: u64,
    pub elapsed: Duration,
}

/// What was moved, and the CPU that the side in question spent on it.
pub type Turn = (Moved, Duration);

impl Moved {
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64()
    }

    /// What a server that spent so much CPU on it spent on each 10⁹ bytes, in seconds.
    pub fn cpu_per_gb(&self, spent: Duration) -> f64 {
        spent.as_secs_f64() / (self.bytes as f64 / 1e9)
    }
}
