//! Tests of CreateTopics, DeleteTopics, CreatePartitions and DescribeLogDirs.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use streamline::config::TOPIC_CONFIGS;
use streamline::protocol::kafka::{ErrorCode, Request};
use streamline::protocol::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use streamline::protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicResult, CreateTopicsRequest,
};
use streamline::protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest,
};
use streamline::protocol::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsRequest,
};
use streamline::protocol::messages::metadata::MetadataRequest;
use uuid::Uuid;

use crate::kafka::{CREATE_TOPICS, batch, creatable, create, fetch, produce};
use crate::support::{Client, Server, until};

fn create_one(client: &mut Client, version: i16, topic: CreatableTopic) -> CreatableTopicResult {
    let request = CreateTopicsRequest {
        topics: vec![topic],
        ..CreateTopicsRequest::default()
    };
    client.call(version, &request).topics.remove(0)
}

/// Returns all topics with their numbers of partitions.
fn listed(client: &mut Client) -> Vec<(String, usize)> {
    let all = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    let topics = client.call(12, &all).topics.into_iter();
    topics
        .map(|topic| (topic.name.unwrap_or_default(), topic.partitions.len()))
        .collect()
}

#[test]
fn every_version_creates_topics_and_returns_its_fields() {
    let server = Server::start();
    let mut client = server.connect();
    for version in CreateTopicsRequest::VERSIONS {
        let name = format!("version-{version}");
        let topic = creatable(&name, 3, &[("retention.ms", "1234")]);
        let created = create_one(&mut client, version, topic);
        assert_eq!(created.name, name);
        assert_eq!(
            (created.error_code, &created.error_message),
            (ErrorCode::NONE, &None)
        );
        assert_eq!(created.topic_id.is_nil(), version < 7);
        if version >= 5 {
            assert_eq!((created.num_partitions, created.replication_factor), (3, 1));
            let configs = created.configs.unwrap();
            let shown = TOPIC_CONFIGS.iter().filter(|each| !each.is_internal());
            assert_eq!(configs.len(), shown.count());
            let retention = configs
                .iter()
                .find(|each| each.name == "retention.ms")
                .unwrap();
            assert_eq!(retention.value.as_deref(), Some("1234"));
            assert_eq!((retention.config_source, retention.read_only), (1, false));
            let roll = configs
                .iter()
                .find(|each| each.name == "segment.ms")
                .unwrap();
            assert_eq!(roll.config_source, 5);
        }
        assert!(listed(&mut client).contains(&(name, 3)));
    }
}

#[test]
fn partition_counts_come_from_the_request_the_assignments_or_the_settings() {
    let server = Server::with(&["--default-partitions", "4"]);
    let mut client = server.connect();
    assert_eq!(
        create_one(&mut client, 7, creatable("default", -1, &[])).num_partitions,
        4
    );
    let assigned = CreatableTopic {
        assignments: (0..2)
            .map(|partition_index| CreatableReplicaAssignment {
                partition_index,
                broker_ids: vec![1],
            })
            .collect(),
        ..creatable("assigned", -1, &[])
    };
    assert_eq!(create_one(&mut client, 7, assigned).num_partitions, 2);
    let replicated = CreatableTopic {
        replication_factor: 1,
        ..creatable("replicated", 1, &[])
    };
    assert_eq!(
        create_one(&mut client, 7, replicated).error_code,
        ErrorCode::NONE
    );
}

