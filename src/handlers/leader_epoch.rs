//! OffsetForLeaderEpoch: returns the end offset of a leader epoch, by which consumers detect a truncated log.

use std::sync::Arc;

use super::{Call, error, lookup};
use crate::broker::{Operation, Resource};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use crate::storage::PartitionLog;

pub(super) async fn handle(
    call: Call,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    // Kafka's permission for brokers, and then the one for consumers (KIP-320).
    let may_see_all = call.allows(Operation::ClusterAction, Resource::Cluster);
    let topics = request.topics.into_iter().map(|asked| {
        let topic = match may_see_all {
            true => lookup::authorized_topic(&call, &asked.topic),
            false => lookup::topic_by_name(&call, Operation::Describe, &asked.topic),
        };
        let partitions = asked
            .partitions
            .iter()
            .map(|each| answer(each, lookup::partition(&topic, each.partition)));
        OffsetForLeaderTopicResult {
            partitions: partitions.collect(),
            topic: asked.topic.clone(),
        }
    });
    OffsetForLeaderEpochResponse {
        topics: topics.collect(),
        ..OffsetForLeaderEpochResponse::default()
    }
}

fn answer(
    asked: &OffsetForLeaderPartition,
    partition: Result<Arc<dyn PartitionLog>, ErrorCode>,
) -> EpochEndOffset {
    let found = partition.and_then(|partition| {
        lookup::check_leader_epoch(&*partition, asked.current_leader_epoch)?;
        partition
            .end_offset_for_epoch(asked.leader_epoch)
            .map_err(|error| error::of_storage(&error))
    });
    let response = EpochEndOffset {
        partition: asked.partition,
        ..EpochEndOffset::default()
    };
    match found {
        Ok((leader_epoch, end_offset)) => EpochEndOffset {
            leader_epoch,
            end_offset,
            ..response
        },
        Err(error_code) => EpochEndOffset {
            error_code,
            ..response
        },
    }
}
