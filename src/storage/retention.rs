//! Which segments a topic's retention lets go.
//!
//! Whole segments only, oldest first, and only what every reader has been able to see. The active segment goes, too,
//! once its newest record has expired; the log then starts a fresh one.

use std::sync::Arc;

use super::error::Error;
use super::segment::Segment;
use crate::config::TopicConfig;

/// How many segments at the front have to go, of a log that ends at `log_end`. None without `cleanup.policy=delete`.
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
            // A damaged segment is not deleted on the strength of what it says of itself.
            Err(Error::Corrupt { .. }) => None,
            Err(error) => return Err(error),
        };
        let is_old =
            newest_ms.is_some_and(|newest_ms| now_ms.saturating_sub(newest_ms) > retention_ms);
        // An empty closed segment keeps nobody's data; the active one is allowed to be empty.
        let is_empty = segment.size() == 0 && count + 1 < segments.len();
        if !is_old && !is_empty {
            break;
        }
        count += 1;
    }
    Ok(count)
}

/// The largest timestamp in a segment. One in which no record has any is as old as its file, as with Kafka: it would
/// keep itself and all behind it for ever. `None` for an empty segment.
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
            let goes = left - segment.size() >= limit;
            left -= segment.size();
            goes
        })
        .count()
}