#[test]
fn invalid_topics_are_refused_with_code_and_reason_and_leave_no_trace() {
    let server = Server::with(&["--max-partitions", "50"]);
    let mut client = server.connect();
    create(&mut client, "taken.name", 1);
    let foreign = CreatableTopic {
        assignments: vec![CreatableReplicaAssignment {
            partition_index: 0,
            broker_ids: vec![2],
        }],
        ..creatable("foreign", -1, &[])
    };
    let replicated = CreatableTopic {
        replication_factor: 3,
        ..creatable("replicated", 1, &[])
    };
    let mut null_value = creatable("null", 1, &[("retention.ms", "1")]);
    null_value.configs[0].value = None;
    let cases = [
        (
            creatable("taken.name", 1, &[]),
            ErrorCode::TOPIC_ALREADY_EXISTS,
        ),
        (
            creatable("taken_name", 1, &[]),
            ErrorCode::INVALID_TOPIC_EXCEPTION,
        ),
        (
            creatable("no spaces", 1, &[]),
            ErrorCode::INVALID_TOPIC_EXCEPTION,
        ),
        (creatable("", 1, &[]), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (creatable("none", 0, &[]), ErrorCode::INVALID_PARTITIONS),
        (
            creatable("negative", -2, &[]),
            ErrorCode::INVALID_PARTITIONS,
        ),
        (creatable("many", 51, &[]), ErrorCode::POLICY_VIOLATION),
        (
            creatable("huge", i32::MAX, &[]),
            ErrorCode::POLICY_VIOLATION,
        ),
        (replicated, ErrorCode::INVALID_REPLICATION_FACTOR),
        (foreign, ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (
            creatable("typo", 1, &[("retention.mss", "1")]),
            ErrorCode::INVALID_CONFIG,
        ),
        (
            creatable("range", 1, &[("retention.ms", "-7")]),
            ErrorCode::INVALID_CONFIG,
        ),
        (
            creatable("absent", 1, &[("remote.storage.enable", "true")]),
            ErrorCode::INVALID_CONFIG,
        ),
        (null_value, ErrorCode::INVALID_CONFIG),
    ];
    for (topic, expected) in cases {
        for validate_only in [true, false] {
            let request = CreateTopicsRequest {
                topics: vec![topic.clone()],
                validate_only,
                ..CreateTopicsRequest::default()
            };
            let refused = client.call(CREATE_TOPICS, &request).topics.remove(0);
            assert_eq!(refused.error_code, expected, "{refused:?}");
            let message = refused.error_message.unwrap_or_default();
            assert!(!message.is_empty(), "{}", topic.name);
        }
    }
    assert_eq!(listed(&mut client), [("taken.name".to_owned(), 1)]);
}

#[test]
fn a_repeated_name_is_refused_once_and_the_other_topics_are_created() {
    let server = Server::start();
    let mut client = server.connect();
    let request = CreateTopicsRequest {
        topics: ["twice", "once", "twice"]
            .map(|name| creatable(name, 1, &[]))
            .to_vec(),
        ..CreateTopicsRequest::default()
    };
    let response = client.call(CREATE_TOPICS, &request);
    let results: Vec<_> = response
        .topics
        .iter()
        .map(|each| (each.name.as_str(), each.error_code))
        .collect();
    assert_eq!(
        results,
        [
            ("twice", ErrorCode::INVALID_REQUEST),
            ("once", ErrorCode::NONE)
        ]
    );
    assert_eq!(listed(&mut client), [("once".to_owned(), 1)]);
}

#[test]
fn validate_only_creates_nothing() {
    let server = Server::start();
    let mut client = server.connect();
    let request = CreateTopicsRequest {
        topics: vec![creatable("planned", 2, &[])],
        validate_only: true,
        ..CreateTopicsRequest::default()
    };
    let response = client.call(CREATE_TOPICS, &request);
    assert_eq!(response.topics[0].error_code, ErrorCode::NONE);
    assert_eq!(response.topics[0].num_partitions, 2);
    assert!(listed(&mut client).is_empty());
}

#[test]
fn of_concurrent_creations_of_one_topic_one_succeeds() {
    let server = Server::start();
    let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    let request = CreateTopicsRequest {
        topics: vec![creatable("contested", 1, &[])],
        ..CreateTopicsRequest::default()
    };
    for client in &mut clients {
        client.send(CREATE_TOPICS, &request);
    }
    let mut codes: Vec<ErrorCode> = clients
        .iter_mut()
        .map(|client| {
            client
                .receive::<CreateTopicsRequest>(CREATE_TOPICS)
                .1
                .topics[0]
                .error_code
        })
        .collect();
    codes.retain(|code| *code != ErrorCode::TOPIC_ALREADY_EXISTS);
    assert_eq!(codes, [ErrorCode::NONE]);
}

fn by_name(version: i16, name: &str) -> DeleteTopicsRequest {
    match version {
        6.. => DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(name.to_owned()),
                ..DeleteTopicState::default()
            }],
            ..DeleteTopicsRequest::default()
        },
        _ => DeleteTopicsRequest {
            topic_names: vec![name.to_owned()],
            ..DeleteTopicsRequest::default()
        },
    }
}

fn delete_one(client: &mut Client, version: i16, state: DeleteTopicState) -> DeletableTopicResult {
    let request = DeleteTopicsRequest {
        topics: vec![state],
        ..DeleteTopicsRequest::default()
    };
    client.call(version, &request).responses.remove(0)
}

