//! Requests with repeated names or very many names: each entry is answered as by Kafka, and the cost of repetitions is
//! bounded.

use std::iter::repeat_n;
use std::time::Instant;

use crate::kafka::{batch, create, fetch_request, only, produce, values_of};
use crate::support::{Client, PATIENCE, Server};
use streamline::protocol::kafka::{ErrorCode, Wire as _};
use streamline::protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use streamline::protocol::messages::delete_topics::DeleteTopicsRequest;
use streamline::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use streamline::protocol::messages::describe_groups::DescribeGroupsRequest;
use streamline::protocol::messages::fetch::{FetchRequest, FetchTopic};
use streamline::protocol::messages::find_coordinator::FindCoordinatorRequest;
use streamline::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use streamline::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use streamline::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
    OffsetFetchResponseTopics,
};

#[test]
fn a_topic_that_is_named_many_times_is_described_once() {
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
    let grown_kib = server.resident_kib().saturating_sub(before_kib);
    assert!(grown_kib < 16 * 1024, "grew by {grown_kib} KiB");
}

#[test]
fn a_resource_that_is_named_many_times_is_described_each_time_within_a_bound() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "wide", 1);
    let before_kib = server.resident_kib();
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: "wide".to_owned(),
        configuration_keys: None,
    };
    let mut describe = |times: usize| {
        let request = DescribeConfigsRequest {
            resources: vec![resource.clone(); times],
            ..DescribeConfigsRequest::default()
        };
        client.call(4, &request).results
    };
    let twice = describe(2);
    assert_eq!(twice.len(), 2);
    assert!(!twice[0].configs.is_empty());
    assert_eq!(twice[0], twice[1]);
    let many = describe(20_000);
    let answered = many.iter().take_while(|it| **it == twice[0]).count();
    assert!((10..10_000).contains(&answered), "{answered}");
    let refused = &many[answered..];
    assert_eq!(answered + refused.len(), 20_000);
    assert!(refused.iter().all(|it| {
        let named = it.resource_type == 2 && it.resource_name == "wide";
        named && it.error_code == ErrorCode::INVALID_REQUEST && it.configs.is_empty()
    }));
    let grown_kib = server.resident_kib().saturating_sub(before_kib);
    assert!(grown_kib < 16 * 1024, "grew by {grown_kib} KiB");
}

/// Commits offset 7 of the first two partitions of a topic, with metadata of the maximum length.
fn commit_annotated(client: &mut Client, group: &str) {
    let committed = client.call(
        8,
        &OffsetCommitRequest {
            group_id: group.to_owned(),
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
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        },
    );
    assert_eq!(
        committed.topics[0].partitions[1].error_code,
        ErrorCode::NONE
    );
}

fn annotated(partition_indexes: &[i32]) -> OffsetFetchRequestTopics {
    OffsetFetchRequestTopics {
        name: "annotated".to_owned(),
        partition_indexes: partition_indexes.to_vec(),
        ..OffsetFetchRequestTopics::default()
    }
}

/// Returns partition and offset of each result.
fn offsets_of(topics: &[OffsetFetchResponseTopics]) -> Vec<Vec<(i32, i64)>> {
    let offsets = |topic: &OffsetFetchResponseTopics| {
        let partitions = topic.partitions.iter();
        partitions
            .map(|each| (each.partition_index, each.committed_offset))
            .collect()
    };
    topics.iter().map(offsets).collect()
}

#[test]
fn each_group_topic_and_partition_of_an_offset_fetch_is_answered_in_order() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "annotated", 2);
    commit_annotated(&mut client, "g");
    let group = |group_id: &str, topics| OffsetFetchRequestGroup {
        group_id: group_id.to_owned(),
        topics,
        ..OffsetFetchRequestGroup::default()
    };
    let groups = [
        group("g", Some(vec![annotated(&[1]), annotated(&[0, 1, 1, 5])])),
        group("absent", Some(vec![annotated(&[1])])),
        group("g", None),
        group("g", Some(vec![annotated(&[0])])),
        group("g", None),
        group("absent", None),
        group("absent", Some(Vec::new())),
    ];
    let all = vec![vec![(0, 7), (1, 7)]];
    let expected = [
        (
            "g",
            vec![vec![(1, 7)], vec![(0, 7), (1, 7), (1, 7), (5, -1)]],
        ),
        ("absent", vec![vec![(1, -1)]]),
        ("g", all.clone()),
        ("g", vec![vec![(0, 7)]]),
        ("g", all),
        ("absent", vec![]),
        ("absent", vec![]),
    ];
    for version in [8, 9] {
        let fetched = client.call(
            version,
            &OffsetFetchRequest {
                groups: groups.to_vec(),
                ..OffsetFetchRequest::default()
            },
        );
        let told = fetched.groups.iter();
        let told: Vec<_> = told
            .map(|group| (group.group_id.as_str(), offsets_of(&group.topics)))
            .collect();
        assert_eq!(told, expected, "version {version}");
        assert!(!fetched.has_error(), "version {version}");
    }
    for version in 1..=7 {
        let fetched = client.call(
            version,
            &OffsetFetchRequest {
                group_id: "g".to_owned(),
                topics: groups[0].topics.clone(),
                ..OffsetFetchRequest::default()
            },
        );
        assert_eq!(
            offsets_of(&fetched.topics),
            expected[0].1,
            "version {version}"
        );
    }
}

