//! Topic settings, by Kafka's names.
//!
//! [`TOPIC_CONFIGS`] declares each with its name, the server-wide setting for its default, type, allowed values,
//! default and description. The server's settings, DescribeConfigs, AlterConfigs and the documentation all read that
//! table. It has every topic setting of Kafka. One that would change nothing with one replica and without tiered storage is
//! accepted; one of a feature that does not exist here accepts only the value that matches this behaviour and rejects any
//! other with a reason.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use super::error::{ConfigError, Origin, nearest};
use super::value::{ConfigType, Kind, double, store, words};

/// Settings of one topic: those set for it, and the effective values that follow from them and the server's defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// Settings of the topic itself, by Kafka's names, with values as Kafka normalizes them.
    pub overrides: BTreeMap<String, String>,
    pub cleanup_policy: CleanupPolicy,
    /// Level of gzip; −1 for its default.
    pub compression_gzip_level: i32,
    pub compression_type: CompressionType,
    pub compression_zstd_level: i32,
    /// Time for which compaction keeps tombstones, from when it first sees them.
    pub delete_retention_ms: i64,
    /// Delay before Kafka removes the files of deleted segments. Ignored here: files are removed at once, and open
    /// readers keep theirs.
    pub file_delete_delay_ms: i64,
    /// Number of unflushed records that triggers a flush.
    pub flush_messages: i64,
    /// Maximum time until records are flushed.
    pub flush_ms: i64,
    /// Bytes of log per index entry, approximately.
    pub index_interval_bytes: i32,
    /// Size at which a segment is rolled instead of at `segment_bytes`, for tests.
    pub internal_segment_bytes: Option<i32>,
    /// Age at which an uncompacted record makes its log due for compaction.
    pub max_compaction_lag_ms: i64,
    /// Maximum size of a record batch, header included.
    pub max_message_bytes: i32,
    /// Maximum time by which a record's timestamp may be ahead of the server's clock.
    pub message_timestamp_after_max_ms: i64,
    /// Maximum time by which a record's timestamp may be behind the server's clock.
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_type: TimestampType,
    /// Part of a log's bytes above which those not compacted yet make it due for compaction.
    pub min_cleanable_dirty_ratio: f64,
    /// Minimum time for which a record is not compacted.
    pub min_compaction_lag_ms: i64,
    /// Replicas that need a record before it is acknowledged. Ignored here, since a partition cannot need more replicas than
    /// it has.
    pub min_insync_replicas: i32,
    /// Partition size above which the oldest segments are deleted; negative for no limit.
    pub retention_bytes: i64,
    /// Age of a segment's newest record after which the segment is deleted; −1 for no limit.
    pub retention_ms: i64,
    /// Size at which a segment is rolled.
    pub segment_bytes: i32,
    /// Maximum size of an index file.
    pub segment_index_bytes: i32,
    /// Maximum random time subtracted from `segment_ms`, so that segments do not all roll at once.
    pub segment_jitter_ms: i64,
    /// Age of a segment's first record at which it is rolled.
    pub segment_ms: i64,
}

/// Cleanup policy. An empty policy keeps records for ever (KIP-1161).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CleanupPolicy {
    /// Keep the latest record of each key.
    pub compact: bool,
    /// Delete whole segments by age or size.
    pub delete: bool,
    /// `delete` is named before `compact`, which only its display shows.
    delete_first: bool,
}

impl CleanupPolicy {
    const COMPACT: &'static str = "compact";
    const DELETE: &'static str = "delete";
}

impl FromStr for CleanupPolicy {
    type Err = Infallible;

    fn from_str(list: &str) -> Result<Self, Infallible> {
        let place = |word| list.split(',').position(|item| item == word);
        let (compact, delete) = (place(Self::COMPACT), place(Self::DELETE));
        Ok(CleanupPolicy {
            compact: compact.is_some(),
            delete: delete.is_some(),
            delete_first: compact.is_some() && delete.is_some() && delete < compact,
        })
    }
}

impl fmt::Display for CleanupPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.compact, self.delete, self.delete_first) {
            (false, false, _) => "",
            (true, false, _) => Self::COMPACT,
            (false, true, _) => Self::DELETE,
            (true, true, false) => "compact,delete",
            (true, true, true) => "delete,compact",
        })
    }
}

/// Compression of batches on disk.
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

/// Source of record timestamps: producer or broker clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

words!(CompressionType {
    "producer" => Producer,
    "uncompressed" => Uncompressed,
    "gzip" => Gzip,
    "snappy" => Snappy,
    "lz4" => Lz4,
    "zstd" => Zstd,
});

