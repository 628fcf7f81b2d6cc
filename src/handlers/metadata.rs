//! Metadata: describes topics and the location of their partitions, which is always this node.
//!
//! A topic that does not exist is created when both the client and the server's settings allow it. Clients get the
//! advertised address, or else the one by which they connected, so that it works from the same machine, the local network
//! and out of a container alike.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::audit::Audit;
use super::topics::{TOPICS_CREATED, creation};
use super::{Call, error, lookup, operations};
use crate::broker::{NODE_ID, NewTopic, Operation, Resource, TopicError, check_name, is_internal};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use crate::storage::Topic;

/// The first version that asks for topics by id. Versions 10 and 11 only answer with ids.
const ASK_BY_ID_FROM: i16 = 12;

pub(super) async fn handle(call: Call, request: MetadataRequest) -> MetadataResponse {
    let topics = match asked(&request, call.version) {
        None => {
            let all = call.broker.topics.list();
            all.iter()
                .filter(|topic| call.allows(Operation::Describe, Resource::Topic(topic.name())))
                .map(|topic| describe(&call, &request, topic))
                .collect()
        }
        Some(topics) => {
            // Each topic once, so that a name repeated a million times does not multiply the response.
            let mut described = Vec::new();
            let mut seen = HashSet::new();
            let mut audit = None;
            for topic in topics {
                if seen.insert((&topic.name, topic.topic_id)) {
                    described.push(answer(&call, &request, topic, &mut audit).await);
                }
            }
            described
        }
    };
    let (host, port) = call.advertised();
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: NODE_ID,
            host,
            port: i32::from(port),
            ..MetadataResponseBroker::default()
        }],
        cluster_id: Some(call.broker.catalog.cluster_id().to_owned()),
        controller_id: NODE_ID,
        topics,
        cluster_authorized_operations: call
            .cluster_operations(request.include_cluster_authorized_operations),
        ..MetadataResponse::default()
    }
}

/// Returns the requested topics; `None` means all of them, which version 0 requests with an empty list.
fn asked(request: &MetadataRequest, version: i16) -> Option<&[MetadataRequestTopic]> {
    let topics = request.topics.as_deref()?;
    (version > 0 || !topics.is_empty()).then_some(topics)
}

async fn answer(
    call: &Call,
    request: &MetadataRequest,
    asked: &MetadataRequestTopic,
    audit: &mut Option<Audit>,
) -> MetadataResponseTopic {
    let by_id = !asked.topic_id.is_nil();
    if by_id && call.version >= ASK_BY_ID_FROM {
        return match lookup::topic_by_id(call, Operation::Describe, asked.topic_id) {
            Ok(topic) => describe(call, request, &topic),
            Err(error_code) => MetadataResponseTopic {
                name: None,
                ..refuse(asked, error_code)
            },
        };
    }
    let Some(name) = asked.name.as_ref().filter(|_| !by_id) else {
        return MetadataResponseTopic {
            // Before version 12 a response cannot have a null name.
            name: Some(asked.name.clone().unwrap_or_default()),
            ..refuse(asked, ErrorCode::INVALID_REQUEST)
        };
    };
    match find_or_create(call, name, request.allow_auto_topic_creation, audit).await {
        Ok(topic) => describe(call, request, &topic),
        Err(error_code) => refuse(asked, error_code),
    }
}

async fn find_or_create(
    call: &Call,
    name: &str,
    client_allows_creation: bool,
    audit: &mut Option<Audit>,
) -> Result<Arc<Topic>, ErrorCode> {
    call.authorize(Operation::Describe, Resource::Topic(name))?;
    let broker = &call.broker;
    if let Some(topic) = broker.topics.get(name) {
        return Ok(topic);
    }
    if is_internal(name) {
        // An auto-created empty topic would hide from a client that Kafka's state is not available.
        call.log_missing_internal_topic(name);
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    if !(client_allows_creation && broker.config.auto_create_topics) {
        // An invalid name is reported as such even if nothing would be created.
        check_name(name).map_err(|invalid| error::of_topic_change(&invalid))?;
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    call.authorize_creation(name)?;
    let new = NewTopic {
        name: name.to_owned(),
        partitions: broker.config.default_partitions,
        configs: BTreeMap::new(),
    };
    if call.has_quotas() {
        let invalid = |error| error::of_topic_change(&error);
        broker.check_new_topic(&new).map_err(invalid)?;
        if !call.may_auto_create(new.partitions) {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
    }
    let audit = audit.get_or_insert_with(|| call.audit(TOPICS_CREATED));
    let what = creation(&new);
    match audit.attempt(what, broker.create_topic(new)).await {
        // Another request created it first.
        Err(TopicError::AlreadyExists(name)) => {
            lookup::topic_by_name(call, Operation::Describe, &name)
        }
        created => created.map_err(|failure| error::of_topic_change(&failure)),
    }
}

fn refuse(asked: &MetadataRequestTopic, error_code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code,
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        is_internal: asked.name.as_deref().is_some_and(is_internal),
        ..MetadataResponseTopic::default()
    }
}

fn describe(call: &Call, request: &MetadataRequest, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions();
    MetadataResponseTopic {
        name: Some(topic.name().to_string()),
        topic_id: topic.id(),
        // Consumers hide these from pattern subscriptions.
        is_internal: is_internal(topic.name()),
        partitions: (0..)
            .zip(partitions.iter())
            .map(|(index, partition)| MetadataResponsePartition {
                partition_index: index,
                leader_id: NODE_ID,
                // −1 means unknown, as for a checkpoint that cannot be read.
                leader_epoch: partition.leader_epoch().unwrap_or(-1),
                replica_nodes: vec![NODE_ID],
                isr_nodes: vec![NODE_ID],
                ..MetadataResponsePartition::default()
            })
            .collect(),
        topic_authorized_operations: if request.include_topic_authorized_operations {
            call.operations(Resource::Topic(topic.name()))
        } else {
            operations::NOT_REQUESTED
        },
        ..MetadataResponseTopic::default()
    }
}
