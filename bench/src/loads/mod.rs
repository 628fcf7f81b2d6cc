//! Workloads.

pub mod beside;
pub mod http;
pub mod lean;
pub mod librdkafka;

use std::time::Duration;

/// Amount of work and its duration.
#[derive(Debug, Clone, Copy)]
pub struct Moved {
    pub bytes: u64,
    pub elapsed: Duration,
}

/// Amount of work, and the CPU time of the measured side.
pub type Turn = (Moved, Duration);

impl Moved {
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns the CPU seconds per 10⁹ bytes.
    pub fn cpu_per_gb(&self, spent: Duration) -> f64 {
        spent.as_secs_f64() / (self.bytes as f64 / 1e9)
    }
}
