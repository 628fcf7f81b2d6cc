//! The quorum of controllers, of which this server is the only one: DescribeQuorum, AddRaftVoter, RemoveRaftVoter,
//! UnregisterBroker, UnregisterController.
//!
//! Metadata is in the catalog and not in a log, so the quorum's offsets are 0.

use super::Call;
use super::refusal::{Refusal, error_fields};
use crate::broker::{NODE_ID, Operation, Resource};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use crate::protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionData, PartitionRequest,
    ReplicaState, TopicData, TopicRequest,
};
use crate::protocol::messages::remove_raft_voter::{
    RemoveRaftVoterRequest, RemoveRaftVoterResponse,
};
use crate::protocol::messages::unregister_broker::{
    UnregisterBrokerRequest, UnregisterBrokerResponse,
};
use crate::protocol::messages::unregister_controller::{
    UnregisterControllerRequest, UnregisterControllerResponse,
};

/// Name of the log that a quorum replicates. It has one partition.
const METADATA: &str = "__cluster_metadata";

/// Epoch of the only leader that the quorum ever has.
const LEADER_EPOCH: i32 = 1;

pub(super) async fn describe(call: Call, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    if let Err(code) = call.authorize(Operation::Describe, Resource::Cluster) {
        let (error_code, error_message) = error_fields(Some(Refusal::denied(code)));
        return DescribeQuorumResponse {
            error_code,
            error_message,
            ..DescribeQuorumResponse::default()
        };
    }
    let now_ms = call.broker.clock.now_ms();
    let describe = |topic: &TopicRequest, partition: &PartitionRequest| {
        let is_metadata = topic.topic_name == METADATA && partition.partition_index == 0;
        match is_metadata {
            true => metadata(now_ms),
            false => PartitionData {
                partition_index: partition.partition_index,
                error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                error_message: None,
                ..PartitionData::default()
            },
        }
    };
    let topics = request.topics.into_iter().map(|topic| TopicData {
        partitions: topic
            .partitions
            .iter()
            .map(|partition| describe(&topic, partition))
            .collect(),
        topic_name: topic.topic_name,
    });
    DescribeQuorumResponse {
        error_message: None,
        topics: topics.collect(),
        nodes: vec![node(&call)],
        ..DescribeQuorumResponse::default()
    }
}

/// Describes the quorum. As in Kafka, its leader has just been seen by itself.
fn metadata(now_ms: i64) -> PartitionData {
    PartitionData {
        error_message: None,
        leader_id: NODE_ID,
        leader_epoch: LEADER_EPOCH,
        current_voters: vec![ReplicaState {
            replica_id: NODE_ID,
            last_fetch_timestamp: now_ms,
            last_caught_up_timestamp: now_ms,
            ..ReplicaState::default()
        }],
        ..PartitionData::default()
    }
}

fn node(call: &Call) -> Node {
    let (host, port) = call.advertised();
    Node {
        node_id: NODE_ID,
        listeners: vec![Listener {
            name: call.listener.to_string(),
            host,
            port,
        }],
    }
}

pub(super) async fn add_voter(call: Call, request: AddRaftVoterRequest) -> AddRaftVoterResponse {
    let refused = change_voters(&call, request.cluster_id.as_deref());
    let (error_code, error_message) = error_fields(Some(refused));
    AddRaftVoterResponse {
        error_code,
        error_message,
        ..AddRaftVoterResponse::default()
    }
}

pub(super) async fn remove_voter(
    call: Call,
    request: RemoveRaftVoterRequest,
) -> RemoveRaftVoterResponse {
    let refused = change_voters(&call, request.cluster_id.as_deref());
    let (error_code, error_message) = error_fields(Some(refused));
    RemoveRaftVoterResponse {
        error_code,
        error_message,
        ..RemoveRaftVoterResponse::default()
    }
}

/// Returns the refusal of a change of the voters, which needs level 1 of `kraft.version`.
fn change_voters(call: &Call, cluster_id: Option<&str>) -> Refusal {
    if let Err(code) = call.authorize(Operation::Alter, Resource::Cluster) {
        return Refusal::denied(code);
    }
    let own = call.broker.catalog.cluster_id();
    match cluster_id {
        Some(other) if other != own => Refusal::new(
            ErrorCode::INCONSISTENT_CLUSTER_ID,
            format!("the cluster's id is {own}, not {other}"),
        ),
        _ => Refusal::new(
            ErrorCode::UNSUPPORTED_VERSION,
            "the voters of the quorum are fixed: kraft.version is 0",
        ),
    }
}

pub(super) async fn unregister_broker(
    call: Call,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let unknown = ErrorCode::BROKER_ID_NOT_REGISTERED;
    let refused = unregister(&call, request.broker_id, unknown, "broker");
    let (error_code, error_message) = error_fields(Some(refused));
    UnregisterBrokerResponse {
        error_code,
        error_message,
        ..UnregisterBrokerResponse::default()
    }
}

pub(super) async fn unregister_controller(
    call: Call,
    request: UnregisterControllerRequest,
) -> UnregisterControllerResponse {
    let unknown = ErrorCode::CONTROLLER_ID_NOT_REGISTERED;
    let refused = unregister(&call, request.controller_id, unknown, "controller");
    let (error_code, error_message) = error_fields(Some(refused));
    UnregisterControllerResponse {
        error_code,
        error_message,
        ..UnregisterControllerResponse::default()
    }
}

/// Returns the refusal to unregister a node: another one does not exist, and this one is running. Kafka unregisters a running
/// broker too, which then serves no client any more.
fn unregister(call: &Call, id: i32, unknown: ErrorCode, role: &str) -> Refusal {
    if let Err(code) = call.authorize(Operation::Alter, Resource::Cluster) {
        return Refusal::denied(code);
    }
    match id {
        NODE_ID => Refusal::new(
            ErrorCode::INVALID_REQUEST,
            format!("{role} {id} is running and cannot be unregistered"),
        ),
        _ => Refusal::new(unknown, format!("{role} {id} is not registered")),
    }
}
