//! Tests of DescribeConfigs, AlterConfigs and IncrementalAlterConfigs.

use streamline::config::{TOPIC_CONFIGS, settings};
use streamline::protocol::kafka::{ErrorCode, Request};
use streamline::protocol::messages::alter_configs::{self, AlterConfigsRequest};
use streamline::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResult,
};
use streamline::protocol::messages::incremental_alter_configs::{
    self, IncrementalAlterConfigsRequest,
};
use streamline::protocol::messages::list_config_resources::ListConfigResourcesRequest;
use streamline::record::Compression;

use crate::kafka::{
    PRODUCE, batch, batch_in, batches_of, create, create_with, fetch, produce, produce_request,
    try_produce,
};
use crate::support::{Client, Server, until};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

const OF_TOPIC: i8 = 1;
const OF_SERVER: i8 = 4;
const DEFAULT: i8 = 5;

const BOOLEAN: i8 = 1;
const DOUBLE: i8 = 6;

fn describe(
    client: &mut Client,
    version: i16,
    resource_type: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type,
            resource_name: name.to_owned(),
            configuration_keys: keys.map(|keys| keys.iter().map(|key| key.to_string()).collect()),
        }],
        include_synonyms: true,
        include_documentation: version >= 3,
    };
    let result = client.call(version, &request).results.remove(0);
    assert_eq!(
        (result.resource_type, result.resource_name.as_str()),
        (resource_type, name)
    );
    result
}

fn value(client: &mut Client, topic: &str, key: &str) -> String {
    let described = describe(client, 4, TOPIC, topic, Some(&[key]));
    described.configs[0].value.clone().unwrap()
}

/// Returns the sources of a value: name, value, kind of source.
fn sources(config: &DescribeConfigsResourceResult) -> Vec<(&str, &str, i8)> {
    config
        .synonyms
        .iter()
        .map(|each| {
            (
                each.name.as_str(),
                each.value.as_deref().unwrap(),
                each.source,
            )
        })
        .collect()
}

#[test]
fn every_version_describes_a_topic_with_sources_types_and_documentation() {
    let server = Server::with(&["--log-retention-ms", "77000"]);
    let mut client = server.connect();
    create_with(&mut client, "described", 1, &[("segment.bytes", "1048576")]);
    for version in DescribeConfigsRequest::VERSIONS {
        let all = describe(&mut client, version, TOPIC, "described", None);
        assert_eq!((all.error_code, all.error_message), (ErrorCode::NONE, None));
        let names: Vec<&str> = all.configs.iter().map(|each| each.name.as_str()).collect();
        let shown = TOPIC_CONFIGS.iter().filter(|each| !each.is_internal());
        let declared: Vec<&str> = shown.map(|each| each.name).collect();
        assert_eq!(names, declared);
        for config in &all.configs {
            assert!(!config.read_only && !config.is_sensitive);
            assert_eq!(config.config_type > 0, version >= 3, "{}", config.name);
            let documented = config
                .documentation
                .as_ref()
                .is_some_and(|text| !text.is_empty());
            assert_eq!(documented, version >= 3, "{}", config.name);
        }
        let keys = ["segment.bytes", "retention.ms", "segment.ms"];
        let some = describe(&mut client, version, TOPIC, "described", Some(&keys));
        let of = |name: &str| some.configs.iter().find(|each| each.name == name).unwrap();
        assert_eq!(some.configs.len(), 3);
        let own = of("segment.bytes");
        assert_eq!(
            (own.value.as_deref(), own.config_source),
            (Some("1048576"), OF_TOPIC)
        );
        assert_eq!(
            sources(own),
            [
                ("segment.bytes", "1048576", OF_TOPIC),
                ("log.segment.bytes", "1073741824", DEFAULT)
            ]
        );
        let server_wide = of("retention.ms");
        assert_eq!(server_wide.value.as_deref(), Some("77000"));
        assert_eq!(server_wide.config_source, OF_SERVER);
        assert_eq!(
            sources(server_wide),
            [
                ("log.retention.ms", "77000", OF_SERVER),
                ("log.retention.ms", "604800000", DEFAULT)
            ]
        );
        assert_eq!(of("segment.ms").config_source, DEFAULT);
    }
    let plain = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: "described".to_owned(),
            configuration_keys: None,
        }],
        ..DescribeConfigsRequest::default()
    };
    for config in &client.call(4, &plain).results[0].configs {
        assert!(config.synonyms.is_empty() && config.documentation.is_none());
    }
}