#[test]
fn every_version_deletes_topics_and_their_directories() {
    let server = Server::start();
    let mut client = server.connect();
    for version in DeleteTopicsRequest::VERSIONS {
        let topic = create(&mut client, "doomed", 2);
        produce(&mut client, &topic, 1, &batch(&["x"]));
        let mut response = client.call(version, &by_name(version, "doomed"));
        let deleted = response.responses.remove(0);
        assert_eq!(deleted.name.as_deref(), Some("doomed"));
        assert_eq!(
            (deleted.error_code, deleted.error_message),
            (ErrorCode::NONE, None)
        );
        let id = if version >= 6 { topic.id } else { Uuid::nil() };
        assert_eq!(deleted.topic_id, id);
        assert!(listed(&mut client).is_empty());
        until("the directories are gone", || {
            let entries = std::fs::read_dir(server.data_dir()).unwrap();
            entries
                .flatten()
                .all(|entry| !entry.file_name().to_string_lossy().starts_with("doomed"))
        });
        let mut response = client.call(version, &by_name(version, "doomed"));
        let missing = response.responses.remove(0);
        assert_eq!(missing.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(missing.error_message.is_some(), version >= 5);
    }
}

#[test]
fn topics_are_deleted_by_name_or_id_but_not_by_both_or_neither() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "identified", 1);
    let state = |name: Option<&str>, topic_id| DeleteTopicState {
        name: name.map(str::to_owned),
        topic_id,
    };
    for wrong in [
        state(Some("identified"), topic.id),
        state(None, Uuid::nil()),
    ] {
        let refused = delete_one(&mut client, 6, wrong);
        assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST);
    }
    let unknown = delete_one(&mut client, 6, state(None, Uuid::from_u128(5)));
    assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!((unknown.name, unknown.topic_id), (None, Uuid::from_u128(5)));
    let deleted = delete_one(&mut client, 6, state(None, topic.id));
    assert_eq!(deleted.error_code, ErrorCode::NONE);
    assert_eq!(deleted.name.as_deref(), Some("identified"));
    assert!(listed(&mut client).is_empty());
}

#[test]
fn creations_and_deletions_of_topics_survive_a_kill() {
    let mut server = Server::start();
    let mut client = server.connect();
    let kept = create(&mut client, "kept", 2);
    create(&mut client, "gone", 1);
    client.call(6, &by_name(6, "gone"));
    produce(&mut client, &kept, 1, &batch(&["x"]));
    server.kill9();
    server.restart();
    let mut client = server.connect();
    assert_eq!(listed(&mut client), [("kept".to_owned(), 2)]);
    assert_eq!(fetch(&mut client, &kept, 1, 0).high_watermark, 1);
}

fn grown(name: &str, count: i32) -> CreatePartitionsRequest {
    CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: name.to_owned(),
            count,
            assignments: None,
        }],
        timeout_ms: 10_000,
        validate_only: false,
    }
}

#[test]
fn every_version_of_create_partitions_adds_usable_partitions() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "growing", 1);
    produce(&mut client, &topic, 0, &batch(&["before"]));
    let mut count = 1;
    for version in CreatePartitionsRequest::VERSIONS {
        count += 2;
        let planned = CreatePartitionsRequest {
            validate_only: true,
            ..grown("growing", count)
        };
        for request in [planned, grown("growing", count)] {
            let response = client.call(version, &request);
            let result = &response.results[0];
            assert_eq!(
                (result.name.as_str(), result.error_code),
                ("growing", ErrorCode::NONE)
            );
            assert_eq!(result.error_message, None);
            let expected = if request.validate_only {
                count - 2
            } else {
                count
            };
            assert_eq!(
                listed(&mut client),
                [("growing".to_owned(), expected as usize)]
            );
        }
        assert_eq!(produce(&mut client, &topic, count - 1, &batch(&["new"])), 0);
    }
    assert_eq!(fetch(&mut client, &topic, 0, 0).high_watermark, 1);
}

