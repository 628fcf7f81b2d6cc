//! The catalogue of metrics: name, type, unit, labels and help text of each, declared once.
//!
//! A [`Metric`] cannot be constructed outside this file, and [`super::Samples`] accepts nothing else, so no series can
//! exist under an undeclared name. `docs/METRICS.md` is generated from this file.

/// The Prometheus type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric family.
#[derive(Debug)]
pub struct Metric {
    /// Position in [`ALL`].
    index: usize,
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

impl Metric {
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Returns the OpenMetrics name of the family: for a counter, the sample's name without `_total`.
    pub fn family_name(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram => self.name,
        }
    }

    /// Returns the unit if the family's name ends in one. OpenMetrics allows a `# UNIT` line only then.
    pub fn unit(&self) -> Option<&'static str> {
        ["seconds", "bytes", "batches"].into_iter().find(|unit| {
            self.family_name()
                .strip_suffix(unit)
                .is_some_and(|rest| rest.ends_with('_'))
        })
    }
}

/// Metrics of one area, in the order of exposition.
pub struct Section {
    pub title: &'static str,
    pub metrics: &'static [&'static Metric],
}

macro_rules! catalog {
    ($($title:literal { $($ident:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)* })*) => {
        #[expect(
            non_camel_case_types,
            clippy::upper_case_acronyms,
            reason = "named like the statics"
        )]
        enum Index { $($($ident,)*)* }

        $($(
            #[doc = $help]
            pub static $ident: Metric = Metric {
                index: Index::$ident as usize,
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*)*

        /// Every metric, in the order of exposition.
        pub static ALL: &[&Metric] = &[$($(&$ident,)*)*];

        /// Every metric, grouped by area.
        pub static SECTIONS: &[Section] = &[$(Section { title: $title, metrics: &[$(&$ident,)*] },)*];
    };
}