#[test]
fn the_servers_own_settings_are_shown() {
    let server = Server::with(&["--default-partitions", "3", "--metrics", "off"]);
    let mut client = server.connect();
    let shown = describe(&mut client, 4, BROKER, "1", None);
    assert_eq!(shown.error_code, ErrorCode::NONE);
    assert_eq!(shown.configs.len(), settings().len());
    let of = |name: &str| shown.configs.iter().find(|each| each.name == name).unwrap();
    for (name, read_only) in [
        ("log.retention.ms", false),
        ("max.connections", false),
        ("num.partitions", true),
        ("listeners", true),
    ] {
        assert_eq!(of(name).read_only, read_only, "{name}");
    }
    let partitions = of("num.partitions");
    assert_eq!(
        (partitions.value.as_deref(), partitions.config_source),
        (Some("3"), OF_SERVER)
    );
    assert_eq!(of("log.segment.bytes").config_source, DEFAULT);
    // Kafka clients parse anything but `true` as false.
    let creates = of("auto.create.topics.enable");
    assert_eq!(
        (creates.value.as_deref(), creates.config_type),
        (Some("true"), BOOLEAN)
    );
    let metrics = of("metrics");
    assert_eq!(metrics.value.as_deref(), Some("false"));
    let synonyms = metrics.synonyms.iter().map(|each| each.value.as_deref());
    assert!(synonyms.eq([Some("false"), Some("true")]));
    assert!(
        describe(&mut client, 4, BROKER, "", None)
            .configs
            .is_empty()
    );
    for (resource_type, name, expected) in [
        (BROKER, "2", ErrorCode::INVALID_REQUEST),
        (BROKER, "one", ErrorCode::INVALID_REQUEST),
        (8, "", ErrorCode::INVALID_REQUEST),
        (8, "2", ErrorCode::INVALID_REQUEST),
        (32, "group", ErrorCode::INVALID_REQUEST),
        (TOPIC, "missing", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    ] {
        let refused = describe(&mut client, 4, resource_type, name, None);
        assert_eq!(refused.error_code, expected, "{name}");
        assert!(refused.error_message.is_some());
    }
}

fn alter(
    client: &mut Client,
    version: i16,
    (resource_type, name): (i8, &str),
    configs: &[(&str, Option<&str>)],
    validate_only: bool,
) -> (ErrorCode, Option<String>) {
    let request = AlterConfigsRequest {
        resources: vec![alter_configs::AlterConfigsResource {
            resource_type,
            resource_name: name.to_owned(),
            configs: configs
                .iter()
                .map(|(name, value)| alter_configs::AlterableConfig {
                    name: name.to_string(),
                    value: value.map(str::to_owned),
                })
                .collect(),
        }],
        validate_only,
    };
    let response = client.call(version, &request).responses.remove(0);
    let answered = (response.resource_type, response.resource_name.as_str());
    assert_eq!(answered, (resource_type, name));
    (response.error_code, response.error_message)
}

/// Creates a topic for the tests of one version, and returns its name.
fn with_two_settings(client: &mut Client, version: i16) -> String {
    let name = format!("version-{version}");
    let configs = [("retention.ms", "1000"), ("segment.ms", "2000")];
    create_with(client, &name, 1, &configs);
    name
}

#[test]
fn every_version_of_alter_configs_replaces_all_configs() {
    let server = Server::start();
    let mut client = server.connect();
    for version in AlterConfigsRequest::VERSIONS {
        let name = with_two_settings(&mut client, version);
        let topic = (TOPIC, name.as_str());
        let change = [("segment.ms", Some("3000")), ("retention.bytes", None)];
        let done = alter(&mut client, version, topic, &change, true);
        assert_eq!(done, (ErrorCode::NONE, None));
        assert_eq!(value(&mut client, &name, "segment.ms"), "2000");
        let done = alter(&mut client, version, topic, &change, false);
        assert_eq!(done, (ErrorCode::NONE, None));
        assert_eq!(value(&mut client, &name, "segment.ms"), "3000");
        assert_eq!(value(&mut client, &name, "retention.ms"), "604800000");
        let (code, message) = alter(
            &mut client,
            version,
            topic,
            &[("segment.ms", Some("x"))],
            false,
        );
        assert_eq!(code, ErrorCode::INVALID_CONFIG);
        assert!(message.unwrap().contains("segment.ms"));
        assert_eq!(value(&mut client, &name, "segment.ms"), "3000");
        let twice = [("segment.ms", Some("1")), ("segment.ms", Some("2"))];
        let (code, _) = alter(&mut client, version, topic, &twice, false);
        assert_eq!(code, ErrorCode::INVALID_REQUEST);
        assert_eq!(value(&mut client, &name, "segment.ms"), "3000");
    }
}

/// Name, operation, value.
type Edit<'a> = (&'a str, i8, Option<&'a str>);

fn edit(
    client: &mut Client,
    version: i16,
    (resource_type, name): (i8, &str),
    edits: &[Edit],
    validate_only: bool,
) -> (ErrorCode, Option<String>) {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![incremental_alter_configs::AlterConfigsResource {
            resource_type,
            resource_name: name.to_owned(),
            configs: edits
                .iter()
                .map(
                    |(name, operation, value)| incremental_alter_configs::AlterableConfig {
                        name: name.to_string(),
                        config_operation: *operation,
                        value: value.map(str::to_owned),
                    },
                )
                .collect(),
        }],
        validate_only,
    };
    let response = client.call(version, &request).responses.remove(0);
    let answered = (response.resource_type, response.resource_name.as_str());
    assert_eq!(answered, (resource_type, name));
    (response.error_code, response.error_message)
}