#[test]
fn invalid_partition_additions_are_refused() {
    let server = Server::with(&["--max-partitions", "20"]);
    let mut client = server.connect();
    create(&mut client, "fixed", 3);
    let assigned = |nodes: &[i32]| {
        let mut request = grown("fixed", 4);
        request.topics[0].assignments = Some(
            nodes
                .iter()
                .map(|node| CreatePartitionsAssignment {
                    broker_ids: vec![*node],
                })
                .collect(),
        );
        request
    };
    let cases = [
        (grown("missing", 4), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (grown("fixed", 3), ErrorCode::INVALID_PARTITIONS),
        (grown("fixed", 2), ErrorCode::INVALID_PARTITIONS),
        (grown("fixed", -1), ErrorCode::INVALID_PARTITIONS),
        (grown("fixed", 21), ErrorCode::POLICY_VIOLATION),
        (assigned(&[2]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[1, 1]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
    ];
    for (request, expected) in cases {
        let response = client.call(3, &request);
        assert_eq!(response.results[0].error_code, expected);
        assert!(response.results[0].error_message.is_some());
    }
    assert_eq!(
        client.call(3, &assigned(&[1])).results[0].error_code,
        ErrorCode::NONE
    );
    assert_eq!(listed(&mut client), [("fixed".to_owned(), 4)]);
}

#[test]
fn every_version_of_describe_log_dirs_returns_sizes() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "sized", 2);
    create(&mut client, "other", 1);
    let sent = batch(&["some bytes"]);
    produce(&mut client, &topic, 1, &sent);
    for version in DescribeLogDirsRequest::VERSIONS {
        let all = client.call(version, &DescribeLogDirsRequest { topics: None });
        assert_eq!(all.error_code, ErrorCode::NONE);
        let [dir] = &all.results[..] else {
            panic!("one data directory: {all:?}");
        };
        assert_eq!(dir.error_code, ErrorCode::NONE);
        assert_eq!(dir.log_dir, server.data_dir().display().to_string());
        let names: Vec<&str> = dir.topics.iter().map(|each| each.name.as_str()).collect();
        assert_eq!(names, ["other", "sized"]);
        let sizes: Vec<_> = dir.topics[1]
            .partitions
            .iter()
            .map(|each| {
                (
                    each.partition_index,
                    each.partition_size,
                    each.offset_lag,
                    each.is_future_key,
                )
            })
            .collect();
        assert_eq!(
            sizes,
            [(0, 0, 0, false), (1, sent.size_bytes() as i64, 0, false)]
        );
        if version >= 4 {
            assert!(
                dir.usable_bytes > 0 && dir.total_bytes >= dir.usable_bytes,
                "{dir:?}"
            );
        } else {
            assert_eq!((dir.total_bytes, dir.usable_bytes), (-1, -1));
        }
        let some = DescribeLogDirsRequest {
            topics: Some(vec![
                DescribableLogDirTopic {
                    topic: "sized".to_owned(),
                    partitions: vec![1, 9],
                },
                DescribableLogDirTopic {
                    topic: "missing".to_owned(),
                    partitions: vec![0],
                },
            ]),
        };
        let some = client.call(version, &some);
        let topics = &some.results[0].topics;
        assert_eq!(topics.len(), 1);
        assert_eq!(topics[0].partitions.len(), 1);
        assert_eq!(topics[0].partitions[0].partition_index, 1);
    }
}

#[tokio::test]
async fn librdkafka_assigns_partitions_to_the_only_broker() {
    let server = Server::start();
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", server.kafka_addr().to_string())
        .create()
        .unwrap();
    let options = AdminOptions::new();
    let assigned = |name| NewTopic::new(name, 2, TopicReplication::Variable(&[&[1], &[1]]));
    let elsewhere = NewTopic::new("elsewhere", 1, TopicReplication::Variable(&[&[2]]));
    let topics = [assigned("t"), elsewhere];
    let created = admin.create_topics(&topics, &options).await.unwrap();
    assert_eq!(created[0], Ok("t".to_owned()));
    let refused = created[1].as_ref().unwrap_err().1;
    assert_eq!(refused, RDKafkaErrorCode::InvalidReplicaAssignment);
    let more = NewPartitions::new("t", 4).assign(&[&[1], &[1]]);
    let added = admin.create_partitions([&more], &options).await.unwrap();
    assert_eq!(added, [Ok("t".to_owned())]);
    let other = NewPartitions::new("t", 5).assign(&[&[2]]);
    let added = admin.create_partitions([&other], &options).await.unwrap();
    let refused = added[0].as_ref().unwrap_err().1;
    assert_eq!(refused, RDKafkaErrorCode::InvalidReplicaAssignment);
    assert_eq!(listed(&mut server.connect()), [("t".to_owned(), 4)]);
}

#[test]
fn a_request_creates_a_bounded_number_of_partitions() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "t", 1);
    let request = |first: i32, second: i32| CreateTopicsRequest {
        topics: vec![creatable("a", first, &[]), creatable("b", second, &[])],
        validate_only: true,
        ..CreateTopicsRequest::default()
    };
    for (second, expected) in [
        (5_000, ErrorCode::NONE),
        (5_001, ErrorCode::POLICY_VIOLATION),
    ] {
        let response = client.call(CREATE_TOPICS, &request(5_000, second));
        for topic in response.topics {
            assert_eq!(topic.error_code, expected, "{topic:?}");
        }
    }
    for (count, expected) in [
        (10_001, ErrorCode::NONE),
        (10_002, ErrorCode::POLICY_VIOLATION),
    ] {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: "t".to_owned(),
                count,
                assignments: None,
            }],
            validate_only: true,
            ..CreatePartitionsRequest::default()
        };
        let response = client.call(3, &request);
        assert_eq!(response.results[0].error_code, expected);
    }
}
