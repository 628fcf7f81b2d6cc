//! Client quotas: their description and change, and what happens to clients that exceed them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use streamline::protocol::kafka::{ErrorCode, Request};
use streamline::protocol::messages::alter_client_quotas::{
    self as alter, AlterClientQuotasRequest, OpData,
};
use streamline::protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use streamline::protocol::messages::create_topics::CreateTopicsRequest;
use streamline::protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use streamline::protocol::messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};
use streamline::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use streamline::protocol::messages::produce::ProduceRequest;

use crate::kafka::{
    FETCH, PRODUCE, Topic, batch, creatable, create, fetch_request, only, produce, produce_request,
    records_of, size_of,
};
use crate::support::{Client, Server};

/// A window of one full second and the current one, so that tests take seconds and not minutes.
const SHORT_WINDOW: [&str; 2] = ["--quota-window-num", "2"];

const VERSION: i16 = 1;
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

type Component<'a> = (&'a str, Option<&'a str>);

fn entry(entity: &[Component<'_>], ops: &[(&str, Option<f64>)]) -> alter::EntryData {
    alter::EntryData {
        entity: entity
            .iter()
            .map(|(entity_type, name)| alter::EntityData {
                entity_type: (*entity_type).to_owned(),
                entity_name: name.map(str::to_owned),
            })
            .collect(),
        ops: ops
            .iter()
            .map(|(key, value)| OpData {
                key: (*key).to_owned(),
                value: value.unwrap_or_default(),
                remove: value.is_none(),
            })
            .collect(),
    }
}

fn alter(client: &mut Client, version: i16, entries: Vec<alter::EntryData>) -> Vec<ErrorCode> {
    let request = AlterClientQuotasRequest {
        entries,
        validate_only: false,
    };
    let response = client.call(version, &request);
    response.entries.iter().map(|it| it.error_code).collect()
}

#[track_caller]
fn set(client: &mut Client, entity: &[Component<'_>], key: &str, value: f64) {
    let codes = alter(client, VERSION, vec![entry(entity, &[(key, Some(value))])]);
    assert_eq!(codes, [ErrorCode::NONE]);
}

fn describe(
    client: &mut Client,
    version: i16,
    components: &[(&str, i8, Option<&str>)],
    strict: bool,
) -> DescribeClientQuotasResponse {
    let request = DescribeClientQuotasRequest {
        components: components
            .iter()
            .map(|(entity_type, match_type, name)| ComponentData {
                entity_type: (*entity_type).to_owned(),
                match_type: *match_type,
                r#match: name.map(str::to_owned),
            })
            .collect(),
        strict,
    };
    client.call(version, &request)
}

/// Returns the described entities and their quotas as text.
#[track_caller]
fn described(
    client: &mut Client,
    components: &[(&str, i8, Option<&str>)],
    strict: bool,
) -> Vec<String> {
    let response = describe(client, VERSION, components, strict);
    assert_eq!(response.error_code, ErrorCode::NONE);
    let entries = response.entries.expect("a list");
    let mut texts: Vec<String> = entries
        .iter()
        .map(|entry| {
            let components = entry.entity.iter().map(|it| {
                let name = it.entity_name.as_deref().unwrap_or("<default>");
                format!("{}={name}", it.entity_type)
            });
            let values = entry
                .values
                .iter()
                .map(|it| format!("{}={}", it.key, it.value));
            let texts: Vec<String> = components.chain(values).collect();
            texts.join(" ")
        })
        .collect();
    texts.sort();
    texts
}

#[test]
fn quotas_are_set_described_and_removed_in_every_version_and_survive_a_kill() {
    let mut server = Server::start();
    let mut client = server.connect();
    for version in AlterClientQuotasRequest::VERSIONS {
        let name = format!("v{version}");
        let both = [("user", Some("a")), ("client-id", Some(&*name))];
        let entries = vec![
            entry(
                &both,
                &[
                    ("producer_byte_rate", Some(1024.0)),
                    ("request_percentage", Some(0.5)),
                ],
            ),
            entry(&[("user", None)], &[("consumer_byte_rate", Some(10.0))]),
            entry(
                &[("ip", Some("10.0.0.1"))],
                &[("connection_creation_rate", Some(5.0))],
            ),
        ];
        assert_eq!(alter(&mut client, version, entries), [ErrorCode::NONE; 3]);
        let response = describe(&mut client, version, &[], false);
        assert_eq!(
            response.entries.expect("a list").len(),
            3 + version as usize
        );
    }
    assert_eq!(
        server.metrics().value("streamline_quota_entities", &[]),
        Some(4.0)
    );
    server.kill9();
    server.restart();
    let mut client = server.connect();
    let all = [
        "ip=10.0.0.1 connection_creation_rate=5",
        "user=<default> consumer_byte_rate=10",
        "user=a client-id=v0 producer_byte_rate=1024 request_percentage=0.5",
        "user=a client-id=v1 producer_byte_rate=1024 request_percentage=0.5",
    ];
    assert_eq!(described(&mut client, &[], false), all);
    let removed = vec![
        entry(
            &[("ip", Some("10.0.0.1"))],
            &[("connection_creation_rate", None)],
        ),
        entry(
            &[("client-id", Some("v0")), ("user", Some("a"))],
            &[
                ("producer_byte_rate", None),
                ("controller_mutation_rate", None),
            ],
        ),
    ];
    assert_eq!(alter(&mut client, VERSION, removed), [ErrorCode::NONE; 2]);
    let left = [all[1], "user=a client-id=v0 request_percentage=0.5", all[3]];
    assert_eq!(described(&mut client, &[], false), left);
}

#[test]
fn filters_match_names_defaults_and_any() {
    let server = Server::start();
    let mut client = server.connect();
    for entity in [
        &[("user", Some("a"))][..],
        &[("user", None)],
        &[("client-id", Some("c"))],
        &[("user", Some("a")), ("client-id", Some("c"))],
        &[("user", Some("b")), ("client-id", None)],
    ] {
        set(&mut client, entity, "producer_byte_rate", 1.0);
    }
    let mut found = |components: &[(&str, i8, Option<&str>)], strict| {
        let texts = described(&mut client, components, strict);
        let entity = |text: &String| text.replace(" producer_byte_rate=1", "");
        let mut entities: Vec<_> = texts.iter().map(entity).collect();
        entities.sort();
        entities
    };
    let user_a = ("user", EXACT, Some("a"));
    assert_eq!(found(&[user_a], false), ["user=a", "user=a client-id=c"]);
    assert_eq!(found(&[user_a], true), ["user=a"]);
    assert_eq!(found(&[("user", DEFAULT, None)], true), ["user=<default>"]);
    assert_eq!(
        found(&[("user", SPECIFIED, None)], true),
        ["user=<default>", "user=a"]
    );
    let any_client = ("client-id", SPECIFIED, None);
    assert_eq!(
        found(&[any_client], false),
        [
            "client-id=c",
            "user=a client-id=c",
            "user=b client-id=<default>"
        ]
    );
    assert_eq!(found(&[user_a, any_client], true), ["user=a client-id=c"]);
    assert_eq!(found(&[("ip", SPECIFIED, None)], false), [""; 0]);
    assert_eq!(found(&[], true), [""; 0]);
}

#[test]
fn invalid_filters_are_refused_with_kafkas_codes() {
    let server = Server::start();
    let mut client = server.connect();
    let invalid: &[&[(&str, i8, Option<&str>)]] = &[
        &[("", EXACT, Some("a"))],
        &[("user", EXACT, Some("a")), ("user", DEFAULT, None)],
        &[("user", EXACT, None)],
        &[("user", DEFAULT, Some("a"))],
        &[("user", SPECIFIED, Some("a"))],
        &[("user", 7, None)],
        &[("ip", SPECIFIED, None), ("user", SPECIFIED, None)],
    ];
    for components in invalid {
        let refused = describe(&mut client, VERSION, components, false);
        assert_eq!(
            refused.error_code,
            ErrorCode::INVALID_REQUEST,
            "{components:?}"
        );
        assert_eq!(refused.entries, None);
    }
    let unknown = describe(&mut client, VERSION, &[("group", DEFAULT, None)], false);
    assert_eq!(unknown.error_code, ErrorCode::UNSUPPORTED_VERSION);
}

#[test]
fn invalid_quotas_are_refused_and_leave_the_entity_as_it_was() {
    let server = Server::start();
    let mut client = server.connect();
    let user: &[Component<'_>] = &[("user", Some("a"))];
    let ip: &[Component<'_>] = &[("ip", Some("127.0.0.1"))];
    let invalid = [
        (&[][..], "producer_byte_rate", 1.0),
        (&[("group", Some("g"))], "producer_byte_rate", 1.0),
        (&[("user", Some(""))], "producer_byte_rate", 1.0),
        (
            &[("user", Some("a")), ("ip", Some("127.0.0.1"))],
            "producer_byte_rate",
            1.0,
        ),
        (
            &[("ip", Some("no such host."))],
            "connection_creation_rate",
            1.0,
        ),
        (user, "connection_creation_rate", 1.0),
        (ip, "producer_byte_rate", 1.0),
        (user, "unknown", 1.0),
        (user, "producer_byte_rate", 0.0),
        (user, "producer_byte_rate", -1.0),
        (user, "producer_byte_rate", 1.5),
        (user, "producer_byte_rate", 1e19),
        (user, "request_percentage", f64::NAN),
        (user, "request_percentage", f64::INFINITY),
        (ip, "connection_creation_rate", 3e9),
        (ip, "connection_creation_rate", 0.5),
    ];
    for (entity, key, value) in invalid {
        let ops = [("consumer_byte_rate", Some(1.0)), (key, Some(value))];
        let codes = alter(&mut client, VERSION, vec![entry(entity, &ops)]);
        assert_eq!(
            codes,
            [ErrorCode::INVALID_REQUEST],
            "{entity:?} {key}={value}"
        );
    }
    let twice = [
        ("consumer_byte_rate", Some(1.0)),
        ("consumer_byte_rate", None),
    ];
    let entries = vec![
        entry(user, &twice),
        entry(&[("user", Some("b"))], &[("consumer_byte_rate", Some(1.0))]),
        entry(&[("user", Some("c"))], &[("consumer_byte_rate", Some(1.0))]),
        entry(&[("user", Some("b"))], &[("producer_byte_rate", Some(1.0))]),
    ];
    let refused = ErrorCode::INVALID_REQUEST;
    let codes = alter(&mut client, VERSION, entries);
    assert_eq!(codes, [refused, refused, ErrorCode::NONE]);
    assert_eq!(
        described(&mut client, &[], false),
        ["user=c consumer_byte_rate=1"]
    );
}

#[test]
fn validation_alone_changes_nothing() {
    let server = Server::start();
    let mut client = server.connect();
    let request = AlterClientQuotasRequest {
        entries: vec![
            entry(&[("user", None)], &[("producer_byte_rate", Some(1.0))]),
            entry(
                &[("user", None), ("client-id", None)],
                &[("nonsense", Some(1.0))],
            ),
        ],
        validate_only: true,
    };
    let response = client.call(VERSION, &request);
    let codes: Vec<_> = response.entries.iter().map(|it| it.error_code).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::INVALID_REQUEST]);
    assert!(described(&mut client, &[], false).is_empty());
}

/// Produces at full speed, in spite of the throttle times in the responses. Returns how long that takes.
fn produce_blindly(client: &mut Client, topic: &Topic, batches: usize) -> Duration {
    let value = "x".repeat(250_000);
    let records = batch(&[&value]).bytes().clone();
    let began = Instant::now();
    let mut throttled = 0;
    for _ in 0..batches {
        client.send(PRODUCE, &produce_request(topic, 1, &[(0, records.clone())]));
    }
    for _ in 0..batches {
        let (_, response) = client.receive::<ProduceRequest>(PRODUCE);
        let code = response.responses[0].partition_responses[0].error_code;
        assert_eq!(code, ErrorCode::NONE);
        throttled += usize::from(response.throttle_time_ms > 0);
    }
    assert!(throttled >= batches / 4, "{throttled} of {batches}");
    began.elapsed()
}

#[test]
fn a_producer_that_ignores_the_throttle_time_gets_its_rate_nevertheless() {
    let server = Server::with(&SHORT_WINDOW);
    let mut client = server.connect();
    let topic = create(&mut client, "limited", 1);
    set(
        &mut client,
        &[("client-id", Some("test"))],
        "producer_byte_rate",
        1e6,
    );
    // At most two seconds' worth may be ahead of 1 MB a second.
    let took = produce_blindly(&mut client, &topic, 20);
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(took <= Duration::from_secs(30), "{took:?}");
    let metrics = server.metrics();
    let labels = [("api_key", "produce"), ("quota", "producer_byte_rate")];
    let throttled = metrics.value("streamline_requests_throttled_total", &labels);
    assert!(throttled.is_some_and(|count| count >= 5.0), "{throttled:?}");
    let seconds = metrics.value("streamline_throttle_seconds_total", &labels);
    assert!(seconds.is_some_and(|seconds| seconds >= 2.0), "{seconds:?}");
}

#[test]
fn a_producer_without_acks_is_held_up_as_well() {
    let server = Server::with(&SHORT_WINDOW);
    let mut client = server.connect();
    let topic = create(&mut client, "limited", 1);
    set(
        &mut client,
        &[("user", Some("ANONYMOUS"))],
        "producer_byte_rate",
        1e6,
    );
    let records = batch(&[&"x".repeat(900_000)]).bytes().clone();
    let began = Instant::now();
    for _ in 0..3 {
        client.send(
            PRODUCE,
            &produce_request(&topic, 0, &[(0, records.clone())]),
        );
    }
    produce(&mut client, &topic, 0, &batch(&["last"]));
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_consumer_over_its_rate_gets_an_empty_response_and_later_all_records() {
    let server = Server::with(&SHORT_WINDOW);
    let mut client = server.connect();
    let topic = create(&mut client, "limited", 1);
    let records = batch(&[&"x".repeat(100_000)]);
    for _ in 0..20 {
        produce(&mut client, &topic, 0, &records);
    }
    set(
        &mut client,
        &[("client-id", None)],
        "consumer_byte_rate",
        500_000.0,
    );
    let began = Instant::now();
    let (mut offset, mut empty) = (0, 0);
    while offset < 20 {
        let response = client.call(FETCH, &fetch_request(&topic, &[(0, offset)]));
        if response.throttle_time_ms > 0 {
            assert!(response.responses.is_empty());
            empty += 1;
            continue;
        }
        let data = only(response);
        assert!(size_of(&data) <= 500_000);
        offset += records_of(&data).len() as i64;
    }
    // 2 MB at 0.5 MB a second, of which two seconds' worth may be ahead.
    assert!(empty > 0);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
    let labels = [("api_key", "fetch"), ("quota", "consumer_byte_rate")];
    let throttled = server
        .metrics()
        .value("streamline_requests_throttled_total", &labels);
    assert_eq!(throttled, Some(f64::from(empty)));
}

#[test]
fn request_time_is_limited_for_every_api() {
    let server = Server::with(&SHORT_WINDOW);
    let mut client = server.connect();
    set(&mut client, &[("user", None)], "request_percentage", 0.001);
    let mut throttled = 0;
    while throttled < 2 {
        let response = client.call(9, &MetadataRequest::default());
        // At most one sample.
        assert!(response.throttle_time_ms <= 1000);
        throttled += i32::from(response.throttle_time_ms > 0);
    }
    let labels = [("api_key", "metadata"), ("quota", "request_percentage")];
    let counted = server
        .metrics()
        .value("streamline_requests_throttled_total", &labels);
    assert_eq!(counted, Some(2.0));
    // Without the quota, nothing is throttled any more.
    let entries = vec![entry(&[("user", None)], &[("request_percentage", None)])];
    alter(&mut client, VERSION, entries);
    for _ in 0..100 {
        assert_eq!(
            client.call(9, &MetadataRequest::default()).throttle_time_ms,
            0
        );
    }
}

fn create_topics(
    client: &mut Client,
    version: i16,
    name: &str,
    partitions: i32,
) -> (ErrorCode, i32) {
    let request = CreateTopicsRequest {
        topics: vec![creatable(name, partitions, &[])],
        ..CreateTopicsRequest::default()
    };
    let response = client.call(version, &request);
    (response.topics[0].error_code, response.throttle_time_ms)
}

#[test]
fn changes_of_topics_beyond_the_quota_are_refused_and_for_old_clients_delayed() {
    let server = Server::with(&SHORT_WINDOW);
    let mut client = server.connect();
    set(
        &mut client,
        &[("user", None)],
        "controller_mutation_rate",
        4.0,
    );
    // Eight changes are allowed at once; the others are a debt of 13 s.
    let exceeded = ErrorCode::THROTTLING_QUOTA_EXCEEDED;
    let created = create_topics(&mut client, 7, "first", 60);
    assert_eq!(created, (ErrorCode::NONE, 0));
    let (code, throttled) = create_topics(&mut client, 7, "second", 1);
    assert_eq!(code, exceeded);
    assert!((1..=13_000).contains(&throttled), "{throttled}");
    // The same client, but connections that are not paused.
    let mut client = server.connect();
    let more = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: "first".to_owned(),
            count: 61,
            assignments: None,
        }],
        ..CreatePartitionsRequest::default()
    };
    let refused = client.call(3, &more);
    assert_eq!(refused.results[0].error_code, exceeded);
    assert!(refused.throttle_time_ms > 0);
    let mut other = server.connect();
    let (code, throttled) = create_topics(&mut other, 5, "old", 40);
    assert_eq!(code, ErrorCode::NONE);
    assert!(throttled > 5_000, "{throttled}");
    let mut other = server.connect();
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some("first".to_owned()),
            ..DeleteTopicState::default()
        }],
        ..DeleteTopicsRequest::default()
    };
    let refused = other.call(6, &request);
    assert_eq!(refused.responses[0].error_code, exceeded);
    let mut other = server.connect();
    let response = other.call(
        9,
        &MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some("mentioned".to_owned()),
                ..MetadataRequestTopic::default()
            }]),
            allow_auto_topic_creation: true,
            ..MetadataRequest::default()
        },
    );
    assert_eq!(response.throttle_time_ms, 0);
    let code = response.topics[0].error_code;
    assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn new_connections_beyond_the_rate_of_their_address_are_closed() {
    let server = Server::with(&SHORT_WINDOW);
    let mut client = server.connect();
    let localhost: &[Component<'_>] = &[("ip", Some("localhost"))];
    set(&mut client, localhost, "connection_creation_rate", 1.0);
    let clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    let refused = clients.into_iter().map(|mut it| it.is_refused());
    let refused = refused.filter(|it| *it).count();
    assert!((1..=19).contains(&refused), "{refused}");
    let labels = [("reason", "rate_from_address")];
    let counted = server
        .metrics()
        .value("streamline_connections_rejected_total", &labels);
    assert_eq!(counted, Some(refused as f64));
    // Those that are open are not affected.
    let removed = vec![entry(localhost, &[("connection_creation_rate", None)])];
    assert_eq!(alter(&mut client, VERSION, removed), [ErrorCode::NONE]);
    for _ in 0..20 {
        assert!(!server.connect().is_refused());
    }
}

#[test]
fn a_request_larger_than_the_window_is_served_and_paid_for_afterwards() {
    let mut server = Server::with(&SHORT_WINDOW);
    let mut client = server.connect();
    let topic = create(&mut client, "limited", 1);
    set(
        &mut client,
        &[("client-id", Some("test"))],
        "producer_byte_rate",
        1.0,
    );
    let records: Bytes = batch(&["much more than one byte"]).bytes().clone();
    let response = client.call(PRODUCE, &produce_request(&topic, 1, &[(0, records)]));
    let code = response.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ErrorCode::NONE);
    assert!(response.throttle_time_ms > 10_000);
    // The server stops in spite of the pause.
    assert!(server.terminate().success());
}