catalog! {
    "Server" {
        CONNECTIONS_ACTIVE: Gauge "streamline_connections_active" []
            "Current open connections";
        CONNECTIONS_TOTAL: Counter "streamline_connections_total" []
            "Total connections accepted";
        UPTIME_SECONDS: Gauge "streamline_uptime_seconds" []
            "Server uptime";
        READY: Gauge "streamline_ready" []
            "1 if the server accepts work, 0 while it is recovering, draining or unable to write";
        BUILD_INFO: Gauge "streamline_build_info" ["version", "commit"]
            "Version and commit of the running build, as labels; the value is always 1";
        CONNECTIONS_REJECTED_TOTAL: Counter "streamline_connections_rejected_total" ["reason"]
            "Connections rejected before their first request";
        CONNECTION_PANICS_TOTAL: Counter "streamline_connection_panics_total" []
            "Connections closed by a panic in the server (a bug); see the server log";
        REQUESTS_REJECTED_TOTAL: Counter "streamline_requests_rejected_total" ["reason"]
            "Requests rejected as a whole; every reason except client_software also closes the connection";
        HTTP_REJECTED_TOTAL: Counter "streamline_http_rejected_total" ["reason"]
            "Connections and requests rejected on the HTTP port";
    }
    "Requests" {
        REQUESTS_TOTAL: Counter "streamline_requests_total" ["api_key", "error"]
            "Total requests by API type";
        REQUEST_DURATION_SECONDS: Histogram "streamline_request_duration_seconds" ["api_key"]
            "Request latency, from the last byte read to the last byte handed to the socket";
        REQUEST_SIZE_BYTES: Histogram "streamline_request_size_bytes" ["api_key"]
            "Request payload size";
        RESPONSE_SIZE_BYTES: Histogram "streamline_response_size_bytes" ["api_key"]
            "Response payload size";
        REQUEST_MEMORY_BYTES: Gauge "streamline_request_memory_bytes" []
            "Memory held by requests, each from its first byte received until its handler is done";
        REQUEST_MEMORY_LIMIT_BYTES: Gauge "streamline_request_memory_limit_bytes" []
            "Limit on memory held by requests (queued_max_request_bytes); one eighth is reserved for small requests";
        REQUEST_MEMORY_WAITS_TOTAL: Counter "streamline_request_memory_waits_total" []
            "Times a connection was paused because request memory was exhausted";
        CONNECTIONS_WAITING_FOR_MEMORY: Gauge "streamline_connections_waiting_for_memory" []
            "Connections currently paused because request memory is exhausted";
        PRODUCE_REFUSED_TOTAL: Counter "streamline_produce_refused_total" ["reason"]
            "Produce batches answered with an error; a request has one batch per partition";
        RESPONSES_WAITING_BYTES: Gauge "streamline_responses_waiting_bytes" []
            "Bytes of responses held in memory until clients read them";
        FETCHES_WAITING: Gauge "streamline_fetches_waiting" []
            "Fetch requests currently waiting for records";
    }
    "Storage" {
        TOPICS_TOTAL: Gauge "streamline_topics_total" []
            "Number of topics";
        PARTITIONS_TOTAL: Gauge "streamline_partitions_total" ["topic"]
            "Partitions per topic";
        RECORDS_TOTAL: Counter "streamline_records_total" ["topic", "partition"]
            "Records written";
        BYTES_IN_TOTAL: Counter "streamline_bytes_in_total" ["topic"]
            "Bytes of record batches received, in their wire form";
        BYTES_OUT_TOTAL: Counter "streamline_bytes_out_total" ["topic"]
            "Bytes of record batches sent, in their wire form";
        LOG_SIZE_BYTES: Gauge "streamline_log_size_bytes" ["topic", "partition"]
            "Partition size";
        LOG_END_OFFSET: Gauge "streamline_log_end_offset" ["topic", "partition"]
            "Log end offset: the offset of the next record";
        SEGMENTS_TOTAL: Gauge "streamline_segments_total" ["topic", "partition"]
            "Segment count";
        LOG_FLUSH_DURATION_SECONDS: Histogram "streamline_log_flush_duration_seconds" []
            "Duration of fdatasync calls on log segments";
        LOG_FLUSH_FAILURES_TOTAL: Counter "streamline_log_flush_failures_total" []
            "Failed fdatasync calls; each one stops all further writes to its partition";
        LOG_FLUSH_BATCHES: Histogram "streamline_log_flush_batches" []
            "Batches with acks=all completed by one flush of their partition";
        LOG_START_OFFSET: Gauge "streamline_log_start_offset" ["topic", "partition"]
            "Log start offset: the earliest offset that can be read";
        LOG_HIGH_WATERMARK: Gauge "streamline_log_high_watermark" ["topic", "partition"]
            "High watermark: the offset up to which consumers can read";
        LOG_LAST_STABLE_OFFSET: Gauge "streamline_log_last_stable_offset" ["topic", "partition"]
            "Last stable offset: the offset up to which consumers of committed records can read";
        DISK_AVAILABLE_BYTES: Gauge "streamline_disk_available_bytes" []
            "Free bytes on the file system of the data directory, updated every second";
        DISK_SIZE_BYTES: Gauge "streamline_disk_size_bytes" []
            "Size of the file system of the data directory";
        DISK_RESERVE_BYTES: Gauge "streamline_disk_reserve_bytes" []
            "Bytes currently held in the disk reserve; absent if disk_reserve_bytes is 0";
        DISK_FULL: Gauge "streamline_disk_full" []
            "1 while records are rejected because the disk is full, otherwise 0";
        LOG_DAMAGED_RANGES_TOTAL: Counter "streamline_log_damaged_ranges_total" []
            "Corrupt log ranges found and set aside; their records are not served";
        RECOVERY_DURATION_SECONDS: Gauge "streamline_recovery_duration_seconds" []
            "Time taken to open the logs at the last start";
        RECOVERY_PARTITIONS: Gauge "streamline_recovery_partitions" []
            "Partitions opened at the last start";
        RECOVERY_TRUNCATED_BYTES_TOTAL: Counter "streamline_recovery_truncated_bytes_total" []
            "Bytes of incomplete writes truncated by recovery";
        RETENTION_DELETED_SEGMENTS_TOTAL: Counter "streamline_retention_deleted_segments_total" []
            "Segments deleted by retention";
        RETENTION_DELETED_BYTES_TOTAL: Counter "streamline_retention_deleted_bytes_total" []
            "Bytes of segments deleted by retention";
        COMPACTION_LOGS_TOTAL: Counter "streamline_compaction_logs_total" []
            "Compactions of a log that were completed";
        COMPACTION_DURATION_SECONDS_TOTAL: Counter "streamline_compaction_duration_seconds_total" []
            "Time spent on completed compactions";
        COMPACTION_READ_BYTES_TOTAL: Counter "streamline_compaction_read_bytes_total" []
            "Bytes read by compaction; the uncompacted part of a log is read twice";
        COMPACTION_WRITTEN_BYTES_TOTAL: Counter "streamline_compaction_written_bytes_total" []
            "Bytes written by compaction";
        COMPACTION_REMOVED_RECORDS_TOTAL: Counter "streamline_compaction_removed_records_total" []
            "Records removed by compaction";
        COMPACTION_DIRTY_BYTES: Gauge "streamline_compaction_dirty_bytes" ["topic"]
            "Bytes of a compacted topic that could be compacted and are not, at the last check";
        COMPACTION_MAX_DIRTY_RATIO: Gauge "streamline_compaction_max_dirty_ratio" []
            "Largest ratio of uncompacted to compactable bytes of a log, at the last check";
        COMPACTION_REMAINING_BYTES: Gauge "streamline_compaction_remaining_bytes" []
            "Bytes that the running compaction has yet to read; 0 if none is running";
        COMPACTION_UNCLEANABLE_PARTITIONS: Gauge "streamline_compaction_uncleanable_partitions" []
            "Partitions that cannot be compacted because of an error, which the log names";
        COMPACTION_SINCE_LAST_CHECK_SECONDS: Gauge "streamline_compaction_since_last_check_seconds" []
            "Time since the last check for logs to compact; it grows while a compaction is running";
    }
    "Consumer groups" {
        CONSUMER_GROUPS_TOTAL: Gauge "streamline_consumer_groups_total" []
            "Active groups: groups with at least one member";
        CONSUMER_LAG: Gauge "streamline_consumer_lag" ["group", "topic", "partition"]
            "Consumer lag: records from the committed offset or the log start offset, whichever is higher, to the log end offset; absent without a commit";
        CONSUMER_LOST_RECORDS: Gauge "streamline_consumer_lost_records" ["group", "topic", "partition"]
            "Records deleted before the group committed an offset past them: log start offset minus committed offset, at least 0";
        CONSUMER_GROUPS_BY_STATE: Gauge "streamline_consumer_groups_by_state" ["state"]
            "Groups by state";
        CONSUMER_GROUP_MEMBERS: Gauge "streamline_consumer_group_members" ["group"]
            "Members of the group";
        CONSUMER_GROUP_REBALANCES_TOTAL: Counter "streamline_consumer_group_rebalances_total" ["group"]
            "Rebalances completed by the group";
        CONSUMER_GROUP_COMMITTED_OFFSET: Gauge "streamline_consumer_group_committed_offset" ["group", "topic", "partition"]
            "Committed offset: the next offset the group will read";
    }
    "Process" {
        PROCESS_CPU_SECONDS_TOTAL: Counter "process_cpu_seconds_total" []
            "Total user and system CPU time spent";
        PROCESS_RESIDENT_MEMORY_BYTES: Gauge "process_resident_memory_bytes" []
            "Resident memory size";
        PROCESS_VIRTUAL_MEMORY_BYTES: Gauge "process_virtual_memory_bytes" []
            "Virtual memory size";
        PROCESS_OPEN_FDS: Gauge "process_open_fds" []
            "Number of open file descriptors";
        PROCESS_MAX_FDS: Gauge "process_max_fds" []
            "Maximum number of open file descriptors";
        PROCESS_START_TIME_SECONDS: Gauge "process_start_time_seconds" []
            "Start time of the process since the Unix epoch";
        PROCESS_THREADS: Gauge "process_threads" []
            "Number of threads";
    }
}

