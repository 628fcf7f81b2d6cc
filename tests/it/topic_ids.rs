//! Tests of offsets that are committed and fetched by topic id.

use streamline::protocol::kafka::ErrorCode;
use streamline::protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use streamline::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic,
};
use streamline::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use uuid::Uuid;

use crate::kafka::{commit_request, create};
use crate::support::{Client, Server};

/// The first version with topic ids.
const BY_ID: i16 = 10;

fn by_id(offset: i64, topics: &[Uuid]) -> OffsetCommitRequest {
    let mut request = commit_request("g", "", -1, "", offset);
    let topic = request.topics.remove(0);
    let topics = topics.iter().map(|id| OffsetCommitRequestTopic {
        topic_id: *id,
        ..topic.clone()
    });
    request.topics = topics.collect();
    request
}

fn fetch(client: &mut Client, topics: Option<&[Uuid]>) -> OffsetFetchResponse {
    let topic = |id: &Uuid| OffsetFetchRequestTopics {
        topic_id: *id,
        partition_indexes: vec![0],
        ..OffsetFetchRequestTopics::default()
    };
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g".to_owned(),
            topics: topics.map(|ids| ids.iter().map(topic).collect()),
            ..OffsetFetchRequestGroup::default()
        }],
        ..OffsetFetchRequest::default()
    };
    client.call(BY_ID, &request)
}

/// Returns the offset and error code of the only partition of each topic.
fn offsets(response: &OffsetFetchResponse) -> Vec<(Uuid, i64, ErrorCode)> {
    let topics = response.groups[0].topics.iter();
    let offsets = topics.map(|topic| {
        let partition = &topic.partitions[0];
        (
            topic.topic_id,
            partition.committed_offset,
            partition.error_code,
        )
    });
    offsets.collect()
}

#[test]
fn offsets_are_committed_and_fetched_by_topic_id() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "t", 1);
    let unknown = Uuid::from_u128(7);
    let response = client.call(BY_ID, &by_id(5, &[topic.id, unknown, Uuid::nil()]));
    let mut codes: Vec<_> = response
        .topics
        .iter()
        .map(|topic| (topic.topic_id, topic.partitions[0].error_code))
        .collect();
    codes.sort_by_key(|(id, _)| *id);
    let mut expected = vec![
        (Uuid::nil(), ErrorCode::UNKNOWN_TOPIC_ID),
        (unknown, ErrorCode::UNKNOWN_TOPIC_ID),
        (topic.id, ErrorCode::NONE),
    ];
    expected.sort_by_key(|(id, _)| *id);
    assert_eq!(codes, expected);

    let committed = (topic.id, 5, ErrorCode::NONE);
    let asked = fetch(&mut client, Some(&[topic.id, unknown]));
    let missing = (unknown, -1, ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!(offsets(&asked), [committed, missing]);
    assert_eq!(offsets(&fetch(&mut client, None)), [committed]);
}

#[test]
fn offsets_of_a_topic_are_gone_with_its_id() {
    let server = Server::start();
    let mut client = server.connect();
    let first = create(&mut client, "t", 1);
    client.call(BY_ID, &by_id(5, &[first.id]));
    let deletion = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            topic_id: first.id,
            ..DeleteTopicState::default()
        }],
        ..DeleteTopicsRequest::default()
    };
    client.call(6, &deletion);
    let second = create(&mut client, "t", 1);
    let asked = fetch(&mut client, Some(&[first.id, second.id]));
    let expected = [
        (first.id, -1, ErrorCode::UNKNOWN_TOPIC_ID),
        (second.id, -1, ErrorCode::NONE),
    ];
    assert_eq!(offsets(&asked), expected);
    let late = client.call(BY_ID, &by_id(9, &[first.id]));
    let code = late.topics[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!(offsets(&fetch(&mut client, None)), []);
}
