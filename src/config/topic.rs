//! Settings of one topic, by Kafka's names.
//!
//! [`TOPIC_CONFIGS`] declares each once: its name, the server-wide setting that gives its default, type, allowed
//! values, default and meaning. The server's settings, DescribeConfigs, AlterConfigs and the documentation all read
//! that table. A setting that asks for something absent (compaction, a second replica) is refused here with a reason.

use std::collections::BTreeMap;

use super::error::{ConfigError, Origin, nearest};
use super::value::{Kind, Value};

/// The effective settings of one topic: the server's defaults with the topic's overrides on top.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    pub cleanup_policy: CleanupPolicy,
    pub compression_type: CompressionType,
    /// Kafka keeps the files of deleted segments for this long. Here they go at once; readers hold on to what they read.
    pub file_delete_delay_ms: i64,
    /// Unsynced records are flushed once there are this many of them.
    pub flush_messages: i64,
    /// Unsynced records are flushed at the latest after this time.
    pub flush_ms: i64,
    /// One index entry is written for about this many bytes of log.
    pub index_interval_bytes: i32,
    /// Largest record batch accepted, header included.
    pub max_message_bytes: i32,
    /// How far a record's timestamp may lie after the server's clock.
    pub message_timestamp_after_max_ms: i64,
    /// How far a record's timestamp may lie before the server's clock.
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_type: TimestampType,
    pub min_insync_replicas: i32,
    /// Oldest segments go once the partition is larger than this; −1 keeps them.
    pub retention_bytes: i64,
    /// Segments go once their newest record is older than this; −1 keeps them.
    pub retention_ms: i64,
    /// A segment is closed once it is this large.
    pub segment_bytes: i32,
    /// Largest size of one index file.
    pub segment_index_bytes: i32,
    /// A random part of up to this much is taken off `segment_ms`, so that segments do not all roll at once.
    pub segment_jitter_ms: i64,
    /// A segment is closed once its first record is this old.
    pub segment_ms: i64,
}

/// What happens to old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// Whole segments are deleted by age or size.
    Delete,
}

/// How batches are compressed on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer sent them.
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Whose clock a record's timestamp shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

impl CompressionType {
    const ALL: [(&'static str, CompressionType); 6] = [
        ("producer", CompressionType::Producer),
        ("uncompressed", CompressionType::Uncompressed),
        ("gzip", CompressionType::Gzip),
        ("snappy", CompressionType::Snappy),
        ("lz4", CompressionType::Lz4),
        ("zstd", CompressionType::Zstd),
    ];

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, each)| *each == self)
            .map_or("producer", |(name, _)| name)
    }

    fn from_name(text: &str) -> Self {
        Self::ALL
            .iter()
            .find(|(name, _)| *name == text)
            .map_or(CompressionType::Producer, |(_, each)| *each)
    }
}

impl TimestampType {
    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        }
    }
}

/// Kafka's type of a setting, as DescribeConfigs reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigType {
    Boolean,
    String,
    Int,
    Long,
    List,
}

/// One topic setting.
#[derive(Debug)]
pub struct TopicConfigDef {
    /// Kafka's name, such as `retention.ms`.
    pub name: &'static str,
    /// Kafka's name of the server-wide default, such as `log.retention.ms`.
    pub server_name: &'static str,
    pub config_type: ConfigType,
    pub kind: Kind,
    /// The default when neither server nor topic says otherwise.
    pub default: &'static str,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
    set: fn(&mut TopicConfig, &Value),
    get: fn(&TopicConfig) -> String,
}

impl TopicConfigDef {
    /// The effective value as text, as DescribeConfigs shows it.
    pub fn value(&self, config: &TopicConfig) -> String {
        (self.get)(config)
    }

    pub(super) fn parse(
        &self,
        text: &str,
        name: &str,
        origin: Origin,
    ) -> Result<Value, ConfigError> {
        self.kind
            .parse(text)
            .ok_or_else(|| ConfigError::not_allowed(origin, name, text, self.kind.allowed()))
    }

    pub(super) fn set(&self, config: &mut TopicConfig, value: &Value) {
        (self.set)(config, value);
    }
}

const MS: Kind = Kind::Int {
    min: 0,
    max: i64::MAX,
};
const POSITIVE_MS: Kind = Kind::Int {
    min: 1,
    max: i64::MAX,
};

