//! AlterPartitionReassignments, ListPartitionReassignments. Partitions can be assigned only to this node, where they are, so
//! no reassignment is ever in progress.

use super::Call;
use super::refusal::{Refusal, error_fields};
use super::repetition::answer_each;
use super::replicas::check_replicas;
use crate::broker::{Broker, Operation, Resource};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopic, ReassignableTopicResponse,
};
use crate::protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

pub(super) async fn alter(
    call: Call,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let response = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        error_message: None,
        ..AlterPartitionReassignmentsResponse::default()
    };
    if let Err(code) = call.authorize(Operation::Alter, Resource::Cluster) {
        let (error_code, error_message) = error_fields(Some(Refusal::denied(code)));
        return AlterPartitionReassignmentsResponse {
            error_code,
            error_message,
            ..response
        };
    }
    let responses = request
        .topics
        .into_iter()
        .map(|topic| reassign(&call.broker, topic));
    AlterPartitionReassignmentsResponse {
        responses: responses.collect(),
        ..response
    }
}

fn reassign(broker: &Broker, asked: ReassignableTopic) -> ReassignableTopicResponse {
    let topic = broker.topics.get(&asked.name);
    let answer = |partition: &ReassignablePartition| {
        let index = partition.partition_index;
        let exists = topic
            .as_ref()
            .is_some_and(|topic| topic.partition(index).is_some());
        let (error_code, error_message) = match (exists, &partition.replicas) {
            (false, _) => (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None),
            (true, None) => (ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, None),
            (true, Some(replicas)) => error_fields(check_replicas(replicas).err()),
        };
        ReassignablePartitionResponse {
            partition_index: index,
            error_code,
            error_message,
        }
    };
    ReassignableTopicResponse {
        partitions: answer_each(
            asked.partitions,
            |partition| partition.partition_index,
            answer,
            |answer| answer.error_message.as_ref().map_or(0, String::len),
            |partition| ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code: ErrorCode::INVALID_REQUEST,
                error_message: None,
            },
        ),
        name: asked.name,
    }
}

pub(super) async fn list(
    call: Call,
    _: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let denied = call.authorize(Operation::Describe, Resource::Cluster);
    let (error_code, error_message) = error_fields(denied.map_err(Refusal::denied).err());
    ListPartitionReassignmentsResponse {
        error_code,
        error_message,
        ..ListPartitionReassignmentsResponse::default()
    }
}
