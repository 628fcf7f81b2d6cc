//! DescribeLogDirs: reports the sizes of partitions and the space of the volume that stores them.

use std::collections::HashSet;

use super::Call;
use crate::broker::{Broker, Operation, Resource};
use crate::protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::storage::Topic;

pub(super) async fn handle(call: Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
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
                Some(describe(&topic, |index| partitions.contains(&index)))
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

fn all_topics(broker: &Broker) -> Vec<DescribeLogDirsTopic> {
    let topics = broker.topics.list();
    topics
        .iter()
        .map(|topic| describe(topic, |_| true))
        .collect()
}

fn describe(topic: &Topic, is_asked: impl Fn(i32) -> bool) -> DescribeLogDirsTopic {
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