/// The smallest segment: a roll per few records is slow but correct, and lets tests roll often.
const SEGMENT_BYTES_MIN: i64 = 256;

/// Every setting a topic has, by name.
pub static TOPIC_CONFIGS: &[TopicConfigDef] = &[
    TopicConfigDef {
        name: "cleanup.policy",
        server_name: "log.cleanup.policy",
        config_type: ConfigType::List,
        kind: Kind::Only("delete", "compaction is not available"),
        default: "delete",
        doc: "What happens to old records: whole segments are deleted by age or size.",
        set: |config, _| config.cleanup_policy = CleanupPolicy::Delete,
        get: |_| "delete".to_string(),
    },
    TopicConfigDef {
        name: "compression.type",
        server_name: "compression.type",
        config_type: ConfigType::String,
        kind: Kind::Choice(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        default: "producer",
        doc: "How batches are stored: producer keeps them as they came, any other value recompresses those that differ.",
        set: |config, value| config.compression_type = CompressionType::from_name(value.text()),
        get: |config| config.compression_type.name().to_string(),
    },
    TopicConfigDef {
        name: "file.delete.delay.ms",
        server_name: "log.segment.delete.delay.ms",
        config_type: ConfigType::Long,
        kind: MS,
        default: "60000",
        doc: "Accepted for the sake of tools that set it. Files are removed at once: whoever still reads one keeps it open.",
        set: |config, value| config.file_delete_delay_ms = value.int(),
        get: |config| config.file_delete_delay_ms.to_string(),
    },
    TopicConfigDef {
        name: "flush.messages",
        server_name: "log.flush.interval.messages",
        config_type: ConfigType::Long,
        kind: POSITIVE_MS,
        default: "9223372036854775807",
        doc: "Records of a partition are flushed to disk once this many are unflushed.",
        set: |config, value| config.flush_messages = value.int(),
        get: |config| config.flush_messages.to_string(),
    },
    TopicConfigDef {
        name: "flush.ms",
        server_name: "log.flush.interval.ms",
        config_type: ConfigType::Long,
        kind: MS,
        default: "1000",
        doc: "Records of a partition are flushed to disk at the latest after this time, whoever wrote them. With durability = os the default is Kafka's: never, the system writes them back.",
        set: |config, value| config.flush_ms = value.int(),
        get: |config| config.flush_ms.to_string(),
    },
    TopicConfigDef {
        name: "index.interval.bytes",
        server_name: "log.index.interval.bytes",
        config_type: ConfigType::Int,
        kind: Kind::Int {
            min: 0,
            max: i32::MAX as i64,
        },
        default: "4096",
        doc: "One index entry is written for about this many bytes of log.",
        set: |config, value| config.index_interval_bytes = value.int() as i32,
        get: |config| config.index_interval_bytes.to_string(),
    },
    TopicConfigDef {
        name: "max.message.bytes",
        server_name: "message.max.bytes",
        config_type: ConfigType::Int,
        kind: Kind::Int {
            min: 0,
            max: i32::MAX as i64,
        },
        default: "1048588",
        doc: "The largest record batch accepted, as it stands on the wire.",
        set: |config, value| config.max_message_bytes = value.int() as i32,
        get: |config| config.max_message_bytes.to_string(),
    },
    TopicConfigDef {
        name: "message.timestamp.after.max.ms",
        server_name: "log.message.timestamp.after.max.ms",
        config_type: ConfigType::Long,
        kind: MS,
        default: "3600000",
        doc: "With CreateTime, a record whose timestamp lies further after the server's clock is refused.",
        set: |config, value| config.message_timestamp_after_max_ms = value.int(),
        get: |config| config.message_timestamp_after_max_ms.to_string(),
    },
    TopicConfigDef {
        name: "message.timestamp.before.max.ms",
        server_name: "log.message.timestamp.before.max.ms",
        config_type: ConfigType::Long,
        kind: MS,
        default: "9223372036854775807",
        doc: "With CreateTime, a record whose timestamp lies further before the server's clock is refused.",
        set: |config, value| config.message_timestamp_before_max_ms = value.int(),
        get: |config| config.message_timestamp_before_max_ms.to_string(),
    },
    TopicConfigDef {
        name: "message.timestamp.type",
        server_name: "log.message.timestamp.type",
        config_type: ConfigType::String,
        kind: Kind::Choice(&["CreateTime", "LogAppendTime"]),
        default: "CreateTime",
        doc: "Whose clock a record's timestamp shows: the producer's, or the server's at the append.",
        set: |config, value| {
            config.message_timestamp_type = match value.text() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            }
        },
        get: |config| config.message_timestamp_type.name().to_string(),
    },
    TopicConfigDef {
        name: "min.insync.replicas",
        server_name: "min.insync.replicas",
        config_type: ConfigType::Int,
        kind: Kind::Only("1", "every partition has one replica"),
        default: "1",
        doc: "How many replicas must have a record before acks=all is answered. There is one.",
        set: |config, _| config.min_insync_replicas = 1,
        get: |config| config.min_insync_replicas.to_string(),
    },
    TopicConfigDef {
        name: "retention.bytes",
        server_name: "log.retention.bytes",
        config_type: ConfigType::Long,
        kind: Kind::Int {
            min: -1,
            max: i64::MAX,
        },
        default: "-1",
        doc: "A partition's oldest segments are deleted once it is larger than this; -1 sets no limit.",
        set: |config, value| config.retention_bytes = value.int(),
        get: |config| config.retention_bytes.to_string(),
    },
    TopicConfigDef {
        name: "retention.ms",
        server_name: "log.retention.ms",
        config_type: ConfigType::Long,
        kind: Kind::Int {
            min: -1,
            max: i64::MAX,
        },
        default: "604800000",
        doc: "A segment is deleted once its newest record is older than this; -1 sets no limit.",
        set: |config, value| config.retention_ms = value.int(),
        get: |config| config.retention_ms.to_string(),
    },
    TopicConfigDef {
        name: "segment.bytes",
        server_name: "log.segment.bytes",
        config_type: ConfigType::Int,
        kind: Kind::Int {
            min: SEGMENT_BYTES_MIN,
            max: i32::MAX as i64,
        },
        default: "1073741824",
        doc: "A segment is closed once it is this large.",
        set: |config, value| config.segment_bytes = value.int() as i32,
        get: |config| config.segment_bytes.to_string(),
    },
    TopicConfigDef {
        name: "segment.index.bytes",
        server_name: "log.index.size.max.bytes",
        config_type: ConfigType::Int,
        kind: Kind::Int {
            min: 12,
            max: i32::MAX as i64,
        },
        default: "10485760",
        doc: "A segment is closed once one of its indexes is this large.",
        set: |config, value| config.segment_index_bytes = value.int() as i32,
        get: |config| config.segment_index_bytes.to_string(),
    },
    TopicConfigDef {
        name: "segment.jitter.ms",
        server_name: "log.roll.jitter.ms",
        config_type: ConfigType::Long,
        kind: MS,
        default: "0",
        doc: "A random part of up to this much is taken off segment.ms, so that partitions do not all roll at once.",
        set: |config, value| config.segment_jitter_ms = value.int(),
        get: |config| config.segment_jitter_ms.to_string(),
    },
    TopicConfigDef {
        name: "segment.ms",
        server_name: "log.roll.ms",
        config_type: ConfigType::Long,
        kind: POSITIVE_MS,
        default: "604800000",
        doc: "A segment is closed once its first record is this old, so that retention can delete it.",
        set: |config, value| config.segment_ms = value.int(),
        get: |config| config.segment_ms.to_string(),
    },
];

