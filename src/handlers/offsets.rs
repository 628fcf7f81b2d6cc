//! Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::{self, Display};
use std::iter::repeat;

use uuid::Uuid;

use super::audit::{Audit, Change, Name};
use super::repetition::Repetitions;
use super::{Call, Session, error, lookup};
use crate::broker::{Operation, Resource};
use crate::catalog::{CommittedOffset, TopicPartition};
use crate::coordinator::group::{CommitOffsets, GroupError, MemberIdentity, OffsetToCommit};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestTopic, OffsetDeleteResponse,
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestTopics, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};

/// The first version of OffsetFetch with several groups.
const FETCH_BATCHED_FROM: i16 = 8;

/// The first version of OffsetCommit and OffsetFetch with topics by id instead of by name.
const TOPIC_IDS_FROM: i16 = 10;

/// Retention of OffsetCommit that requests the server's.
const DEFAULT_RETENTION: i64 = -1;

pub(super) async fn commit(call: Call, mut request: OffsetCommitRequest) -> OffsetCommitResponse {
    if let Err(code) = call.authorize(Operation::Read, Resource::Group(&request.group_id)) {
        return not_committed(request.topics, code);
    }
    let unknown = match call.version >= TOPIC_IDS_FROM {
        true => name_topics(&call, &mut request.topics),
        false => Vec::new(),
    };
    let denied = call.split_denied(Operation::Read, &mut request.topics, |topic| &topic.name);
    if unknown.is_empty() && denied.is_empty() {
        return commit_authorized(&call, request).await;
    }
    let mut response = not_committed(unknown, ErrorCode::UNKNOWN_TOPIC_ID);
    let denied = not_committed(denied, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    response.topics.extend(denied.topics);
    if !request.topics.is_empty() {
        let committed = commit_authorized(&call, request).await;
        response.topics.extend(committed.topics);
    }
    response
}

/// Sets the names of topics that a request gives by id. Removes those with an unknown id, and returns them.
fn name_topics(
    call: &Call,
    topics: &mut Vec<OffsetCommitRequestTopic>,
) -> Vec<OffsetCommitRequestTopic> {
    let is_unknown = |topic: &mut OffsetCommitRequestTopic| {
        let found = call.broker.topics.get_by_id(topic.topic_id);
        topic.name = found
            .as_ref()
            .map_or_else(String::new, |it| it.name().to_string());
        found.is_none()
    };
    topics.extract_if(.., is_unknown).collect()
}

async fn commit_authorized(call: &Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let commit = CommitOffsets {
        group_id: request.group_id.clone(),
        member: MemberIdentity {
            member_id: request.member_id,
            group_instance_id: request.group_instance_id,
            generation: request.generation_id_or_member_epoch,
        },
        retention_ms: Some(request.retention_time_ms).filter(|ms| *ms != DEFAULT_RETENTION),
        offsets: offsets_to_commit(&request.topics),
    };
    // Commits of members are routine; only others are audited.
    let audited = (commit.member.generation < 0)
        .then(|| AuditedCommit::begin(call, &request.group_id, &request.topics));
    let committed = call.broker.groups.commit_offsets(commit).await;
    if let Some(audited) = audited {
        audited.end(call, committed.as_deref().unwrap_or_default());
    }
    match committed {
        Ok(answers) => {
            let answers = answers.iter().map(error::of_group_result);
            committed_response(request.topics, answers)
        }
        Err(refusal) => not_committed(request.topics, error::of_commit(&refusal, call.version)),
    }
}

fn not_committed(topics: Vec<OffsetCommitRequestTopic>, code: ErrorCode) -> OffsetCommitResponse {
    committed_response(topics, repeat(code))
}

/// A committed offset before and after a change; `None` if absent.
struct OffsetMove<'a> {
    topic: &'a str,
    partition: i32,
    from: Option<i64>,
    to: Option<i64>,
}

impl<'a> OffsetMove<'a> {
    /// Creates a change from the offset committed now.
    fn of(
        call: &Call,
        group_id: &str,
        topic: &'a str,
        partition: i32,
        to: Option<i64>,
    ) -> OffsetMove<'a> {
        let committed = call
            .broker
            .groups
            .committed_offset(group_id, topic, partition);
        OffsetMove {
            topic,
            partition,
            from: committed.map(|it| it.offset),
            to,
        }
    }
}

