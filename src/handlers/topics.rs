//! CreateTopics, DeleteTopics, CreatePartitions.
//!
//! Topics of a request are independent. The request's timeout is for other brokers and not needed here: a topic is on disk
//! before the response is sent.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::audit::{Audit, Change, Name};
use super::refusal::{Refusal, error_fields};
use super::repetition::once_each;
use super::replicas::check_replicas;
use super::{Call, configs};
use crate::broker::{NewTopic, Operation, Resource, TopicError};
use crate::config::TopicConfig;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use crate::protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use crate::protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use crate::storage::Topic;

/// Event of the audit log for created topics.
pub(super) const TOPICS_CREATED: &str = "topics created";

/// Requests the broker's default.
const BROKER_DEFAULT: i32 = -1;

/// Largest number of topics in one request, the same as Kafka's. The response is a thousand times as large as a topic's
/// name, and with validate_only a name costs its sender nothing else.
const CREATED_AT_ONCE_MAX: usize = 10_000;

/// Largest number of partitions that one request creates, the same as Kafka's.
const PARTITIONS_AT_ONCE_MAX: i64 = 10_000;
/// The first versions whose clients know the error of an exhausted quota (KIP-599).
const CREATE_STRICT_FROM: i16 = 6;
const DELETE_STRICT_FROM: i16 = 5;
const PARTITIONS_STRICT_FROM: i16 = 3;

/// The first version that deletes topics by id too.
const DELETE_BY_ID_FROM: i16 = 6;