#[test]
fn every_version_of_incremental_alter_configs_changes_only_the_named_configs() {
    let server = Server::start();
    let mut client = server.connect();
    for version in IncrementalAlterConfigsRequest::VERSIONS {
        let name = with_two_settings(&mut client, version);
        let topic = (TOPIC, name.as_str());
        let edits = [
            ("segment.ms", DELETE, None),
            ("retention.bytes", SET, Some("5000")),
            ("cleanup.policy", APPEND, Some("delete")),
        ];
        let done = edit(&mut client, version, topic, &edits, true);
        assert_eq!(done, (ErrorCode::NONE, None));
        assert_eq!(value(&mut client, &name, "retention.bytes"), "-1");
        let done = edit(&mut client, version, topic, &edits, false);
        assert_eq!(done, (ErrorCode::NONE, None));
        assert_eq!(value(&mut client, &name, "segment.ms"), "604800000");
        assert_eq!(value(&mut client, &name, "retention.bytes"), "5000");
        assert_eq!(value(&mut client, &name, "retention.ms"), "1000");
        assert_eq!(value(&mut client, &name, "cleanup.policy"), "delete");
    }
}

#[test]
fn invalid_edits_are_refused_as_a_whole() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "t", 1);
    let cases: &[(&[Edit], ErrorCode, &str)] = &[
        (
            &[
                ("retention.ms", SET, Some("1")),
                ("no.such.setting", SET, Some("1")),
            ],
            ErrorCode::INVALID_CONFIG,
            "no.such.setting",
        ),
        (
            &[("cleanup.policy", SET, Some("purge"))],
            ErrorCode::INVALID_CONFIG,
            "compact, delete",
        ),
        (
            &[("cleanup.policy", APPEND, Some("purge"))],
            ErrorCode::INVALID_CONFIG,
            "compact, delete",
        ),
        (
            &[
                ("min.compaction.lag.ms", SET, Some("2")),
                ("max.compaction.lag.ms", SET, Some("1")),
            ],
            ErrorCode::INVALID_CONFIG,
            "larger than max.compaction.lag.ms",
        ),
        (
            &[("cleanup.policy", SET, Some("delete,"))],
            ErrorCode::INVALID_CONFIG,
            "cleanup.policy",
        ),
        (
            &[("retention.ms", APPEND, Some("1"))],
            ErrorCode::INVALID_CONFIG,
            "list",
        ),
        (
            &[("nothing", APPEND, Some("1"))],
            ErrorCode::INVALID_CONFIG,
            "nothing",
        ),
        (
            &[("nothing", SUBTRACT, Some("1"))],
            ErrorCode::INVALID_CONFIG,
            "nothing",
        ),
        (
            &[("remote.storage.enable", SET, Some("true"))],
            ErrorCode::INVALID_CONFIG,
            "tiered storage is not available",
        ),
        (
            &[("retention.ms", SET, None)],
            ErrorCode::INVALID_REQUEST,
            "retention.ms",
        ),
        (
            &[
                ("retention.ms", SET, Some("1")),
                ("retention.ms", DELETE, None),
            ],
            ErrorCode::INVALID_REQUEST,
            "more than once",
        ),
        (
            &[("retention.ms", 9, Some("1"))],
            ErrorCode::INVALID_REQUEST,
            "operation",
        ),
    ];
    for (edits, expected, word) in cases {
        let (code, message) = edit(&mut client, 1, (TOPIC, "t"), edits, false);
        assert_eq!(code, *expected, "{edits:?}");
        assert!(
            message.as_ref().is_some_and(|text| text.contains(word)),
            "{message:?}"
        );
    }
    assert_eq!(value(&mut client, "t", "retention.ms"), "604800000");
    let set = [("retention.ms", SET, Some("1"))];
    let (code, _) = edit(&mut client, 1, (TOPIC, "missing"), &set, false);
    assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn deleting_an_unset_or_unknown_config_does_nothing() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "mirrored", 1);
    // MirrorMaker 2 deletes all configs that the source topic has by default, known here or not. Kafka 4.4 returns NONE.
    let edits = [
        ("retention.ms", DELETE, None),
        ("no.such.setting", DELETE, None),
        ("message.format.version", DELETE, Some("3.0")),
        ("segment.ms", SET, Some("5000")),
    ];
    let done = edit(&mut client, 1, (TOPIC, "mirrored"), &edits, false);
    assert_eq!(done, (ErrorCode::NONE, None));
    assert_eq!(value(&mut client, "mirrored", "segment.ms"), "5000");
    assert_eq!(value(&mut client, "mirrored", "retention.ms"), "604800000");
}

