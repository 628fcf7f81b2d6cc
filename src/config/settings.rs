//! The server's settings, each declared once.
//!
//! The file's keys, the environment's variables, the flags, `config show`, `--help` and the reference all derive from
//! [`settings`]. Kafka's name is used where Kafka has the setting, with `_` for `.`; the server-wide defaults of topics
//! come from [`TOPIC_CONFIGS`] and are not repeated here.

use std::sync::LazyLock;

use super::topic::{ServerDefault, TOPIC_CONFIGS, TopicConfigDef};
use super::value::{Kind, Value};
use super::{Config, Durability, LogFormat};

/// What a setting is about; `--help` and the reference group by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Server,
    Topics,
    TopicDefaults,
    Groups,
    Limits,
    Http,
}

impl Group {
    pub fn title(self) -> &'static str {
        match self {
            Group::Server => "Server",
            Group::Topics => "Topics",
            Group::TopicDefaults => "Defaults of topics",
            Group::Groups => "Consumer groups and producers",
            Group::Limits => "Limits",
            Group::Http => "HTTP",
        }
    }
}

/// One setting of the server.
#[derive(Debug)]
pub struct Setting {
    /// Its key in the file, such as `log_retention_ms`.
    pub name: String,
    /// Kafka's own name for it, when that is spelled otherwise.
    pub kafka_name: Option<&'static str>,
    pub group: Group,
    pub kind: Kind,
    /// As one would write it; empty when nothing is the default.
    pub default: &'static str,
    /// What it does, in one or two sentences.
    pub help: &'static str,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Server(fn(&mut Config, &Value)),
    TopicDefault(&'static TopicConfigDef),
}

impl Setting {
    /// The long flag that sets it, without dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    pub(super) fn set(&self, config: &mut Config, value: &Value) {
        match self.target {
            Target::Server(set) => set(config, value),
            Target::TopicDefault(definition) => definition.set(&mut config.topic_defaults, value),
        }
    }
}

/// Every setting, in the order in which they are shown.
pub fn settings() -> &'static [Setting] {
    static ALL: LazyLock<Vec<Setting>> = LazyLock::new(|| {
        let server = SERVER.iter().map(|declared| Setting {
            name: declared.name.to_string(),
            kafka_name: declared.kafka_name,
            group: declared.group,
            kind: declared.kind,
            default: declared.default,
            help: declared.help,
            target: Target::Server(declared.set),
        });
        let topics = TOPIC_CONFIGS.iter().filter_map(|definition| {
            let ServerDefault::Setting(name) = definition.server else {
                return None;
            };
            Some(Setting {
                name: name.replace('.', "_"),
                kafka_name: None,
                group: Group::TopicDefaults,
                kind: definition.kind,
                default: definition.default,
                help: definition.doc,
                target: Target::TopicDefault(definition),
            })
        });
        let mut all: Vec<Setting> = server.chain(topics).collect();
        all.sort_by_key(|setting| setting.group);
        all
    });
    &ALL
}

struct Declared {
    name: &'static str,
    kafka_name: Option<&'static str>,
    group: Group,
    kind: Kind,
    default: &'static str,
    help: &'static str,
    set: fn(&mut Config, &Value),
}

/// Counts of connections, requests and the like.
const COUNT: Kind = Kind::Int {
    min: 1,
    max: i32::MAX as i64,
};
/// A time after which something is given up; at most a day.
const TIMEOUT_MS: Kind = Kind::Int {
    min: 1,
    max: 86_400_000,
};

