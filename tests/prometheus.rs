//! The server scraped by a real Prometheus while real clients are running: every query of the example dashboard returns
//! data, every alert expression can be evaluated, and `promtool` reports no problems with the exposition except known ones.
//!
//! Requires the programs `prometheus` and `promtool`, so plain `cargo test` skips it. Run it with
//! `cargo test --test prometheus -- --ignored`.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use streamline::protocol::kafka::ErrorCode;
use streamline::protocol::messages::alter_client_quotas::{
    AlterClientQuotasRequest, EntityData, EntryData, OpData,
};
use streamline::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use support::Server;

const PATIENCE: Duration = Duration::from_secs(90);
const TOPIC: &str = "orders";
const COMPACTED: &str = "settings";
/// Client id with a quota.
const LIMITED: &str = "limited";

/// The names that `promtool` complains about: gauges whose specified names end in `_total`.
const KNOWN_REMARKS: [&str; 4] = [
    "streamline_consumer_groups_total",
    "streamline_partitions_total",
    "streamline_segments_total",
    "streamline_topics_total",
];

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name)
}

/// Returns a command for a program of the package `prometheus`.
fn program(name: &str) -> Command {
    let found = Command::new(name)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(
        found.is_ok_and(|status| status.success()),
        "{name} is not installed: apt-get install prometheus"
    );
    Command::new(name)
}

/// A Prometheus that scrapes one server every second until it is dropped.
struct Prometheus {
    process: Child,
    url: String,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: &str) -> Prometheus {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("prometheus.yml");
        let example = fs::read_to_string(example("prometheus.yml")).unwrap();
        let rules = self::example("alerts.yml");
        // The example configuration with only intervals, paths and target changed.
        let adapted = example
            .replace("interval: 15s", "interval: 1s")
            .replace("alerts.yml", rules.to_str().unwrap())
            .replace("localhost:9094", target);
        fs::write(&config, adapted).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = program("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Prometheus {
            process,
            url: format!("http://127.0.0.1:{port}"),
            _directory: directory,
        }
    }

    fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .into();
        let mut request = agent.get(format!("{}{path}", self.url));
        for (name, value) in parameters {
            request = request.query(name, value);
        }
        let mut response = request.call().map_err(|error| error.to_string())?;
        let text = response
            .body_mut()
            .read_to_string()
            .map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }

    /// Returns the current values of a query, or the error that Prometheus reports.
    fn query(&self, expr: &str) -> Result<Vec<f64>, String> {
        let answer = self.get("/api/v1/query", &[("query", expr)])?;
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        let series = answer["data"]["result"].as_array().ok_or("no result")?;
        Ok(series
            .iter()
            .filter_map(|series| series["value"][1].as_str()?.parse().ok())
            .collect())
    }

    /// Waits until every query has data. Fails with the list of queries that have none.
    fn wait_for_data(&self, queries: &BTreeSet<String>) {
        let start = Instant::now();
        let mut waiting: Vec<_> = queries
            .iter()
            .map(|query| (query, Ok(Vec::new())))
            .collect();
        while start.elapsed() < PATIENCE {
            waiting.retain_mut(|(query, answer)| {
                *answer = self.query(query);
                !answer
                    .as_ref()
                    .is_ok_and(|values| values.iter().any(|value| value.is_finite()))
            });
            if waiting.is_empty() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(500));
        }
        panic!(
            "no data for {} of {} queries: {waiting:#?}",
            waiting.len(),
            queries.len()
        );
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // If the process has already exited, the test has failed before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Creates a compacted topic, and a quota that a producer will exceed.
fn prepare(server: &Server) {
    let mut client = server.connect();
    let compacted = CreatableTopic {
        name: COMPACTED.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![CreatableTopicConfig {
            name: "cleanup.policy".to_owned(),
            value: Some("compact".to_owned()),
        }],
        ..CreatableTopic::default()
    };
    let created = client.call(
        7,
        &CreateTopicsRequest {
            topics: vec![compacted],
            timeout_ms: 10_000,
            ..CreateTopicsRequest::default()
        },
    );
    assert_eq!(created.topics[0].error_code, ErrorCode::NONE);
    let quota = EntryData {
        entity: vec![EntityData {
            entity_type: "client-id".to_owned(),
            entity_name: Some(LIMITED.to_owned()),
        }],
        ops: vec![OpData {
            key: "producer_byte_rate".to_owned(),
            value: 1_000.0,
            remove: false,
        }],
    };
    let altered = client.call(
        1,
        &AlterClientQuotasRequest {
            entries: vec![quota],
            validate_only: false,
        },
    );
    assert_eq!(altered.entries[0].error_code, ErrorCode::NONE);
}