impl Display for OffsetMove<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = Change(self.from, self.to);
        write!(f, "{}-{} {change}", Name(self.topic), self.partition)
    }
}

/// Audit of a commit by a client that is not a member of the group: an operator's tool that sets offsets, or a consumer
/// without group management.
///
/// The two cannot always be distinguished. Commits of such a consumer only advance, in a group that never had members;
/// these are logged once a minute.
struct AuditedCommit<'a> {
    audit: Audit,
    group_id: &'a str,
    moves: Vec<OffsetMove<'a>>,
    is_progress: bool,
}

impl<'a> AuditedCommit<'a> {
    fn begin(call: &Call, group_id: &'a str, topics: &'a [OffsetCommitRequestTopic]) -> Self {
        let moves: Vec<_> = topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(move |it| (&*topic.name, it)))
            .map(|(topic, it)| {
                let to = Some(it.committed_offset);
                OffsetMove::of(call, group_id, topic, it.partition_index, to)
            })
            .collect();
        let had_members = call
            .broker
            .groups
            .describe(group_id)
            .is_some_and(|group| !group.protocol_type.is_empty());
        let is_progress = !had_members && moves.iter().all(|it| it.from <= it.to);
        let mut audit = call.audit("offsets set").of_group(group_id);
        if !is_progress {
            moves.iter().for_each(|it| audit.list(it));
        }
        Self {
            audit,
            group_id,
            moves,
            is_progress,
        }
    }

    /// Lists the offsets that were changed. `answers` is empty if the commit was refused as a whole.
    fn end(mut self, call: &Call, answers: &[Result<(), GroupError>]) {
        self.audit.clear();
        let mut changed = self
            .moves
            .iter()
            .zip(answers)
            .filter(|(it, answer)| answer.is_ok() && it.from != it.to)
            .peekable();
        if self.is_progress && changed.peek().is_some() {
            let consumer = (self.group_id.to_owned(), call.peer.ip());
            let now = call.broker.clock.monotonic();
            match call.broker.logged_commits.allow(consumer, now) {
                Some(silenced) => self.audit.after_silence(silenced),
                None => return,
            }
        }
        changed.for_each(|(it, _)| self.audit.list(it));
    }
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

/// Builds the response from the error codes of the partitions, in the order of the request.
fn committed_response(
    topics: Vec<OffsetCommitRequestTopic>,
    mut answers: impl Iterator<Item = ErrorCode>,
) -> OffsetCommitResponse {
    let topics = topics
        .into_iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name,
            topic_id: topic.topic_id,
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
    let mut fetcher = Fetcher::new(&call, request.require_stable);
    if call.version >= FETCH_BATCHED_FROM {
        let groups = request.groups.into_iter().map(|asked| {
            let (topics, error_code) =
                error_fields(fetcher.of_group(&asked.group_id, asked.topics));
            OffsetFetchResponseGroup {
                group_id: asked.group_id,
                topics,
                error_code,
            }
        });
        return OffsetFetchResponse {
            groups: groups.collect(),
            ..OffsetFetchResponse::default()
        };
    }
    let (topics, error_code) = error_fields(fetcher.of_group(&request.group_id, request.topics));
    OffsetFetchResponse {
        topics,
        error_code,
        ..OffsetFetchResponse::default()
    }
}

type FetchedTopics = Vec<OffsetFetchResponseTopics>;

fn error_fields(fetched: Result<FetchedTopics, ErrorCode>) -> (FetchedTopics, ErrorCode) {
    match fetched {
        Ok(topics) => (topics, ErrorCode::NONE),
        Err(refusal) => (Vec::new(), refusal),
    }
}

/// Groups and partitions that one request has named so far, to bound repetitions.
struct Fetcher<'a> {
    session: &'a Session,
    /// The request gives topics by id.
    by_id: bool,
    repetitions: Repetitions,
    /// Groups of which all offsets were requested.
    whole: HashSet<String>,
    /// Partitions that were named, by group and topic.
    named: HashMap<String, HashMap<String, HashSet<i32>>>,
    /// Offsets that an open transaction will commit are refused instead of answered with the previous commit.
    requires_stable: bool,
}

