//! Checks of the example dashboard and alerts as files: every metric they query exists with the labels they use, every
//! panel has a description, and no two panels overlap. `tests/prometheus.rs` runs the same queries against a Prometheus.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use streamline::metrics::catalog::{self, Kind};

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dashboard() -> Value {
    serde_json::from_str(&example("grafana-dashboard.json")).unwrap()
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} of {value}"))
}

/// Returns all queries of panels, variables and annotations.
fn dashboard_queries(dashboard: &Value) -> Vec<String> {
    let of_panels = panels(dashboard)
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten()
        .map(|target| text(target, "expr").to_string());
    let of_variables = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|variable| variable["type"] == "query")
        .map(|variable| text(&variable["query"], "query").to_string());
    let of_annotations = dashboard["annotations"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|annotation| annotation["expr"].as_str().map(str::to_string));
    of_panels
        .chain(of_variables)
        .chain(of_annotations)
        .collect()
}

/// Returns the `expr` of every rule, on one line or folded over several.
fn alert_queries() -> Vec<String> {
    let text = example("alerts.yml");
    let mut lines = text.lines().peekable();
    let mut queries = Vec::new();
    while let Some(line) = lines.next() {
        let Some(expr) = line.trim_start().strip_prefix("expr:") else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let mut query = expr.trim().trim_start_matches(">-").to_string();
        while let Some(next) = lines.next_if(|next| next.len() - next.trim_start().len() > indent) {
            query.push(' ');
            query.push_str(next.trim());
        }
        queries.push(query);
    }
    queries
}

/// A metric name in a query and the labels it is selected by.
#[derive(Debug)]
struct Selector {
    name: String,
    labels: Vec<String>,
}

/// Returns the metric names and their matchers in a query, without functions, keywords and the labels in `by (…)`.
fn selectors(query: &str) -> Vec<Selector> {
    let bytes = query.as_bytes();
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !is_word(bytes[at]) {
            at += 1;
            continue;
        }
        let end = (at..bytes.len())
            .find(|i| !is_word(bytes[*i]))
            .unwrap_or(bytes.len());
        let name = &query[at..end];
        at = end;
        let is_metric =
            name.starts_with("streamline_") || name.starts_with("process_") || name == "up";
        if !is_metric {
            continue;
        }
        let mut labels = Vec::new();
        if bytes.get(end) == Some(&b'{') {
            let close = end + query[end..].find('}').expect("braces are closed");
            labels = query[end + 1..close]
                .split(',')
                .filter_map(|matcher| matcher.split(['=', '!']).next())
                .map(|label| label.trim().to_string())
                .collect();
            at = close;
        }
        found.push(Selector {
            name: name.to_string(),
            labels,
        });
    }
    found
}

/// Labels that Prometheus adds to every series.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// Asserts that a selector names an existing metric and existing labels of it.
fn check(selector: &Selector, query: &str) {
    if selector.name == "up" {
        return;
    }
    let metric = catalog::ALL.iter().find(|metric| match metric.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|suffix| selector.name.strip_suffix(suffix) == Some(metric.name)),
        Kind::Counter | Kind::Gauge => selector.name == metric.name,
    });
    let metric = metric.unwrap_or_else(|| panic!("no metric {} for {query}", selector.name));
    for label in &selector.labels {
        let known = metric.labels.contains(&label.as_str())
            || OF_PROMETHEUS.contains(&label.as_str())
            || (metric.kind == Kind::Histogram && label == "le");
        assert!(known, "{} has no label {label}: {query}", selector.name);
    }
}

#[test]
fn every_query_uses_existing_metrics_and_labels() {
    let queries = [dashboard_queries(&dashboard()), alert_queries()].concat();
    assert!(queries.len() > 50, "{} queries", queries.len());
    for query in &queries {
        let selectors = selectors(query);
        assert!(!selectors.is_empty(), "no metric in {query}");
        selectors.iter().for_each(|selector| check(selector, query));
    }
}

