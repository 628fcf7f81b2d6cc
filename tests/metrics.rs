//! What the metrics promise to the outside: the names, types and labels people build dashboards on.

use std::time::Duration;

use streamline::metrics::catalog::{self, Kind};
use streamline::metrics::{Format, Metrics, PrometheusHandle, api_key_name};
use streamline::protocol::kafka::ApiKey;

/// Renaming one of these breaks somebody's dashboard or alert.
const PROMISED: &[(&str, Kind, &[&str])] = &[
    ("streamline_connections_active", Kind::Gauge, &[]),
    ("streamline_connections_total", Kind::Counter, &[]),
    ("streamline_uptime_seconds", Kind::Gauge, &[]),
    (
        "streamline_requests_total",
        Kind::Counter,
        &["api_key", "error"],
    ),
    (
        "streamline_request_duration_seconds",
        Kind::Histogram,
        &["api_key"],
    ),
    (
        "streamline_request_size_bytes",
        Kind::Histogram,
        &["api_key"],
    ),
    (
        "streamline_response_size_bytes",
        Kind::Histogram,
        &["api_key"],
    ),
    ("streamline_topics_total", Kind::Gauge, &[]),
    ("streamline_partitions_total", Kind::Gauge, &["topic"]),
    (
        "streamline_records_total",
        Kind::Counter,
        &["topic", "partition"],
    ),
    ("streamline_bytes_in_total", Kind::Counter, &["topic"]),
    ("streamline_bytes_out_total", Kind::Counter, &["topic"]),
    (
        "streamline_log_size_bytes",
        Kind::Gauge,
        &["topic", "partition"],
    ),
    (
        "streamline_log_end_offset",
        Kind::Gauge,
        &["topic", "partition"],
    ),
    (
        "streamline_segments_total",
        Kind::Gauge,
        &["topic", "partition"],
    ),
    ("streamline_consumer_groups_total", Kind::Gauge, &[]),
    (
        "streamline_consumer_lag",
        Kind::Gauge,
        &["group", "topic", "partition"],
    ),
];

#[test]
fn the_promised_metrics_have_their_names_types_and_labels() {
    for (name, kind, labels) in PROMISED {
        let metric = catalog::ALL.iter().find(|metric| metric.name == *name);
        let metric = metric.unwrap_or_else(|| panic!("no metric {name}"));
        assert_eq!(metric.kind, *kind, "{name}");
        assert_eq!(metric.labels, *labels, "{name}");
    }
}

#[test]
fn apis_have_the_names_the_protocol_gives_them() {
    for key in ApiKey::ALL {
        assert_eq!(api_key_name(*key as i16), key.metric_name());
    }
}

/// The lines that stand in the description of the feature, with other numbers.
#[test]
fn requests_look_as_documented() {
    let metrics = Metrics::new(true);
    for _ in 0..3 {
        metrics
            .request(ApiKey::Produce as i16)
            .record(Duration::from_micros(900), false);
    }
    metrics
        .request(ApiKey::Produce as i16)
        .record(Duration::from_millis(9), false);
    let text = PrometheusHandle::new(metrics).render(Format::Text);
    for line in [
        "# HELP streamline_requests_total Total requests by API type",
        "# TYPE streamline_requests_total counter",
        r#"streamline_requests_total{api_key="produce",error="false"} 4"#,
        "# TYPE streamline_request_duration_seconds histogram",
        r#"streamline_request_duration_seconds_bucket{api_key="produce",le="0.001"} 3"#,
        r#"streamline_request_duration_seconds_bucket{api_key="produce",le="0.01"} 4"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}
