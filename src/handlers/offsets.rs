//! Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete.

use super::repetition::{merged, once_each};
use super::{Call, error};
use crate::broker::Broker;
use crate::catalog::CommittedOffset;
use crate::coordinator::group::{CommitOffsets, GroupError, MemberIdentity, OffsetToCommit};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};

/// Clients understand that a group does not exist; earlier ones are told that their generation is not current.
const GROUP_NOT_FOUND_FROM: i16 = 9;
/// OffsetFetch asks for several groups at once.
const FETCH_BATCHED_FROM: i16 = 8;

/// What OffsetCommit's retention says when the server's shall count.
const DEFAULT_RETENTION: i64 = -1;

pub(super) async fn commit(call: Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let commit = CommitOffsets {
        group_id: request.group_id,
        member: MemberIdentity {
            member_id: request.member_id,
            group_instance_id: request.group_instance_id,
            generation: request.generation_id_or_member_epoch,
        },
        retention_ms: Some(request.retention_time_ms).filter(|ms| *ms != DEFAULT_RETENTION),
        offsets: offsets_to_commit(&request.topics),
    };
    let answers = match call.broker.groups.commit_offsets(commit).await {
        Ok(answers) => answers.iter().map(error::of_group_result).collect(),
        Err(refusal) => {
            let error_code = match refusal {
                GroupError::GroupIdNotFound if call.version < GROUP_NOT_FOUND_FROM => {
                    ErrorCode::ILLEGAL_GENERATION
                }
                refusal => error::of_group(&refusal),
            };
            let partitions = request.topics.iter().map(|topic| topic.partitions.len());
            vec![error_code; partitions.sum()]
        }
    };
    committed_response(request.topics, answers)
}

fn offsets_to_commit(topics: &[OffsetCommitRequestTopic]) -> Vec<OffsetToCommit> {
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

/// Gives each partition, in the order of the request, its answer.
fn committed_response(
    topics: Vec<OffsetCommitRequestTopic>,
    answers: Vec<ErrorCode>,
) -> OffsetCommitResponse {
    let mut answers = answers.into_iter();
    let topics = topics
        .into_iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .zip(answers.by_ref())
                .map(|(partition, error_code)| OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code,
                })
                .collect(),
        })
        .collect();
    OffsetCommitResponse {
        topics,
        ..OffsetCommitResponse::default()
    }
}

pub(super) async fn fetch(call: Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if call.version >= FETCH_BATCHED_FROM {
        let groups = each_group_once(request.groups)
            .into_iter()
            .map(|group| OffsetFetchResponseGroup {
                topics: fetch_of_group(&call.broker, &group.group_id, group.topics),
                group_id: group.group_id,
                ..OffsetFetchResponseGroup::default()
            })
            .collect();
        return OffsetFetchResponse {
            groups,
            ..OffsetFetchResponse::default()
        };
    }
    OffsetFetchResponse {
        topics: fetch_of_group(&call.broker, &request.group_id, request.topics),
        ..OffsetFetchResponse::default()
    }
}

/// Each group once, with all that is asked of it.
fn each_group_once(asked: Vec<OffsetFetchRequestGroup>) -> Vec<OffsetFetchRequestGroup> {
    merged(
        asked,
        |group| group.group_id.clone(),
        |known, group| {
            // Asking for all of it once is asking for all.
            known.topics = known
                .topics
                .take()
                .zip(group.topics)
                .map(|(mut topics, more)| {
                    topics.extend(more);
                    topics
                });
        },
    )
}

/// Each topic once, with each of its partitions once.
fn each_partition_once(asked: Vec<OffsetFetchRequestTopics>) -> Vec<OffsetFetchRequestTopics> {
    let mut topics = merged(
        asked,
        |topic| topic.name.clone(),
        |known, topic| known.partition_indexes.extend(topic.partition_indexes),
    );
    for topic in &mut topics {
        topic.partition_indexes = once_each(std::mem::take(&mut topic.partition_indexes), |it| *it);
    }
    topics
}

/// The group's offsets for what is wanted, or all. Where there is none the answer is −1, also for groups, topics and
/// partitions that do not exist.
fn fetch_of_group(
    broker: &Broker,
    group_id: &str,
    wanted: Option<Vec<OffsetFetchRequestTopics>>,
) -> Vec<OffsetFetchResponseTopics> {
    let Some(wanted) = wanted else {
        return all_of_group(broker, group_id);
    };
    each_partition_once(wanted)
        .into_iter()
        .map(|topic| OffsetFetchResponseTopics {
            partitions: topic
                .partition_indexes
                .iter()
                .map(|&index| {
                    let groups = &broker.groups;
                    fetched(index, groups.committed_offset(group_id, &topic.name, index))
                })
                .collect(),
            name: topic.name,
        })
        .collect()
}

fn all_of_group(broker: &Broker, group_id: &str) -> Vec<OffsetFetchResponseTopics> {
    broker
        .groups
        .committed_offsets(group_id)
        .into_iter()
        .map(|(name, partitions)| OffsetFetchResponseTopics {
            name,
            partitions: partitions
                .into_iter()
                .map(|(index, committed)| fetched(index, Some(committed)))
                .collect(),
        })
        .collect()
}

fn fetched(
    partition_index: i32,
    committed: Option<CommittedOffset>,
) -> OffsetFetchResponsePartitions {
    let response = OffsetFetchResponsePartitions {
        partition_index,
        ..OffsetFetchResponsePartitions::default()
    };
    match committed {
        Some(committed) => OffsetFetchResponsePartitions {
            committed_offset: committed.offset,
            committed_leader_epoch: committed.leader_epoch,
            metadata: Some(committed.metadata),
            ..response
        },
        None => OffsetFetchResponsePartitions {
            committed_offset: -1,
            ..response
        },
    }
}

pub(super) async fn delete(call: Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let partitions = request
        .topics
        .iter()
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|partition| (topic.name.clone(), partition.partition_index))
        })
        .collect();
    let deleted = call
        .broker
        .groups
        .delete_offsets(&request.group_id, partitions)
        .await;
    let answers = match deleted {
        Ok(answers) => answers,
        Err(refusal) => {
            return OffsetDeleteResponse {
                error_code: error::of_group(&refusal),
                ..OffsetDeleteResponse::default()
            };
        }
    };
    let mut answers = answers.iter();
    let topics = request
        .topics
        .into_iter()
        .map(|topic| OffsetDeleteResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .zip(answers.by_ref())
                .map(|(partition, answer)| OffsetDeleteResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error::of_group_result(answer),
                })
                .collect(),
        })
        .collect();
    OffsetDeleteResponse {
        topics,
        ..OffsetDeleteResponse::default()
    }
}
