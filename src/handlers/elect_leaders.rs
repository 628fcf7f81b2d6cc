//! ElectLeaders: every partition has its leader already, the only replica.

use super::Call;
use crate::broker::{Operation, Resource};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
    TopicPartitions,
};

pub(super) async fn handle(call: Call, request: ElectLeadersRequest) -> ElectLeadersResponse {
    // Null asks for all topics. As in Kafka, each is listed with the partitions that need an election.
    let all = || {
        let topics = call.broker.topics.list().into_iter();
        topics.map(|topic| TopicPartitions {
            topic: topic.name().to_string(),
            ..TopicPartitions::default()
        })
    };
    let asked = (request.topic_partitions).unwrap_or_else(|| all().collect());
    if let Err(error_code) = call.authorize(Operation::Alter, Resource::Cluster) {
        return ElectLeadersResponse {
            error_code,
            replica_election_results: results(asked, |_, _| error_code),
            ..ElectLeadersResponse::default()
        };
    }
    let topics = &call.broker.topics;
    let elect = |topic: &str, partition| {
        let topic = topics.get(topic);
        match topic.is_some_and(|topic| topic.partition(partition).is_some()) {
            true => ErrorCode::ELECTION_NOT_NEEDED,
            false => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        }
    };
    ElectLeadersResponse {
        replica_election_results: results(asked, elect),
        ..ElectLeadersResponse::default()
    }
}

/// Answers each partition, without messages: they would be much longer than the partition's number in the request.
fn results(
    asked: Vec<TopicPartitions>,
    elect: impl Fn(&str, i32) -> ErrorCode,
) -> Vec<ReplicaElectionResult> {
    let of_topic = |asked: TopicPartitions| ReplicaElectionResult {
        partition_result: asked
            .partitions
            .iter()
            .map(|&partition_id| PartitionResult {
                partition_id,
                error_code: elect(&asked.topic, partition_id),
                error_message: None,
            })
            .collect(),
        topic: asked.topic,
    };
    asked.into_iter().map(of_topic).collect()
}