#[test]
fn groupings_use_existing_labels() {
    let known: BTreeSet<&str> = catalog::ALL
        .iter()
        .flat_map(|metric| metric.labels.iter().copied())
        .chain(OF_PROMETHEUS)
        .chain(["le"])
        .collect();
    for query in [dashboard_queries(&dashboard()), alert_queries()].concat() {
        for grouping in query.split(" by (").skip(1) {
            let (labels, _) = grouping.split_once(')').unwrap();
            for label in labels.split(',').map(str::trim) {
                assert!(known.contains(label), "{label} in {query}");
            }
        }
    }
}

/// Metrics, without their prefix, that the dashboard must show. Others are optional.
const SHOWN: &[&str] = &[
    "connections_active",
    "connections_total",
    "uptime_seconds",
    "requests_total",
    "request_duration_seconds_bucket",
    "request_size_bytes_bucket",
    "response_size_bytes_bucket",
    "topics_total",
    "partitions_total",
    "records_total",
    "bytes_in_total",
    "bytes_out_total",
    "log_size_bytes",
    "log_end_offset",
    "segments_total",
    "consumer_groups_total",
    "consumer_lag",
];

#[test]
fn the_dashboard_shows_all_required_metrics() {
    let shown: BTreeSet<String> = dashboard_queries(&dashboard())
        .iter()
        .flat_map(|query| selectors(query))
        .map(|selector| selector.name)
        .collect();
    for name in SHOWN {
        assert!(
            shown.contains(&format!("streamline_{name}")),
            "{name} is on no panel"
        );
    }
}

#[test]
fn every_panel_has_a_title_description_unit_thresholds_and_data_source() {
    for panel in panels(&dashboard()) {
        let title = text(panel, "title");
        assert!(!title.is_empty());
        if panel["type"] == "row" {
            continue;
        }
        assert!(text(panel, "description").len() > 20, "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let defaults = &panel["fieldConfig"]["defaults"];
        let unit = if panel["type"] == "heatmap" {
            &panel["options"]["yAxis"]["unit"]
        } else {
            &defaults["unit"]
        };
        assert!(unit.is_string(), "{title}");
        assert!(defaults["thresholds"]["steps"].is_array(), "{title}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[test]
fn panels_are_in_named_rows_without_overlap() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = text(panel, "title");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "id of {title}");
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        let (x, y, w, h) = (side("x"), side("y"), side("w"), side("h"));
        assert!(x + w <= 24 && w > 0 && h > 0, "{title} is outside the grid");
        for column in x..x + w {
            for line in y..y + h {
                assert!(
                    cells.insert((column, line)),
                    "{title} overlaps another panel"
                );
            }
        }
    }
    let rows: Vec<_> = panels(&dashboard)
        .iter()
        .filter(|panel| panel["type"] == "row")
        .map(|row| text(row, "title"))
        .collect();
    assert_eq!(
        rows,
        [
            "Server",
            "Requests",
            "Topics",
            "Storage",
            "Consumer groups",
            "Compaction",
            "Transactions"
        ]
    );
}

#[test]
fn the_dashboard_is_for_grafana_11_and_defines_its_variables() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    let variables: Vec<_> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| text(variable, "name"))
        .collect();
    assert_eq!(
        variables,
        ["datasource", "instance", "api_key", "topic", "group"]
    );
    let text = dashboard.to_string();
    for name in text.split('$').skip(1) {
        let name = name.trim_start_matches(['{', '_']);
        let end = name
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap();
        let name = &name[..end];
        assert!(
            variables.contains(&name) || ["rate_interval", "all"].contains(&name),
            "${name} is not defined"
        );
    }
}

#[test]
fn every_alert_has_annotations_and_an_entry_in_the_operations_guide() {
    let text = example("alerts.yml");
    let rules: Vec<_> = text.split("- alert: ").skip(1).collect();
    assert_eq!(rules.len(), alert_queries().len());
    let handbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATIONS.md");
    let handbook = fs::read_to_string(handbook).unwrap();
    for rule in rules {
        let name = rule.lines().next().unwrap();
        for part in ["severity: ", "summary: ", "description: "] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
        assert!(
            handbook.contains(&format!("`{name}`")),
            "docs/OPERATIONS.md has no entry for {name}"
        );
    }
}
