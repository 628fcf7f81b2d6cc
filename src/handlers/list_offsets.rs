//! ListOffsets: finds the offset for a timestamp, or one of the special offsets that negative timestamps request.

use std::collections::HashSet;

use super::{Call, READ_COMMITTED, error, lookup};
use crate::broker::Operation;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::list_offsets::{
    EARLIEST_LOCAL_TIMESTAMP, EARLIEST_TIMESTAMP, LATEST_TIERED_TIMESTAMP, LATEST_TIMESTAMP,
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse, MAX_TIMESTAMP,
};
use crate::storage::PartitionLog;

/// Returns the first version that supports a timestamp, `None` for an unknown special one.
fn known_from(timestamp: i64) -> Option<i16> {
    match timestamp {
        LATEST_TIMESTAMP | EARLIEST_TIMESTAMP | 0.. => Some(1),
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL_TIMESTAMP => Some(8),
        LATEST_TIERED_TIMESTAMP => Some(9),
        _ => None,
    }
}

pub(super) async fn handle(call: Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let repeated = repeated_partitions(&request.topics);
    let read_committed = request.isolation_level == READ_COMMITTED;
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = lookup::topic_by_name(&call, Operation::Describe, &asked.name);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let index = partition.partition_index;
            let found = if repeated.contains(&(asked.name.clone(), index)) {
                Err(ErrorCode::INVALID_REQUEST)
            } else {
                match lookup::partition(&topic, index) {
                    Ok(log) => find(&*log, partition, call.version, read_committed).await,
                    Err(code) => Err(code),
                }
            };
            partitions.push(response(index, found));
        }
        topics.push(ListOffsetsTopicResponse {
            partitions,
            name: asked.name,
        });
    }
    ListOffsetsResponse {
        topics,
        ..ListOffsetsResponse::default()
    }
}

/// Returns the partitions that the request names more than once, which are refused as in Kafka.
fn repeated_partitions(topics: &[ListOffsetsTopic]) -> HashSet<(String, i32)> {
    let mut seen = HashSet::new();
    let mut repeated = HashSet::new();
    for topic in topics {
        for partition in &topic.partitions {
            if !seen.insert((topic.name.as_str(), partition.partition_index)) {
                repeated.insert((topic.name.clone(), partition.partition_index));
            }
        }
    }
    repeated
}

/// An offset that was found; −1 in each field if there is none.
struct FoundOffset {
    offset: i64,
    timestamp: i64,
    leader_epoch: i32,
}

async fn find(
    log: &dyn PartitionLog,
    asked: &ListOffsetsPartition,
    version: i16,
    read_committed: bool,
) -> Result<FoundOffset, ErrorCode> {
    if known_from(asked.timestamp).is_none_or(|from| version < from) {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    lookup::check_leader_epoch(log, asked.current_leader_epoch)?;
    let offsets = log.offsets();
    let end = if read_committed {
        offsets.last_stable
    } else {
        offsets.high_watermark
    };
    let at = |offset: i64| {
        Ok(FoundOffset {
            offset,
            timestamp: -1,
            leader_epoch: log
                .leader_epoch()
                .map_err(|error| error::of_storage(&error))?,
        })
    };
    let found = match asked.timestamp {
        LATEST_TIMESTAMP => return at(end),
        EARLIEST_TIMESTAMP | EARLIEST_LOCAL_TIMESTAMP => return at(offsets.log_start),
        LATEST_TIERED_TIMESTAMP => None,
        MAX_TIMESTAMP => log
            .max_timestamp()
            .await
            .map_err(|error| error::of_storage(&error))?,
        time => log
            .offset_for_timestamp(time)
            .await
            .map_err(|error| error::of_storage(&error))?,
    };
    // Records past the end that this client may read do not exist for it.
    Ok(match found.filter(|found| found.offset < end) {
        Some(found) => FoundOffset {
            offset: found.offset,
            timestamp: found.timestamp_ms,
            leader_epoch: found.leader_epoch,
        },
        None => FoundOffset {
            offset: -1,
            timestamp: -1,
            leader_epoch: -1,
        },
    })
}

fn response(index: i32, found: Result<FoundOffset, ErrorCode>) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse {
        partition_index: index,
        ..ListOffsetsPartitionResponse::default()
    };
    match found {
        Ok(found) => ListOffsetsPartitionResponse {
            offset: found.offset,
            timestamp: found.timestamp,
            leader_epoch: found.leader_epoch,
            ..response
        },
        Err(error_code) => ListOffsetsPartitionResponse {
            error_code,
            ..response
        },
    }
}