/// Operation and value on a LIST config, and its value in DescribeConfigs afterwards, as Kafka 4.4 returns it.
const LIST_EDITS: &[(i8, Option<&str>, &str)] = &[
    (SET, Some(""), ""),
    (SET, Some("delete,delete"), "delete"),
    (SET, Some(" "), ""),
    (SET, Some("delete, delete"), "delete"),
    (SUBTRACT, Some("delete"), ""),
    (SUBTRACT, Some("delete"), ""),
    (APPEND, Some(""), ""),
    (APPEND, Some("delete,delete"), "delete"),
    (APPEND, Some("delete"), "delete"),
    (SUBTRACT, Some("nothing"), "delete"),
    (SUBTRACT, Some("delete,delete"), ""),
    (DELETE, None, "delete"),
    (SUBTRACT, Some("delete"), ""),
];

#[test]
fn lists_may_be_empty_and_duplicates_are_removed() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "listed", 1);
    for (operation, given, expected) in LIST_EDITS {
        let edits = [("cleanup.policy", *operation, *given)];
        let done = edit(&mut client, 1, (TOPIC, "listed"), &edits, false);
        assert_eq!(done, (ErrorCode::NONE, None), "{edits:?}");
        let described = describe(&mut client, 4, TOPIC, "listed", Some(&["cleanup.policy"]));
        let config = &described.configs[0];
        assert_eq!(config.value.as_deref(), Some(*expected), "{edits:?}");
        let default = ("log.cleanup.policy", "delete", DEFAULT);
        match operation {
            &DELETE => assert_eq!(sources(config), [default]),
            _ => assert_eq!(
                sources(config),
                [("cleanup.policy", *expected, OF_TOPIC), default]
            ),
        }
    }
    for name in [
        "follower.replication.throttled.replicas",
        "leader.replication.throttled.replicas",
    ] {
        for (operation, given) in [(SET, ""), (APPEND, ""), (SUBTRACT, "0:1"), (SUBTRACT, "")] {
            let edits = [(name, operation, Some(given))];
            let done = edit(&mut client, 1, (TOPIC, "listed"), &edits, false);
            assert_eq!(done, (ErrorCode::NONE, None), "{edits:?}");
            assert_eq!(value(&mut client, "listed", name), "");
        }
        for (given, expected) in [("0:1", "0:1"), ("1:1,0:1", "0:1,1:1")] {
            let edits = [(name, APPEND, Some(given))];
            let done = edit(&mut client, 1, (TOPIC, "listed"), &edits, false);
            assert_eq!(done, (ErrorCode::NONE, None), "{edits:?}");
            assert_eq!(value(&mut client, "listed", name), expected);
        }
        let edits = [(name, APPEND, Some("all"))];
        let (code, message) = edit(&mut client, 1, (TOPIC, "listed"), &edits, false);
        assert_eq!(code, ErrorCode::INVALID_CONFIG);
        assert!(message.unwrap().contains("partition:broker"));
    }
    for (name, given, shown) in [
        ("made-empty", "", ""),
        ("made-twice", "delete,delete", "delete"),
    ] {
        create_with(&mut client, name, 1, &[("cleanup.policy", given)]);
        assert_eq!(value(&mut client, name, "cleanup.policy"), shown);
    }
}

#[test]
fn every_config_accepts_its_default_value_by_every_api() {
    let server = Server::start();
    let mut client = server.connect();
    let defaults: Vec<(&str, &str)> = TOPIC_CONFIGS
        .iter()
        .filter(|each| !each.is_internal())
        .map(|each| (each.name, each.default))
        .collect();
    create_with(&mut client, "explicit", 1, &defaults);
    let replaced: Vec<_> = defaults
        .iter()
        .map(|(name, value)| (*name, Some(*value)))
        .collect();
    let done = alter(&mut client, 2, (TOPIC, "explicit"), &replaced, false);
    assert_eq!(done, (ErrorCode::NONE, None));
    for (name, default) in &defaults {
        let edits = [(*name, SET, Some(*default))];
        let done = edit(&mut client, 1, (TOPIC, "explicit"), &edits, false);
        assert_eq!(done, (ErrorCode::NONE, None), "{name}");
    }
    let described = describe(&mut client, 4, TOPIC, "explicit", None);
    for (config, (name, default)) in described.configs.iter().zip(&defaults) {
        assert_eq!(config.name, *name);
        assert_eq!(config.value.as_deref(), Some(*default), "{name}");
        assert_eq!(config.config_source, OF_TOPIC, "{name}");
        assert_eq!(sources(config)[0], (*name, *default, OF_TOPIC));
    }
    let ratio = described
        .configs
        .iter()
        .find(|each| each.name == "min.cleanable.dirty.ratio");
    assert_eq!(ratio.unwrap().config_type, DOUBLE);
}

