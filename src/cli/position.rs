//! Positions in a partition as given on the command line, and their resolution to offsets.

use std::time::{SystemTime, UNIX_EPOCH};

use super::client::{Client, check};
use super::error::CliError;
use crate::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};

/// ListOffsets timestamp of the log end offset.
const LATEST: i64 = -1;
/// ListOffsets timestamp of the log start offset.
const EARLIEST: i64 = -2;

/// Position in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    Earliest,
    Latest,
    /// This offset.
    Offset(i64),
    /// This many records before the log end.
    BeforeEnd(i64),
    /// The first record at or after this time, in Unix milliseconds.
    Time(i64),
}

impl Position {
    /// Parses an offset; a negative number is a count of records before the log end.
    pub fn parse_offset(text: &str) -> Result<Position, String> {
        match text.parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(Position::Offset(offset)),
            Ok(before_end) => Ok(Position::BeforeEnd(before_end.saturating_neg())),
            Err(_) => Err(
                "expected a whole number; a negative one counts back from the log end".to_owned(),
            ),
        }
    }

    /// Parses a time: RFC 3339 (`2026-01-31T12:00:00Z`), Unix milliseconds, or an age such as `15m` or `2h30m`.
    pub fn parse_time(text: &str) -> Result<Position, String> {
        // Negative timestamps have special meanings in ListOffsets.
        if let Some(ms) = text.parse::<i64>().ok().filter(|ms| *ms >= 0) {
            return Ok(Position::Time(ms));
        }
        let then = match humantime::parse_duration(text) {
            Ok(age) => SystemTime::now().checked_sub(age),
            Err(_) => humantime::parse_rfc3339_weak(text).ok(),
        };
        then.and_then(|then| then.duration_since(UNIX_EPOCH).ok())
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .map(Position::Time)
            .ok_or_else(|| {
                "expected a time such as 2026-01-31T12:00:00Z, Unix milliseconds, or an age such as 15m"
                    .to_owned()
            })
    }

    /// Timestamp to send in ListOffsets.
    fn timestamp(self) -> i64 {
        match self {
            Position::Earliest => EARLIEST,
            Position::Time(ms) => ms,
            Position::Latest | Position::Offset(_) | Position::BeforeEnd(_) => LATEST,
        }
    }
}

/// Log start and log end offset of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub partition: i32,
    pub earliest: i64,
    pub latest: i64,
}

/// Fetches the bounds of these partitions of `topic`, in the given order.
pub async fn bounds(
    client: &mut Client,
    topic: &str,
    partitions: &[i32],
) -> Result<Vec<Bounds>, CliError> {
    let earliest = list_offsets(client, topic, partitions, EARLIEST).await?;
    let latest = list_offsets(client, topic, partitions, LATEST).await?;
    Ok(partitions
        .iter()
        .zip(earliest.into_iter().zip(latest))
        .map(|(&partition, (earliest, latest))| Bounds {
            partition,
            earliest,
            latest,
        })
        .collect())
}

/// Resolves `position` to an offset in each partition, clamped to the partition's bounds.
pub async fn resolve(
    client: &mut Client,
    topic: &str,
    bounds: &[Bounds],
    position: Position,
) -> Result<Vec<i64>, CliError> {
    let partitions: Vec<i32> = bounds.iter().map(|it| it.partition).collect();
    let found = match position {
        Position::Time(_) => list_offsets(client, topic, &partitions, position.timestamp()).await?,
        _ => Vec::new(),
    };
    Ok(bounds
        .iter()
        .enumerate()
        .map(|(i, it)| {
            let wanted = match position {
                Position::Earliest => it.earliest,
                Position::Latest => it.latest,
                Position::Offset(offset) => offset,
                Position::BeforeEnd(count) => it.latest.saturating_sub(count),
                // No record is that recent: start at the log end, where such records will be appended.
                Position::Time(_) if found[i] < 0 => it.latest,
                Position::Time(_) => found[i],
            };
            wanted.clamp(it.earliest, it.latest)
        })
        .collect())
}

async fn list_offsets(
    client: &mut Client,
    topic: &str,
    partitions: &[i32],
    timestamp: i64,
) -> Result<Vec<i64>, CliError> {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.to_owned(),
            partitions: partitions
                .iter()
                .map(|&partition_index| ListOffsetsPartition {
                    partition_index,
                    current_leader_epoch: -1,
                    timestamp,
                })
                .collect(),
        }],
        ..Default::default()
    };
    let answered = client.call(&request).await?.topics;
    let answered = answered.first().map_or(&[][..], |it| &it.partitions[..]);
    partitions
        .iter()
        .map(|&partition| {
            let what = format!("ListOffsets of {topic}-{partition}");
            let answer = answered
                .iter()
                .find(|it| it.partition_index == partition)
                .ok_or_else(|| CliError::Protocol {
                    api: "ListOffsets",
                    reason: format!("{what}: missing from the response"),
                })?;
            check(&what, answer.error_code, None)?;
            Ok(answer.offset)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_offset_counts_back_from_the_end() {
        assert_eq!(Position::parse_offset("7"), Ok(Position::Offset(7)));
        assert_eq!(Position::parse_offset("-7"), Ok(Position::BeforeEnd(7)));
        assert!(Position::parse_offset("soon").is_err());
    }

    #[test]
    fn a_time_is_a_date_milliseconds_or_an_age() {
        assert_eq!(
            Position::parse_time("2026-01-31T12:00:00Z"),
            Ok(Position::Time(1_769_860_800_000))
        );
        assert_eq!(Position::parse_time("1500"), Ok(Position::Time(1500)));
        assert!(matches!(
            Position::parse_time("15m"),
            Ok(Position::Time(ms)) if ms > 1_500_000_000_000
        ));
        assert!(Position::parse_time("yesterday-ish").is_err());
        assert!(Position::parse_time("-1").is_err());
    }
}
