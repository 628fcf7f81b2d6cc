//! The stable interface of the metrics: names, types and labels that dashboards rely on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use streamline::metrics::catalog::{
    self, ConnectionRejection, HttpRejection, Kind, LabelValues, RequestRejection,
};
use streamline::metrics::{Format, Metrics, PrometheusHandle, api_key_name};
use streamline::protocol::kafka::ApiKey;

/// Renaming one of these breaks users' dashboards and alerts.
const DOCUMENTED: &[(&str, Kind, &[&str])] = &[
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
fn documented_metrics_keep_their_names_types_and_labels() {
    for (name, kind, labels) in DOCUMENTED {
        let metric = catalog::ALL.iter().find(|metric| metric.name == *name);
        let metric = metric.unwrap_or_else(|| panic!("no metric {name}"));
        assert_eq!(metric.kind, *kind, "{name}");
        assert_eq!(metric.labels, *labels, "{name}");
    }
}

#[test]
fn api_names_match_the_protocol() {
    for key in ApiKey::ALL {
        assert_eq!(api_key_name(*key as i16), key.metric_name());
    }
}

/// The documented example lines, with other numbers.
#[test]
fn requests_are_exposed_as_documented() {
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

/// Returns the source of the server outside of `folder` as one text.
fn source_outside(folder: &str) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let left_out = src.join(folder);
    let mut text = String::new();
    let mut left: Vec<PathBuf> = vec![src];
    while let Some(path) = left.pop() {
        if path == left_out {
            continue;
        } else if path.is_dir() {
            left.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.file_name().is_some_and(|name| name != "tests.rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

fn source(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A series without data is worse than none: it looks as if everything were fine.
#[test]
fn every_declared_metric_is_collected() {
    let text = source_outside("metrics/catalog.rs");
    let declared: Vec<_> = source("src/metrics/catalog.rs")
        .lines()
        .filter_map(|line| {
            let (ident, rest) = line.trim().split_once(": ")?;
            ["Counter \"", "Gauge \"", "Histogram \""]
                .iter()
                .any(|kind| rest.starts_with(kind))
                .then(|| ident.to_string())
        })
        .collect();
    assert_eq!(declared.len(), catalog::ALL.len());
    for ident in declared {
        assert!(
            text.contains(&format!("catalog::{ident}")),
            "{ident} is never collected"
        );
    }
}

#[test]
fn every_instrument_is_recorded_outside_the_metrics_area() {
    let text = source_outside("metrics");
    for line in source("src/metrics/mod.rs").lines() {
        let Some((field, kind)) = line
            .trim()
            .strip_prefix("pub ")
            .and_then(|field| field.split_once(": "))
        else {
            continue;
        };
        if ["Counter,", "Gauge,", "Histogram,", "LabelledCounters<"]
            .iter()
            .any(|instrument| kind.starts_with(instrument))
            // Updated by the guard of a connection.
            && !field.starts_with("connections_total")
            && !field.starts_with("connections_active")
        {
            // Rustfmt may put the dot and the name on a separate line.
            assert!(
                text.contains(&format!(".{field}")),
                "{field} is never recorded"
            );
        }
    }
    for (reasons, used_as) in [
        (names::<ConnectionRejection>(), "ConnectionRejection"),
        (names::<RequestRejection>(), "RequestRejection"),
        (names::<HttpRejection>(), "HttpRejection"),
    ] {
        for reason in reasons {
            let used = format!("{used_as}::{reason}");
            assert!(text.contains(&used), "{used} is never used");
        }
    }
    assert!(text.contains(".connection_opened()"));
}

fn names<L: LabelValues + std::fmt::Debug>() -> Vec<String> {
    L::ALL.iter().map(|value| format!("{value:?}")).collect()
}