fn log_start(server: &Server, topic: &str) -> f64 {
    let labels = [("topic", topic), ("partition", "0")];
    let start = server
        .metrics()
        .value("streamline_log_start_offset", &labels);
    start.expect("the topic exists")
}

#[test]
fn an_empty_cleanup_policy_keeps_records_for_ever_even_after_a_restart() {
    let mut server = Server::with(&["--log-retention-check-interval-ms", "50"]);
    let expiring = [
        ("cleanup.policy", ""),
        ("retention.ms", "1"),
        ("retention.bytes", "0"),
        ("internal.segment.bytes", "256"),
    ];
    let mut client = server.connect();
    let kept = create_with(&mut client, "kept", 1, &expiring);
    let gone = create_with(&mut client, "gone", 1, &expiring[1..]);
    for expired in [5.0, 10.0] {
        for _ in 0..5 {
            produce(&mut client, &kept, 0, &batch(&["old"]));
        }
        for _ in 0..5 {
            produce(&mut client, &gone, 0, &batch(&["old"]));
        }
        // Partitions are checked in turn: when the newer records have been deleted, the older ones would have been, too.
        until("the other topic's records expire", || {
            log_start(&server, "gone") == expired
        });
        assert_eq!(log_start(&server, "kept"), 0.0);
        server.kill9();
        server.restart();
        client = server.connect();
        assert_eq!(value(&mut client, "kept", "cleanup.policy"), "");
    }
    let kept_from_0 = fetch(&mut client, &kept, 0, 0);
    assert_eq!(batches_of(&kept_from_0)[0].header().base_offset, 0);
    assert_eq!(kept_from_0.high_watermark, 10);
    let edits = [("cleanup.policy", DELETE, None)];
    edit(&mut client, 1, (TOPIC, "kept"), &edits, false);
    until("records expire once there is a policy again", || {
        log_start(&server, "kept") == 10.0
    });
}

#[test]
fn brokers_configs_that_are_fixed_unknown_or_invalid_are_refused_with_kafkas_code() {
    let server = Server::start();
    let mut client = server.connect();
    for (resource, name, value) in [
        ((BROKER, "7"), "log.retention.ms", "1"),
        ((BROKER, "one"), "log.retention.ms", "1"),
        ((BROKER, "1"), "log.retention.ms", "soon"),
        ((BROKER, "1"), "num.partitions", "2"),
        ((BROKER, ""), "listeners", ":9092"),
        ((BROKER, ""), "no.such.setting", "1"),
        ((32, "group"), "consumer.session.timeout.ms", "45000"),
    ] {
        let valid = ("log.segment.bytes", SET, Some("2000000"));
        let edits = [valid, (name, SET, Some(value))];
        let (code, message) = edit(&mut client, 1, resource, &edits, false);
        assert_eq!(code, ErrorCode::INVALID_REQUEST, "{name}={value}");
        assert!(message.is_some());
        let configs = [(name, Some(value))];
        let (code, message) = alter(&mut client, 2, resource, &configs, false);
        assert_eq!(code, ErrorCode::INVALID_REQUEST, "{name}={value}");
        assert!(message.is_some());
    }
    let own = of_broker(&mut client, "1", "log.segment.bytes").expect("shown");
    assert_eq!(own.config_source, DEFAULT);
}

const OF_BROKER: i8 = 2;
const OF_ALL_BROKERS: i8 = 3;

/// Returns a config of a broker, or of all with an empty name, if it is shown.
fn of_broker(
    client: &mut Client,
    broker: &str,
    name: &str,
) -> Option<DescribeConfigsResourceResult> {
    let shown = describe(client, 4, BROKER, broker, Some(&[name]));
    assert_eq!(shown.error_code, ErrorCode::NONE);
    shown.configs.into_iter().next()
}

#[track_caller]
fn edit_broker(client: &mut Client, broker: &str, edits: &[(&str, i8, Option<&str>)]) {
    let (code, message) = edit(client, 1, (BROKER, broker), edits, false);
    assert_eq!((code, message), (ErrorCode::NONE, None));
}