/// Kafka's topic settings that ask for something absent: the start of the name, and why it is refused.
const ABSENT: &[(&str, &str)] = &[
    ("delete.retention.ms", "compaction is not available"),
    ("min.cleanable.dirty.ratio", "compaction is not available"),
    ("min.compaction.lag.ms", "compaction is not available"),
    ("max.compaction.lag.ms", "compaction is not available"),
    ("remote.", "tiered storage is not available"),
    ("local.retention.", "tiered storage is not available"),
    ("follower.replication.", "every partition has one replica"),
    ("leader.replication.", "every partition has one replica"),
    (
        "unclean.leader.election.enable",
        "every partition has one replica",
    ),
    ("preallocate", "segments are not preallocated"),
    (
        "message.format.version",
        "only message format 2 exists since Kafka 4",
    ),
    (
        "message.downconversion.enable",
        "only message format 2 exists since Kafka 4",
    ),
];

impl TopicConfig {
    /// The declaration of a setting.
    pub fn definition(name: &str) -> Option<&'static TopicConfigDef> {
        TOPIC_CONFIGS.iter().find(|each| each.name == name)
    }

    /// These settings with `overrides` on top. Fails on the first name or value that is not allowed, naming it.
    pub fn apply(&self, overrides: &BTreeMap<String, String>) -> Result<TopicConfig, ConfigError> {
        let mut config = self.clone();
        for (name, text) in overrides {
            let Some(definition) = Self::definition(name) else {
                return Err(unknown(name));
            };
            let value = definition.parse(text, name, Origin::Topic)?;
            definition.set(&mut config, &value);
        }
        Ok(config)
    }
}

