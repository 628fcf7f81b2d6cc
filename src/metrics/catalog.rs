//! Every metric there is: name, type, unit, labels and meaning, declared once.
//!
//! A [`Metric`] cannot be made outside this file, and [`super::Samples`] takes nothing else, so a series under a name
//! that is not declared here cannot exist. `docs/METRICS.md` is generated from this file.

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
    /// The place in [`ALL`].
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

    /// The name OpenMetrics gives the family: a counter's without the `_total` of its sample.
    pub fn family_name(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram => self.name,
        }
    }

    /// The unit, where the family's name ends in one; OpenMetrics allows a `# UNIT` line only then.
    pub fn unit(&self) -> Option<&'static str> {
        ["seconds", "bytes", "batches"].into_iter().find(|unit| {
            self.family_name()
                .strip_suffix(unit)
                .is_some_and(|rest| rest.ends_with('_'))
        })
    }
}

/// Metrics that belong together, in the order they are shown.
pub struct Section {
    pub title: &'static str,
    pub metrics: &'static [&'static Metric],
}

macro_rules! catalog {
    ($($title:literal { $($ident:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)* })*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
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

        /// The same by area.
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
            "Whether the server takes work: 1, or 0 while it recovers, drains or cannot write";
        BUILD_INFO: Gauge "streamline_build_info" ["version", "commit"]
            "Always 1; the labels say which build is running";
        CONNECTIONS_REJECTED_TOTAL: Counter "streamline_connections_rejected_total" ["reason"]
            "Connections refused before their first request";
        CONNECTION_PANICS_TOTAL: Counter "streamline_connection_panics_total" []
            "Connections that a bug of the server ended; its log says which";
        REQUESTS_REJECTED_TOTAL: Counter "streamline_requests_rejected_total" ["reason"]
            "Requests that were refused as a whole; all but those for client_software close their connection";
        HTTP_REJECTED_TOTAL: Counter "streamline_http_rejected_total" ["reason"]
            "Connections and requests refused on the HTTP port";
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
            "Memory that requests hold, from their first byte that has arrived until their handler is done";
        REQUEST_MEMORY_LIMIT_BYTES: Gauge "streamline_request_memory_limit_bytes" []
            "Memory that requests may hold (queued_max_request_bytes); an eighth of it is for small requests alone";
        REQUEST_MEMORY_WAITS_TOTAL: Counter "streamline_request_memory_waits_total" []
            "Times that a connection was not read because requests held all memory";
        CONNECTIONS_WAITING_FOR_MEMORY: Gauge "streamline_connections_waiting_for_memory" []
            "Connections that are not read at the moment because requests hold all memory";
        PRODUCE_REFUSED_TOTAL: Counter "streamline_produce_refused_total" ["reason"]
            "Batches of Produce requests that were answered with an error; a request has one for each partition it names";
        RESPONSES_WAITING_BYTES: Gauge "streamline_responses_waiting_bytes" []
            "Bytes of responses that wait in memory for clients to take them";
        FETCHES_WAITING: Gauge "streamline_fetches_waiting" []
            "Fetches that wait for records at the moment";
    }
    "Storage" {
        TOPICS_TOTAL: Gauge "streamline_topics_total" []
            "Number of topics";
        PARTITIONS_TOTAL: Gauge "streamline_partitions_total" ["topic"]
            "Partitions per topic";
        RECORDS_TOTAL: Counter "streamline_records_total" ["topic", "partition"]
            "Records written";
        BYTES_IN_TOTAL: Counter "streamline_bytes_in_total" ["topic"]
            "Bytes of record batches received, as they stood on the wire";
        BYTES_OUT_TOTAL: Counter "streamline_bytes_out_total" ["topic"]
            "Bytes of record batches sent, as they stood on the wire";
        LOG_SIZE_BYTES: Gauge "streamline_log_size_bytes" ["topic", "partition"]
            "Partition size";
        LOG_END_OFFSET: Gauge "streamline_log_end_offset" ["topic", "partition"]
            "Latest offset: the one the next record will get";
        SEGMENTS_TOTAL: Gauge "streamline_segments_total" ["topic", "partition"]
            "Segment count";
        LOG_FLUSH_DURATION_SECONDS: Histogram "streamline_log_flush_duration_seconds" []
            "Time of one fdatasync of a log segment";
        LOG_FLUSH_FAILURES_TOTAL: Counter "streamline_log_flush_failures_total" []
            "Failed fdatasyncs; each one has poisoned its partition";
        LOG_FLUSH_BATCHES: Histogram "streamline_log_flush_batches" []
            "Batches with acks=all that waited for one synchronisation of their partition and were served by it";
        LOG_START_OFFSET: Gauge "streamline_log_start_offset" ["topic", "partition"]
            "Earliest offset that can be read";
        LOG_HIGH_WATERMARK: Gauge "streamline_log_high_watermark" ["topic", "partition"]
            "Offset up to which consumers can read";
        DISK_AVAILABLE_BYTES: Gauge "streamline_disk_available_bytes" []
            "Free bytes of the file system that holds the data directory, as of the last second";
        DISK_SIZE_BYTES: Gauge "streamline_disk_size_bytes" []
            "Size of the file system that holds the data directory";
        DISK_RESERVE_BYTES: Gauge "streamline_disk_reserve_bytes" []
            "Bytes of the disk reserve that are held; absent if disk_reserve_bytes is 0";
        DISK_FULL: Gauge "streamline_disk_full" []
            "Whether records are refused because the disk is full: 1, or 0";
        LOG_DAMAGED_RANGES_TOTAL: Counter "streamline_log_damaged_ranges_total" []
            "Damaged ranges of the log that were found, set aside and not served";
        RECOVERY_DURATION_SECONDS: Gauge "streamline_recovery_duration_seconds" []
            "How long opening the logs took at the last start";
        RECOVERY_PARTITIONS: Gauge "streamline_recovery_partitions" []
            "Partitions that were opened at the last start";
        RECOVERY_TRUNCATED_BYTES_TOTAL: Counter "streamline_recovery_truncated_bytes_total" []
            "Bytes of incomplete writes that recovery cut off";
        RETENTION_DELETED_SEGMENTS_TOTAL: Counter "streamline_retention_deleted_segments_total" []
            "Segments deleted by retention";
        RETENTION_DELETED_BYTES_TOTAL: Counter "streamline_retention_deleted_bytes_total" []
            "Bytes of the segments deleted by retention";
    }
    "Consumer groups" {
        CONSUMER_GROUPS_TOTAL: Gauge "streamline_consumer_groups_total" []
            "Active groups: those with members";
        CONSUMER_LAG: Gauge "streamline_consumer_lag" ["group", "topic", "partition"]
            "Consumer lag: records that the group has yet to read, from its committed offset or the log start, whichever is higher, to the log end; absent without a commit";
        CONSUMER_LOST_RECORDS: Gauge "streamline_consumer_lost_records" ["group", "topic", "partition"]
            "Records deleted before the group committed an offset past them: log start minus committed offset, at least 0";
        CONSUMER_GROUPS_BY_STATE: Gauge "streamline_consumer_groups_by_state" ["state"]
            "Groups by the state they are in";
        CONSUMER_GROUP_MEMBERS: Gauge "streamline_consumer_group_members" ["group"]
            "Members of the group";
        CONSUMER_GROUP_REBALANCES_TOTAL: Counter "streamline_consumer_group_rebalances_total" ["group"]
            "Rebalances that the group has completed";
        CONSUMER_GROUP_COMMITTED_OFFSET: Gauge "streamline_consumer_group_committed_offset" ["group", "topic", "partition"]
            "Committed offset: the one the group will read next";
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

/// The values of a label that is an enum in code.
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
        /// The limit on all connections was reached.
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
        /// The first bytes were those of another protocol.
        OtherProtocol = "other_protocol",
        /// The frame's length was negative, too small for a header, or above the limit.
        FrameLength = "frame_length",
        /// Header or body could not be decoded.
        Malformed = "malformed",
        /// The API key or its version is not served.
        Unsupported = "unsupported",
        /// The client's software has a name or version that Kafka does not allow; it is answered, and may go on.
        ClientSoftware = "client_software",
        /// The frame did not arrive in time.
        Timeout = "timeout",
        /// The client did not take a response in time.
        ResponseNotTaken = "response_not_taken",
        /// Requests held all memory, others waited, and this client's had stalled.
        RequestMemory = "request_memory",
        /// The memory for responses that wait was used up, and this client's were among the largest.
        ResponseMemory = "response_memory",
    }
}