impl<'a> Fetcher<'a> {
    fn new(call: &'a Call, requires_stable: bool) -> Self {
        Self {
            session: call,
            by_id: call.version >= TOPIC_IDS_FROM,
            requires_stable,
            repetitions: Repetitions::default(),
            whole: HashSet::new(),
            named: HashMap::new(),
        }
    }

    /// Answers one entry: all offsets of the group, or those of the topics that it names.
    fn of_group(
        &mut self,
        group_id: &str,
        wanted: Option<Vec<OffsetFetchRequestTopics>>,
    ) -> Result<FetchedTopics, ErrorCode> {
        self.session
            .authorize(Operation::Describe, Resource::Group(group_id))?;
        let Some(wanted) = wanted else {
            let unstable = self.unstable(group_id);
            let all = || all_of_group(self.session, group_id, self.by_id, &unstable);
            if self.whole.insert(group_id.to_owned()) {
                return Ok(all());
            }
            let repeated = self.repetitions.repeat(all, size_of_topics);
            return repeated.ok_or(ErrorCode::INVALID_REQUEST);
        };
        let unstable = self.unstable(group_id);
        let topics = wanted
            .into_iter()
            .map(|topic| self.of_topic(group_id, topic, &unstable));
        Ok(topics.collect())
    }

    /// Returns the group's partitions whose offsets are refused.
    fn unstable(&self, group_id: &str) -> BTreeSet<TopicPartition> {
        match self.requires_stable {
            true => self.session.broker.groups.pending_offsets(group_id),
            false => BTreeSet::new(),
        }
    }

    /// Answers with −1 where there is no offset, also for groups, topics and partitions that do not exist.
    fn of_topic(
        &mut self,
        group_id: &str,
        mut topic: OffsetFetchRequestTopics,
        unstable: &BTreeSet<TopicPartition>,
    ) -> OffsetFetchResponseTopics {
        if let Err(error_code) = self.find(&mut topic) {
            let refuse = |index: &i32| not_fetched(*index, error_code);
            return OffsetFetchResponseTopics {
                partitions: topic.partition_indexes.iter().map(refuse).collect(),
                name: topic.name,
                topic_id: topic.topic_id,
            };
        }
        let named = self.named.entry(group_id.to_owned()).or_default();
        let named = named.entry(topic.name.clone()).or_default();
        let is_unstable =
            |index| !unstable.is_empty() && unstable.contains(&(topic.name.clone(), index));
        let partitions = topic.partition_indexes.iter().map(|&index| {
            if is_unstable(index) {
                return not_fetched(index, ErrorCode::UNSTABLE_OFFSET_COMMIT);
            }
            let groups = &self.session.broker.groups;
            let committed = groups.committed_offset(group_id, &topic.name, index);
            // Apart from the metadata, an answer is hardly larger than the index in the request.
            let metadata_bytes = committed.as_ref().map_or(0, |it| it.metadata.len());
            if named.insert(index) || metadata_bytes == 0 {
                return fetched(index, committed);
            }
            self.repetitions
                .repeat(|| fetched(index, committed), |_| metadata_bytes)
                .unwrap_or_else(|| not_fetched(index, ErrorCode::INVALID_REQUEST))
        });
        OffsetFetchResponseTopics {
            partitions: partitions.collect(),
            name: topic.name,
            topic_id: topic.topic_id,
        }
    }

    /// Sets the name of a topic that is given by id, and checks that the client may describe it.
    fn find(&self, topic: &mut OffsetFetchRequestTopics) -> Result<(), ErrorCode> {
        if !self.by_id {
            let resource = Resource::Topic(&topic.name);
            return self.session.authorize(Operation::Describe, resource);
        }
        let found = lookup::topic_by_id(self.session, Operation::Describe, topic.topic_id)?;
        topic.name = found.name().to_string();
        Ok(())
    }
}