/// Produces, to a compacted topic beyond a quota, too; consumes in a group of two, commits, and from time to time sends a
/// request that fails.
fn work(kafka: &str, stop: &AtomicBool) {
    let config = |extra: &[(&str, &str)]| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka);
        for (key, value) in extra {
            config.set(*key, *value);
        }
        config
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let producer: BaseProducer = config(&[("acks", "all"), ("linger.ms", "5")])
                .create()
                .unwrap();
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                let (key, payload) = (number.to_string(), vec![b'x'; 200]);
                let record = BaseRecord::to(TOPIC).key(&key).payload(&payload);
                // Polling drains a full queue.
                let _ = producer.send(record);
                producer.poll(Duration::from_millis(5));
                number += 1;
            }
            producer.flush(Duration::from_secs(10)).unwrap();
        });
        scope.spawn(|| {
            let producer: BaseProducer = config(&[("client.id", LIMITED)]).create().unwrap();
            while !stop.load(Ordering::Relaxed) {
                let payload = vec![b'x'; 1_000];
                let record = BaseRecord::to(COMPACTED).key("key").payload(&payload);
                // A full queue is the client's back-pressure while it is throttled.
                let _ = producer.send(record);
                producer.poll(Duration::from_millis(100));
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let consumer: BaseConsumer = config(&[
                    ("group.id", "billing"),
                    ("auto.offset.reset", "earliest"),
                    ("enable.auto.commit", "false"),
                    ("topic.metadata.refresh.interval.ms", "1000"),
                ])
                .create()
                .unwrap();
                consumer.subscribe(&[TOPIC]).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                        // Fails while the group rebalances; a later commit succeeds.
                        let _ = consumer.commit_message(&message, CommitMode::Async);
                    }
                }
            });
        }
    });
}

fn dashboard() -> Value {
    let text = fs::read_to_string(example("grafana-dashboard.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Substitutes variables as Grafana does with everything selected.
fn substituted(query: &str) -> String {
    let mut query = query.replace("$__rate_interval", "5s");
    for variable in ["instance", "api_key", "topic", "group"] {
        query = query.replace(&format!("${variable}"), ".*");
    }
    assert!(!query.contains('$'), "{query}");
    query
}

fn panel_queries() -> BTreeSet<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten()
        .map(|target| substituted(target["expr"].as_str().unwrap()))
        .collect()
}

/// Grafana's `label_values(selector, label)`, written as a PromQL grouping.
fn variable_queries() -> BTreeSet<String> {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    variables
        .iter()
        .filter(|variable| variable["type"] == "query")
        .map(|variable| {
            let query = substituted(variable["query"]["query"].as_str().unwrap());
            let inner = query
                .strip_prefix("label_values(")
                .and_then(|query| query.strip_suffix(')'))
                .unwrap_or_else(|| panic!("{query}"));
            let (selector, label) = inner.rsplit_once(", ").unwrap();
            format!("count by ({label}) ({selector})")
        })
        .collect()
}

/// Returns the left-hand sides of all comparisons in the alert expressions. A healthy server does not reach their thresholds.
fn alert_queries(rules: &Value) -> BTreeSet<String> {
    rules["data"]["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .flat_map(|rule| rule["query"].as_str().unwrap().split(" and "))
        .map(|condition| {
            let condition = condition
                .strip_prefix("on (instance) ")
                .unwrap_or(condition);
            let at = condition
                .rfind(['<', '>', '='])
                .unwrap_or_else(|| panic!("{condition}"));
            condition[..at].trim_end_matches(['=', ' ']).to_string()
        })
        .collect()
}

#[test]
#[ignore = "needs a Prometheus: cargo test --test prometheus -- --ignored"]
fn every_dashboard_query_and_alert_has_data_from_a_real_prometheus() {
    let server = Server::start();
    prepare(&server);
    let prometheus = Prometheus::start(&server.http_addr().to_string());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Dropped even if an assertion fails, so that the clients stop and the scope can end.
        let _stopping = StopOnDrop(&stop);
        let kafka = server.kafka_addr().to_string();
        let stop = &stop;
        scope.spawn(move || work(&kafka, stop));

        let mut queries = panel_queries();
        queries.extend(variable_queries());
        prometheus.wait_for_data(&queries);

        let rules = prometheus.get("/api/v1/rules", &[]).unwrap();
        let alerts = alert_queries(&rules);
        assert!(alerts.len() >= 10, "{rules:#}");
        prometheus.wait_for_data(&alerts);
        for group in rules["data"]["groups"].as_array().unwrap() {
            for rule in group["rules"].as_array().unwrap() {
                assert!(
                    rule["lastError"].as_str().is_none_or(str::is_empty),
                    "{rule:#}"
                );
            }
        }

        let targets = prometheus.get("/api/v1/targets", &[]).unwrap();
        let target = &targets["data"]["activeTargets"][0];
        assert_eq!(target["health"], "up", "{target:#}");
        assert_eq!(target["lastError"], "", "{target:#}");

        check_with_promtool(server.metrics().text());
    });
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn check_with_promtool(exposition: &str) {
    let mut promtool = program("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(exposition.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let remarks =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    let names: BTreeSet<_> = remarks
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.split(' ').next().unwrap_or(line))
        .collect();
    assert_eq!(names, BTreeSet::from(KNOWN_REMARKS), "{remarks}");
}

#[test]
#[ignore = "needs promtool: cargo test --test prometheus -- --ignored"]
fn promtool_accepts_the_example_configuration_and_rules() {
    for (kind, file) in [("config", "prometheus.yml"), ("rules", "alerts.yml")] {
        let output = program("promtool")
            .args(["check", kind])
            .arg(example(file))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{file}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