words!(TimestampType {
    "CreateTime" => CreateTime,
    "LogAppendTime" => LogAppendTime,
});

/// Server-wide setting for a topic setting's default, by Kafka's name, such as `log.retention.ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerDefault {
    /// Setting of this server.
    Setting(&'static str),
    /// Setting of Kafka's broker only: the topic setting has a single value here.
    Fixed(&'static str),
    /// Kafka's broker has no such setting.
    Absent,
}

impl ServerDefault {
    /// Kafka's name.
    pub fn name(self) -> Option<&'static str> {
        match self {
            ServerDefault::Setting(name) | ServerDefault::Fixed(name) => Some(name),
            ServerDefault::Absent => None,
        }
    }
}

/// Declaration of one topic setting.
#[derive(Debug)]
pub struct TopicConfigDef {
    /// Kafka's name, such as `retention.ms`.
    pub name: &'static str,
    pub server: ServerDefault,
    pub kind: Kind,
    /// Default if neither server nor topic sets it.
    pub default: &'static str,
    /// Description in one or two sentences.
    pub doc: &'static str,
    /// `None` for a setting without effect.
    field: Option<Field>,
}

/// Access to a field of [`TopicConfig`].
#[derive(Debug)]
struct Field {
    /// Returns false for a text that is not a value of the field's type.
    set: fn(&mut TopicConfig, &str) -> bool,
    get: fn(&TopicConfig) -> String,
}

impl TopicConfigDef {
    /// Effective value as text, as in DescribeConfigs.
    pub fn value(&self, config: &TopicConfig) -> String {
        match &self.field {
            Some(field) => (field.get)(config),
            None => {
                let set = config.overrides.get(self.name);
                set.map_or(self.default, String::as_str).to_string()
            }
        }
    }

    /// Returns the values that the server's settings may have, and topics that an earlier release accepted.
    pub fn lenient_kind(&self) -> Kind {
        match self.kind {
            Kind::Int { min, max } if min == CLIENT_SEGMENT_BYTES_MIN => Kind::Int {
                min: SEGMENT_BYTES_MIN,
                max,
            },
            Kind::Word(words) => Kind::Choice(words),
            kind => kind,
        }
    }

    /// Returns true for a setting that, as in Kafka, is shown only where it is set.
    pub fn is_internal(&self) -> bool {
        self.name.starts_with("internal.")
    }

