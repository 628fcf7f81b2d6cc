//! Counters of recovery, corruption and retention.

use std::sync::OnceLock;
use std::time::Duration;

use crate::metrics::{Counter, Samples, catalog};

/// Counters of events off the hot path.
pub(super) struct StorageCounters {
    pub damaged_ranges: Counter,
    pub truncated_bytes: Counter,
    pub raised_epochs: Counter,
    pub retention_segments: Counter,
    pub retention_bytes: Counter,
    /// Time that opening the logs took, and their number.
    pub recovery: OnceLock<(Duration, u64)>,
}

impl StorageCounters {
    pub fn new(enabled: bool) -> Self {
        Self {
            damaged_ranges: Counter::new(enabled),
            truncated_bytes: Counter::new(enabled),
            raised_epochs: Counter::new(enabled),
            retention_segments: Counter::new(enabled),
            retention_bytes: Counter::new(enabled),
            recovery: OnceLock::new(),
        }
    }

    pub fn collect(&self, out: &mut Samples) {
        if let Some((took, partitions)) = self.recovery.get() {
            out.family(&catalog::RECOVERY_DURATION_SECONDS)
                .sample(&[], took.as_secs_f64());
            out.family(&catalog::RECOVERY_PARTITIONS)
                .sample(&[], *partitions);
        }
        for (metric, counter) in [
            (
                &catalog::RECOVERY_TRUNCATED_BYTES_TOTAL,
                &self.truncated_bytes,
            ),
            (&catalog::RECOVERY_RAISED_EPOCHS_TOTAL, &self.raised_epochs),
            (&catalog::LOG_DAMAGED_RANGES_TOTAL, &self.damaged_ranges),
            (
                &catalog::RETENTION_DELETED_SEGMENTS_TOTAL,
                &self.retention_segments,
            ),
            (
                &catalog::RETENTION_DELETED_BYTES_TOTAL,
                &self.retention_bytes,
            ),
        ] {
            out.family(metric).sample(&[], counter.value());
        }
    }
}
