//! Metrics of the logs.
//!
//! Read from the live partitions at scrape time; nothing is pushed, so a deleted topic's series disappear with the next
//! scrape and an idle partition costs nothing. Takes no append lock.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::topics::Topics;
use crate::metrics::{Counter, LabelValue, Samples, catalog};
use crate::storage::ScrapedOffsets;

/// Counters of events off the hot path.
pub(super) struct StorageCounters {
    pub damaged_ranges: Counter,
    pub truncated_bytes: Counter,
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
            retention_segments: Counter::new(enabled),
            retention_bytes: Counter::new(enabled),
            recovery: OnceLock::new(),
        }
    }

    fn collect(&self, out: &mut Samples) {
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

impl Topics {
    /// Writes the samples of every log and returns the offsets among them.
    pub fn collect(&self, out: &mut Samples) -> ScrapedOffsets {
        self.counters().collect(out);
        self.space().collect(out);
        let topics = self.list();
        out.family(&catalog::TOPICS_TOTAL)
            .sample(&[], topics.len() as u64);
        for topic in &topics {
            out.family(&catalog::PARTITIONS_TOTAL)
                .sample(&[("topic", topic.name())], topic.partition_count() as u64);
        }
        let scraped = topics.iter().map(|topic| {
            let partitions = topic.partitions();
            let mut offsets = Vec::with_capacity(partitions.len());
            for partition in partitions.iter() {
                let number = partition.number();
                let labels: [(&str, &dyn LabelValue); 2] =
                    [("topic", topic.name()), ("partition", &number)];
                let snapshot = partition.snapshot();
                out.family(&catalog::RECORDS_TOTAL)
                    .sample(&labels, snapshot.records_total);
                out.family(&catalog::LOG_SIZE_BYTES)
                    .sample(&labels, snapshot.size_bytes);
                out.family(&catalog::LOG_END_OFFSET)
                    .sample(&labels, snapshot.offsets.log_end);
                out.family(&catalog::LOG_START_OFFSET)
                    .sample(&labels, snapshot.offsets.log_start);
                out.family(&catalog::LOG_HIGH_WATERMARK)
                    .sample(&labels, snapshot.offsets.high_watermark);
                out.family(&catalog::SEGMENTS_TOTAL)
                    .sample(&labels, snapshot.segments as u64);
                offsets.push(snapshot.offsets);
            }
            (Arc::clone(topic.name()), offsets)
        });
        scraped.collect()
    }
}
