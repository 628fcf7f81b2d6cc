//! DescribeLogDirs, AlterReplicaLogDirs. There is one directory, which has all partitions.

use std::collections::HashSet;

use super::Call;
use crate::broker::{Broker, Operation, Resource};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::alter_replica_log_dirs::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
};
use crate::protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::storage::Topic;

pub(super) async fn describe(
    call: Call,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    if let Err(error_code) = call.authorize(Operation::Describe, Resource::Cluster) {
        return DescribeLogDirsResponse {
            error_code,
            ..DescribeLogDirsResponse::default()
        };
    }
    let topics = match request.topics {
        None => all_topics(&call.broker),
        Some(asked) => asked
            .iter()
            .filter_map(|asked| {
                let topic = call.broker.topics.get(&asked.topic)?;
                let partitions: HashSet<i32> = asked.partitions.iter().copied().collect();
                Some(describe_topic(&topic, |index| partitions.contains(&index)))
            })
            .filter(|topic| !topic.partitions.is_empty())
            .collect(),
    };
    let volume = call.broker.topics.volume();
    // −1 means unknown.
    let bytes = |bytes: Option<u64>| match bytes {
        Some(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
        None => -1,
    };
    DescribeLogDirsResponse {
        results: vec![DescribeLogDirsResult {
            log_dir: volume.name,
            topics,
            total_bytes: bytes(volume.total_bytes),
            usable_bytes: bytes(volume.usable_bytes),
            ..DescribeLogDirsResult::default()
        }],
        ..DescribeLogDirsResponse::default()
    }
}

/// Moves partitions to another directory: to the one where they are, which is done already.
pub(super) async fn alter(
    call: Call,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let denied = call.authorize(Operation::Alter, Resource::Cluster).err();
    let topics = &call.broker.topics;
    let own = topics.volume().name;
    let mut results = Vec::new();
    for dir in request.dirs {
        for asked in dir.topics {
            let topic = topics.get(&asked.name);
            let move_to = |partition_index: &i32| {
                let exists = topic
                    .as_ref()
                    .is_some_and(|topic| topic.partition(*partition_index).is_some());
                let error_code = match (denied, dir.path == own) {
                    (Some(denied), _) => denied,
                    (None, false) => ErrorCode::LOG_DIR_NOT_FOUND,
                    (None, true) if !exists => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    (None, true) => ErrorCode::NONE,
                };
                AlterReplicaLogDirPartitionResult {
                    partition_index: *partition_index,
                    error_code,
                }
            };
            results.push(AlterReplicaLogDirTopicResult {
                partitions: asked.partitions.iter().map(move_to).collect(),
                topic_name: asked.name,
            });
        }
    }
    AlterReplicaLogDirsResponse {
        results,
        ..AlterReplicaLogDirsResponse::default()
    }
}

fn all_topics(broker: &Broker) -> Vec<DescribeLogDirsTopic> {
    let topics = broker.topics.list();
    topics
        .iter()
        .map(|topic| describe_topic(topic, |_| true))
        .collect()
}

fn describe_topic(topic: &Topic, is_asked: impl Fn(i32) -> bool) -> DescribeLogDirsTopic {
    let partitions = topic.partitions();
    DescribeLogDirsTopic {
        name: topic.name().to_string(),
        partitions: (0..)
            .zip(partitions.iter())
            .filter(|(index, _)| is_asked(*index))
            .map(|(partition_index, partition)| DescribeLogDirsPartition {
                partition_index,
                partition_size: i64::try_from(partition.snapshot().size_bytes).unwrap_or(i64::MAX),
                ..DescribeLogDirsPartition::default()
            })
            .collect(),
    }
}