fn unknown(name: &str) -> ConfigError {
    match ABSENT.iter().find(|(start, _)| name.starts_with(start)) {
        Some((_, reason)) => ConfigError::Absent {
            origin: Origin::Topic,
            name: name.to_string(),
            reason: (*reason).to_string(),
        },
        None => ConfigError::Unknown {
            origin: Origin::Topic,
            name: name.to_string(),
            suggestion: nearest(name, TOPIC_CONFIGS.iter().map(|each| each.name)),
        },
    }
}

impl Default for TopicConfig {
    /// The defaults of [`TOPIC_CONFIGS`].
    fn default() -> Self {
        // The values here are placeholders for the loop below, which sets every field: a test holds that.
        let mut config = TopicConfig {
            cleanup_policy: CleanupPolicy::Delete,
            compression_type: CompressionType::Producer,
            file_delete_delay_ms: 0,
            flush_messages: 0,
            flush_ms: 0,
            index_interval_bytes: 0,
            max_message_bytes: 0,
            message_timestamp_after_max_ms: 0,
            message_timestamp_before_max_ms: 0,
            message_timestamp_type: TimestampType::CreateTime,
            min_insync_replicas: 0,
            retention_bytes: 0,
            retention_ms: 0,
            segment_bytes: 0,
            segment_index_bytes: 0,
            segment_jitter_ms: 0,
            segment_ms: 0,
        };
        for definition in TOPIC_CONFIGS {
            let value = definition
                .kind
                .parse(definition.default)
                .expect("a declared default is of its declared kind");
            definition.set(&mut config, &value);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    #[test]
    fn every_default_is_shown_as_it_is_declared() {
        let config = TopicConfig::default();
        for definition in TOPIC_CONFIGS {
            assert_eq!(
                definition.value(&config),
                definition.default,
                "{}",
                definition.name
            );
        }
    }

    #[test]
    fn the_table_is_sorted_by_name() {
        assert!(
            TOPIC_CONFIGS
                .windows(2)
                .all(|pair| pair[0].name < pair[1].name)
        );
    }

    #[test]
    fn overrides_change_what_they_name_and_nothing_else() {
        let config = TopicConfig::default()
            .apply(&overrides(&[
                ("retention.ms", "5000"),
                ("compression.type", "zstd"),
            ]))
            .expect("both are allowed");
        let expected = TopicConfig {
            retention_ms: 5_000,
            compression_type: CompressionType::Zstd,
            ..TopicConfig::default()
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn a_bad_value_is_refused_with_name_value_and_range() {
        let error = TopicConfig::default()
            .apply(&overrides(&[("segment.bytes", "3")]))
            .expect_err("too small");
        assert_eq!(
            error.to_string(),
            "segment.bytes = \"3\" is not allowed; allowed: a whole number from 256 to 2^31-1"
        );
    }

    #[test]
    fn what_is_absent_is_refused_with_a_reason() {
        let compact = TopicConfig::default()
            .apply(&overrides(&[("cleanup.policy", "compact")]))
            .expect_err("no compaction");
        assert!(
            compact.to_string().contains("compaction is not available"),
            "{compact}"
        );
        let remote = TopicConfig::default()
            .apply(&overrides(&[("remote.storage.enable", "true")]))
            .expect_err("no tiers");
        assert!(
            remote
                .to_string()
                .contains("tiered storage is not available"),
            "{remote}"
        );
    }

    #[test]
    fn a_misspelt_name_is_refused_with_the_nearest_one() {
        let error = TopicConfig::default()
            .apply(&overrides(&[("retention.m", "1")]))
            .expect_err("unknown");
        assert!(
            error.to_string().contains("did you mean retention.ms?"),
            "{error}"
        );
    }
}
