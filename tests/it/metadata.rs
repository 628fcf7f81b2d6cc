//! Tests of Metadata, ApiVersions, DescribeCluster and SaslHandshake.

use streamline::handlers::{APIS, Api};
use streamline::protocol::kafka::{ApiKey, ErrorCode, Request, decode_response};
use streamline::protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use streamline::protocol::messages::create_topics::CreateTopicsRequest;
use streamline::protocol::messages::describe_cluster::DescribeClusterRequest;
use streamline::protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use streamline::protocol::messages::sasl_handshake::SaslHandshakeRequest;
use uuid::Uuid;

use crate::kafka::{CREATE_TOPICS, creatable, create};
use crate::support::{Client, Server};

const METADATA: i16 = 13;

fn named(names: &[&str]) -> MetadataRequest {
    MetadataRequest {
        topics: Some(
            names
                .iter()
                .map(|name| MetadataRequestTopic {
                    name: Some(name.to_string()),
                    ..MetadataRequestTopic::default()
                })
                .collect(),
        ),
        ..MetadataRequest::default()
    }
}

fn by_id(id: Uuid) -> MetadataRequest {
    MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            topic_id: id,
            name: None,
        }]),
        ..MetadataRequest::default()
    }
}

fn names(response: &MetadataResponse) -> Vec<&str> {
    let name = |topic: &'_ MetadataResponseTopic| topic.name.is_some();
    assert!(response.topics.iter().all(name));
    response
        .topics
        .iter()
        .filter_map(|topic| topic.name.as_deref())
        .collect()
}

#[test]
fn every_version_of_metadata_returns_the_leaders_of_partitions() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "located", 3);
    let address = server.kafka_addr();
    for version in MetadataRequest::VERSIONS {
        let response = client.call(version, &named(&["located"]));
        let [node] = &response.brokers[..] else {
            panic!("one broker: {response:?}");
        };
        assert_eq!(node.node_id, 1);
        assert_eq!(node.host, address.ip().to_string());
        assert_eq!(node.port, i32::from(address.port()));
        assert_eq!(node.rack, None);
        assert_eq!(response.controller_id, if version >= 1 { 1 } else { -1 });
        assert_eq!(response.cluster_id.is_some(), version >= 2);
        let [described] = &response.topics[..] else {
            panic!("one topic: {response:?}");
        };
        assert_eq!(described.error_code, ErrorCode::NONE);
        assert_eq!(described.name.as_deref(), Some("located"));
        let id = if version >= 10 { topic.id } else { Uuid::nil() };
        assert_eq!(described.topic_id, id);
        assert!(!described.is_internal);
        let indexes: Vec<i32> = described
            .partitions
            .iter()
            .map(|each| each.partition_index)
            .collect();
        assert_eq!(indexes, [0, 1, 2]);
        for partition in &described.partitions {
            assert_eq!(partition.error_code, ErrorCode::NONE);
            assert_eq!(partition.leader_id, 1);
            assert_eq!(partition.leader_epoch, if version >= 7 { 0 } else { -1 });
            assert_eq!(
                (&partition.replica_nodes[..], &partition.isr_nodes[..]),
                (&[1][..], &[1][..])
            );
            assert!(partition.offline_replicas.is_empty());
        }
    }
}

#[test]
fn all_topics_or_none_are_requested_as_each_version_defines() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "b", 1);
    create(&mut client, "a", 1);
    let (none, all) = (
        named(&[]),
        MetadataRequest {
            topics: None,
            ..MetadataRequest::default()
        },
    );
    assert_eq!(names(&client.call(0, &none)), ["a", "b"]);
    for version in 1..=METADATA {
        assert_eq!(
            names(&client.call(version, &all)),
            ["a", "b"],
            "version {version}"
        );
        assert!(
            client.call(version, &none).topics.is_empty(),
            "version {version}"
        );
    }
}

