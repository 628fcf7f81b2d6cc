//! Tests of DescribeTopicPartitions.

use streamline::protocol::kafka::ErrorCode;
use streamline::protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicRequest,
};

use crate::kafka::create;
use crate::support::{Client, Server};

fn describe(
    client: &mut Client,
    topics: &[&str],
    limit: i32,
    cursor: Option<(&str, i32)>,
) -> DescribeTopicPartitionsResponse {
    let topic = |name: &&str| TopicRequest {
        name: (*name).to_owned(),
    };
    let request = DescribeTopicPartitionsRequest {
        topics: topics.iter().map(topic).collect(),
        response_partition_limit: limit,
        cursor: cursor.map(|(topic_name, partition_index)| Cursor {
            topic_name: topic_name.to_owned(),
            partition_index,
        }),
    };
    client.call(0, &request)
}

/// Partitions by topic.
type Topics<'a> = Vec<(&'a str, Vec<i32>)>;

/// Returns the partitions, and where the next page begins.
fn page(response: &DescribeTopicPartitionsResponse) -> (Topics<'_>, Option<(&str, i32)>) {
    let topics = response.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|it| it.partition_index);
        (topic.name.as_deref().unwrap(), partitions.collect())
    });
    let next = response.next_cursor.as_ref();
    let next = next.map(|it| (it.topic_name.as_str(), it.partition_index));
    (topics.collect(), next)
}

#[test]
fn pages_follow_each_other_in_order_of_names() {
    let server = Server::start();
    let mut client = server.connect();
    for (name, partitions) in [("b", 3), ("a", 2), ("c", 1)] {
        create(&mut client, name, partitions);
    }
    for topics in [&["c", "b", "a", "b"][..], &[]] {
        let first = describe(&mut client, topics, 3, None);
        let expected = vec![("a", vec![0, 1]), ("b", vec![0])];
        assert_eq!(page(&first), (expected, Some(("b", 1))));
        let second = describe(&mut client, topics, 2, Some(("b", 1)));
        assert_eq!(page(&second), (vec![("b", vec![1, 2])], Some(("c", 0))));
        let last = describe(&mut client, topics, 2, Some(("c", 0)));
        assert_eq!(page(&last), (vec![("c", vec![0])], None));
    }
    // A limit below 1 counts as 1.
    let one = describe(&mut client, &["a"], -5, None);
    assert_eq!(page(&one), (vec![("a", vec![0])], Some(("a", 1))));
    // A cursor past the end of its topic: the next one follows.
    let past = describe(&mut client, &[], 10, Some(("b", i32::MAX)));
    assert_eq!(page(&past), (vec![("b", vec![]), ("c", vec![0])], None));
}

#[test]
fn partitions_have_this_node_as_leader_and_only_replica() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "t", 1);
    let response = describe(&mut client, &["t"], 2000, None);
    let described = &response.topics[0];
    assert_eq!(described.topic_id, topic.id);
    assert_eq!(described.topic_authorized_operations, 0b1101_1111_1000);
    let partition = &described.partitions[0];
    assert_eq!((partition.leader_id, partition.leader_epoch), (1, 0));
    assert_eq!(partition.replica_nodes, [1]);
    assert_eq!(partition.isr_nodes, [1]);
    assert_eq!(partition.eligible_leader_replicas, Some(Vec::new()));
    assert_eq!(partition.last_known_elr, Some(Vec::new()));
    assert!(partition.offline_replicas.is_empty());
}

#[test]
fn unknown_and_invalid_topics_and_cursors_are_refused() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "t", 1);
    let response = describe(&mut client, &["t", "none", "in valid"], 2000, None);
    let codes: Vec<_> = response.topics.iter().map(|it| it.error_code).collect();
    let expected = [
        ErrorCode::INVALID_TOPIC_EXCEPTION,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::NONE,
    ];
    assert_eq!(codes, expected);
    for cursor in [("t", -1), ("other", 0)] {
        let response = describe(&mut client, &["t"], 2000, Some(cursor));
        let codes: Vec<_> = response.topics.iter().map(|it| it.error_code).collect();
        assert_eq!(codes, [ErrorCode::INVALID_REQUEST], "{cursor:?}");
    }
}
