//! The state of a log that decides whether it is compacted, by Kafka's rules.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::config::TopicConfig;
use crate::storage::local::error::Error;
use crate::storage::local::log_state::LogPosition;
use crate::storage::local::segment::Segment;

/// The part of a log that can be compacted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::storage::local) struct Dirt {
    /// Everything below this offset is compacted.
    pub start: i64,
    /// The base offset of the first segment that must not be compacted yet.
    pub end: i64,
    pub clean_bytes: u64,
    pub dirty_bytes: u64,
    /// A record is older than `max.compaction.lag.ms`.
    pub is_overdue: bool,
}

impl Dirt {
    /// Finds the dirty part of a log that was compacted up to `start`. Everything from `stable` on may still change.
    pub fn find(
        segments: &[Arc<Segment>],
        start: i64,
        stable: LogPosition,
        config: &TopicConfig,
        now_ms: i64,
    ) -> Result<Self, Error> {
        let mut dirt = Dirt {
            start,
            end: segments[0].base_offset,
            clean_bytes: 0,
            dirty_bytes: 0,
            is_overdue: false,
        };
        for pair in segments.windows(2) {
            let (segment, end) = (&pair[0], pair[1].base_offset);
            let is_stable = segment.base_offset < stable.segment && end <= stable.offset;
            if !is_stable {
                break;
            }
            if end <= start {
                dirt.clean_bytes += segment.size();
            } else {
                if segment.peek(|segment| is_young(segment, config, now_ms))? {
                    break;
                }
                dirt.dirty_bytes += segment.size();
                dirt.is_overdue |= segment.peek(|segment| is_old(segment, config, now_ms))?;
            }
            dirt.end = end;
        }
        dirt.end = dirt.end.max(start);
        Ok(dirt)
    }

    /// Returns the dirty part of the bytes that can be compacted.
    pub fn ratio(&self) -> f64 {
        match self.clean_bytes + self.dirty_bytes {
            0 => 0.0,
            all => self.dirty_bytes as f64 / all as f64,
        }
    }

    /// Returns true if the log is due for compaction.
    pub fn is_due(&self, config: &TopicConfig) -> bool {
        let is_overdue = self.is_overdue && self.dirty_bytes > 0;
        is_overdue || self.ratio() > config.min_cleanable_dirty_ratio
    }

    /// Orders logs by how much they need compaction.
    pub fn compare(&self, other: &Self) -> Ordering {
        self.ratio().total_cmp(&other.ratio())
    }
}

/// Returns true if a segment holds a record younger than `min.compaction.lag.ms`.
fn is_young(segment: &Segment, config: &TopicConfig, now_ms: i64) -> Result<bool, Error> {
    if config.min_compaction_lag_ms == 0 {
        return Ok(false);
    }
    let newest = segment.max_time(segment.size())?;
    let young_after_ms = now_ms.saturating_sub(config.min_compaction_lag_ms);
    Ok(newest.is_some_and(|newest| newest.header.max_timestamp > young_after_ms))
}

/// Returns true if a segment's first batch is older than `max.compaction.lag.ms`.
fn is_old(segment: &Segment, config: &TopicConfig, now_ms: i64) -> Result<bool, Error> {
    if config.max_compaction_lag_ms == i64::MAX {
        return Ok(false);
    }
    let old_before_ms = now_ms.saturating_sub(config.max_compaction_lag_ms);
    let first = segment.first_header()?;
    Ok(first.is_some_and(|first| (1..old_before_ms).contains(&first.max_timestamp)))
}