/// librdkafka 2.16 reserves four bytes for the number of topics and leaves them all in its request for all topics. Kafka
/// decodes three of them as the fields that follow, and ignores the bytes left over.
#[test]
fn bytes_after_the_end_of_a_request_are_ignored() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "listed", 1);
    let header = b"\x00\x03\x00\x0d\x00\x00\x00\x2a\x00\x07rdkafka\x00";
    let body = b"\x00\x00\x00\x00\x01\x00\x00";
    let mut frame = Vec::from(((header.len() + body.len()) as i32).to_be_bytes());
    frame.extend_from_slice(header);
    frame.extend_from_slice(body);
    client.send_raw(&frame).unwrap();
    let (correlation_id, response) = client.receive::<MetadataRequest>(METADATA);
    assert_eq!(correlation_id, 42);
    assert_eq!(names(&response), ["listed"]);
    assert!(!client.is_refused());
}

#[test]
fn topics_are_auto_created_if_client_and_server_allow_it() {
    let willing = Server::with(&["--default-partitions", "2"]);
    let mut client = willing.connect();
    let without = MetadataRequest {
        allow_auto_topic_creation: false,
        ..named(&["wanted"])
    };
    let refused = client.call(METADATA, &without);
    assert_eq!(
        refused.topics[0].error_code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
    let created = client.call(METADATA, &named(&["wanted"]));
    assert_eq!(created.topics[0].error_code, ErrorCode::NONE);
    assert_eq!(created.topics[0].partitions.len(), 2);
    assert!(!created.topics[0].topic_id.is_nil());
    let again = client.call(METADATA, &without);
    assert_eq!(again.topics[0].topic_id, created.topics[0].topic_id);
    // Versions before 4 cannot disable auto-creation, so they allow it.
    let old = client.call(3, &named(&["by-an-old-client"]));
    assert_eq!(old.topics[0].error_code, ErrorCode::NONE);

    let unwilling = Server::with(&["--auto-create-topics", "off"]);
    let mut client = unwilling.connect();
    let refused = client.call(METADATA, &named(&["wanted"]));
    assert_eq!(
        refused.topics[0].error_code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
}

#[test]
fn invalid_names_are_reported_as_invalid_and_not_as_unknown() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "dotted.name", 1);
    for name in ["", "..", "with space", "ümlaut", &"x".repeat(250)] {
        for allow_auto_topic_creation in [false, true] {
            let request = MetadataRequest {
                allow_auto_topic_creation,
                ..named(&[name])
            };
            let refused = client.call(METADATA, &request);
            assert_eq!(
                refused.topics[0].error_code,
                ErrorCode::INVALID_TOPIC_EXCEPTION,
                "{name:?}"
            );
            assert_eq!(refused.topics[0].name.as_deref(), Some(name));
        }
    }
    // A valid name that differs from an existing one only in '.' and '_': as in Kafka, it is invalid only when the topic
    // would be created.
    for (allow_auto_topic_creation, code) in [
        (false, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (true, ErrorCode::INVALID_TOPIC_EXCEPTION),
    ] {
        let request = MetadataRequest {
            allow_auto_topic_creation,
            ..named(&["dotted_name"])
        };
        let refused = client.call(METADATA, &request);
        assert_eq!(refused.topics[0].error_code, code);
    }
}

#[test]
fn topics_are_found_by_id_from_version_12() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "identified", 1);
    for version in [12, 13] {
        let found = client.call(version, &by_id(topic.id));
        assert_eq!(names(&found), ["identified"]);
        let unknown = client.call(version, &by_id(Uuid::from_u128(9)));
        assert_eq!(unknown.topics[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
        assert_eq!(unknown.topics[0].name, None);
        assert_eq!(unknown.topics[0].topic_id, Uuid::from_u128(9));
    }
    for version in [10, 11] {
        let refused = client.call(version, &by_id(topic.id));
        assert_eq!(refused.topics[0].error_code, ErrorCode::INVALID_REQUEST);
    }
}

#[test]
fn authorized_operations_are_returned_only_on_request() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "topic", 1);
    let asking = MetadataRequest {
        include_cluster_authorized_operations: true,
        include_topic_authorized_operations: true,
        ..named(&["topic"])
    };
    for version in 8..=10 {
        let requested = client.call(version, &asking);
        assert!(requested.cluster_authorized_operations > 0);
        assert!(requested.topics[0].topic_authorized_operations > 0);
        let silent = client.call(version, &named(&["topic"]));
        assert_eq!(silent.cluster_authorized_operations, i32::MIN);
        assert_eq!(silent.topics[0].topic_authorized_operations, i32::MIN);
    }
}

