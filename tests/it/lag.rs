//! Lag of groups: records that can still be read, and records deleted unread. Metrics and the command line agree.

use serde_json::{Value, json};

use crate::kafka::{Topic, batch, commit_request, create, create_with, delete_records, produce};
use crate::support::server::binary;
use crate::support::{Client, Server};
use streamline::protocol::kafka::ErrorCode;

fn commit(client: &mut Client, topic: &Topic, offset: i64) {
    let request = commit_request("g", "", -1, &topic.name, offset);
    let answer = client.call(8, &request);
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
}

fn produce_many(client: &mut Client, topic: &Topic, records: usize) {
    produce(client, topic, 0, &batch(&vec!["value"; records]));
}

/// Returns lag, lost records, committed offset, log start and log end of group `g` from the metrics.
fn shown(server: &Server, topic: &str) -> [Option<f64>; 5] {
    let metrics = server.metrics();
    let of_log = [("topic", topic), ("partition", "0")];
    let of_group = [("group", "g"), ("topic", topic), ("partition", "0")];
    [
        metrics.value("streamline_consumer_lag", &of_group),
        metrics.value("streamline_consumer_lost_records", &of_group),
        metrics.value("streamline_consumer_group_committed_offset", &of_group),
        metrics.value("streamline_log_start_offset", &of_log),
        metrics.value("streamline_log_end_offset", &of_log),
    ]
}

/// Returns the output of `streamline groups describe g`.
fn described(server: &Server, output: &[&str]) -> String {
    let output = binary()
        .args(["groups", "describe", "g", "--bootstrap-server"])
        .arg(server.kafka_addr().to_string())
        .args(output)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn described_json(server: &Server) -> Value {
    let text = described(server, &["--output", "json"]);
    let mut document: Value = serde_json::from_str(&text).unwrap();
    document["groups"][0].take()
}

#[test]
fn lag_counts_readable_records_and_not_those_deleted_unread() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "t", 1);
    produce_many(&mut client, &topic, 100);
    assert_eq!(shown(&server, "t")[..3], [None; 3], "nothing is committed");
    commit(&mut client, &topic, 20);
    let numbers = |numbers: [i32; 5]| numbers.map(|it| Some(f64::from(it)));
    assert_eq!(shown(&server, "t"), numbers([80, 0, 20, 0, 100]));

    delete_records(&mut client, &topic.name, 60);
    assert_eq!(shown(&server, "t"), numbers([40, 40, 20, 60, 100]));
    let group = described_json(&server);
    assert_eq!((&group["lag"], &group["lost"]), (&json!(40), &json!(40)));
    let row = json!({
        "topic": "t",
        "partition": 0,
        "committed_offset": 20,
        "log_start_offset": 60,
        "log_end_offset": 100,
        "lag": 40,
        "lost": 40,
        "member_id": null,
    });
    assert_eq!(group["offsets"], json!([row]));
    let text = described(&server, &[]);
    assert!(text.contains("lag 40, lost 40"), "{text}");

    commit(&mut client, &topic, 70);
    assert_eq!(shown(&server, "t"), numbers([30, 0, 70, 60, 100]));
}

#[test]
fn a_group_has_no_lag_on_a_log_whose_records_have_all_expired() {
    let server = Server::with(&["--log-retention-check-interval-ms", "50"]);
    let mut client = server.connect();
    let topic = create_with(&mut client, "t", 1, &[("retention.ms", "1")]);
    produce_many(&mut client, &topic, 10);
    let of_log = [("topic", "t"), ("partition", "0")];
    server.until_metric("streamline_log_start_offset", &of_log, Some(10.0));
    commit(&mut client, &topic, 5);
    let [lag, lost, ..] = shown(&server, "t");
    assert_eq!((lag, lost), (Some(0.0), Some(5.0)));
    let group = described_json(&server);
    assert_eq!((&group["lag"], &group["lost"]), (&json!(0), &json!(5)));
}

#[test]
fn an_offset_committed_past_the_end_is_shown_unchanged_and_has_no_lag() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "t", 1);
    produce_many(&mut client, &topic, 10);
    commit(&mut client, &topic, 50);
    let [lag, lost, committed, _, end] = shown(&server, "t");
    assert_eq!((lag, lost), (Some(0.0), Some(0.0)));
    assert_eq!((committed, end), (Some(50.0), Some(10.0)));
}
