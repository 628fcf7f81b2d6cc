//! The sliding window of quotas: `quota.window.num` samples of `quota.window.size.seconds` each.

use crate::config::Config;

/// Number and length of the samples over which rates are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// At least 1.
    pub(super) samples: usize,
    pub(super) sample_ms: u64,
}

impl Window {
    pub(super) fn of(config: &Config) -> Self {
        Window {
            samples: config.quota_window_num,
            sample_ms: config.quota_window_size_seconds * 1000,
        }
    }

    /// Returns whether a time is before the window that ends at `now_ms`.
    pub(super) fn is_past(self, at_ms: u64, now_ms: u64) -> bool {
        now_ms.saturating_sub(at_ms) >= self.samples as u64 * self.sample_ms
    }

    /// Returns the seconds of the whole window.
    pub(super) fn seconds(self) -> f64 {
        self.samples as f64 * self.sample_ms as f64 / 1000.0
    }

    /// Returns the seconds of all samples but the current one.
    pub(super) fn full_samples_seconds(self) -> f64 {
        (self.samples - 1) as f64 * self.sample_ms as f64 / 1000.0
    }
}