#[test]
fn repetitions_in_offset_fetches_are_bounded() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "annotated", 2);
    commit_annotated(&mut client, "g");
    let before_kib = server.resident_kib();
    // 400 MB without a bound.
    let many = annotated(&[0, 5].repeat(50_000));
    let fetched = client.call(
        7,
        &OffsetFetchRequest {
            group_id: "g".to_owned(),
            topics: Some(vec![many.clone()]),
            ..OffsetFetchRequest::default()
        },
    );
    let partitions = &fetched.topics[0].partitions;
    assert_eq!(partitions.len(), 100_000);
    let (annotated, absent): (Vec<_>, Vec<_>) =
        partitions.iter().partition(|it| it.partition_index == 0);
    assert!(absent.iter().all(|it| it.error_code == ErrorCode::NONE));
    let told = annotated.iter().take_while(|it| it.committed_offset == 7);
    let told = told.count();
    assert!((100..1_000).contains(&told), "{told}");
    let refused = (ErrorCode::INVALID_REQUEST, -1);
    assert!(
        annotated[told..]
            .iter()
            .all(|it| (it.error_code, it.committed_offset) == refused)
    );

    let whole = OffsetFetchRequestGroup {
        group_id: "g".to_owned(),
        topics: None,
        ..OffsetFetchRequestGroup::default()
    };
    let fetched = client.call(
        9,
        &OffsetFetchRequest {
            groups: vec![whole; 50_000],
            ..OffsetFetchRequest::default()
        },
    );
    assert_eq!(fetched.groups.len(), 50_000);
    let told = fetched.groups.iter().take_while(|it| !it.topics.is_empty());
    let told = told.count();
    assert!((50..1_000).contains(&told), "{told}");
    assert!(fetched.groups[told..].iter().all(|it| {
        it.group_id == "g" && it.error_code == ErrorCode::INVALID_REQUEST && it.topics.is_empty()
    }));
    let grown_kib = server.resident_kib().saturating_sub(before_kib);
    assert!(grown_kib < 48 * 1024, "grew by {grown_kib} KiB");
}

#[test]
fn very_many_repeated_names_are_deleted_once_and_looked_up_within_a_bound() {
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
        let codes: Vec<_> = found.coordinators.iter().map(|it| it.error_code).collect();
        assert_eq!(codes.len(), 50_000);
        assert_eq!(codes[..100], [ErrorCode::NONE; 100]);
        assert_eq!(codes.last(), Some(&ErrorCode::INVALID_REQUEST));
    }
}

#[test]
fn a_group_that_is_named_many_times_is_described_each_time_within_a_bound() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "annotated", 2);
    commit_annotated(&mut client, "g");
    let mut describe = |times: usize| {
        let request = DescribeGroupsRequest {
            groups: vec!["g".to_owned(); times],
            ..DescribeGroupsRequest::default()
        };
        client.call(5, &request).groups
    };
    let twice = describe(2);
    assert_eq!(twice.len(), 2);
    assert_eq!(twice[0].group_state, "Empty");
    assert_eq!(twice[0], twice[1]);
    let many = describe(50_000);
    assert_eq!(many.len(), 50_000);
    let refused = many.last().unwrap();
    assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST);
    assert_eq!(refused.group_id, "g");
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
fn clients_that_disconnect_while_waiting_for_many_partitions_delay_no_others() {
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
    // Fewer than the limit of requests in flight, so that the server reads from the connection and notices its end.
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
fn requested_topics_without_partitions_are_not_retained_while_a_fetch_waits() {
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
