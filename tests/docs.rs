//! Documents that are generated from the code. A test fails when one of them no longer says what the code says;
//! `UPDATE_DOCS=1 cargo test --test docs` writes them anew.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use streamline::metrics::catalog::{
    self, ConnectionRejection, HttpRejection, Kind, LabelValues, Metric, RequestRejection,
};
use streamline::metrics::{LATENCY, SIZE};

/// Compares a document with what it should say, or writes it when asked to.
#[track_caller]
fn check(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    if found != expected {
        let difference = found
            .lines()
            .zip(expected.lines())
            .find(|(found, expected)| found != expected);
        panic!(
            "docs/{name} is out of date; run UPDATE_DOCS=1 cargo test --test docs\n\
             first difference (document, code): {difference:#?}"
        );
    }
}

#[test]
fn the_list_of_metrics_is_that_of_the_catalogue() {
    check("METRICS.md", &metrics_document());
}

const INTRODUCTION: &str = "\
# Metrics

<!-- Generated from src/metrics/catalog.rs: UPDATE_DOCS=1 cargo test --test docs -->

`GET /metrics` on the HTTP port (`:9094` unless `http_addr` says otherwise) answers in Prometheus text 0.0.4, or in
OpenMetrics 1.0 when `Accept` prefers it, as Prometheus itself does. Every metric the server has is listed here.

How to read them:

- Counters start at 0 with the process. Gauges are read at the moment of the scrape, the first one included.
- A series lives as long as what it describes: those of a deleted topic, partition or group are gone at the next scrape,
  and a topic created again under the same name starts at 0.
- `api_key` is Kafka's name of the API in snake case (`produce`, `fetch`, `list_offsets`, …), and `unknown` for keys
  Kafka does not have. An API has series once its first request has arrived; from then on both values of `error`
  are there, so that a ratio of errors is 0 and not absent.
- `error` is `true` when the request could not be parsed, or its response carries any Kafka error code, be it for one
  partition of many.
- Bytes of topics are those of record batches as they stood on the wire, compressed if the producer compressed them.
- `_count` and `_sum` of a histogram are those of exactly the values in its buckets.
- Four gauges end in `_total` (`streamline_topics_total`, `streamline_partitions_total`, `streamline_segments_total`,
  `streamline_consumer_groups_total`). `promtool check metrics` remarks on these names and on no others.
- With the setting `metrics = \"off\"` nothing is recorded and `/metrics` says so.
";

fn metrics_document() -> String {
    let mut out = INTRODUCTION.to_string();
    for section in catalog::SECTIONS {
        write!(
            out,
            "\n## {}\n\n| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n",
            section.title
        )
        .unwrap();
        for metric in section.metrics {
            let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
            writeln!(
                out,
                "| `{}` | {} | {} | {} |",
                metric.name,
                metric.kind.as_str(),
                labels.join(", "),
                metric.help
            )
            .unwrap();
        }
    }
    out.push_str("\n## Values of `reason`\n\n");
    values::<ConnectionRejection>(&catalog::CONNECTIONS_REJECTED_TOTAL, &mut out);
    values::<RequestRejection>(&catalog::REQUESTS_REJECTED_TOTAL, &mut out);
    values::<HttpRejection>(&catalog::HTTP_REJECTED_TOTAL, &mut out);
    out.push_str("\n## Buckets\n\n");
    let shown: Vec<_> = LATENCY
        .bounds
        .iter()
        .map(|bound| (*bound as f64 / LATENCY.per_unit).to_string())
        .collect();
    writeln!(out, "- Times, in seconds: {}.", shown.join(", ")).unwrap();
    let shown: Vec<_> = SIZE.bounds.iter().map(u64::to_string).collect();
    writeln!(out, "- Sizes, in bytes: {}.", shown.join(", ")).unwrap();
    out
}

fn values<L: LabelValues>(metric: &Metric, out: &mut String) {
    let values: Vec<_> = L::ALL
        .iter()
        .map(|value| format!("`{}`", value.as_str()))
        .collect();
    writeln!(out, "- `{}`: {}.", metric.name, values.join(", ")).unwrap();
}

#[test]
fn meanings_fit_into_a_table() {
    for metric in catalog::ALL {
        assert!(!metric.help.contains(['|', '\n']), "{}", metric.name);
        assert!(
            metric.kind != Kind::Histogram || metric.unit().is_some(),
            "{}",
            metric.name
        );
    }
}
