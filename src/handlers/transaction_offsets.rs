//! TxnOffsetCommit: offsets of a group that a transaction commits.

use std::iter::repeat;

use super::{Call, error};
use crate::broker::{Operation, Resource};
use crate::coordinator::group::{CommitOffsets, MemberIdentity, OffsetToCommit};
use crate::coordinator::transaction::ProducerIdentity;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestTopic, TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};

/// The first version with which a producer may omit AddOffsetsToTxn.
const ADDS_GROUP_FROM: i16 = 5;

pub(super) async fn commit(
    call: Call,
    mut request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let id = Resource::TransactionalId(&request.transactional_id);
    let authorized = call
        .authorize(Operation::Write, id)
        .and_then(|()| call.authorize(Operation::Read, Resource::Group(&request.group_id)));
    if let Err(code) = authorized {
        return respond(request.topics, repeat(code));
    }
    let denied = call.split_denied(Operation::Read, &mut request.topics, |topic| &topic.name);
    let mut response = respond(denied, repeat(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    if !request.topics.is_empty() {
        let committed = commit_authorized(&call, request).await;
        response.topics.extend(committed.topics);
    }
    response
}

async fn commit_authorized(
    call: &Call,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let producer = ProducerIdentity {
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
    };
    let commit = CommitOffsets {
        group_id: request.group_id,
        member: MemberIdentity {
            member_id: request.member_id,
            group_instance_id: request.group_instance_id,
            generation: request.generation_id,
        },
        retention_ms: None,
        offsets: offsets_to_commit(&request.topics),
    };
    let broker = &call.broker;
    let adds_group = call.version >= ADDS_GROUP_FROM;
    let id = &request.transactional_id;
    let committed =
        broker
            .transactions
            .commit_offsets(id, producer, &broker.groups, commit, adds_group);
    match committed.await {
        Ok(answers) => respond(request.topics, answers.iter().map(error::of_group_result)),
        Err(refusal) => {
            let code = error::of_transactional_commit(&refusal, call.version);
            respond(request.topics, repeat(code))
        }
    }
}

fn offsets_to_commit(topics: &[TxnOffsetCommitRequestTopic]) -> Vec<OffsetToCommit> {
    topics
        .iter()
        .flat_map(|topic| {
            topic.partitions.iter().map(|partition| OffsetToCommit {
                topic: topic.name.clone(),
                partition: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.clone().unwrap_or_default(),
            })
        })
        .collect()
}

/// Builds the response from the error codes of the partitions, in the order of the request.
fn respond(
    topics: Vec<TxnOffsetCommitRequestTopic>,
    mut codes: impl Iterator<Item = ErrorCode>,
) -> TxnOffsetCommitResponse {
    let topics = topics
        .into_iter()
        .map(|topic| TxnOffsetCommitResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .zip(codes.by_ref())
                .map(|(partition, error_code)| TxnOffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code,
                })
                .collect(),
        });
    TxnOffsetCommitResponse {
        topics: topics.collect(),
        ..TxnOffsetCommitResponse::default()
    }
}