#[test]
fn brokers_configs_are_shown_with_all_their_sources() {
    let mut server = Server::with(&["--log-retention-ms", "4"]);
    let mut client = server.connect();
    create(&mut client, "t", 1);
    let name = "log.retention.ms";
    edit_broker(&mut client, "", &[(name, SET, Some("3"))]);
    edit_broker(&mut client, "1", &[(name, SET, Some("2"))]);
    for _ in 0..2 {
        let own = of_broker(&mut client, "1", name).expect("shown");
        assert_eq!(
            (own.value.as_deref(), own.config_source),
            (Some("2"), OF_BROKER)
        );
        assert!(!own.read_only);
        let synonyms = own.synonyms.iter();
        let synonyms: Vec<_> = synonyms
            .map(|each| {
                (
                    each.name.as_str(),
                    each.value.as_deref().unwrap(),
                    each.source,
                )
            })
            .collect();
        let expected = [
            (name, "2", OF_BROKER),
            (name, "3", OF_ALL_BROKERS),
            (name, "4", OF_SERVER),
            (name, "604800000", DEFAULT),
        ];
        assert_eq!(synonyms, expected);
        let all = of_broker(&mut client, "", name).expect("shown");
        assert_eq!(
            (all.value.as_deref(), all.config_source),
            (Some("3"), OF_ALL_BROKERS)
        );
        assert_eq!(all.synonyms.len(), 1);
        assert_eq!(value(&mut client, "t", "retention.ms"), "2");
        server.kill9();
        server.restart();
        client = server.connect();
    }
    edit_broker(&mut client, "1", &[(name, DELETE, None)]);
    assert_eq!(value(&mut client, "t", "retention.ms"), "3");
    // A replacement resets what it does not name.
    let (code, _) = alter(
        &mut client,
        2,
        (BROKER, ""),
        &[("max.connections", Some("9"))],
        false,
    );
    assert_eq!(code, ErrorCode::NONE);
    assert_eq!(value(&mut client, "t", "retention.ms"), "4");
    let names: Vec<String> = describe(&mut client, 4, BROKER, "", None)
        .configs
        .into_iter()
        .map(|each| each.name)
        .collect();
    assert_eq!(names, ["max.connections"]);
}