static SERVER: &[Declared] = &[
    Declared {
        name: "listen_addr",
        kafka_name: Some("listeners"),
        group: Group::Server,
        kind: Kind::Listen,
        default: ":9092",
        help: "Where Kafka clients connect.",
        set: |config, value| {
            if let Value::Listen(addr) = value {
                config.listen_addr = addr.clone();
            }
        },
    },
    Declared {
        name: "advertised_addr",
        kafka_name: Some("advertised.listeners"),
        group: Group::Server,
        kind: Kind::Endpoint,
        default: "",
        help: "Where clients are told to connect. Unset, each client is told the address by which it reached the server.",
        set: |config, value| {
            if let Value::Endpoint(endpoint) = value {
                config.advertised_addr = Some(endpoint.clone());
            }
        },
    },
    Declared {
        name: "http_addr",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::Listen,
        default: ":9094",
        help: "Where /metrics, /health and /info are served.",
        set: |config, value| {
            if let Value::Listen(addr) = value {
                config.http_addr = addr.clone();
            }
        },
    },
    Declared {
        name: "data_dir",
        kafka_name: Some("log.dirs"),
        group: Group::Server,
        kind: Kind::Path,
        default: "./data",
        help: "Where records and the catalog live; created if absent.",
        set: |config, value| config.data_dir = value.path(),
    },
    Declared {
        name: "disk_reserve_bytes",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::Int {
            min: 0,
            max: 1 << 40,
        },
        default: "16777216",
        help: "Disk space that records cannot take, so that groups and deletion go on when the disk is full; at most a sixteenth of the file system. 0: none.",
        set: |config, value| config.disk_reserve_bytes = value.int() as u64,
    },
    Declared {
        name: "durability",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::Choice(&["acks", "os"]),
        default: "acks",
        help: "acks: what is acknowledged with acks=all survives loss of power. os: the system's page cache decides, as in Kafka.",
        set: |config, value| {
            config.durability = match value.text() {
                "os" => Durability::Os,
                _ => Durability::Acks,
            }
        },
    },
    Declared {
        name: "log_level",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::LogFilter,
        default: "info",
        help: "How much is logged, as a whole or by module.",
        set: |config, value| config.log_level = value.text().to_string(),
    },
    Declared {
        name: "log_format",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::Choice(&["text", "json"]),
        default: "text",
        help: "How log lines look.",
        set: |config, value| {
            config.log_format = match value.text() {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            }
        },
    },
    Declared {
        name: "metrics",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::Switch,
        default: "on",
        help: "Whether metrics are collected; off exists to measure what they cost.",
        set: |config, value| config.metrics = value.switch(),
    },
    Declared {
        name: "shutdown_grace_ms",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::Int {
            min: 0,
            max: 3_600_000,
        },
        default: "0",
        help: "How long readiness says 503 before the listeners close, so that load balancers notice.",
        set: |config, value| config.shutdown_grace_ms = value.int() as u64,
    },
    Declared {
        name: "shutdown_timeout_ms",
        kafka_name: None,
        group: Group::Server,
        kind: TIMEOUT_MS,
        default: "20000",
        help: "How long requests in flight may take to finish once the server stops.",
        set: |config, value| config.shutdown_timeout_ms = value.int() as u64,
    },
    Declared {
        name: "auto_create_topics",
        kafka_name: Some("auto.create.topics.enable"),
        group: Group::Topics,
        kind: Kind::Switch,
        default: "on",
        help: "Whether a client that asks for a topic that does not exist creates it.",
        set: |config, value| config.auto_create_topics = value.switch(),
    },
    Declared {
        name: "default_partitions",
        kafka_name: Some("num.partitions"),
        group: Group::Topics,
        kind: Kind::Int {
            min: 1,
            max: 100_000,
        },
        default: "1",
        help: "Partitions of a topic whose creator does not say how many.",
        set: |config, value| config.default_partitions = value.int() as i32,
    },
    Declared {
        name: "max_partitions",
        kafka_name: None,
        group: Group::Topics,
        kind: COUNT,
        default: "100000",
        help: "Partitions that all topics together may have.",
        set: |config, value| config.max_partitions = value.int() as i32,
    },
    Declared {
        name: "log_retention_check_interval_ms",
        kafka_name: None,
        group: Group::Topics,
        kind: TIMEOUT_MS,
        default: "300000",
        help: "How often segments are checked against retention.",
        set: |config, value| config.log_retention_check_interval_ms = value.int() as u64,
    },
    Declared {
        name: "fetch_max_bytes",
        kafka_name: None,
        group: Group::Limits,
        kind: Kind::Int {
            min: 1024,
            max: i32::MAX as i64,
        },
        default: "57671680",
        help: "Record bytes that one fetch response holds at most, whatever the client asks for.",
        set: |config, value| config.fetch_max_bytes = value.int() as i32,
    },
    Declared {
        name: "group_min_session_timeout_ms",
        kafka_name: None,
        group: Group::Groups,
        kind: TIMEOUT_MS,
        default: "6000",
        help: "The shortest session timeout a group member may ask for.",
        set: |config, value| config.group_min_session_timeout_ms = value.int() as i32,
    },
    Declared {
        name: "group_max_session_timeout_ms",
        kafka_name: None,
        group: Group::Groups,
        kind: TIMEOUT_MS,
        default: "1800000",
        help: "The longest session timeout a group member may ask for.",
        set: |config, value| config.group_max_session_timeout_ms = value.int() as i32,
    },
    Declared {
        name: "group_initial_rebalance_delay_ms",
        kafka_name: None,
        group: Group::Groups,
        kind: Kind::Int {
            min: 0,
            max: 600_000,
        },
        default: "500",
        help: "How long a new group waits for more members before its first rebalance.",
        set: |config, value| config.group_initial_rebalance_delay_ms = value.int() as i32,
    },
    Declared {
        name: "group_max_size",
        kafka_name: None,
        group: Group::Groups,
        kind: COUNT,
        default: "10000",
        help: "Members that one group may have.",
        set: |config, value| config.group_max_size = value.int() as i32,
    },
    Declared {
        name: "offsets_retention_minutes",
        kafka_name: None,
        group: Group::Groups,
        kind: COUNT,
        default: "10080",
        help: "How long the committed offsets of a group without members are kept.",
        set: |config, value| config.offsets_retention_minutes = value.int() as i32,
    },
    Declared {
        name: "offsets_retention_check_interval_ms",
        kafka_name: None,
        group: Group::Groups,
        kind: TIMEOUT_MS,
        default: "600000",
        help: "How often committed offsets are checked against their retention.",
        set: |config, value| config.offsets_retention_check_interval_ms = value.int() as u64,
    },
    Declared {
        name: "offset_metadata_max_bytes",
        kafka_name: None,
        group: Group::Groups,
        kind: Kind::Int {
            min: 0,
            max: 1_048_576,
        },
        default: "4096",
        help: "Bytes of metadata that a committed offset may carry.",
        set: |config, value| config.offset_metadata_max_bytes = value.int() as i32,
    },
    Declared {
        name: "producer_id_expiration_ms",
        kafka_name: None,
        group: Group::Groups,
        kind: COUNT,
        default: "86400000",
        help: "How long the sequence numbers of an idle idempotent producer are remembered.",
        set: |config, value| config.producer_id_expiration_ms = value.int(),
    },
    Declared {
        name: "max_connections",
        kafka_name: None,
        group: Group::Limits,
        kind: COUNT,
        default: "20000",
        help: "Kafka connections at a time; further ones are closed at once.",
        set: |config, value| config.max_connections = value.int() as usize,
    },
    Declared {
        name: "max_connections_per_ip",
        kafka_name: None,
        group: Group::Limits,
        kind: COUNT,
        default: "20000",
        help: "Kafka connections at a time from one address.",
        set: |config, value| config.max_connections_per_ip = value.int() as usize,
    },
    Declared {
        name: "connections_max_idle_ms",
        kafka_name: None,
        group: Group::Limits,
        kind: TIMEOUT_MS,
        default: "600000",
        help: "A connection without requests is closed after this time.",
        set: |config, value| config.connections_max_idle_ms = value.int() as u64,
    },
    Declared {
        name: "request_read_timeout_ms",
        kafka_name: None,
        group: Group::Limits,
        kind: TIMEOUT_MS,
        default: "30000",
        help: "A connection that has sent part of a request and then nothing for this time is closed.",
        set: |config, value| config.request_read_timeout_ms = value.int() as u64,
    },
    Declared {
        name: "response_write_timeout_ms",
        kafka_name: None,
        group: Group::Limits,
        kind: TIMEOUT_MS,
        default: "60000",
        help: "A connection that takes no byte of a response for this time is closed.",
        set: |config, value| config.response_write_timeout_ms = value.int() as u64,
    },
    Declared {
        name: "socket_request_max_bytes",
        kafka_name: None,
        group: Group::Limits,
        kind: Kind::Int {
            min: 1024,
            max: i32::MAX as i64,
        },
        default: "104857600",
        help: "The largest request accepted.",
        set: |config, value| config.socket_request_max_bytes = value.int() as usize,
    },
    Declared {
        name: "queued_max_request_bytes",
        kafka_name: None,
        group: Group::Limits,
        kind: Kind::Int {
            min: 1_048_576,
            max: i64::MAX,
        },
        default: "268435456",
        help: "Memory that the requests of all connections may hold; further ones wait in their sockets. An eighth of it is kept for small requests.",
        set: |config, value| config.queued_max_request_bytes = value.int() as usize,
    },
    Declared {
        name: "queued_max_response_bytes",
        kafka_name: None,
        group: Group::Limits,
        kind: Kind::Int {
            min: 1_048_576,
            max: i64::MAX,
        },
        default: "268435456",
        help: "Memory that responses may take while clients do not read them; beyond, those who hold the most are disconnected.",
        set: |config, value| config.queued_max_response_bytes = value.int() as usize,
    },
    Declared {
        name: "connection_max_inflight_requests",
        kafka_name: None,
        group: Group::Limits,
        kind: Kind::Int {
            min: 1,
            max: 10_000,
        },
        default: "64",
        help: "Requests of one connection that are worked on at a time; further ones wait in the socket.",
        set: |config, value| config.connection_max_inflight_requests = value.int() as usize,
    },
    Declared {
        name: "http_max_connections",
        kafka_name: None,
        group: Group::Http,
        kind: COUNT,
        default: "256",
        help: "HTTP connections at a time.",
        set: |config, value| config.http_max_connections = value.int() as usize,
    },
    Declared {
        name: "http_header_timeout_ms",
        kafka_name: None,
        group: Group::Http,
        kind: TIMEOUT_MS,
        default: "10000",
        help: "An HTTP client that has not sent its whole header after this time is disconnected.",
        set: |config, value| config.http_header_timeout_ms = value.int() as u64,
    },
    Declared {
        name: "http_request_timeout_ms",
        kafka_name: None,
        group: Group::Http,
        kind: TIMEOUT_MS,
        default: "30000",
        help: "An HTTP request that is not answered, or whose answer is not taken, in this time is given up.",
        set: |config, value| config.http_request_timeout_ms = value.int() as u64,
    },
];