#[test]
fn the_advertised_address_replaces_the_one_the_client_connected_to() {
    let server = Server::with(&["--advertised-addr", "kafka.example:19092"]);
    let mut client = server.connect();
    let node = &client.call(METADATA, &named(&[])).brokers[0];
    assert_eq!((node.host.as_str(), node.port), ("kafka.example", 19092));
    let cluster = client.call(2, &DescribeClusterRequest::default());
    assert_eq!(cluster.brokers[0].host, "kafka.example");
}

#[test]
fn every_version_of_describe_cluster_returns_the_only_node() {
    let server = Server::start();
    let mut client = server.connect();
    let cluster_id = client.call(METADATA, &named(&[])).cluster_id.unwrap();
    for version in DescribeClusterRequest::VERSIONS {
        for include_cluster_authorized_operations in [false, true] {
            let request = DescribeClusterRequest {
                include_cluster_authorized_operations,
                ..DescribeClusterRequest::default()
            };
            let response = client.call(version, &request);
            assert_eq!(
                (response.error_code, response.error_message),
                (ErrorCode::NONE, None)
            );
            assert_eq!(
                (&response.cluster_id, response.controller_id),
                (&cluster_id, 1)
            );
            assert_eq!(response.brokers.len(), 1);
            assert_eq!(response.brokers[0].broker_id, 1);
            assert_eq!(
                response.brokers[0].port,
                i32::from(server.kafka_addr().port())
            );
            let operations = response.cluster_authorized_operations;
            assert_eq!(operations > 0, include_cluster_authorized_operations);
        }
    }
    for (endpoint_type, expected) in [
        (2, ErrorCode::MISMATCHED_ENDPOINT_TYPE),
        (3, ErrorCode::UNSUPPORTED_ENDPOINT_TYPE),
    ] {
        let request = DescribeClusterRequest {
            endpoint_type,
            ..DescribeClusterRequest::default()
        };
        let refused = client.call(1, &request);
        assert_eq!(refused.error_code, expected);
        assert!(refused.error_message.is_some());
    }
}

fn introduced(name: &str, version: &str) -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: name.to_owned(),
        client_software_version: version.to_owned(),
        ..ApiVersionsRequest::default()
    }
}

#[test]
fn every_version_of_api_versions_lists_the_supported_apis() {
    let server = Server::start();
    let mut client = server.connect();
    for version in ApiVersionsRequest::VERSIONS {
        let response = client.call(version, &introduced("test-client", "1.0.0"));
        assert_eq!(response.error_code, ErrorCode::NONE);
        let offered = |api: &&Api| api.key != ApiKey::SaslHandshake;
        assert_eq!(response.api_keys.len(), APIS.len() - 1);
        for api in APIS.iter().filter(offered) {
            let listed = response
                .api_keys
                .iter()
                .find(|each| each.api_key == api.key as i16);
            let listed = listed.unwrap_or_else(|| panic!("{} is missing", api.key));
            assert_eq!(listed.max_version, *api.versions.end(), "{}", api.key);
            let lowest = if api.key == ApiKey::Produce {
                0
            } else {
                *api.versions.start()
            };
            assert_eq!(listed.min_version, lowest, "{}", api.key);
        }
        let features = response.supported_features.iter();
        let transactions = features.filter(|it| it.name == "transaction.version");
        let levels: Vec<_> = transactions
            .map(|it| it.min_version..=it.max_version)
            .collect();
        let expected = match version {
            ..=3 => vec![],
            _ => vec![0..=2],
        };
        assert_eq!(levels, expected, "{version}");
    }
}

/// A Java client configured to authenticate sends its handshake although ApiVersions does not list it.
#[test]
fn sasl_handshakes_are_refused_with_an_error_and_a_log_line() {
    let server = Server::start();
    let mut client = server.connect();
    for version in SaslHandshakeRequest::VERSIONS {
        let mechanism = "PLAIN".to_owned();
        let refused = client.call(version, &SaslHandshakeRequest { mechanism });
        assert_eq!(refused.error_code, ErrorCode::ILLEGAL_SASL_STATE);
        assert!(refused.mechanisms.is_empty());
    }
    let advice = "SASL is not supported, set security.protocol=PLAINTEXT";
    assert_eq!(server.log().matches(advice).count(), 1, "once a minute");
}

