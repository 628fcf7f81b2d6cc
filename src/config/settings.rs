//! Declarations of the server's settings.
//!
//! File keys, environment variables, flags, `config show`, `--help` and the reference all derive from [`settings`].
//! A setting that Kafka has keeps Kafka's name, with `_` for `.`; the server-wide topic defaults come from
//! [`TOPIC_CONFIGS`] and are not repeated here.

use std::sync::LazyLock;

use super::topic::{ServerDefault, TOPIC_CONFIGS, TopicConfigDef};
use super::value::{ConfigType, Kind, store};
use super::{Config, Durability, LogFormat, StorageKind};

/// Group of a setting in `--help` and the reference.
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
            Group::TopicDefaults => "Topic defaults",
            Group::Groups => "Consumer groups and producers",
            Group::Limits => "Limits",
            Group::Http => "HTTP",
        }
    }
}

/// Declaration of one server setting.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Key in the settings file, such as `log_retention_ms`.
    pub name: &'static str,
    /// Kafka's name for it, if different.
    pub kafka_name: Option<&'static str>,
    pub group: Group,
    pub kind: Kind,
    /// Default value as text; empty if unset by default.
    pub default: &'static str,
    /// Description in one or two sentences.
    pub help: &'static str,
    target: Target,
}

/// Field that holds the setting's value.
#[derive(Debug, Clone)]
enum Target {
    Server(fn(&mut Config, &str) -> bool),
    TopicDefault(&'static TopicConfigDef),
}

impl Setting {
    /// Long flag that sets it, without dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Returns Kafka's name of the setting, or for one unknown to Kafka its own name with dots.
    pub fn dotted_name(&self) -> String {
        match self.kafka_name {
            Some(name) => name.to_owned(),
            None => self.name.replace('_', "."),
        }
    }

    /// Returns whether a change takes effect while the server runs.
    pub fn is_dynamic(&self) -> bool {
        matches!(self.target, Target::TopicDefault(_)) || DYNAMIC.contains(&self.name)
    }

    /// Stores the value in `config`. Returns false if it is not allowed.
    pub(super) fn set(&self, config: &mut Config, text: &str) -> bool {
        self.kind
            .normalize(text)
            .is_some_and(|value| match self.target {
                Target::Server(set) => set(config, &value),
                Target::TopicDefault(definition) => {
                    definition.set(&mut config.topic_defaults, &value)
                }
            })
    }
}

/// All settings, in display order.
pub fn settings() -> &'static [Setting] {
    static ALL: LazyLock<Vec<Setting>> = LazyLock::new(|| {
        let topics = TOPIC_CONFIGS.iter().filter_map(|definition| {
            let ServerDefault::Setting(name) = definition.server else {
                return None;
            };
            Some(Setting {
                // Leaked once: it lives as long as this static list.
                name: name.replace('.', "_").leak(),
                kafka_name: None,
                group: Group::TopicDefaults,
                kind: definition.lenient_kind(),
                default: definition.default,
                help: definition.doc,
                target: Target::TopicDefault(definition),
            })
        });
        let mut all: Vec<Setting> = SERVER.iter().cloned().chain(topics).collect();
        all.sort_by_key(|setting| setting.group);
        all
    });
    &ALL
}

/// Count of connections, requests, members or partitions.
const COUNT: Kind = Kind::Int {
    min: 1,
    max: i32::MAX as i64,
};
/// Timeout or interval; at most one day.
const TIMEOUT_MS: Kind = Kind::Int {
    min: 1,
    max: 86_400_000,
};

/// Settings other than the defaults of topics whose changes take effect while the server runs.
const DYNAMIC: &[&str] = &["max_connections", "max_connections_per_ip"];

/// Minimum of `log_cleaner_dedupe_buffer_size`; Kafka does not start with less per thread.
const DEDUPE_BUFFER_MIN: i64 = 1 << 20;