#[test]
fn brokers_configs_are_in_effect_at_once() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "default", 1);
    let own = create_with(&mut client, "own", 1, &[("max.message.bytes", "5000")]);
    let large = batch(&[&"x".repeat(3000)]);
    produce(&mut client, &topic, 0, &large);
    let limit = [("message.max.bytes", SET, Some("1000"))];
    let (code, _) = edit(&mut client, 1, (BROKER, ""), &limit, true);
    assert_eq!(code, ErrorCode::NONE);
    produce(&mut client, &topic, 0, &large);
    edit_broker(&mut client, "", &limit);
    let refused = try_produce(&mut client, &topic, 0, &large);
    assert_eq!(refused.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    produce(&mut client, &own, 0, &large);
    let later = create(&mut client, "later", 1);
    let refused = try_produce(&mut client, &later, 0, &large);
    assert_eq!(refused.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    // Lists are edited as they are in effect.
    edit_broker(
        &mut client,
        "",
        &[("log.cleanup.policy", SUBTRACT, Some("delete"))],
    );
    assert_eq!(value(&mut client, "default", "cleanup.policy"), "");
    edit_broker(
        &mut client,
        "",
        &[("log.cleanup.policy", APPEND, Some("delete"))],
    );
    assert_eq!(value(&mut client, "default", "cleanup.policy"), "delete");
    // Connections that are open stay open.
    edit_broker(&mut client, "1", &[("max.connections", SET, Some("1"))]);
    until("further connections are refused", || {
        server.connect().is_refused()
    });
    edit_broker(&mut client, "1", &[("max.connections", DELETE, None)]);
    until("connections are accepted", || {
        !server.connect().is_refused()
    });
}

/// Returns the values and sources of all configs of a subscription.
fn of_subscription(client: &mut Client, name: &str) -> Vec<(String, String, i8)> {
    let shown = describe(client, 4, CLIENT_METRICS, name, None);
    assert_eq!(shown.error_code, ErrorCode::NONE);
    let configs = shown.configs.into_iter();
    configs
        .map(|each| (each.name, each.value.expect("a value"), each.config_source))
        .collect()
}

fn listed(client: &mut Client, version: i16, types: &[i8]) -> Result<Vec<(i8, String)>, ErrorCode> {
    let request = ListConfigResourcesRequest {
        resource_types: types.to_vec(),
    };
    let response = client.call(version, &request);
    if response.error_code.is_error() {
        return Err(response.error_code);
    }
    let resources = response.config_resources.into_iter();
    let mut resources: Vec<_> = resources
        .map(|each| (each.resource_type, each.resource_name))
        .collect();
    resources.sort();
    Ok(resources)
}

#[test]
fn subscriptions_to_client_metrics_are_kept_and_listed() {
    let mut server = Server::start();
    let mut client = server.connect();
    create(&mut client, "t", 1);
    let resource = (CLIENT_METRICS, "mine");
    let edits = [
        ("interval.ms", SET, Some("1000")),
        ("metrics", APPEND, Some("org.apache.kafka.")),
    ];
    let (code, _) = edit(&mut client, 1, resource, &edits, true);
    assert_eq!(code, ErrorCode::NONE);
    assert_eq!(listed(&mut client, 0, &[]), Ok(Vec::new()));
    let (code, _) = edit(&mut client, 1, resource, &edits, false);
    assert_eq!(code, ErrorCode::NONE);
    server.kill9();
    server.restart();
    let mut client = server.connect();
    let config = |name: &str, value: &str, source| (name.to_owned(), value.to_owned(), source);
    let expected = [
        config("interval.ms", "1000", 7),
        config("match", "", DEFAULT),
        config("metrics", "org.apache.kafka.", 7),
    ];
    assert_eq!(of_subscription(&mut client, "mine"), expected);
    let named = |resource_type, name: &str| (resource_type, name.to_owned());
    let mine = named(CLIENT_METRICS, "mine");
    assert_eq!(listed(&mut client, 0, &[]), Ok(vec![mine.clone()]));
    let all = vec![
        named(TOPIC, "t"),
        named(BROKER, "1"),
        named(BROKER_LOGGER, "1"),
        mine.clone(),
    ];
    assert_eq!(listed(&mut client, 1, &[]), Ok(all));
    let some = listed(&mut client, 1, &[TOPIC, CLIENT_METRICS, TOPIC]);
    assert_eq!(some, Ok(vec![named(TOPIC, "t"), mine]));
    assert_eq!(listed(&mut client, 1, &[32]), Ok(Vec::new()));
    let refused = listed(&mut client, 1, &[TOPIC, 99]);
    assert_eq!(refused, Err(ErrorCode::UNSUPPORTED_VERSION));
    // A subscription without configs is gone.
    let edits = [("interval.ms", DELETE, None), ("metrics", DELETE, None)];
    edit(&mut client, 1, resource, &edits, false);
    assert_eq!(listed(&mut client, 0, &[]), Ok(Vec::new()));
}

#[test]
fn levels_of_loggers_take_effect_at_once_and_are_not_kept() {
    let mut server = Server::start();
    let mut client = server.connect();
    let loggers = (BROKER_LOGGER, "1");
    let level = |client: &mut Client| {
        let shown = describe(client, 4, BROKER_LOGGER, "1", Some(&["streamline.server"]));
        assert_eq!(shown.error_code, ErrorCode::NONE);
        let config = &shown.configs[0];
        assert_eq!((config.config_source, config.read_only), (6, false));
        config.value.clone().expect("a level")
    };
    assert_eq!(level(&mut client), "INFO");
    assert!(!server.log().contains("connection accepted"));
    let edits = [("streamline.server", SET, Some("DEBUG"))];
    let (code, _) = edit(&mut client, 1, loggers, &edits, false);
    assert_eq!(code, ErrorCode::NONE);
    assert_eq!(level(&mut client), "DEBUG");
    drop(server.connect());
    until("debug lines are logged", || {
        server.log().contains("connection accepted")
    });
    assert!(server.log().contains("streamline.server=INFO→DEBUG"));
    for (name, operation, value, expected) in [
        ("nobody", SET, Some("DEBUG"), ErrorCode::INVALID_CONFIG),
        ("root", SET, Some("LOUD"), ErrorCode::INVALID_CONFIG),
        ("root", DELETE, None, ErrorCode::INVALID_REQUEST),
        ("root", APPEND, Some("DEBUG"), ErrorCode::INVALID_REQUEST),
    ] {
        let (code, _) = edit(&mut client, 1, loggers, &[(name, operation, value)], false);
        assert_eq!(code, expected, "{name} {value:?}");
    }
    let configs = [("root", Some("DEBUG"))];
    let (code, _) = alter(&mut client, 2, loggers, &configs, false);
    assert_eq!(code, ErrorCode::INVALID_REQUEST);
    server.kill9();
    server.restart();
    assert_eq!(level(&mut server.connect()), "INFO");
}

#[test]
fn invalid_subscriptions_are_refused_with_kafkas_codes() {
    let server = Server::start();
    let mut client = server.connect();
    for (name, config, value, expected) in [
        ("", "interval.ms", "1000", ErrorCode::INVALID_REQUEST),
        ("a", "interval.ms", "99", ErrorCode::INVALID_REQUEST),
        ("a", "interval.ms", "often", ErrorCode::INVALID_CONFIG),
        ("a", "match", "client=a", ErrorCode::INVALID_CONFIG),
        ("a", "unknown", "1", ErrorCode::INVALID_REQUEST),
    ] {
        let edits = [(config, SET, Some(value))];
        let (code, _) = edit(&mut client, 1, (CLIENT_METRICS, name), &edits, false);
        assert_eq!(code, expected, "{config}={value}");
        let configs = [(config, Some(value))];
        let (code, _) = alter(&mut client, 2, (CLIENT_METRICS, name), &configs, false);
        assert_eq!(code, expected, "{config}={value}");
    }
    let nameless = describe(&mut client, 4, CLIENT_METRICS, "", None);
    assert_eq!(nameless.error_code, ErrorCode::INVALID_REQUEST);
}

#[test]
fn a_changed_config_applies_at_once_and_survives_a_kill() {
    let mut server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "recompressed", 1);
    let sent = batch_in(Compression::Gzip, &["x"]);
    produce(&mut client, &topic, 0, &sent);
    let edits = [("compression.type", SET, Some("zstd"))];
    edit(&mut client, 1, (TOPIC, "recompressed"), &edits, false);
    produce(&mut client, &topic, 0, &sent);
    server.kill9();
    server.restart();
    let mut client = server.connect();
    produce(&mut client, &topic, 0, &sent);
    let fetched = batches_of(&fetch(&mut client, &topic, 0, 0));
    let codecs: Vec<_> = fetched.iter().map(|batch| batch.compression()).collect();
    assert_eq!(
        codecs,
        [Compression::Gzip, Compression::Zstd, Compression::Zstd]
    );
    assert_eq!(
        value(&mut client, "recompressed", "compression.type"),
        "zstd"
    );
}