pub(super) async fn create(call: Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    if request.topics.len() > CREATED_AT_ONCE_MAX {
        let limit = format!("a request can create at most {CREATED_AT_ONCE_MAX} topics");
        return too_many(request, &limit);
    }
    if partitions_asked(&request, call.broker.config.default_partitions) > PARTITIONS_AT_ONCE_MAX {
        return too_many(request, &partitions_at_once());
    }
    let repeated = repeated(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut audit = call.audit(TOPICS_CREATED).unless(request.validate_only);
    // Each repeated name is refused once.
    let mut answered = HashSet::new();
    for asked in request.topics {
        if request.validate_only {
            // Each check compares with all existing topics, so other tasks get a turn in between.
            tokio::task::yield_now().await;
        }
        let name = asked.name.clone();
        let created = if !repeated.contains(&name) {
            create_one(&call, asked, request.validate_only, &mut audit).await
        } else if answered.insert(name.clone()) {
            Err(repeated_name(&name))
        } else {
            continue;
        };
        topics.push(match created {
            Ok(result) => result,
            Err(Refusal { code, message }) => CreatableTopicResult {
                name,
                error_code: code,
                error_message: Some(message),
                ..CreatableTopicResult::default()
            },
        });
    }
    CreateTopicsResponse {
        topics,
        ..CreateTopicsResponse::default()
    }
}

fn partitions_at_once() -> String {
    format!("a request can create at most {PARTITIONS_AT_ONCE_MAX} partitions")
}

/// Returns the number of partitions that a request would create, invalid numbers aside.
fn partitions_asked(request: &CreateTopicsRequest, default: i32) -> i64 {
    let of_topic = |topic: &CreatableTopic| match topic.num_partitions {
        _ if !topic.assignments.is_empty() => topic.assignments.len() as i64,
        BROKER_DEFAULT => i64::from(default),
        number => i64::from(number.max(0)),
    };
    request.topics.iter().map(of_topic).sum()
}

fn too_many(request: CreateTopicsRequest, limit: &str) -> CreateTopicsResponse {
    let refused = request
        .topics
        .into_iter()
        .map(|asked| CreatableTopicResult {
            name: asked.name,
            error_code: ErrorCode::POLICY_VIOLATION,
            error_message: Some(limit.to_owned()),
            ..CreatableTopicResult::default()
        });
    CreateTopicsResponse {
        topics: refused.collect(),
        ..CreateTopicsResponse::default()
    }
}

async fn create_one(
    call: &Call,
    asked: CreatableTopic,
    validate_only: bool,
    audit: &mut Audit,
) -> Result<CreatableTopicResult, Refusal> {
    call.authorize_creation(&asked.name)
        .map_err(Refusal::denied)?;
    let broker = &call.broker;
    let partitions = partitions_of(&asked, broker.config.default_partitions)?;
    let new = NewTopic {
        partitions,
        configs: configs_of(&asked)?,
        name: asked.name,
    };
    if call.has_quotas() {
        // An invalid topic does not count.
        broker.check_new_topic(&new)?;
        call.mutate(partitions, CREATE_STRICT_FROM)?;
    }
    // With validate_only the topic id stays nil.
    let mut result = CreatableTopicResult {
        name: new.name.clone(),
        error_message: None,
        ..CreatableTopicResult::default()
    };
    let config: TopicConfig;
    if validate_only {
        config = broker.check_new_topic(&new)?;
    } else {
        let what = creation(&new);
        let topic = audit.attempt(what, broker.create_topic(new)).await?;
        result.topic_id = topic.id();
        config = TopicConfig::clone(&topic.config());
    }
    match call.authorize(Operation::DescribeConfigs, Resource::Topic(&result.name)) {
        Ok(()) => {
            result.num_partitions = partitions;
            result.replication_factor = 1;
            result.configs = Some(configs::created(&config, broker));
        }
        Err(code) => result.topic_config_error_code = code.code(),
    }
    Ok(result)
}

/// Describes the creation of a topic for the audit log.
pub(super) fn creation(new: &NewTopic) -> String {
    let mut what = format!("{} partitions={}", Name(&new.name), new.partitions);
    for (name, value) in &new.configs {
        what.push_str(&format!(" {}={}", Name(name), Name(value)));
    }
    what
}

/// Returns the number of partitions, given as a number or by assignments, which must all be to this node.
fn partitions_of(asked: &CreatableTopic, default: i32) -> Result<i32, Refusal> {
    if asked.assignments.is_empty() {
        if !matches!(asked.replication_factor, -1 | 1) {
            return Err(Refusal::new(
                ErrorCode::INVALID_REPLICATION_FACTOR,
                format!(
                    "invalid replication factor {}: there is 1 broker",
                    asked.replication_factor
                ),
            ));
        }
        return match asked.num_partitions {
            BROKER_DEFAULT => Ok(default),
            number => Ok(number),
        };
    }
    if asked.num_partitions != BROKER_DEFAULT || asked.replication_factor != -1 {
        return Err(Refusal::new(
            ErrorCode::INVALID_REQUEST,
            "partitions and replication factor must both be -1 if assignments are given",
        ));
    }
    check_assignments(&asked.assignments)
}

fn check_assignments(assignments: &[CreatableReplicaAssignment]) -> Result<i32, Refusal> {
    let wrong = |message: String| Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    let mut indexes: Vec<i32> = assignments
        .iter()
        .map(|each| each.partition_index)
        .collect();
    indexes.sort_unstable();
    if !indexes.iter().copied().eq(0..indexes.len() as i32) {
        return wrong("each partition must be assigned exactly once, counting from 0".to_owned());
    }
    for each in assignments {
        check_replicas(&each.broker_ids)?;
    }
    Ok(indexes.len() as i32)
}

fn configs_of(asked: &CreatableTopic) -> Result<BTreeMap<String, String>, Refusal> {
    let mut configs = BTreeMap::new();
    for config in &asked.configs {
        let Some(value) = &config.value else {
            return Err(Refusal::new(
                ErrorCode::INVALID_CONFIG,
                format!("config {} has no value", config.name),
            ));
        };
        configs.insert(config.name.clone(), value.clone());
    }
    Ok(configs)
}

pub(super) async fn delete(call: Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let asked: Vec<DeleteTopicState> = if call.version >= DELETE_BY_ID_FROM {
        request.topics
    } else {
        let by_name = |name| DeleteTopicState {
            name: Some(name),
            ..DeleteTopicState::default()
        };
        request.topic_names.into_iter().map(by_name).collect()
    };
    // Each topic once: a refusal is much longer than an empty name, of which a request can have millions.
    let asked = once_each(asked, |each| (each.name.clone(), each.topic_id));
    let mut responses = Vec::with_capacity(asked.len());
    let mut audit = call.audit("topics deleted");
    let may_delete_all = call.allows(Operation::Delete, Resource::Cluster);
    for each in asked {
        responses.push(delete_one(&call, each, may_delete_all, &mut audit).await);
    }
    DeleteTopicsResponse {
        responses,
        ..DeleteTopicsResponse::default()
    }
}

async fn delete_one(
    call: &Call,
    asked: DeleteTopicState,
    may_delete_all: bool,
    audit: &mut Audit,
) -> DeletableTopicResult {
    let mut result = DeletableTopicResult {
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        ..DeletableTopicResult::default()
    };
    let deleted = match find(call, &asked, may_delete_all) {
        Ok(topic) => delete_found(call, topic, may_delete_all, &mut result, audit).await,
        Err(refusal) => Err(refusal),
    };
    (result.error_code, result.error_message) = error_fields(deleted.err());
    result
}

/// Deletes a topic if the client may. The result has its name unless the client may neither delete nor describe it.
async fn delete_found(
    call: &Call,
    topic: Arc<Topic>,
    may_delete_all: bool,
    result: &mut DeletableTopicResult,
    audit: &mut Audit,
) -> Result<(), Refusal> {
    let resource = Resource::Topic(topic.name());
    if !may_delete_all && let Err(denied) = call.authorize(Operation::Delete, resource) {
        if call.allows(Operation::Describe, resource) {
            result.name = Some(topic.name().to_string());
        }
        return Err(Refusal::denied(denied));
    }
    result.name = Some(topic.name().to_string());
    result.topic_id = topic.id();
    call.mutate(topic.partition_count(), DELETE_STRICT_FROM)?;
    let what = format!("{} id={}", topic.name(), topic.id());
    let deletion = audit.attempt(what, call.broker.delete_topic(topic));
    deletion.await.map_err(Refusal::from)
}

/// Returns the topic to delete. One given by name is not looked up for a client that may not describe it.
fn find(
    call: &Call,
    asked: &DeleteTopicState,
    may_delete_all: bool,
) -> Result<Arc<Topic>, Refusal> {
    let topics = &call.broker.topics;
    match (&asked.name, asked.topic_id.is_nil()) {
        (Some(name), true) => {
            if !may_delete_all {
                let described = call.authorize(Operation::Describe, Resource::Topic(name));
                described.map_err(Refusal::denied)?;
            }
            let topic = topics.get(name);
            topic.ok_or_else(|| TopicError::Unknown(name.clone()).into())
        }
        (None, false) => topics.get_by_id(asked.topic_id).ok_or_else(|| {
            Refusal::new(
                ErrorCode::UNKNOWN_TOPIC_ID,
                format!("this server has no topic with id {}", asked.topic_id),
            )
        }),
        (Some(_), false) => Err(Refusal::new(
            ErrorCode::INVALID_REQUEST,
            "specify the topic to delete by name or by id, not both",
        )),
        (None, true) => Err(Refusal::new(
            ErrorCode::INVALID_REQUEST,
            "specify the topic to delete by name or by id",
        )),
    }
}

pub(super) async fn create_partitions(
    call: Call,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let repeated = repeated(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut results = Vec::with_capacity(request.topics.len());
    let mut audit = call.audit("partitions added").unless(request.validate_only);
    let mut answered = HashSet::new();
    let mut left = PARTITIONS_AT_ONCE_MAX;
    for asked in request.topics {
        let name = asked.name.clone();
        let done = if !repeated.contains(&name) {
            add_partitions(&call, asked, request.validate_only, &mut left, &mut audit).await
        } else if answered.insert(name.clone()) {
            Err(repeated_name(&name))
        } else {
            continue;
        };
        let (error_code, error_message) = error_fields(done.err());
        results.push(CreatePartitionsTopicResult {
            name,
            error_code,
            error_message,
        });
    }
    CreatePartitionsResponse {
        results,
        ..CreatePartitionsResponse::default()
    }
}

async fn add_partitions(
    call: &Call,
    asked: CreatePartitionsTopic,
    validate_only: bool,
    left: &mut i64,
    audit: &mut Audit,
) -> Result<(), Refusal> {
    call.authorize(Operation::Alter, Resource::Topic(&asked.name))
        .map_err(Refusal::denied)?;
    let broker = &call.broker;
    let current = broker.check_new_partitions(&asked.name, asked.count)?;
    let added = i64::from(asked.count) - i64::from(current);
    if added > *left {
        return Err(Refusal::new(
            ErrorCode::POLICY_VIOLATION,
            partitions_at_once(),
        ));
    }
    if let Some(assignments) = &asked.assignments {
        if assignments.len() as i64 != added {
            return Err(Refusal::new(
                ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                format!(
                    "{added} new partitions need as many assignments, got {}",
                    assignments.len()
                ),
            ));
        }
        for each in assignments {
            check_replicas(&each.broker_ids)?;
        }
    }
    *left -= added;
    call.mutate(asked.count - current, PARTITIONS_STRICT_FROM)?;
    if validate_only {
        return Ok(());
    }
    let what = asked.name.clone();
    let adding = broker.add_partitions(asked.name, asked.count);
    let before = audit.attempt(Name(&what), adding).await?;
    audit.amend(Change(Some(before), Some(asked.count)));
    Ok(())
}

/// Returns the names that occur in a request more than once. All their entries are refused, since any choice would be a
/// guess.
fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> HashSet<String> {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for name in names {
        *times.entry(name).or_default() += 1;
    }
    times
        .into_iter()
        .filter(|(_, times)| *times > 1)
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn repeated_name(name: &str) -> Refusal {
    Refusal::new(
        ErrorCode::INVALID_REQUEST,
        format!("topic '{name}' occurs more than once in the request"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(partitions: i32, replicas: i16, assignments: &[(i32, &[i32])]) -> CreatableTopic {
        CreatableTopic {
            num_partitions: partitions,
            replication_factor: replicas,
            assignments: assignments
                .iter()
                .map(|(partition_index, broker_ids)| CreatableReplicaAssignment {
                    partition_index: *partition_index,
                    broker_ids: broker_ids.to_vec(),
                })
                .collect(),
            ..CreatableTopic::default()
        }
    }

    fn outcome(asked: &CreatableTopic) -> Result<i32, ErrorCode> {
        partitions_of(asked, 7).map_err(|refusal| refusal.code)
    }

    #[test]
    fn partition_count_comes_from_the_request_its_assignments_or_the_default() {
        assert_eq!(outcome(&asked(3, 1, &[])), Ok(3));
        assert_eq!(outcome(&asked(-1, -1, &[])), Ok(7));
        assert_eq!(outcome(&asked(-1, -1, &[(1, &[1]), (0, &[1])])), Ok(2));
    }

    #[test]
    fn replication_factors_and_assignments_beyond_one_broker_are_refused() {
        for replicas in [0, 2, 3, -2] {
            let refused = outcome(&asked(1, replicas, &[]));
            assert_eq!(refused, Err(ErrorCode::INVALID_REPLICATION_FACTOR));
        }
        let wrong: [&[(i32, &[i32])]; 5] = [
            &[(0, &[2])],
            &[(0, &[1, 2])],
            &[(0, &[])],
            &[(0, &[1]), (2, &[1])],
            &[(0, &[1]), (0, &[1])],
        ];
        for assignments in wrong {
            let refused = outcome(&asked(-1, -1, assignments));
            assert_eq!(refused, Err(ErrorCode::INVALID_REPLICA_ASSIGNMENT));
        }
    }

    #[test]
    fn counts_together_with_assignments_are_refused() {
        for (partitions, replicas) in [(1, -1), (-1, 1)] {
            let refused = outcome(&asked(partitions, replicas, &[(0, &[1])]));
            assert_eq!(refused, Err(ErrorCode::INVALID_REQUEST));
        }
    }
}