/// Settings other than the defaults of topics.
static SERVER: &[Setting] = &[
    Setting {
        name: "listen_addr",
        kafka_name: Some("listeners"),
        group: Group::Server,
        kind: Kind::Listeners,
        default: ":9092",
        help: "Address on which to listen for Kafka clients, or several named ones.",
        target: Target::Server(|config, text| store(&mut config.listeners, text)),
    },
    Setting {
        name: "advertised_addr",
        kafka_name: Some("advertised.listeners"),
        group: Group::Server,
        kind: Kind::Endpoints,
        default: "",
        help: "Address returned to clients in metadata; with several listeners, one for each name. Clients of a listener without one get the address they connected to.",
        target: Target::Server(|config, text| store(&mut config.advertised, text)),
    },
    Setting {
        name: "http_addr",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::Listen,
        default: ":9094",
        help: "Address on which to serve /metrics, /health and /info.",
        target: Target::Server(|config, text| store(&mut config.http_addr, text)),
    },
    Setting {
        name: "storage",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::Choice(StorageKind::WORDS),
        default: "local",
        help: "local: keep records and the catalog in data_dir. memory: keep them in memory and lose them when the server stops; for tests, no directory is used.",
        target: Target::Server(|config, text| store(&mut config.storage, text)),
    },
    Setting {
        name: "data_dir",
        kafka_name: Some("log.dirs"),
        group: Group::Server,
        kind: Kind::Path,
        default: "./data",
        help: "Directory for records and the catalog; created if it does not exist.",
        target: Target::Server(|config, text| store(&mut config.data_dir, text)),
    },
    Setting {
        name: "disk_reserve_bytes",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::Int {
            min: 0,
            max: 1 << 40,
        },
        default: "16777216",
        help: "Disk space reserved for commits and deletion on a full disk; at most 1/16 of the file system. 0 disables the reserve.",
        target: Target::Server(|config, text| store(&mut config.disk_reserve_bytes, text)),
    },
    Setting {
        name: "durability",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::Choice(Durability::WORDS),
        default: "acks",
        help: "acks: flush before acknowledging acks=all, so that records survive a power failure. os: acknowledge from the page cache, as Kafka does by default.",
        target: Target::Server(|config, text| store(&mut config.durability, text)),
    },
    Setting {
        name: "log_level",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::LogFilter,
        default: "info",
        help: "Log level, for all modules or by module.",
        target: Target::Server(|config, text| store(&mut config.log_level, text)),
    },
    Setting {
        name: "log_format",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::Choice(LogFormat::WORDS),
        default: "text",
        help: "Format of log lines.",
        target: Target::Server(|config, text| store(&mut config.log_format, text)),
    },
    Setting {
        name: "metrics",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::Switch,
        default: "on",
        help: "Collect metrics; off is for measuring their overhead.",
        target: Target::Server(|config, text| store(&mut config.metrics, text)),
    },
    Setting {
        name: "shutdown_grace_ms",
        kafka_name: None,
        group: Group::Server,
        kind: Kind::Int {
            min: 0,
            max: 3_600_000,
        },
        default: "0",
        help: "Time during which /health/ready returns 503 before the listeners close, so that load balancers notice the shutdown.",
        target: Target::Server(|config, text| store(&mut config.shutdown_grace_ms, text)),
    },
    Setting {
        name: "shutdown_timeout_ms",
        kafka_name: None,
        group: Group::Server,
        kind: TIMEOUT_MS,
        default: "20000",
        help: "Maximum time to wait for requests in flight during shutdown.",
        target: Target::Server(|config, text| store(&mut config.shutdown_timeout_ms, text)),
    },
    Setting {
        name: "auto_create_topics",
        kafka_name: Some("auto.create.topics.enable"),
        group: Group::Topics,
        kind: Kind::Switch,
        default: "on",
        help: "Create a topic when a client requests metadata for it and it does not exist.",
        target: Target::Server(|config, text| store(&mut config.auto_create_topics, text)),
    },
    Setting {
        name: "default_partitions",
        kafka_name: Some("num.partitions"),
        group: Group::Topics,
        kind: Kind::Int {
            min: 1,
            max: 100_000,
        },
        default: "1",
        help: "Number of partitions of a topic that is created without a partition count.",
        target: Target::Server(|config, text| store(&mut config.default_partitions, text)),
    },
    Setting {
        name: "max_partitions",
        kafka_name: None,
        group: Group::Topics,
        kind: COUNT,
        default: "100000",
        help: "Maximum number of partitions of all topics together.",
        target: Target::Server(|config, text| store(&mut config.max_partitions, text)),
    },
    Setting {
        name: "log_retention_check_interval_ms",
        kafka_name: None,
        group: Group::Topics,
        kind: TIMEOUT_MS,
        default: "300000",
        help: "Interval of retention checks.",
        target: Target::Server(|config, text| {
            store(&mut config.log_retention_check_interval_ms, text)
        }),
    },
    Setting {
        name: "log_cleaner_enable",
        kafka_name: None,
        group: Group::Topics,
        kind: Kind::Switch,
        default: "on",
        help: "Compact the logs of topics with cleanup.policy=compact. If off, they keep all records.",
        target: Target::Server(|config, text| store(&mut config.log_cleaner_enable, text)),
    },
    Setting {
        name: "log_cleaner_threads",
        kafka_name: None,
        group: Group::Topics,
        kind: Kind::Only(ConfigType::Int, "1", "one log is compacted at a time"),
        default: "1",
        help: "Number of threads that compact logs.",
        target: Target::Server(|_, _| true),
    },
    Setting {
        name: "log_cleaner_backoff_ms",
        kafka_name: None,
        group: Group::Topics,
        kind: Kind::Int {
            min: 0,
            max: 86_400_000,
        },
        default: "15000",
        help: "Time between two searches for logs to compact if there are none.",
        target: Target::Server(|config, text| store(&mut config.log_cleaner_backoff_ms, text)),
    },
    Setting {
        name: "log_cleaner_dedupe_buffer_size",
        kafka_name: None,
        group: Group::Topics,
        kind: Kind::Int {
            min: DEDUPE_BUFFER_MIN,
            max: i64::MAX,
        },
        default: "134217728",
        help: "Maximum memory for the keys of a log while it is compacted, 27 bytes per key. A log with more new keys is compacted in several passes.",
        target: Target::Server(|config, text| {
            store(&mut config.log_cleaner_dedupe_buffer_size, text)
        }),
    },
    Setting {
        name: "log_cleaner_io_max_bytes_per_second",
        kafka_name: None,
        group: Group::Topics,
        kind: Kind::Double {
            min: 1.0,
            max: f64::MAX,
        },
        default: "1.7976931348623157E308",
        help: "Maximum rate at which compaction reads and writes, on average. The default sets no limit.",
        target: Target::Server(|config, text| {
            store(&mut config.log_cleaner_io_max_bytes_per_second, text)
        }),
    },
    Setting {
        name: "fetch_max_bytes",
        kafka_name: None,
        group: Group::Limits,
        kind: Kind::Int {
            min: 1024,
            max: i32::MAX as i64,
        },
        default: "57671680",
        help: "Maximum record bytes in one fetch response, regardless of the client's limit.",
        target: Target::Server(|config, text| store(&mut config.fetch_max_bytes, text)),
    },
    Setting {
        name: "max_incremental_fetch_session_cache_slots",
        kafka_name: None,
        group: Group::Limits,
        kind: Kind::Int {
            min: 0,
            max: i32::MAX as i64,
        },
        default: "1000",
        help: "Maximum number of fetch sessions. Consumers without one name all their partitions in each fetch. 0 disables sessions.",
        target: Target::Server(|config, text| {
            store(&mut config.max_incremental_fetch_session_cache_slots, text)
        }),
    },
    Setting {
        name: "group_min_session_timeout_ms",
        kafka_name: None,
        group: Group::Groups,
        kind: TIMEOUT_MS,
        default: "6000",
        help: "Minimum session timeout a group member may request.",
        target: Target::Server(|config, text| {
            store(&mut config.group_min_session_timeout_ms, text)
        }),
    },
    Setting {
        name: "group_max_session_timeout_ms",
        kafka_name: None,
        group: Group::Groups,
        kind: TIMEOUT_MS,
        default: "1800000",
        help: "Maximum session timeout a group member may request.",
        target: Target::Server(|config, text| {
            store(&mut config.group_max_session_timeout_ms, text)
        }),
    },
    Setting {
        name: "group_initial_rebalance_delay_ms",
        kafka_name: None,
        group: Group::Groups,
        kind: Kind::Int {
            min: 0,
            max: 600_000,
        },
        default: "500",
        help: "Time a new group waits for more members before its first rebalance.",
        target: Target::Server(|config, text| {
            store(&mut config.group_initial_rebalance_delay_ms, text)
        }),
    },
    Setting {
        name: "group_max_size",
        kafka_name: None,
        group: Group::Groups,
        kind: COUNT,
        default: "10000",
        help: "Maximum number of members in a group.",
        target: Target::Server(|config, text| store(&mut config.group_max_size, text)),
    },
    Setting {
        name: "offsets_retention_minutes",
        kafka_name: None,
        group: Group::Groups,
        kind: COUNT,
        default: "10080",
        help: "Time for which the committed offsets of a group without members are kept.",
        target: Target::Server(|config, text| store(&mut config.offsets_retention_minutes, text)),
    },
    Setting {
        name: "offsets_retention_check_interval_ms",
        kafka_name: None,
        group: Group::Groups,
        kind: TIMEOUT_MS,
        default: "600000",
        help: "Interval of checks for expired offsets.",
        target: Target::Server(|config, text| {
            store(&mut config.offsets_retention_check_interval_ms, text)
        }),
    },
    Setting {
        name: "offset_metadata_max_bytes",
        kafka_name: None,
        group: Group::Groups,
        kind: Kind::Int {
            min: 0,
            max: 1_048_576,
        },
        default: "4096",
        help: "Maximum size of the metadata of a committed offset.",
        target: Target::Server(|config, text| store(&mut config.offset_metadata_max_bytes, text)),
    },
    Setting {
        name: "producer_id_expiration_ms",
        kafka_name: None,
        group: Group::Groups,
        kind: COUNT,
        default: "86400000",
        help: "Time after which the state of an idle idempotent producer expires.",
        target: Target::Server(|config, text| store(&mut config.producer_id_expiration_ms, text)),
    },
    Setting {
        name: "transaction_max_timeout_ms",
        kafka_name: None,
        group: Group::Groups,
        kind: COUNT,
        default: "900000",
        help: "Maximum transaction timeout a producer may request.",
        target: Target::Server(|config, text| store(&mut config.transaction_max_timeout_ms, text)),
    },
    Setting {
        name: "transactional_id_expiration_ms",
        kafka_name: None,
        group: Group::Groups,
        kind: COUNT,
        default: "604800000",
        help: "Time after which an unused transactional id expires.",
        target: Target::Server(|config, text| {
            store(&mut config.transactional_id_expiration_ms, text)
        }),
    },
    Setting {
        name: "transaction_abort_timed_out_transaction_cleanup_interval_ms",
        kafka_name: None,
        group: Group::Groups,
        kind: TIMEOUT_MS,
        default: "10000",
        help: "Interval of checks for transactions that exceed their timeout.",
        target: Target::Server(|config, text| {
            store(
                &mut config.transaction_abort_timed_out_transaction_cleanup_interval_ms,
                text,
            )
        }),
    },
    Setting {
        name: "transaction_remove_expired_transaction_cleanup_interval_ms",
        kafka_name: None,
        group: Group::Groups,
        kind: TIMEOUT_MS,
        default: "3600000",
        help: "Interval of checks for unused transactional ids.",
        target: Target::Server(|config, text| {
            store(
                &mut config.transaction_remove_expired_transaction_cleanup_interval_ms,
                text,
            )
        }),
    },
    Setting {
        name: "max_connections",
        kafka_name: None,
        group: Group::Limits,
        kind: COUNT,
        default: "20000",
        help: "Maximum number of open Kafka connections; further ones are closed immediately.",
        target: Target::Server(|config, text| store(&mut config.max_connections, text)),
    },
    Setting {
        name: "max_connections_per_ip",
        kafka_name: None,
        group: Group::Limits,
        kind: COUNT,
        default: "20000",
        help: "Maximum number of open Kafka connections from one IP address.",
        target: Target::Server(|config, text| store(&mut config.max_connections_per_ip, text)),
    },
    Setting {
        name: "connections_max_idle_ms",
        kafka_name: None,
        group: Group::Limits,
        kind: TIMEOUT_MS,
        default: "600000",
        help: "Idle time after which a connection is closed.",
        target: Target::Server(|config, text| store(&mut config.connections_max_idle_ms, text)),
    },
    Setting {
        name: "request_read_timeout_ms",
        kafka_name: None,
        group: Group::Limits,
        kind: TIMEOUT_MS,
        default: "30000",
        help: "Time without progress after which a connection with a partly received request is closed.",
        target: Target::Server(|config, text| store(&mut config.request_read_timeout_ms, text)),
    },
    Setting {
        name: "response_write_timeout_ms",
        kafka_name: None,
        group: Group::Limits,
        kind: TIMEOUT_MS,
        default: "60000",
        help: "Time without progress after which a connection that does not read a response is closed.",
        target: Target::Server(|config, text| store(&mut config.response_write_timeout_ms, text)),
    },
    Setting {
        name: "socket_request_max_bytes",
        kafka_name: None,
        group: Group::Limits,
        kind: Kind::Int {
            min: 1024,
            max: i32::MAX as i64,
        },
        default: "104857600",
        help: "Maximum size of a request.",
        target: Target::Server(|config, text| store(&mut config.socket_request_max_bytes, text)),
    },
    Setting {
        name: "queued_max_request_bytes",
        kafka_name: None,
        group: Group::Limits,
        kind: Kind::Int {
            min: 1_048_576,
            max: i64::MAX,
        },
        default: "268435456",
        help: "Maximum memory for the requests of all connections; further requests wait in the socket. One eighth is reserved for small requests.",
        target: Target::Server(|config, text| store(&mut config.queued_max_request_bytes, text)),
    },
    Setting {
        name: "queued_max_response_bytes",
        kafka_name: None,
        group: Group::Limits,
        kind: Kind::Int {
            min: 1_048_576,
            max: i64::MAX,
        },
        default: "268435456",
        help: "Maximum memory for responses that clients have not read; beyond it, the clients holding the most are disconnected.",
        target: Target::Server(|config, text| store(&mut config.queued_max_response_bytes, text)),
    },
    Setting {
        name: "connection_max_inflight_requests",
        kafka_name: None,
        group: Group::Limits,
        kind: Kind::Int {
            min: 1,
            max: 10_000,
        },
        default: "64",
        help: "Maximum number of requests in flight per connection; further requests wait in the socket.",
        target: Target::Server(|config, text| {
            store(&mut config.connection_max_inflight_requests, text)
        }),
    },
    Setting {
        name: "quota_window_num",
        kafka_name: None,
        group: Group::Limits,
        kind: Kind::Int { min: 1, max: 3600 },
        default: "11",
        help: "Number of samples of which the sliding window of client quotas consists.",
        target: Target::Server(|config, text| store(&mut config.quota_window_num, text)),
    },
    Setting {
        name: "quota_window_size_seconds",
        kafka_name: None,
        group: Group::Limits,
        kind: Kind::Int { min: 1, max: 3600 },
        default: "1",
        help: "Time of each sample of client quotas.",
        target: Target::Server(|config, text| store(&mut config.quota_window_size_seconds, text)),
    },
    Setting {
        name: "http_max_connections",
        kafka_name: None,
        group: Group::Http,
        kind: COUNT,
        default: "256",
        help: "Maximum number of open HTTP connections.",
        target: Target::Server(|config, text| store(&mut config.http_max_connections, text)),
    },
    Setting {
        name: "http_header_timeout_ms",
        kafka_name: None,
        group: Group::Http,
        kind: TIMEOUT_MS,
        default: "10000",
        help: "Maximum time to receive the header of an HTTP request.",
        target: Target::Server(|config, text| store(&mut config.http_header_timeout_ms, text)),
    },
    Setting {
        name: "http_request_timeout_ms",
        kafka_name: None,
        group: Group::Http,
        kind: TIMEOUT_MS,
        default: "30000",
        help: "Maximum time to answer an HTTP request, and for the client to read the response.",
        target: Target::Server(|config, text| store(&mut config.http_request_timeout_ms, text)),
    },
];

