//! Tests of the subcommands.

use std::io::Write;
use std::process::{Output, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::{Value, json};

use crate::support::server::binary;
use crate::support::{Server, until};

/// Runs a subcommand against the server with the given standard input.
fn streamline(server: &Server, arguments: &[&str], input: &str) -> Output {
    let mut child = binary()
        .args(arguments)
        .args(["--bootstrap-server", &server.kafka_addr().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

/// Returns the output of a successful subcommand.
#[track_caller]
fn text(server: &Server, arguments: &[&str], input: &str) -> String {
    let output = streamline(server, arguments, input);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json(server: &Server, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--output", "json"]].concat();
    serde_json::from_str(&text(server, &arguments, "")).unwrap()
}

/// Returns the error message of a failed subcommand (exit code 1) or invalid usage (2).
#[track_caller]
fn complaint(server: &Server, arguments: &[&str], code: i32, input: &str) -> String {
    let output = streamline(server, arguments, input);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_topic_is_created_described_altered_and_deleted() {
    let server = Server::start();
    let create = [
        "topics",
        "create",
        "orders",
        "-p",
        "2",
        "-c",
        "retention.ms=60000",
    ];
    assert_eq!(text(&server, &create, ""), "created topic orders\n");
    assert!(complaint(&server, &create, 1, "").contains("TOPIC_ALREADY_EXISTS"));
    let again = [&create[..], &["--if-not-exists"]].concat();
    assert_eq!(
        json(&server, &again),
        json!({ "topic": "orders", "created": false })
    );

    let topic = &json(&server, &["topics", "describe", "orders"])["topics"][0];
    assert_eq!(topic["configs"], json!({ "retention.ms": "60000" }));
    assert_eq!(topic["partitions"].as_array().unwrap().len(), 2);

    let alter = [
        "topics",
        "alter",
        "orders",
        "-p",
        "3",
        "--delete-config",
        "retention.ms",
    ];
    assert_eq!(text(&server, &alter, ""), "altered topic orders\n");
    let topic = &json(&server, &["topics", "describe", "orders"])["topics"][0];
    assert_eq!(topic["configs"], json!({}));
    assert_eq!(topic["partitions"].as_array().unwrap().len(), 3);

    let purge = ["topics", "alter", "orders", "-c", "cleanup.policy=purge"];
    assert!(complaint(&server, &purge, 1, "").contains("INVALID_CONFIG"));
    assert!(complaint(&server, &["topics", "alter", "orders"], 2, "").contains("nothing to alter"));

    assert_eq!(
        text(&server, &["topics", "delete", "orders"], ""),
        "deleted topic orders\n"
    );
    let gone = complaint(&server, &["topics", "describe", "orders"], 1, "");
    assert!(gone.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{gone}");
    assert_eq!(json(&server, &["topics", "list"]), json!({ "topics": [] }));
}

#[test]
fn only_replication_factors_of_a_single_broker_are_accepted() {
    let server = Server::start();
    let create = |name, copies| ["topics", "create", name, "--replication-factor", copies];
    text(&server, &create("one", "1"), "");
    text(&server, &create("default", "-1"), "");
    for copies in ["0", "3"] {
        let refused = complaint(&server, &create("many", copies), 1, "");
        assert!(refused.contains("INVALID_REPLICATION_FACTOR"), "{refused}");
    }
}

#[test]
fn records_are_consumed_from_the_beginning_an_offset_and_a_time() {
    let server = Server::start();
    text(&server, &["topics", "create", "lines"], "");
    let produced = text(
        &server,
        &[
            "produce",
            "lines",
            "--key-separator",
            ":",
            "-H",
            "from=test",
            "--compression",
            "zstd",
        ],
        "a:1\nb:2\nc:3\nd:4\n",
    );
    assert_eq!(produced, "wrote 4 records to lines (1 partition)\n");

    let consume = |more: &[&str]| text(&server, &[&["consume", "lines", "-e"], more].concat(), "");
    assert_eq!(consume(&["--from-beginning"]), "1\n2\n3\n4\n");
    assert_eq!(consume(&["--offset", "1", "-n", "2"]), "2\n3\n");
    assert_eq!(consume(&["--offset", "-1"]), "4\n");
    assert_eq!(consume(&["--since", "1h"]), "1\n2\n3\n4\n");
    assert_eq!(consume(&["--since", "2100-01-01T00:00:00Z"]), "");
    assert_eq!(
        consume(&[]),
        "",
        "without a start only new records are read"
    );
    assert_eq!(
        consume(&[
            "--offset",
            "3",
            "--print-offset",
            "--print-headers",
            "--print-key"
        ]),
        "0:3\tfrom=test\td\t4\n"
    );

    let line = consume(&["--offset", "3", "--output", "json"]);
    let mut record: Value = serde_json::from_str(&line).unwrap();
    assert!(record["timestamp"].as_i64().unwrap() > 0);
    record["timestamp"] = Value::Null;
    assert_eq!(
        record,
        json!({
            "topic": "lines", "partition": 0, "offset": 3, "timestamp": null, "key": "d", "value": "4",
            "headers": [{ "key": "from", "value": "test" }],
        })
    );
    // One command reads the JSON written by the other.
    let copied = text(&server, &["produce", "copy", "--format", "json"], &line);
    assert_eq!(copied, "wrote 1 record to copy (1 partition)\n");
    let copy = ["consume", "copy", "-e", "--from-beginning", "--print-key"];
    assert_eq!(text(&server, &copy, ""), "d\t4\n");
}

#[test]
fn partitions_without_new_records_do_not_stop_a_consumer() {
    let server = Server::start();
    text(
        &server,
        &["topics", "create", "wide", "--partitions", "3"],
        "",
    );
    text(
        &server,
        &["produce", "wide", "-p", "2", "--value", "found"],
        "",
    );
    let follow = ["consume", "wide", "--from-beginning", "-n", "1"];
    assert_eq!(text(&server, &follow, ""), "found\n");
}

#[test]
fn bad_arguments_are_named_with_their_remedy() {
    let server = Server::start();
    text(&server, &["topics", "create", "one"], "");
    let wrong = complaint(&server, &["consume", "one", "-p", "7"], 2, "");
    assert!(wrong.contains("no partition 7"), "{wrong}");
    let missing = complaint(&server, &["consume", "nowhere"], 1, "");
    assert!(missing.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{missing}");
    let json = ["produce", "one", "--format", "json"];
    let broken = complaint(&server, &json, 2, "{\"value\":1}\n");
    assert!(broken.contains("line 1"), "{broken}");
}

#[test]
fn a_groups_offsets_are_reset_shown_with_their_lag_and_deleted() {
    let server = Server::start();
    text(&server, &["produce", "jobs"], "1\n2\n3\n4\n5\n");
    let reset = |to: &[&str]| {
        let arguments = [
            &["groups", "reset-offsets", "workers", "--topic", "jobs"],
            to,
        ]
        .concat();
        json(&server, &arguments)["offsets"][0].clone()
    };
    let moved = |from: Option<i64>, to: i64| json!({ "topic": "jobs", "partition": 0, "from": from, "to": to });
    assert_eq!(reset(&["--to-latest"]), moved(None, 5));
    assert_eq!(
        reset(&["--to-offset", "2", "--execute"]),
        moved(None, 2),
        "the first was not executed"
    );
    assert_eq!(reset(&["--shift-by", "-1", "--execute"]), moved(Some(2), 1));
    assert_eq!(
        reset(&["--to-offset", "99"]),
        moved(Some(1), 5),
        "the log ends at 5"
    );
    assert_eq!(reset(&["--to-time", "1h"]), moved(Some(1), 0));

    let group = &json(&server, &["groups", "describe", "workers"])["groups"][0];
    assert_eq!(group["state"], "Empty");
    assert_eq!(group["lag"], 4);
    assert_eq!(group["offsets"][0]["committed_offset"], 1);
    let labels = [("group", "workers"), ("topic", "jobs"), ("partition", "0")];
    assert_eq!(
        server.metrics().value("streamline_consumer_lag", &labels),
        Some(4.0),
        "the metric says the same"
    );

    assert_eq!(
        json(&server, &["groups", "delete", "workers"]),
        json!({ "deleted": ["workers"] })
    );
    assert_eq!(json(&server, &["groups", "list"]), json!({ "groups": [] }));
    let gone = complaint(&server, &["groups", "delete", "workers"], 1, "");
    assert!(gone.contains("GROUP_ID_NOT_FOUND"), "{gone}");
}

#[test]
fn deletions_before_an_error_are_reported_in_json_too() {
    let server = Server::start();
    text(&server, &["topics", "create", "there"], "");
    let delete = ["topics", "delete", "there", "gone", "--output", "json"];
    let output = streamline(&server, &delete, "");
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told, json!({ "deleted": ["there"] }));
}

#[test]
fn records_before_an_invalid_line_are_written_and_counted() {
    let server = Server::start();
    let produce = ["produce", "pairs", "--key-separator", "="];
    let said = complaint(&server, &produce, 2, "a=1\nb=2\nnothing\nc=3\n");
    assert!(said.contains("line 3"), "{said}");
    assert!(said.contains("2 records were acknowledged"), "{said}");
    let consume = ["consume", "pairs", "-e", "--from-beginning"];
    assert_eq!(text(&server, &consume, ""), "1\n2\n");
}

#[test]
fn a_partition_named_twice_is_read_and_reset_once() {
    let server = Server::start();
    text(&server, &["produce", "one", "--value", "x"], "");
    let consume = "consume one -e --from-beginning -p 0 -p 0";
    let consume: Vec<&str> = consume.split(' ').collect();
    assert_eq!(text(&server, &consume, ""), "x\n");
    let reset = "groups reset-offsets readers -t one:0,0 -t one --to-latest";
    let reset: Vec<&str> = reset.split(' ').collect();
    let moved = &json(&server, &reset)["offsets"];
    assert_eq!(moved.as_array().unwrap().len(), 1, "{moved}");
}

#[test]
fn health_reports_that_the_kafka_port_does_not_speak_http() {
    let server = Server::start();
    let output = binary()
        .args(["health", "--url", &server.kafka_addr().to_string()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("does not speak HTTP"), "{said}");
}

#[test]
fn an_error_that_cannot_be_printed_still_sets_the_exit_code() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let status = binary()
        .args(["topics", "list", "--bootstrap-server", "127.0.0.1:1"])
        .stderr(full)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn each_subcommand_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let status = binary().args(["man", "--dir"]).arg(dir.path()).status();
    assert!(status.unwrap().success());
    let main = std::fs::read_to_string(dir.path().join("streamline.1")).unwrap();
    let named = main
        .lines()
        .filter_map(|line| line.strip_suffix("(1)"))
        .map(|name| format!("{}.1", name.replace('\\', "")));
    let mut count = 0;
    for page in named {
        assert!(dir.path().join(&page).exists(), "{page}");
        count += 1;
    }
    assert_eq!(count, 10);
    assert!(dir.path().join("streamline-topics-create.1").exists());
}

#[test]
fn batches_respect_the_size_limit_of_the_topic() {
    let server = Server::start();
    let create = "topics create small -p 3 -c max.message.bytes=1000";
    let create: Vec<&str> = create.split(' ').collect();
    text(&server, &create, "");
    let lines: String = (0..1000).map(|number| format!("{number}\n")).collect();
    let produced = text(&server, &["produce", "small", "-H", "from=test"], &lines);
    assert_eq!(produced, "wrote 1000 records to small (3 partitions)\n");
}

#[test]
fn a_pause_longer_than_the_idle_limit_of_connections_loses_no_record() {
    let server = Server::with(&["--connections-max-idle-ms", "200"]);
    text(&server, &["topics", "create", "slow"], "");
    let mut child = binary()
        .args(["produce", "slow", "--bootstrap-server"])
        .arg(server.kafka_addr().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let records = [("topic", "slow"), ("partition", "0")];
    for (count, line) in [(1.0, "before\n"), (2.0, "after\n")] {
        input.write_all(line.as_bytes()).unwrap();
        server.until_metric("streamline_records_total", &records, Some(count));
        server.until_metric("streamline_connections_active", &[], Some(0.0));
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"wrote 2 records to slow (1 partition)\n");
}

#[test]
fn assigned_partitions_are_shown_before_their_first_commit() {
    let server = Server::start();
    text(&server, &["produce", "jobs"], "1\n2\n");
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", server.kafka_addr().to_string())
        .set("group.id", "workers")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    consumer.subscribe(&["jobs"]).unwrap();
    until("it is given the partition", || {
        let _ = consumer.poll(Duration::from_millis(50));
        consumer.assignment().unwrap().count() == 1
    });
    let group = &json(&server, &["groups", "describe", "workers"])["groups"][0];
    assert_eq!(group["lag"], Value::Null);
    let row = &group["offsets"][0];
    assert_eq!(row["committed_offset"], Value::Null);
    assert_eq!(
        (&row["log_end_offset"], &row["lag"]),
        (&json!(2), &json!(null))
    );
    assert_eq!(row["member_id"], group["members"][0]["member_id"]);

    let reset = "groups reset-offsets workers -t jobs --to-latest --execute";
    let reset: Vec<&str> = reset.split(' ').collect();
    let refused = complaint(&server, &reset, 1, "");
    assert!(refused.contains("stop them first"), "{refused}");
}

#[test]
fn health_of_a_data_directory_ignores_the_server_of_another() {
    let server = Server::start();
    let health = |data_dir: &std::path::Path| {
        let output = binary()
            .env("STREAMLINE_HTTP_ADDR", server.http_addr().to_string())
            .args(["health", "--data-dir"])
            .arg(data_dir)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = health(server.scratch());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no server is running on"), "{said}");
    assert_eq!(health(&server.data_dir()).0, Some(0));
    // Like a server that is recovering.
    std::fs::remove_file(server.data_dir().join("run.json")).unwrap();
    assert_eq!(health(&server.data_dir()).0, Some(0));
}
