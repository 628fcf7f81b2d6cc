//! ListOffsets: finds the offset for a timestamp, or one of the special offsets that negative timestamps request.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Call, READ_COMMITTED, Session, error, lookup};
use crate::broker::Operation;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::list_offsets::{
    EARLIEST_LOCAL_TIMESTAMP, EARLIEST_TIMESTAMP, LATEST_TIERED_TIMESTAMP, LATEST_TIMESTAMP,
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse, MAX_TIMESTAMP,
};
use crate::storage::Partition;

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
    let reads_log = request
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .any(|partition| partition.timestamp >= 0 || partition.timestamp == MAX_TIMESTAMP);
    if !reads_log {
        return list(&call, call.version, request);
    }
    // The search for a timestamp may read from the disk, which must not block the runtime's threads.
    let partitions = request.clone();
    let (session, version) = (Arc::clone(&call.session), call.version);
    match tokio::task::spawn_blocking(move || list(&session, version, request)).await {
        Ok(response) => response,
        Err(_) => failed(partitions),
    }
}

/// Returns the response if the search panicked or was cancelled.
fn failed(request: ListOffsetsRequest) -> ListOffsetsResponse {
    let refuse = |partition: &ListOffsetsPartition| ListOffsetsPartitionResponse {
        partition_index: partition.partition_index,
        error_code: error::TASK_FAILED,
        ..ListOffsetsPartitionResponse::default()
    };
    let topics = request
        .topics
        .into_iter()
        .map(|topic| ListOffsetsTopicResponse {
            partitions: topic.partitions.iter().map(refuse).collect(),
            name: topic.name,
        });
    ListOffsetsResponse {
        topics: topics.collect(),
        ..ListOffsetsResponse::default()
    }
}

fn list(session: &Session, version: i16, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let repeated = repeated_partitions(&request.topics);
    let read_committed = request.isolation_level == READ_COMMITTED;
    let topics = request.topics.into_iter().map(|asked| {
        let topic = lookup::topic_by_name(session, Operation::Describe, &asked.name);
        let partitions = asked.partitions.iter().map(|partition| {
            let found = if repeated.contains(&(asked.name.clone(), partition.partition_index)) {
                Err(ErrorCode::INVALID_REQUEST)
            } else {
                lookup::partition(&topic, partition.partition_index)
                    .and_then(|log| find(&log, partition, version, read_committed))
            };
            response(partition.partition_index, found)
        });
        ListOffsetsTopicResponse {
            partitions: partitions.collect(),
            name: asked.name.clone(),
        }
    });
    ListOffsetsResponse {
        topics: topics.collect(),
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

fn find(
    log: &Arc<Partition>,
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
            .map_err(|error| error::of_storage(&error))?,
        time => log
            .offset_for_timestamp(time)
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
