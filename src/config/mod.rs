//! Typed, validated settings.
//!
//! Owns the names of the settings, their sources (file, environment, flags, in increasing precedence) and their allowed
//! values. All settings are validated before the server starts and all errors are reported together, so that a bad
//! configuration can be fixed at once. A [`Config`] is plain data: components are passed beside it, never inside it.

mod dynamic;
mod error;
mod listeners;
mod load;
mod settings;
mod topic;
mod value;

use std::path::PathBuf;

pub use error::{ConfigError, Origin};
pub use listeners::ByListener;
pub use load::{Effective, Layers, Loaded, load};
pub use settings::{Group, Setting, settings};
pub use topic::{
    CleanupPolicy, CompressionType, TOPIC_CONFIGS, TimestampType, TopicConfig, TopicConfigDef,
};
use value::words;
pub use value::{ConfigType, Endpoint, Kind, ListenAddr};

/// Effective settings of the server. [`settings()`] documents each of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// At least one.
    pub listeners: ByListener<ListenAddr>,
    /// Clients of a listener without one get the address they connected to.
    pub advertised: ByListener<Endpoint>,
    pub http_addr: ListenAddr,
    pub storage: StorageKind,
    pub data_dir: PathBuf,
    /// 0: no reserve.
    pub disk_reserve_bytes: u64,
    pub durability: Durability,
    /// A level, or `target=level` pairs; valid for `tracing_subscriber::filter::Targets`.
    pub log_level: String,
    pub log_format: LogFormat,
    pub metrics: bool,
    pub shutdown_grace_ms: u64,
    pub shutdown_timeout_ms: u64,

    pub auto_create_topics: bool,
    pub default_partitions: i32,
    pub max_partitions: i32,
    pub log_retention_check_interval_ms: u64,
    pub log_cleaner_enable: bool,
    pub log_cleaner_backoff_ms: u64,
    pub log_cleaner_dedupe_buffer_size: usize,
    pub log_cleaner_io_max_bytes_per_second: f64,
    pub topic_defaults: TopicConfig,

    pub group_min_session_timeout_ms: i32,
    pub group_max_session_timeout_ms: i32,
    pub group_initial_rebalance_delay_ms: i32,
    pub group_max_size: i32,
    pub offsets_retention_minutes: i32,
    pub offsets_retention_check_interval_ms: u64,
    pub offset_metadata_max_bytes: i32,
    pub producer_id_expiration_ms: i64,
    pub transaction_max_timeout_ms: i32,
    pub transactional_id_expiration_ms: i64,
    pub transaction_abort_timed_out_transaction_cleanup_interval_ms: u64,
    pub transaction_remove_expired_transaction_cleanup_interval_ms: u64,

    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    pub quota_window_num: usize,
    pub quota_window_size_seconds: u64,
    pub connections_max_idle_ms: u64,
    pub request_read_timeout_ms: u64,
    pub response_write_timeout_ms: u64,
    /// Maximum size of a request, without the four-byte length prefix.
    pub socket_request_max_bytes: usize,
    pub queued_max_request_bytes: usize,
    pub queued_max_response_bytes: usize,
    pub connection_max_inflight_requests: usize,
    pub fetch_max_bytes: i32,
    pub max_incremental_fetch_session_cache_slots: i32,

    pub http_max_connections: usize,
    pub http_header_timeout_ms: u64,
    pub http_request_timeout_ms: u64,
}

/// Place of records and catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageKind {
    /// The data directory.
    Local,
    /// Memory: nothing outlives the process.
    Memory,
}

words!(StorageKind {
    "local" => Local,
    "memory" => Memory,
});

/// Point at which `acks=all` is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After the record was flushed to disk.
    Acks,
    /// Once the record is in the page cache, as in Kafka by default.
    Os,
}

words!(Durability {
    "acks" => Acks,
    "os" => Os,
});

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

words!(LogFormat {
    "text" => Text,
    "json" => Json,
});

impl Default for Config {
    /// Configuration with every setting at its default.
    fn default() -> Self {
        load(Layers::default())
            .expect("declared defaults are valid and no other values were given")
            .config
    }
}

impl Config {
    /// Placeholder values, which [`load()`] replaces from the declarations.
    fn blank() -> Self {
        Config {
            listeners: ByListener::default(),
            advertised: ByListener::default(),
            http_addr: ListenAddr {
                host: None,
                port: 0,
            },
            storage: StorageKind::Local,
            data_dir: PathBuf::new(),
            disk_reserve_bytes: 0,
            durability: Durability::Acks,
            log_level: String::new(),
            log_format: LogFormat::Text,
            metrics: false,
            shutdown_grace_ms: 0,
            shutdown_timeout_ms: 0,
            auto_create_topics: false,
            default_partitions: 0,
            max_partitions: 0,
            log_retention_check_interval_ms: 0,
            log_cleaner_enable: false,
            log_cleaner_backoff_ms: 0,
            log_cleaner_dedupe_buffer_size: 0,
            log_cleaner_io_max_bytes_per_second: 0.0,
            topic_defaults: TopicConfig::default(),
            group_min_session_timeout_ms: 0,
            group_max_session_timeout_ms: 0,
            group_initial_rebalance_delay_ms: 0,
            group_max_size: 0,
            offsets_retention_minutes: 0,
            offsets_retention_check_interval_ms: 0,
            offset_metadata_max_bytes: 0,
            producer_id_expiration_ms: 0,
            transaction_max_timeout_ms: 0,
            transactional_id_expiration_ms: 0,
            transaction_abort_timed_out_transaction_cleanup_interval_ms: 0,
            transaction_remove_expired_transaction_cleanup_interval_ms: 0,
            max_connections: 0,
            max_connections_per_ip: 0,
            quota_window_num: 0,
            quota_window_size_seconds: 0,
            connections_max_idle_ms: 0,
            request_read_timeout_ms: 0,
            response_write_timeout_ms: 0,
            socket_request_max_bytes: 0,
            queued_max_request_bytes: 0,
            queued_max_response_bytes: 0,
            connection_max_inflight_requests: 0,
            fetch_max_bytes: 0,
            max_incremental_fetch_session_cache_slots: 0,
            http_max_connections: 0,
            http_header_timeout_ms: 0,
            http_request_timeout_ms: 0,
        }
    }
}