    /// Stores a normalized value in `config`. Returns false if the field's type cannot hold it.
    pub(super) fn set(&self, config: &mut TopicConfig, value: &str) -> bool {
        self.field
            .as_ref()
            .is_none_or(|field| (field.set)(config, value))
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

/// Minimum segment size of the server's settings, of topics of earlier releases, and of `internal.segment.bytes`. Rolling
/// every few records is slow but correct, and lets tests roll often.
const SEGMENT_BYTES_MIN: i64 = 256;

/// Minimum segment size that clients may set, the same as Kafka's.
const CLIENT_SEGMENT_BYTES_MIN: i64 = 1 << 20;

/// Bytes or milliseconds; −2 for those of the whole topic, −1 for no limit.
const LOCAL_RETENTION: Kind = Kind::Int {
    min: -2,
    max: i64::MAX,
};
/// Bytes or milliseconds; −1 for the retention of the topic.
const REMOTE_COPY_LAG: Kind = Kind::Int {
    min: -1,
    max: i64::MAX,
};

const EMPTY_POLICY: &str = "which keeps all records";
const NO_TIERS: &str = "tiered storage is not available; all segments are on the local disk";

/// Declares a Kafka setting that has a single allowed value here.
const fn fixed(
    name: &'static str,
    server: ServerDefault,
    config_type: ConfigType,
    value: &'static str,
    why: &'static str,
    doc: &'static str,
) -> TopicConfigDef {
    TopicConfigDef {
        name,
        server,
        kind: match config_type {
            ConfigType::List => Kind::List(&[], why),
            _ => Kind::Only(config_type, value, why),
        },
        default: value,
        doc,
        field: None,
    }
}

/// Names the field of [`TopicConfig`] that holds a setting's value.
macro_rules! field {
    ($name:ident) => {
        Some(Field {
            set: |config, text| store(&mut config.$name, text),
            get: |config| config.$name.to_string(),
        })
    };
}

/// All topic settings, sorted by name.
pub static TOPIC_CONFIGS: &[TopicConfigDef] = &[
    TopicConfigDef {
        name: "cleanup.policy",
        server: ServerDefault::Setting("log.cleanup.policy"),
        kind: Kind::List(
            &[CleanupPolicy::COMPACT, CleanupPolicy::DELETE],
            EMPTY_POLICY,
        ),
        default: CleanupPolicy::DELETE,
        doc: "delete removes whole segments by age or size; compact keeps the latest record of each key; an empty list keeps all records for ever.",
        field: field!(cleanup_policy),
    },
    TopicConfigDef {
        name: "compression.gzip.level",
        server: ServerDefault::Setting("compression.gzip.level"),
        kind: Kind::IntOr {
            other: -1,
            min: 1,
            max: 9,
        },
        default: "-1",
        doc: "Compression level for compression.type = gzip; -1 is level 6.",
        field: field!(compression_gzip_level),
    },
    TopicConfigDef {
        name: "compression.lz4.level",
        server: ServerDefault::Fixed("compression.lz4.level"),
        kind: Kind::Int { min: 1, max: 17 },
        default: "9",
        doc: "Compression level for compression.type = lz4. Has no effect: lz4 always compresses at its fastest level.",
        field: None,
    },
    TopicConfigDef {
        name: "compression.type",
        server: ServerDefault::Setting("compression.type"),
        kind: Kind::Word(CompressionType::WORDS),
        default: "producer",
        doc: "Compression of stored batches: producer keeps the producer's codec, any other value recompresses batches that differ.",
        field: field!(compression_type),
    },
    TopicConfigDef {
        name: "compression.zstd.level",
        server: ServerDefault::Setting("compression.zstd.level"),
        kind: Kind::Int {
            min: -131_072,
            max: 22,
        },
        default: "3",
        doc: "Compression level for compression.type = zstd; 0 is level 3.",
        field: field!(compression_zstd_level),
    },
    TopicConfigDef {
        name: "delete.retention.ms",
        server: ServerDefault::Setting("log.cleaner.delete.retention.ms"),
        kind: MS,
        default: "86400000",
        doc: "Time for which compaction keeps tombstones, from the first compaction that finds them. A reader that takes longer from the start to the end of the log may miss deletions.",
        field: field!(delete_retention_ms),
    },
    TopicConfigDef {
        name: "errors.deadletterqueue.group.enable",
        server: ServerDefault::Absent,
        kind: Kind::Bool,
        default: "false",
        doc: "Allow share groups to use the topic as a dead-letter queue. Has no effect without share groups.",
        field: None,
    },
    TopicConfigDef {
        name: "file.delete.delay.ms",
        server: ServerDefault::Setting("log.segment.delete.delay.ms"),
        kind: MS,
        default: "60000",
        doc: "Accepted for compatibility; has no effect. Files are removed at once, and open readers keep theirs.",
        field: field!(file_delete_delay_ms),
    },
    TopicConfigDef {
        name: "flush.messages",
        server: ServerDefault::Setting("log.flush.interval.messages"),
        kind: POSITIVE_MS,
        default: "9223372036854775807",
        doc: "Number of unflushed records in a partition that triggers a flush.",
        field: field!(flush_messages),
    },
    TopicConfigDef {
        name: "flush.ms",
        server: ServerDefault::Setting("log.flush.interval.ms"),
        kind: MS,
        default: "1000",
        doc: "Maximum time until records are flushed to disk, whatever their acks. With durability = os the default is Kafka's: never, write-back is left to the operating system.",
        field: field!(flush_ms),
    },
    TopicConfigDef {
        name: "follower.replication.throttled.replicas",
        server: ServerDefault::Absent,
        kind: Kind::ThrottledReplicas,
        default: "",
        doc: "Replicas to throttle on the follower side. Has no effect. There is no replication.",
        field: None,
    },
    TopicConfigDef {
        name: "index.interval.bytes",
        server: ServerDefault::Setting("log.index.interval.bytes"),
        kind: Kind::Int {
            min: 0,
            max: i32::MAX as i64,
        },
        default: "4096",
        doc: "Bytes of log per index entry, approximately.",
        field: field!(index_interval_bytes),
    },
    TopicConfigDef {
        name: "internal.segment.bytes",
        server: ServerDefault::Absent,
        kind: Kind::Int {
            min: SEGMENT_BYTES_MIN,
            max: i32::MAX as i64,
        },
        default: "",
        doc: "Size at which a segment is rolled, instead of segment.bytes. For tests.",
        field: Some(Field {
            set: |config, text| {
                config.internal_segment_bytes = text.parse().ok();
                true
            },
            get: |config| {
                let set = config.internal_segment_bytes;
                set.map_or_else(String::new, |bytes| bytes.to_string())
            },
        }),
    },
    TopicConfigDef {
        name: "leader.replication.throttled.replicas",
        server: ServerDefault::Absent,
        kind: Kind::ThrottledReplicas,
        default: "",
        doc: "Replicas to throttle on the leader side. Has no effect. There is no replication.",
        field: None,
    },
    TopicConfigDef {
        name: "local.retention.bytes",
        server: ServerDefault::Fixed("log.local.retention.bytes"),
        kind: LOCAL_RETENTION,
        default: "-2",
        doc: "Bytes of a tiered topic kept on the local disk; -2 means retention.bytes. Has no effect without tiered storage.",
        field: None,
    },
    TopicConfigDef {
        name: "local.retention.ms",
        server: ServerDefault::Fixed("log.local.retention.ms"),
        kind: LOCAL_RETENTION,
        default: "-2",
        doc: "Time for which records of a tiered topic are kept on the local disk; -2 means retention.ms. Has no effect without tiered storage.",
        field: None,
    },
    TopicConfigDef {
        name: "max.compaction.lag.ms",
        server: ServerDefault::Setting("log.cleaner.max.compaction.lag.ms"),
        kind: POSITIVE_MS,
        default: "9223372036854775807",
        doc: "Age of the oldest uncompacted record at which a log is compacted whatever min.cleanable.dirty.ratio says; also rolls segments of that age.",
        field: field!(max_compaction_lag_ms),
    },
    fixed(
        "max.decompressed.message.bytes",
        ServerDefault::Fixed("max.decompressed.message.bytes"),
        ConfigType::Int,
        "2147483639",
        "there is no limit per record; all records of a batch may decompress to 134217728 bytes",
        "Maximum decompressed size of a record. The default sets no limit; all records of a batch together may decompress to 128 MiB.",
    ),
    TopicConfigDef {
        name: "max.message.bytes",
        server: ServerDefault::Setting("message.max.bytes"),
        kind: Kind::Int {
            min: 0,
            max: i32::MAX as i64,
        },
        default: "1048588",
        doc: "Maximum size of a record batch, as sent on the wire.",
        field: field!(max_message_bytes),
    },
    TopicConfigDef {
        name: "message.timestamp.after.max.ms",
        server: ServerDefault::Setting("log.message.timestamp.after.max.ms"),
        kind: MS,
        default: "3600000",
        doc: "With CreateTime, maximum time by which a record's timestamp may be ahead of the server's clock; others are rejected.",
        field: field!(message_timestamp_after_max_ms),
    },
    TopicConfigDef {
        name: "message.timestamp.before.max.ms",
        server: ServerDefault::Setting("log.message.timestamp.before.max.ms"),
        kind: MS,
        default: "9223372036854775807",
        doc: "With CreateTime, maximum time by which a record's timestamp may be behind the server's clock; others are rejected.",
        field: field!(message_timestamp_before_max_ms),
    },
    TopicConfigDef {
        name: "message.timestamp.type",
        server: ServerDefault::Setting("log.message.timestamp.type"),
        kind: Kind::Word(TimestampType::WORDS),
        default: "CreateTime",
        doc: "Timestamp of records: CreateTime is set by the producer, LogAppendTime by the server at append.",
        field: field!(message_timestamp_type),
    },
    TopicConfigDef {
        name: "min.cleanable.dirty.ratio",
        server: ServerDefault::Setting("log.cleaner.min.cleanable.ratio"),
        kind: Kind::Double { min: 0.0, max: 1.0 },
        default: "0.5",
        doc: "Part of a log's bytes, without the active segment, above which those not compacted yet start a compaction.",
        field: Some(Field {
            set: |config, text| store(&mut config.min_cleanable_dirty_ratio, text),
            get: |config| double(config.min_cleanable_dirty_ratio),
        }),
    },
    TopicConfigDef {
        name: "min.compaction.lag.ms",
        server: ServerDefault::Setting("log.cleaner.min.compaction.lag.ms"),
        kind: MS,
        default: "0",
        doc: "Minimum time for which a record is not compacted.",
        field: field!(min_compaction_lag_ms),
    },
    TopicConfigDef {
        name: "min.insync.replicas",
        server: ServerDefault::Setting("min.insync.replicas"),
        kind: Kind::Int {
            min: 1,
            max: i32::MAX as i64,
        },
        default: "1",
        doc: "Number of replicas that must have a record before acks=all is acknowledged; at most the number of replicas, which is 1.",
        field: field!(min_insync_replicas),
    },
    TopicConfigDef {
        name: "preallocate",
        server: ServerDefault::Fixed("log.preallocate"),
        kind: Kind::Bool,
        default: "false",
        doc: "Accepted for compatibility; has no effect. Segment files grow as records are appended.",
        field: None,
    },
    TopicConfigDef {
        name: "remote.copy.lag.bytes",
        server: ServerDefault::Fixed("log.remote.copy.lag.bytes"),
        kind: REMOTE_COPY_LAG,
        default: "-1",
        doc: "Bytes by which the copy of a segment to remote storage is delayed. Has no effect without tiered storage.",
        field: None,
    },
    TopicConfigDef {
        name: "remote.copy.lag.ms",
        server: ServerDefault::Fixed("log.remote.copy.lag.ms"),
        kind: REMOTE_COPY_LAG,
        default: "0",
        doc: "Time by which the copy of a segment to remote storage is delayed. Has no effect without tiered storage.",
        field: None,
    },
    TopicConfigDef {
        name: "remote.log.copy.disable",
        server: ServerDefault::Absent,
        kind: Kind::Bool,
        default: "false",
        doc: "Stop copying segments of a tiered topic to remote storage. Has no effect without tiered storage.",
        field: None,
    },
    TopicConfigDef {
        name: "remote.log.delete.on.disable",
        server: ServerDefault::Absent,
        kind: Kind::Bool,
        default: "false",
        doc: "Delete remote segments when tiering is disabled. Has no effect without tiered storage.",
        field: None,
    },
    fixed(
        "remote.storage.enable",
        ServerDefault::Absent,
        ConfigType::Boolean,
        "false",
        NO_TIERS,
        "Enable tiered storage for the topic. There is no remote storage.",
    ),
    TopicConfigDef {
        name: "retention.bytes",
        server: ServerDefault::Setting("log.retention.bytes"),
        kind: Kind::Int {
            min: i64::MIN,
            max: i64::MAX,
        },
        default: "-1",
        doc: "Size of a partition above which its oldest segments are deleted; a negative number for no limit.",
        field: field!(retention_bytes),
    },
    TopicConfigDef {
        name: "retention.ms",
        server: ServerDefault::Setting("log.retention.ms"),
        kind: Kind::Int {
            min: -1,
            max: i64::MAX,
        },
        default: "604800000",
        doc: "Age of a segment's newest record after which the segment is deleted; -1 for no limit.",
        field: field!(retention_ms),
    },
    TopicConfigDef {
        name: "segment.bytes",
        server: ServerDefault::Setting("log.segment.bytes"),
        kind: Kind::Int {
            min: CLIENT_SEGMENT_BYTES_MIN,
            max: i32::MAX as i64,
        },
        default: "1073741824",
        doc: "Size at which a segment is rolled.",
        field: field!(segment_bytes),
    },
    TopicConfigDef {
        name: "segment.index.bytes",
        server: ServerDefault::Setting("log.index.size.max.bytes"),
        kind: Kind::Int {
            min: 4,
            max: i32::MAX as i64,
        },
        default: "10485760",
        doc: "Size of an index at which its segment is rolled.",
        field: field!(segment_index_bytes),
    },
    TopicConfigDef {
        name: "segment.jitter.ms",
        server: ServerDefault::Setting("log.roll.jitter.ms"),
        kind: MS,
        default: "0",
        doc: "Maximum random time subtracted from segment.ms, so that partitions do not all roll at once.",
        field: field!(segment_jitter_ms),
    },
    TopicConfigDef {
        name: "segment.ms",
        server: ServerDefault::Setting("log.roll.ms"),
        kind: POSITIVE_MS,
        default: "604800000",
        doc: "Age of a segment's first record at which the segment is rolled, so that retention can delete it.",
        field: field!(segment_ms),
    },
    TopicConfigDef {
        name: "unclean.leader.election.enable",
        server: ServerDefault::Fixed("unclean.leader.election.enable"),
        kind: Kind::Bool,
        default: "false",
        doc: "Allow an out-of-sync replica to become leader. Has no effect: the only replica is always in sync.",
        field: None,
    },
];

/// Topic settings removed in Kafka 4.0, and the reason for rejecting them.
const REMOVED: &[(&str, &str)] = &[
    (
        "message.downconversion.enable",
        "only message format 2 exists since Kafka 4",
    ),
    (
        "message.format.version",
        "only message format 2 exists since Kafka 4",
    ),
    (
        "message.timestamp.difference.max.ms",
        "Kafka 4 has message.timestamp.before.max.ms and message.timestamp.after.max.ms instead",
    ),
];

impl TopicConfig {
    /// Returns the declaration of a setting.
    pub fn definition(name: &str) -> Option<&'static TopicConfigDef> {
        TOPIC_CONFIGS.iter().find(|each| each.name == name)
    }

    /// Applies `overrides` to these defaults, normalized as in Kafka: without surrounding whitespace and repeated list
    /// items. Fails on the first unknown name or value that is not allowed.
    pub fn apply(&self, overrides: &BTreeMap<String, String>) -> Result<TopicConfig, ConfigError> {
        self.apply_over(overrides, &BTreeMap::new())
    }

    /// Applies `overrides` as [`Self::apply`] does. Values that are `stored` already stay valid, even if an earlier release
    /// allowed more than this one.
    pub fn apply_over(
        &self,
        overrides: &BTreeMap<String, String>,
        stored: &BTreeMap<String, String>,
    ) -> Result<TopicConfig, ConfigError> {
        let mut config = self.clone();
        for (name, text) in overrides {
            let definition = Self::definition(name).ok_or_else(|| unknown(name))?;
            let kind = match stored.get(name) == Some(text) {
                true => definition.lenient_kind(),
                false => definition.kind,
            };
            let value = kind.normalize(text);
            let value = value.filter(|value| definition.set(&mut config, value));
            let value = value.ok_or_else(|| {
                ConfigError::not_allowed(Origin::Topic, name, text, kind.allowed())
            })?;
            config.overrides.insert(name.clone(), value);
        }
        config.check_together()?;
        Ok(config)
    }

    /// Returns the size at which a segment is rolled.
    pub fn segment_bytes_max(&self) -> i32 {
        self.internal_segment_bytes.unwrap_or(self.segment_bytes)
    }

    /// Checks the settings that limit each other.
    pub(super) fn check_together(&self) -> Result<(), ConfigError> {
        let (min, max) = (self.min_compaction_lag_ms, self.max_compaction_lag_ms);
        match min > max {
            true => Err(ConfigError::Conflict(format!(
                "min.compaction.lag.ms ({min}) is larger than max.compaction.lag.ms ({max})"
            ))),
            false => Ok(()),
        }
    }

    /// Returns the age of a segment's first record at which the segment is rolled. Compaction leaves the active segment
    /// alone, so `max.compaction.lag.ms` limits its age.
    pub fn segment_ms_max(&self) -> i64 {
        match self.cleanup_policy.compact {
            true => self.segment_ms.min(self.max_compaction_lag_ms),
            false => self.segment_ms,
        }
    }
}

fn unknown(name: &str) -> ConfigError {
    match REMOVED.iter().find(|(removed, _)| *removed == name) {
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
    /// Defaults of [`TOPIC_CONFIGS`].
    fn default() -> Self {
        // Placeholders: the loop below sets every field, which a test checks.
        let mut config = TopicConfig {
            overrides: BTreeMap::new(),
            cleanup_policy: CleanupPolicy::default(),
            compression_gzip_level: 0,
            compression_type: CompressionType::Producer,
            compression_zstd_level: 0,
            delete_retention_ms: 0,
            file_delete_delay_ms: 0,
            flush_messages: 0,
            flush_ms: 0,
            index_interval_bytes: 0,
            internal_segment_bytes: None,
            max_compaction_lag_ms: 0,
            max_message_bytes: 0,
            message_timestamp_after_max_ms: 0,
            message_timestamp_before_max_ms: 0,
            message_timestamp_type: TimestampType::CreateTime,
            min_insync_replicas: 0,
            min_cleanable_dirty_ratio: 0.0,
            min_compaction_lag_ms: 0,
            retention_bytes: 0,
            retention_ms: 0,
            segment_bytes: 0,
            segment_index_bytes: 0,
            segment_jitter_ms: 0,
            segment_ms: 0,
        };
        for definition in TOPIC_CONFIGS {
            let is_set = definition.set(&mut config, definition.default);
            assert!(is_set, "a declared default is valid for its field");
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
    fn defaults_are_displayed_as_declared() {
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
    fn overrides_change_only_the_settings_they_name() {
        let set = overrides(&[("retention.ms", "5000"), ("compression.type", "zstd")]);
        let config = TopicConfig::default().apply(&set);
        let config = config.expect("both are allowed");
        let expected = TopicConfig {
            overrides: set,
            retention_ms: 5_000,
            compression_type: CompressionType::Zstd,
            ..TopicConfig::default()
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn invalid_value_is_rejected_with_name_value_and_range() {
        let error = TopicConfig::default()
            .apply(&overrides(&[("segment.bytes", "3")]))
            .expect_err("too small");
        assert_eq!(
            error.to_string(),
            "segment.bytes = \"3\" is not allowed; allowed: a whole number from 1048576 to 2^31-1"
        );
    }

    #[test]
    fn unavailable_features_are_rejected_with_a_reason() {
        let remote = TopicConfig::default()
            .apply(&overrides(&[("remote.storage.enable", "true")]))
            .expect_err("no tiers");
        assert!(
            remote
                .to_string()
                .contains("tiered storage is not available"),
            "{remote}"
        );
        let removed = TopicConfig::default()
            .apply(&overrides(&[("message.format.version", "3.0")]))
            .expect_err("removed in Kafka 4");
        assert!(removed.to_string().contains("format 2"), "{removed}");
    }

    /// Topic settings in Kafka 4.4's DescribeConfigs, with their types and defaults.
    const KAFKA_4_4: &[(&str, ConfigType, &str)] = {
        use ConfigType::*;
        &[
            ("cleanup.policy", List, "delete"),
            ("compression.gzip.level", Int, "-1"),
            ("compression.lz4.level", Int, "9"),
            ("compression.type", String, "producer"),
            ("compression.zstd.level", Int, "3"),
            ("delete.retention.ms", Long, "86400000"),
            ("errors.deadletterqueue.group.enable", Boolean, "false"),
            ("file.delete.delay.ms", Long, "60000"),
            ("flush.messages", Long, "9223372036854775807"),
            ("flush.ms", Long, "9223372036854775807"),
            ("follower.replication.throttled.replicas", List, ""),
            ("index.interval.bytes", Int, "4096"),
            ("leader.replication.throttled.replicas", List, ""),
            ("local.retention.bytes", Long, "-2"),
            ("local.retention.ms", Long, "-2"),
            ("max.compaction.lag.ms", Long, "9223372036854775807"),
            ("max.decompressed.message.bytes", Int, "2147483639"),
            ("max.message.bytes", Int, "1048588"),
            ("message.timestamp.after.max.ms", Long, "3600000"),
            (
                "message.timestamp.before.max.ms",
                Long,
                "9223372036854775807",
            ),
            ("message.timestamp.type", String, "CreateTime"),
            ("min.cleanable.dirty.ratio", Double, "0.5"),
            ("min.compaction.lag.ms", Long, "0"),
            ("min.insync.replicas", Int, "1"),
            ("preallocate", Boolean, "false"),
            ("remote.copy.lag.bytes", Long, "-1"),
            ("remote.copy.lag.ms", Long, "0"),
            ("remote.log.copy.disable", Boolean, "false"),
            ("remote.log.delete.on.disable", Boolean, "false"),
            ("remote.storage.enable", Boolean, "false"),
            ("retention.bytes", Long, "-1"),
            ("retention.ms", Long, "604800000"),
            ("segment.bytes", Int, "1073741824"),
            ("segment.index.bytes", Int, "10485760"),
            ("segment.jitter.ms", Long, "0"),
            ("segment.ms", Long, "604800000"),
            ("unclean.leader.election.enable", Boolean, "false"),
        ]
    };

    #[test]
    fn every_kafka_topic_setting_exists_and_accepts_kafkas_default() {
        let shown = || TOPIC_CONFIGS.iter().filter(|each| !each.is_internal());
        let names: Vec<&str> = shown().map(|each| each.name).collect();
        let kafkas: Vec<&str> = KAFKA_4_4.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names, kafkas);
        for (definition, (name, config_type, default)) in shown().zip(KAFKA_4_4) {
            assert_eq!(definition.kind.config_type(), *config_type, "{name}");
            let config = TopicConfig::default()
                .apply(&overrides(&[(name, default)]))
                .unwrap();
            assert_eq!(definition.value(&config), *default, "{name}");
            // Records are flushed earlier than in Kafka.
            if *name != "flush.ms" {
                assert_eq!(definition.default, *default, "{name}");
            }
        }
    }

    #[test]
    fn settings_with_one_allowed_value_reject_others_with_a_reason() {
        let fixed = TOPIC_CONFIGS
            .iter()
            .filter(|each| matches!(each.kind, Kind::Only(..)));
        let mut count = 0;
        for definition in fixed {
            count += 1;
            for other in ["true", "17"] {
                let refused = TopicConfig::default()
                    .apply(&overrides(&[(definition.name, other)]))
                    .unwrap_err()
                    .to_string();
                assert!(refused.contains(definition.name), "{refused}");
                assert!(refused.ends_with(')'), "a reason in {refused}");
            }
        }
        assert_eq!(count, 2);
    }

    #[test]
    fn settings_without_effect_are_kept_as_they_were_set() {
        for (name, text, value) in [
            ("preallocate", "TRUE", "true"),
            ("unclean.leader.election.enable", "true", "true"),
            (
                "leader.replication.throttled.replicas",
                "0:1, 1:1",
                "0:1,1:1",
            ),
            ("local.retention.ms", "5", "5"),
            ("min.insync.replicas", "2", "2"),
            ("compression.lz4.level", "1", "1"),
        ] {
            let config = TopicConfig::default().apply(&overrides(&[(name, text)]));
            let definition = TopicConfig::definition(name).unwrap();
            assert_eq!(definition.value(&config.unwrap()), value, "{name}");
        }
    }

    #[test]
    fn a_stored_value_that_is_no_longer_allowed_stays_until_it_is_changed() {
        let stored = overrides(&[("segment.bytes", "4096"), ("compression.type", "GZIP")]);
        let config = TopicConfig::default().apply_over(&stored, &stored).unwrap();
        assert_eq!(config.segment_bytes_max(), 4096);
        let mut edited = stored.clone();
        edited.insert("retention.ms".to_owned(), "1".to_owned());
        assert!(TopicConfig::default().apply_over(&edited, &stored).is_ok());
        edited.insert("segment.bytes".to_owned(), "4097".to_owned());
        let refused = TopicConfig::default().apply_over(&edited, &stored);
        assert!(refused.unwrap_err().to_string().contains("from 1048576"));
    }

    #[test]
    fn the_internal_segment_size_applies_instead_of_the_public_one() {
        let config = TopicConfig::default().apply(&overrides(&[("internal.segment.bytes", "256")]));
        let config = config.unwrap();
        assert_eq!(config.segment_bytes_max(), 256);
        assert_eq!(config.segment_bytes, 1 << 30);
    }

    #[test]
    fn an_empty_cleanup_policy_deletes_nothing() {
        let policy = |text| {
            let config = TopicConfig::default().apply(&overrides(&[("cleanup.policy", text)]));
            config.unwrap().cleanup_policy
        };
        assert!(policy("delete,delete").delete);
        assert!(!policy("").delete);
    }

    #[test]
    fn a_cleanup_policy_is_displayed_in_its_order() {
        for text in ["", "compact", "delete", "compact,delete", "delete,compact"] {
            let policy: CleanupPolicy = text.parse().unwrap();
            assert_eq!(policy.to_string(), text);
            assert_eq!(policy.compact, text.contains("compact"));
            assert_eq!(policy.delete, text.contains("delete"));
        }
    }

    #[test]
    fn the_minimum_compaction_lag_does_not_exceed_the_maximum() {
        let set = |min, max| {
            TopicConfig::default().apply(&overrides(&[
                ("min.compaction.lag.ms", min),
                ("max.compaction.lag.ms", max),
            ]))
        };
        set("7", "7").unwrap();
        let error = set("8", "7").unwrap_err();
        assert_eq!(
            error.to_string(),
            "min.compaction.lag.ms (8) is larger than max.compaction.lag.ms (7)"
        );
    }

    #[test]
    fn a_compacted_topic_rolls_segments_within_the_maximum_compaction_lag() {
        let lag = ("max.compaction.lag.ms", "1000");
        let config = |policy| {
            let set = overrides(&[("cleanup.policy", policy), lag]);
            TopicConfig::default().apply(&set).unwrap()
        };
        assert_eq!(config("compact").segment_ms_max(), 1_000);
        assert_eq!(config("delete").segment_ms_max(), 604_800_000);
    }

    #[test]
    fn values_are_normalized_as_in_kafka() {
        let given = overrides(&[
            ("cleanup.policy", "delete, delete"),
            ("min.cleanable.dirty.ratio", "0.50"),
            ("preallocate", "False"),
            ("retention.ms", " 77 "),
        ]);
        let kept = overrides(&[
            ("cleanup.policy", "delete"),
            ("min.cleanable.dirty.ratio", "0.5"),
            ("preallocate", "false"),
            ("retention.ms", "77"),
        ]);
        let config = TopicConfig::default().apply(&given).unwrap();
        assert_eq!(config.overrides, kept);
    }

    #[test]
    fn misspelled_name_is_rejected_with_a_suggestion() {
        let error = TopicConfig::default()
            .apply(&overrides(&[("retention.m", "1")]))
            .expect_err("unknown");
        assert!(
            error.to_string().contains("did you mean retention.ms?"),
            "{error}"
        );
    }
}
