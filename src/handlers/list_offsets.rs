//! ListOffsets: finds the offset for a timestamp, or one of the special offsets that negative timestamps request.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::{Call, error, isolation, lookup};
use crate::broker::Operation;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::list_offsets::{
    EARLIEST_LOCAL_TIMESTAMP, EARLIEST_PENDING_UPLOAD_TIMESTAMP, EARLIEST_TIMESTAMP,
    LATEST_TIERED_TIMESTAMP, LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsPartitionResponse,
    ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic, ListOffsetsTopicResponse,
    MAX_TIMESTAMP,
};
use crate::storage::{self, Isolation, PartitionLog};

/// Look-ups of one request that run at the same time. Each may occupy a blocking thread.
const LOOKUPS_MAX: usize = 16;

/// Returns the first version that supports a timestamp, `None` for an unknown special one.
fn known_from(timestamp: i64) -> Option<i16> {
    match timestamp {
        LATEST_TIMESTAMP | EARLIEST_TIMESTAMP | 0.. => Some(1),
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL_TIMESTAMP => Some(8),
        LATEST_TIERED_TIMESTAMP => Some(9),
        EARLIEST_PENDING_UPLOAD_TIMESTAMP => Some(11),
        _ => None,
    }
}

pub(super) async fn handle(call: Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let repeated = repeated_partitions(&request.topics);
    let isolation = isolation(request.isolation_level);
    let mut lookups = Vec::new();
    for asked in &request.topics {
        let topic = lookup::topic_by_name(&call, Operation::Describe, &asked.name);
        for partition in &asked.partitions {
            let index = partition.partition_index;
            let log = match repeated.contains(&(asked.name.clone(), index)) {
                true => Err(ErrorCode::INVALID_REQUEST),
                false => lookup::partition(&topic, index),
            };
            lookups.push(find(log, partition.clone(), call.version, isolation));
        }
    }
    let mut lookups = stream::iter(lookups).buffered(LOOKUPS_MAX);
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in asked.partitions {
            let found = lookups.next().await.expect("a look-up of each partition");
            partitions.push(response(partition.partition_index, found));
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
    log: Result<Arc<dyn PartitionLog>, ErrorCode>,
    asked: ListOffsetsPartition,
    version: i16,
    isolation: Isolation,
) -> Result<FoundOffset, ErrorCode> {
    let log = log?;
    if known_from(asked.timestamp).is_none_or(|from| version < from) {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    lookup::check_leader_epoch(&*log, asked.current_leader_epoch)?;
    let offsets = log.offsets();
    let end = offsets.readable_to(isolation);
    let at = |offset: i64, leader_epoch: Result<i32, storage::Error>| {
        Ok(FoundOffset {
            offset,
            timestamp: -1,
            leader_epoch: leader_epoch.map_err(|error| error::of_storage(&error))?,
        })
    };
    let found = match asked.timestamp {
        LATEST_TIMESTAMP => return at(end, log.leader_epoch()),
        EARLIEST_TIMESTAMP | EARLIEST_LOCAL_TIMESTAMP => {
            let start = offsets.log_start;
            return at(start, log.leader_epoch_at(start));
        }
        LATEST_TIERED_TIMESTAMP | EARLIEST_PENDING_UPLOAD_TIMESTAMP => None,
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::fs::{Fault, Faults, Fs, Op};
    use crate::handlers::harness::{TOPIC, connect, exchange, open_on};
    use crate::record::{BatchBuilder, Compression};
    use crate::storage::{Acks, AppendOptions};

    #[tokio::test(flavor = "multi_thread")]
    async fn the_look_up_of_one_partition_does_not_wait_for_that_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::new();
        let broker = open_on(Fs::with_faults(Arc::clone(&faults)), &dir).await;
        broker.topics.add_partitions(TOPIC, 2).unwrap();
        for number in 0..2 {
            let mut batch = BatchBuilder::new(Compression::None);
            batch.push(broker.clock.now_ms(), None, Some(b"value"), &[]);
            let log = broker.topics.get(TOPIC).unwrap().partition(number).unwrap();
            let options = AppendOptions { acks: Acks::Leader };
            let batches = vec![batch.build().unwrap()];
            log.append(batches, options).await.unwrap();
        }
        let partitions = (0..2).map(|partition_index| ListOffsetsPartition {
            partition_index,
            timestamp: MAX_TIMESTAMP,
            ..ListOffsetsPartition::default()
        });
        let request = ListOffsetsRequest {
            topics: vec![ListOffsetsTopic {
                name: TOPIC.to_owned(),
                partitions: partitions.collect(),
            }],
            ..ListOffsetsRequest::default()
        };
        let (first, second) = (format!("{TOPIC}-0/"), format!("{TOPIC}-1/"));
        faults.plan(Op::Read, &first, Fault::Hang, 1);
        let session = connect(&broker);
        let looking = tokio::spawn(async move { exchange(&session, 7, &request).await });
        let deadline = Instant::now() + Duration::from_secs(20);
        while faults.calls(Op::Read, &second) == 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let is_free = faults.calls(Op::Read, &second) > 0;
        faults.heal();
        let (response, _) = looking.await.unwrap();
        assert!(is_free);
        for (partition, index) in response.topics[0].partitions.iter().zip(0..) {
            assert_eq!((partition.partition_index, partition.offset), (index, 0));
        }
    }
}
