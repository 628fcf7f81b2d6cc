//! Requests that name the same thing over and over, or more things than anybody has: what they cost is bounded by what
//! there is.

use std::iter::repeat_n;
use std::time::Instant;

use crate::kafka::{batch, create, fetch_request, only, produce, values_of};
use crate::support::{PATIENCE, Server};
use streamline::protocol::kafka::ErrorCode;
use streamline::protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use streamline::protocol::messages::delete_topics::DeleteTopicsRequest;
use streamline::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use streamline::protocol::messages::fetch::{FetchRequest, FetchTopic};
use streamline::protocol::messages::find_coordinator::FindCoordinatorRequest;
use streamline::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use streamline::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use streamline::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};

#[test]
fn a_topic_that_is_named_many_times_is_answered_once() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "wide", 100);
    let before_kib = server.resident_kib();
    let asked = MetadataRequestTopic {
        name: Some("wide".to_owned()),
        ..MetadataRequestTopic::default()
    };
    let metadata = client.call(
        9,
        &MetadataRequest {
            topics: Some(vec![asked; 20_000]),
            ..MetadataRequest::default()
        },
    );
    assert_eq!(metadata.topics.len(), 1);
    assert_eq!(metadata.topics[0].partitions.len(), 100);
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: "wide".to_owned(),
        configuration_keys: None,
    };
    let configs = client.call(
        4,
        &DescribeConfigsRequest {
            resources: vec![resource; 20_000],
            ..DescribeConfigsRequest::default()
        },
    );
    assert_eq!(configs.results.len(), 1);
    let grown_kib = server.resident_kib().saturating_sub(before_kib);
    assert!(grown_kib < 16 * 1024, "grew by {grown_kib} KiB");
}

#[test]
fn a_committed_offset_that_is_asked_for_many_times_is_answered_once() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "annotated", 2);
    let committed = client.call(
        8,
        &OffsetCommitRequest {
            group_id: "g".to_owned(),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: "annotated".to_owned(),
                partitions: (0..2)
                    .map(|partition_index| OffsetCommitRequestPartition {
                        partition_index,
                        committed_offset: 7,
                        committed_metadata: Some("m".repeat(4096)),
                        ..OffsetCommitRequestPartition::default()
                    })
                    .collect(),
            }],
            ..OffsetCommitRequest::default()
        },
    );
    assert_eq!(
        committed.topics[0].partitions[1].error_code,
        ErrorCode::NONE
    );
    let before_kib = server.resident_kib();
    let topic = |partition_indexes| OffsetFetchRequestTopics {
        name: "annotated".to_owned(),
        partition_indexes,
    };
    let named = [topic(vec![0; 100]), topic([1, 0, 5].repeat(100))];
    let many = || repeat_n(named.clone(), 100).flatten().collect::<Vec<_>>();
    let fetched = client.call(
        7,
        &OffsetFetchRequest {
            group_id: "g".to_owned(),
            topics: Some(many()),
            ..OffsetFetchRequest::default()
        },
    );
    let [answered] = &fetched.topics[..] else {
        panic!("one topic was asked for, {} answered", fetched.topics.len());
    };
    let offsets = |partitions: &[(i32, i64)]| partitions.to_vec();
    let told = answered.partitions.iter();
    let told: Vec<_> = told
        .map(|each| (each.partition_index, each.committed_offset))
        .collect();
    assert_eq!(told, offsets(&[(0, 7), (1, 7), (5, -1)]));

    let group = |group_id: &str, topics| OffsetFetchRequestGroup {
        group_id: group_id.to_owned(),
        topics,
        ..OffsetFetchRequestGroup::default()
    };
    let groups = [
        group("g", Some(many())),
        group("absent", Some(vec![topic(vec![1])])),
        group("absent", Some(vec![topic(vec![0])])),
        group("g", None),
    ];
    let fetched = client.call(
        8,
        &OffsetFetchRequest {
            groups: repeat_n(groups, 10).flatten().collect(),
            ..OffsetFetchRequest::default()
        },
    );
    let told: Vec<_> = fetched
        .groups
        .iter()
        .map(|group| {
            let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
            let partitions: Vec<_> = partitions
                .map(|each| (each.partition_index, each.committed_offset))
                .collect();
            (group.group_id.as_str(), partitions)
        })
        .collect();
    let expected = [
        ("g", offsets(&[(0, 7), (1, 7)])),
        ("absent", offsets(&[(1, -1), (0, -1)])),
    ];
    assert_eq!(told, expected);
    let grown_kib = server.resident_kib().saturating_sub(before_kib);
    assert!(grown_kib < 32 * 1024, "grew by {grown_kib} KiB");
}