/// A label whose values are an enum.
pub trait LabelValues: Copy + 'static {
    const ALL: &'static [Self];
    fn as_str(self) -> &'static str;
    fn index(self) -> usize;
}

macro_rules! label_values {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl LabelValues for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $value,)* }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label_values! {
    /// The `reason` of `streamline_connections_rejected_total`.
    ConnectionRejection {
        /// The limit on the total number of connections was reached.
        TooMany = "too_many",
        /// The limit on connections from one address was reached.
        TooManyFromAddress = "too_many_from_address",
    }
}

label_values! {
    /// The `reason` of `streamline_requests_rejected_total`.
    RequestRejection {
        /// The first bytes were a TLS handshake.
        Tls = "tls",
        /// The first bytes were an HTTP request.
        Http = "http",
        /// The first bytes belonged to another protocol.
        OtherProtocol = "other_protocol",
        /// The frame length was negative, too small for a header, or above the limit.
        FrameLength = "frame_length",
        /// Header or body could not be decoded.
        Malformed = "malformed",
        /// The API key or version is not supported.
        Unsupported = "unsupported",
        /// The client's software name or version is not valid in Kafka. The client gets an error and may continue.
        ClientSoftware = "client_software",
        /// The frame did not arrive in time.
        Timeout = "timeout",
        /// The client did not read a response in time.
        ResponseNotTaken = "response_not_taken",
        /// Request memory was exhausted, others were waiting for it, and this client's request had stalled.
        RequestMemory = "request_memory",
        /// The memory for unsent responses was exhausted, and this client's were among the largest.
        ResponseMemory = "response_memory",
    }
}