/// Kafka's settings that ask for something absent: the start of the name, and why it is refused.
pub(super) const ABSENT: &[(&str, &str)] = &[
    ("sasl_", "SASL is not available"),
    ("ssl_", "TLS is not available"),
    ("tls_", "TLS is not available"),
    ("security_", "TLS and SASL are not available"),
    ("listener_security_", "TLS and SASL are not available"),
    ("authorizer_", "access control is not available"),
    ("super_users", "access control is not available"),
    ("log_cleaner_", "compaction is not available"),
    ("remote_log_", "tiered storage is not available"),
    ("transaction_", "transactions are not available"),
    ("transactional_", "transactions are not available"),
    (
        "default_replication_factor",
        "every partition has one replica",
    ),
    ("replica_", "every partition has one replica"),
    ("zookeeper_", "there is no ZooKeeper here"),
    ("controller_", "there is no controller quorum here"),
    ("process_roles", "there is no controller quorum here"),
    ("node_id", "there is one broker, whose id is 1"),
    ("broker_id", "there is one broker, whose id is 1"),
    ("quota_", "quotas are not available"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_spelled_in_snake_case() {
        let mut names: Vec<&str> = settings().iter().map(|each| each.name.as_str()).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        for name in names {
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
        }
    }

    #[test]
    fn no_setting_is_declared_and_refused_as_absent() {
        for setting in settings() {
            for (start, _) in ABSENT {
                assert!(
                    !setting.name.starts_with(start),
                    "{} and {start}",
                    setting.name
                );
            }
        }
    }

    #[test]
    fn every_default_is_allowed() {
        for setting in settings().iter().filter(|each| !each.default.is_empty()) {
            assert!(
                setting.kind.parse(setting.default).is_some(),
                "{}",
                setting.name
            );
        }
    }
}