#[test]
fn names_without_end_are_answered_once_each() {
    let server = Server::start();
    let mut client = server.connect();
    let names = |count: usize| vec![String::new(); count];
    let deleted = client.call(
        5,
        &DeleteTopicsRequest {
            topic_names: names(50_000),
            ..DeleteTopicsRequest::default()
        },
    );
    assert_eq!(deleted.responses.len(), 1);
    for key_type in [0, 1] {
        let found = client.call(
            4,
            &FindCoordinatorRequest {
                key_type,
                coordinator_keys: names(50_000),
                ..FindCoordinatorRequest::default()
            },
        );
        assert_eq!(found.coordinators.len(), 1);
    }
    let found = client.call(
        4,
        &FindCoordinatorRequest {
            key_type: 1,
            coordinator_keys: vec!["one".to_owned(), "two".to_owned()],
            ..FindCoordinatorRequest::default()
        },
    );
    assert_eq!(found.coordinators.len(), 2);
    let log = server.log();
    assert_eq!(
        log.matches("refused a transactional producer").count(),
        1,
        "{log}"
    );
}

#[test]
fn more_topics_than_one_request_may_create_are_refused() {
    let server = Server::start();
    let mut client = server.connect();
    let mut create_many = |count: usize| {
        let topics = (0..count).map(|number| CreatableTopic {
            name: format!("t{number}"),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        });
        let request = CreateTopicsRequest {
            topics: topics.collect(),
            timeout_ms: 1_000,
            validate_only: true,
        };
        client.call(7, &request).topics
    };
    let checked = create_many(10_000);
    assert_eq!(checked.len(), 10_000);
    assert!(checked.iter().all(|it| it.error_code == ErrorCode::NONE));
    let refused = create_many(10_001);
    assert_eq!(refused.len(), 10_001);
    let policy = ErrorCode::POLICY_VIOLATION;
    assert!(refused.iter().all(|it| it.error_code == policy));
}

#[test]
fn clients_that_vanish_while_they_wait_for_many_partitions_hold_up_nobody() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "watched", 1);
    let request = FetchRequest {
        max_wait_ms: 60_000,
        ..fetch_request(&topic, &vec![(0, 0); 100_000])
    };
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let mut each = server.connect();
            each.send(12, &request);
            each
        })
        .collect();
    server.until_metric("streamline_fetches_waiting", &[], Some(4.0));
    let few = FetchRequest {
        max_wait_ms: 60_000,
        ..fetch_request(&topic, &[(0, 0)])
    };
    // Fewer than a connection may have in flight, so that it is still read from and its end is noticed.
    let crowd: Vec<_> = (0..200)
        .map(|_| {
            let mut each = server.connect();
            for _ in 0..60 {
                each.send(12, &few);
            }
            each
        })
        .collect();
    server.until_metric("streamline_fetches_waiting", &[], Some(12_004.0));
    drop(waiting);
    drop(crowd);
    server.until_metric("streamline_fetches_waiting", &[], Some(0.0));
    let sent = Instant::now();
    produce(&mut client, &topic, 0, &batch(&["served"]));
    assert!(sent.elapsed() < PATIENCE / 10, "{:?}", sent.elapsed());
}

#[test]
fn topics_of_which_nothing_is_asked_are_not_kept_while_a_fetch_waits() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "watched", 1);
    let asked = fetch_request(&topic, &[(0, 0)]);
    let nothing = FetchTopic::default();
    let mut request = FetchRequest {
        max_wait_ms: 60_000,
        topics: repeat_n(nothing, 300_000).collect(),
        ..asked.clone()
    };
    request.topics.extend(asked.topics);
    let before_kib = server.resident_kib();
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let mut each = server.connect();
            each.send(12, &request);
            each
        })
        .collect();
    server.until_metric("streamline_fetches_waiting", &[], Some(8.0));
    let grown_kib = server.resident_kib().saturating_sub(before_kib);
    assert!(grown_kib < 96 * 1024, "grew by {grown_kib} KiB");
    produce(&mut client, &topic, 0, &batch(&["served"]));
    for mut each in waiting {
        let (_, response) = each.receive::<FetchRequest>(12);
        assert_eq!(response.responses.len(), 1);
        assert_eq!(values_of(&only(response)), ["served"]);
    }
}