label_values! {
    /// The `reason` of `streamline_produce_refused_total`.
    ProduceRefusal {
        /// Records have timestamps outside the range that the topic takes.
        Timestamp = "timestamp",
        /// The batch breaks a rule of the format, or is not for clients to write.
        InvalidRecord = "invalid_record",
        /// The batch was damaged on its way: its checksum or its length is wrong.
        Corrupt = "corrupt",
        /// The batch is larger than the topic takes, or decompresses to more than the server takes.
        TooLarge = "too_large",
        /// The codec is not for this version of the request, or cannot read the bytes.
        Compression = "compression",
        /// The request or the batch belongs to a transaction.
        Transactional = "transactional",
        /// The topic or partition does not exist.
        UnknownTopic = "unknown_topic",
        /// `acks` is none of -1, 0 and 1.
        InvalidAcks = "invalid_acks",
        /// An idempotent producer left out a sequence.
        OutOfOrderSequence = "out_of_order_sequence",
        /// A newer epoch of the idempotent producer is known.
        ProducerEpoch = "producer_epoch",
        /// There is no room left on the disk.
        DiskFull = "disk_full",
        /// The disk failed, or the partition takes no more records since it did.
        Storage = "storage",
        /// The records are written, but the disk did not confirm it in time.
        FlushTimeout = "flush_timeout",
        /// The server is going down.
        Closing = "closing",
    }
}

label_values! {
    /// The `reason` of `streamline_http_rejected_total`.
    HttpRejection {
        /// The limit on open HTTP connections was reached.
        TooManyConnections = "too_many_connections",
        /// The request's head did not arrive in time.
        HeaderTimeout = "header_timeout",
        /// What arrived was not HTTP, or its head was too large.
        Malformed = "malformed",
        /// The answer was not ready in time.
        RequestTimeout = "request_timeout",
        /// The client did not take the answer in time.
        ResponseNotTaken = "response_not_taken",
        /// The memory for expositions was used up, and this client had been taking its one for longest.
        ResponseMemory = "response_memory",
        /// The request carried a larger body than any endpoint takes.
        BodyTooLarge = "body_too_large",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_entry_knows_its_place_and_no_name_is_used_twice() {
        let mut names = HashSet::new();
        for (index, metric) in ALL.iter().enumerate() {
            assert_eq!(metric.index(), index, "{}", metric.name);
            assert!(names.insert(metric.name), "{} twice", metric.name);
        }
    }

    #[test]
    fn names_are_legal_and_counters_end_in_total() {
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
    fn no_family_can_clash_with_the_samples_of_another() {
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