#[test]
fn segments_below_1_mib_are_refused_and_the_internal_size_is_shown_only_where_it_is_set() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "t", 1);
    let small = [("segment.bytes", SET, Some("1048575"))];
    let (code, message) = edit(&mut client, 1, (TOPIC, "t"), &small, false);
    assert_eq!(code, ErrorCode::INVALID_CONFIG);
    assert!(message.unwrap().contains("from 1048576"));
    const INTERNAL: &str = "internal.segment.bytes";
    let asked = Some(&[INTERNAL][..]);
    assert!(
        describe(&mut client, 4, TOPIC, "t", asked)
            .configs
            .is_empty()
    );
    let set = [(INTERNAL, SET, Some("512"))];
    let done = edit(&mut client, 1, (TOPIC, "t"), &set, false);
    assert_eq!(done, (ErrorCode::NONE, None));
    assert_eq!(value(&mut client, "t", INTERNAL), "512");
    assert_eq!(value(&mut client, "t", "segment.bytes"), "1073741824");
}

#[test]
fn settings_that_change_nothing_on_one_broker_are_kept_as_set() {
    let server = Server::start();
    let mut client = server.connect();
    let set = [
        ("preallocate", "true"),
        ("unclean.leader.election.enable", "true"),
        ("min.insync.replicas", "2"),
        ("leader.replication.throttled.replicas", "*"),
        ("remote.storage.enable", "false"),
        ("remote.log.copy.disable", "true"),
        ("local.retention.ms", "-1"),
        ("retention.bytes", "-2"),
    ];
    let topic = create_with(&mut client, "t", 1, &set);
    for (name, expected) in set {
        assert_eq!(value(&mut client, "t", name), expected);
    }
    // A partition never needs more replicas than it has, in Kafka either.
    let records = batch(&["x"]).bytes().clone();
    let request = produce_request(&topic, -1, &[(0, records)]);
    let response = client.call(PRODUCE, &request);
    let acknowledged = &response.responses[0].partition_responses[0];
    assert_eq!(acknowledged.error_code, ErrorCode::NONE);
}

#[test]
fn names_that_no_topic_can_have_are_refused_as_such() {
    let server = Server::start();
    let mut client = server.connect();
    let described = describe(&mut client, 4, TOPIC, "not valid", None);
    assert_eq!(described.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
    let edits = [("retention.ms", SET, Some("1"))];
    let (code, _) = edit(&mut client, 1, (TOPIC, "not valid"), &edits, false);
    assert_eq!(code, ErrorCode::INVALID_TOPIC_EXCEPTION);
    let (code, _) = edit(&mut client, 1, (TOPIC, ""), &edits, false);
    assert_eq!(code, ErrorCode::INVALID_REQUEST);
}

#[test]
fn levels_of_gzip_and_zstd_change_the_size_of_recompressed_batches() {
    let server = Server::start();
    let mut client = server.connect();
    let words: Vec<String> = (0..20_000u64)
        .map(|number| format!("{:x}", number.wrapping_mul(0x9e37_79b9) % 65_536))
        .collect();
    let text = words.join(" ");
    let mut size = |codec: &str, level: &str| {
        let name = format!("{codec}.{level}");
        let setting = format!("compression.{codec}.level");
        let configs = [("compression.type", codec), (&*setting, level)];
        let topic = create_with(&mut client, &name, 1, &configs);
        produce(&mut client, &topic, 0, &batch(&[&text]));
        let fetched = fetch(&mut client, &topic, 0, 0);
        batches_of(&fetched)[0].size_bytes()
    };
    assert!(size("gzip", "1") > size("gzip", "9"));
    assert!(size("zstd", "1") > size("zstd", "19"));
}