#[test]
fn an_unsupported_version_of_api_versions_is_answered_in_version_0() {
    let server = Server::start();
    let mut client = server.connect();
    // A header with client id and tags, and a body of an unknown version.
    let mut frame = vec![0, 0, 0, 17, 0, 18, 0, 99, 0, 0, 0, 7, 0, 1, b'x', 0];
    frame.extend([1, 2, 3, 4, 5]);
    client.send_raw(&frame).unwrap();
    let answer = client.receive_frame().unwrap();
    let (id, response): (i32, ApiVersionsResponse) =
        decode_response::<ApiVersionsRequest>(answer, 0).unwrap();
    assert_eq!(
        (id, response.error_code),
        (7, ErrorCode::UNSUPPORTED_VERSION)
    );
    let [own] = &response.api_keys[..] else {
        panic!("only its own range: {response:?}");
    };
    assert_eq!((own.api_key, own.min_version, own.max_version), (18, 0, 5));
    // The connection stays open, since the client retries on it.
    let retried = client.call(4, &introduced("test-client", "1.0.0"));
    assert_eq!(retried.error_code, ErrorCode::NONE);
}

#[test]
fn invalid_client_software_names_are_refused_and_logged() {
    let server = Server::start();
    let mut client = server.connect();
    for (name, version) in [
        ("", "1"),
        ("a b", "1"),
        ("a\n", "1"),
        ("a", ""),
        ("a", "-1"),
    ] {
        for api_version in [3, 4] {
            let refused = client.call(api_version, &introduced(name, version));
            assert_eq!(
                refused.error_code,
                ErrorCode::INVALID_REQUEST,
                "{name:?} {version:?}"
            );
        }
    }
    let refused = [("reason", "client_software")];
    let counted = server
        .metrics()
        .value("streamline_requests_rejected_total", &refused);
    assert_eq!(counted, Some(10.0));
    // The connection stays open, as in Kafka, and one log line names the client and the reason.
    let accepted = client.call(4, &introduced("a-b.c", "1"));
    assert_eq!(accepted.error_code, ErrorCode::NONE);
    let log = server.log();
    let mut lines = log
        .lines()
        .filter(|line| line.contains("ApiVersions refused"));
    let line = lines.next().unwrap();
    for words in [
        "peer=127.0.0.1:",
        r#"reason="client_software""#,
        r#"client_id="test" software="" version="1" silenced=0"#,
    ] {
        assert!(line.contains(words), "{words} in {line}");
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn kafkas_internal_topics_are_not_created_and_requests_for_them_are_logged() {
    let server = Server::start();
    let mut client: Client = server.connect();
    let internal = [
        "__consumer_offsets",
        "__transaction_state",
        "__share_group_state",
        "__cluster_metadata",
    ];
    for _ in 0..2 {
        let request = MetadataRequest {
            allow_auto_topic_creation: true,
            ..named(&internal)
        };
        let response = client.call(METADATA, &request);
        assert_eq!(response.topics.len(), internal.len());
        for topic in &response.topics {
            let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            assert_eq!((topic.error_code, topic.is_internal), (unknown, true));
        }
        for validate_only in [true, false] {
            let topics = internal.map(|name| creatable(name, 1, &[]));
            let request = CreateTopicsRequest {
                topics: topics.into(),
                validate_only,
                ..CreateTopicsRequest::default()
            };
            for refused in client.call(CREATE_TOPICS, &request).topics {
                assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST);
                let message = refused.error_message.unwrap();
                assert!(message.contains("internal"), "{message}");
            }
        }
    }
    let all = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    assert!(client.call(METADATA, &all).topics.is_empty());
    let log = server.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("internal Kafka topic requested"))
        .collect();
    assert_eq!(lines.len(), internal.len(), "once a minute: {log}");
    let line = lines[0];
    for part in [
        r#"topic="__consumer_offsets""#,
        r#"client_id="test""#,
        "peer=127.0.0.1:",
        "OffsetFetch",
        "/metrics",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}
