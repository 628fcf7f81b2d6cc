//! Selecting the segments that a topic's retention deletes.
//!
//! Only whole segments, oldest first, and only below the high watermark. The active segment is deleted, too, once its
//! newest record has expired; the log is rolled first.

use std::sync::Arc;

use super::error::Error;
use super::segment::Segment;
use crate::config::TopicConfig;

/// Returns the number of expired segments at the front of a log that ends at `log_end`; 0 without
/// `cleanup.policy=delete`.
pub(super) fn expired(
    segments: &[Arc<Segment>],
    high_watermark: i64,
    log_end: i64,
    config: &TopicConfig,
    now_ms: i64,
) -> Result<usize, Error> {
    if !config.cleanup_policy.delete {
        return Ok(0);
    }
    let by_time = expired_by_time(segments, config.retention_ms, now_ms)?;
    let count = by_time.max(exceeding(segments, config.retention_bytes));
    let ends = segments.iter().skip(1).map(|next| next.base_offset);
    let seen = ends
        .chain([log_end])
        .take_while(|end| *end <= high_watermark)
        .count();
    Ok(count.min(seen))
}

fn expired_by_time(
    segments: &[Arc<Segment>],
    retention_ms: i64,
    now_ms: i64,
) -> Result<usize, Error> {
    if retention_ms < 0 {
        return Ok(0);
    }
    let mut count = 0;
    for segment in segments {
        let newest_ms = match segment.peek(newest_ms) {
            Ok(newest_ms) => newest_ms,
            // The timestamps of a corrupt segment are not trusted for its deletion.
            Err(Error::Corrupt { .. }) => None,
            Err(error) => return Err(error),
        };
        let is_old =
            newest_ms.is_some_and(|newest_ms| now_ms.saturating_sub(newest_ms) > retention_ms);
        // An empty closed segment holds no data; the active one may be empty.
        let is_empty = segment.size() == 0 && count + 1 < segments.len();
        if !is_old && !is_empty {
            break;
        }
        count += 1;
    }
    Ok(count)
}

/// Returns the largest timestamp in a segment; `None` for an empty one. A segment without any timestamp is as old as
/// its file, as in Kafka: otherwise it and all segments after it would never expire.
fn newest_ms(segment: &Segment) -> Result<Option<i64>, Error> {
    let newest = segment.max_time(segment.size())?;
    match newest.map(|newest| newest.header.max_timestamp) {
        Some(..0) => segment.modified_ms().map(Some),
        stamped => Ok(stamped),
    }
}

fn exceeding(segments: &[Arc<Segment>], retention_bytes: i64) -> usize {
    let Ok(limit) = u64::try_from(retention_bytes) else {
        return 0;
    };
    let mut left: u64 = segments.iter().map(|segment| segment.size()).sum();
    segments[..segments.len() - 1]
        .iter()
        .take_while(|segment| {
            let is_expired = left - segment.size() >= limit;
            left -= segment.size();
            is_expired
        })
        .count()
}