fn size_of_topics(topics: &FetchedTopics) -> usize {
    let size = |topic: &OffsetFetchResponseTopics| {
        let partitions = topic.partitions.iter().map(|partition| {
            let metadata = partition.metadata.as_ref().map_or(0, String::len);
            size_of::<OffsetFetchResponsePartitions>() + metadata
        });
        size_of::<OffsetFetchResponseTopics>() + topic.name.len() + partitions.sum::<usize>()
    };
    topics.iter().map(size).sum()
}

/// Returns all offsets of a group, without those of topics that the client may not describe.
fn all_of_group(
    session: &Session,
    group_id: &str,
    by_id: bool,
    unstable: &BTreeSet<TopicPartition>,
) -> Vec<OffsetFetchResponseTopics> {
    let committed = session.broker.groups.committed_offsets(group_id);
    committed
        .into_iter()
        .filter(|(name, _)| session.allows(Operation::Describe, Resource::Topic(name)))
        .filter_map(|(name, partitions)| {
            let topic_id = match by_id {
                // Without an id, the topic was deleted just now.
                true => session.broker.topics.get(&name)?.id(),
                false => Uuid::nil(),
            };
            let partitions = partitions.into_iter().map(|(index, committed)| {
                match unstable.contains(&(name.clone(), index)) {
                    true => not_fetched(index, ErrorCode::UNSTABLE_OFFSET_COMMIT),
                    false => fetched(index, Some(committed)),
                }
            });
            Some(OffsetFetchResponseTopics {
                partitions: partitions.collect(),
                name,
                topic_id,
            })
        })
        .collect()
}

fn not_fetched(index: i32, error_code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        error_code,
        ..fetched(index, None)
    }
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

pub(super) async fn delete(call: Call, mut request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let group = Resource::Group(&request.group_id);
    if let Err(code) = call.authorize(Operation::Delete, group) {
        return not_deleted(code);
    }
    let denied = call.split_denied(Operation::Read, &mut request.topics, |topic| &topic.name);
    if denied.is_empty() {
        return delete_authorized(&call, request).await;
    }
    let refused = repeat(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let mut response = OffsetDeleteResponse {
        topics: deleted_topics(denied, refused),
        ..OffsetDeleteResponse::default()
    };
    if !request.topics.is_empty() {
        let deleted = delete_authorized(&call, request).await;
        if deleted.error_code != ErrorCode::NONE {
            return deleted;
        }
        response.topics.extend(deleted.topics);
    }
    response
}

fn not_deleted(error_code: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse {
        error_code,
        ..OffsetDeleteResponse::default()
    }
}

async fn delete_authorized(call: &Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let group_id = &request.group_id;
    let moves: Vec<_> = request
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(move |it| (&*topic.name, it)))
        .map(|(topic, it)| OffsetMove::of(call, group_id, topic, it.partition_index, None))
        .collect();
    let partitions = moves
        .iter()
        .map(|it| (it.topic.to_owned(), it.partition))
        .collect();
    // Listed before the deletion, which completes even if this future is dropped, and corrected by its results.
    let mut audit = call.audit("offsets deleted").of_group(group_id);
    moves.iter().for_each(|it| audit.list(it));
    let deleted = call
        .broker
        .groups
        .delete_offsets(group_id, partitions)
        .await;
    audit.clear();
    for (it, answer) in moves.iter().zip(deleted.as_deref().unwrap_or_default()) {
        if answer.is_ok() && it.from.is_some() {
            audit.list(it);
        }
    }
    match deleted {
        Ok(answers) => OffsetDeleteResponse {
            topics: deleted_topics(request.topics, answers.iter().map(error::of_group_result)),
            ..OffsetDeleteResponse::default()
        },
        Err(refusal) => not_deleted(error::of_group(&refusal)),
    }
}

/// Pairs the partitions with the error codes, in the order of the request.
fn deleted_topics(
    topics: Vec<OffsetDeleteRequestTopic>,
    mut answers: impl Iterator<Item = ErrorCode>,
) -> Vec<OffsetDeleteResponseTopic> {
    topics
        .into_iter()
        .map(|topic| OffsetDeleteResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .zip(answers.by_ref())
                .map(|(partition, error_code)| OffsetDeleteResponsePartition {
                    partition_index: partition.partition_index,
                    error_code,
                })
                .collect(),
        })
        .collect()
}