label_values! {
    /// The `reason` of `streamline_produce_refused_total`.
    ProduceRefusal {
        /// Record timestamps are outside the topic's allowed range.
        Timestamp = "timestamp",
        /// The batch violates the format, or is of a kind that clients must not write.
        InvalidRecord = "invalid_record",
        /// The batch is corrupt: its checksum or length is wrong.
        Corrupt = "corrupt",
        /// The batch exceeds the topic's size limit, or decompresses to more than the server allows.
        TooLarge = "too_large",
        /// The codec is not allowed in this version of the request, or cannot decompress the data.
        Compression = "compression",
        /// The request or the batch belongs to a transaction.
        Transactional = "transactional",
        /// The topic or partition does not exist.
        UnknownTopic = "unknown_topic",
        /// The client may not write to the topic.
        Unauthorized = "unauthorized",
        /// `acks` is none of -1, 0 and 1.
        InvalidAcks = "invalid_acks",
        /// The sequence of an idempotent producer has a gap.
        OutOfOrderSequence = "out_of_order_sequence",
        /// The idempotent producer was fenced by a newer epoch.
        ProducerEpoch = "producer_epoch",
        /// The disk is full.
        DiskFull = "disk_full",
        /// The disk failed, or the partition has rejected all writes since an earlier failure.
        Storage = "storage",
        /// The records were written but not flushed in time.
        FlushTimeout = "flush_timeout",
        /// The server is shutting down.
        Closing = "closing",
    }
}

label_values! {
    /// The `reason` of `streamline_http_rejected_total`.
    HttpRejection {
        /// The limit on open HTTP connections was reached.
        TooManyConnections = "too_many_connections",
        /// The request header did not arrive in time.
        HeaderTimeout = "header_timeout",
        /// The data was not HTTP, or the request header was too large.
        Malformed = "malformed",
        /// The response was not ready in time.
        RequestTimeout = "request_timeout",
        /// The client did not read the response in time.
        ResponseNotTaken = "response_not_taken",
        /// The memory for expositions was exhausted, and this client had been reading its exposition the longest.
        ResponseMemory = "response_memory",
        /// The request body was larger than any endpoint accepts.
        BodyTooLarge = "body_too_large",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn indexes_match_positions_and_names_are_unique() {
        let mut names = HashSet::new();
        for (index, metric) in ALL.iter().enumerate() {
            assert_eq!(metric.index(), index, "{}", metric.name);
            assert!(names.insert(metric.name), "{} twice", metric.name);
        }
    }

    #[test]
    fn names_are_valid_and_counters_end_in_total() {
        for metric in ALL {
            assert!(
                metric
                    .name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{}",
                metric.name
            );
            assert!(
                metric.name.starts_with("streamline_") || metric.name.starts_with("process_"),
                "{}",
                metric.name
            );
            if metric.kind == Kind::Counter {
                assert!(metric.name.ends_with("_total"), "{}", metric.name);
            }
            assert!(!metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    /// OpenMetrics forbids two families whose samples could carry the same name.
    #[test]
    fn no_family_name_collides_with_a_sample_of_another() {
        let mut names = HashSet::new();
        for metric in ALL {
            let family = metric.family_name();
            let suffixes: &[&str] = match metric.kind {
                Kind::Counter => &["", "_total", "_created"],
                Kind::Gauge => &[""],
                Kind::Histogram => &["", "_bucket", "_count", "_sum", "_created"],
            };
            for suffix in suffixes {
                assert!(
                    names.insert(format!("{family}{suffix}")),
                    "{family}{suffix}"
                );
            }
        }
    }

    #[test]
    fn a_unit_is_the_last_word_of_the_family_name() {
        assert_eq!(UPTIME_SECONDS.unit(), Some("seconds"));
        assert_eq!(PROCESS_CPU_SECONDS_TOTAL.unit(), Some("seconds"));
        assert_eq!(LOG_SIZE_BYTES.unit(), Some("bytes"));
        assert_eq!(BYTES_IN_TOTAL.unit(), None);
    }
}
