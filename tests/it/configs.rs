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
use streamline::record::Compression;

use crate::kafka::{batch, batch_in, batches_of, create, create_with, fetch, produce};
use crate::support::{Client, Server, until};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

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
    create_with(&mut client, "described", 1, &[("segment.bytes", "4096")]);
    for version in DescribeConfigsRequest::VERSIONS {
        let all = describe(&mut client, version, TOPIC, "described", None);
        assert_eq!((all.error_code, all.error_message), (ErrorCode::NONE, None));
        let names: Vec<&str> = all.configs.iter().map(|each| each.name.as_str()).collect();
        let declared: Vec<&str> = TOPIC_CONFIGS.iter().map(|each| each.name).collect();
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
            (Some("4096"), OF_TOPIC)
        );
        assert_eq!(
            sources(own),
            [
                ("segment.bytes", "4096", OF_TOPIC),
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
fn the_servers_own_settings_are_shown_read_only() {
    let server = Server::with(&["--default-partitions", "3", "--metrics", "off"]);
    let mut client = server.connect();
    let shown = describe(&mut client, 4, BROKER, "1", None);
    assert_eq!(shown.error_code, ErrorCode::NONE);
    assert_eq!(shown.configs.len(), settings().len());
    assert!(shown.configs.iter().all(|each| each.read_only));
    let of = |name: &str| shown.configs.iter().find(|each| each.name == name).unwrap();
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
        (8, "1", ErrorCode::INVALID_REQUEST),
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
            &[("preallocate", SET, Some("true"))],
            ErrorCode::INVALID_CONFIG,
            "segment files are not preallocated",
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
        let edits = [(name, APPEND, Some("0:1"))];
        let (code, message) = edit(&mut client, 1, (TOPIC, "listed"), &edits, false);
        assert_eq!(code, ErrorCode::INVALID_CONFIG);
        assert!(message.unwrap().contains("no replication to throttle"));
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
        ("segment.bytes", "256"),
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
fn broker_configs_cannot_be_altered() {
    let server = Server::start();
    let mut client = server.connect();
    for (resource, expected) in [
        ((BROKER, "1"), ErrorCode::INVALID_CONFIG),
        ((BROKER, ""), ErrorCode::INVALID_CONFIG),
        ((BROKER, "7"), ErrorCode::INVALID_REQUEST),
        ((16, "x"), ErrorCode::INVALID_REQUEST),
    ] {
        let edits = [("log.retention.ms", SET, Some("1"))];
        let (code, message) = edit(&mut client, 1, resource, &edits, false);
        assert_eq!(code, expected);
        assert!(message.is_some());
        let configs = [("log.retention.ms", Some("1"))];
        let (code, message) = alter(&mut client, 2, resource, &configs, false);
        assert_eq!(code, expected);
        assert!(message.is_some());
    }
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
