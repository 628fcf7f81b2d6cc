//! DescribeLogDirs: reports the sizes of partitions and the space of the data directory's volume.

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
    let data_dir = &call.broker.config.data_dir;
    // −1 means unknown, if the volume cannot be queried.
    let volume = rustix::fs::statvfs(data_dir).ok();
    let bytes = |blocks: Option<u64>, size: u64| match blocks {
        Some(blocks) => i64::try_from(blocks.saturating_mul(size)).unwrap_or(i64::MAX),
        None => -1,
    };
    let block_bytes = volume.as_ref().map_or(0, |volume| volume.f_frsize);
    DescribeLogDirsResponse {
        results: vec![DescribeLogDirsResult {
            log_dir: std::path::absolute(data_dir)
                .unwrap_or_else(|_| data_dir.clone())
                .display()
                .to_string(),
            topics,
            total_bytes: bytes(volume.as_ref().map(|each| each.f_blocks), block_bytes),
            usable_bytes: bytes(volume.as_ref().map(|each| each.f_bavail), block_bytes),
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
                partition_size: i64::try_from(partition.size_bytes()).unwrap_or(i64::MAX),
                ..DescribeLogDirsPartition::default()
            })
            .collect(),
    }
}