/// Kafka settings for features that are not available: prefix of the name, and the reason for rejecting it.
pub(super) const ABSENT: &[(&str, &str)] = &[
    ("sasl_", "SASL is not available"),
    ("ssl_", "TLS is not available"),
    ("tls_", "TLS is not available"),
    ("security_", "TLS and SASL are not available"),
    ("listener_security_", "TLS and SASL are not available"),
    ("authorizer_", "access control is not available"),
    ("super_users", "access control is not available"),
    (
        "log_cleaner_io_buffer_",
        "buffers of compaction have a fixed size and load factor",
    ),
    ("remote_log_", "tiered storage is not available"),
    (
        "transaction_state_log_",
        "transactions are kept in the catalog",
    ),
    (
        "transaction_partition_verification_",
        "partitions of transactions are always verified",
    ),
    (
        "transaction_two_phase_commit_",
        "two-phase commit is not available",
    ),
    (
        "default_replication_factor",
        "every partition has one replica",
    ),
    ("replica_", "every partition has one replica"),
    ("zookeeper_", "ZooKeeper is not used"),
    ("controller_", "there is no controller quorum"),
    ("process_roles", "there is no controller quorum"),
    ("node_id", "there is a single broker with id 1"),
    ("broker_id", "there is a single broker with id 1"),
    (
        "quota_producer_default",
        "default quotas are set with kafka-configs.sh, as in Kafka 4",
    ),
    (
        "quota_consumer_default",
        "default quotas are set with kafka-configs.sh, as in Kafka 4",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_snake_case() {
        let mut names: Vec<&str> = settings().iter().map(|each| each.name).collect();
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
    fn no_declared_setting_is_rejected_as_unavailable() {
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
            let mut config = Config::blank();
            assert!(
                setting.set(&mut config, setting.default),
                "{}",
                setting.name
            );
        }
    }
}
