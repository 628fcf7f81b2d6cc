//! Tests that the metrics are exact to the request, the record and the byte.

use bytes::Bytes;
use streamline::protocol::kafka::ErrorCode;
use streamline::protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use streamline::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use streamline::protocol::messages::delete_topics::DeleteTopicsRequest;
use streamline::protocol::messages::list_offsets::ListOffsetsRequest;
use streamline::record::Compression;

use crate::kafka::{
    FETCH, PRODUCE, Topic, batch, batch_in, batch_of, create, create_with, fetch, fetch_request,
    produce, produce_request, size_of, try_produce,
};
use crate::support::{Client, Exposition, Server};

const BYTES_IN: &str = "streamline_bytes_in_total";
const BYTES_OUT: &str = "streamline_bytes_out_total";
const RECORDS: &str = "streamline_records_total";
const SIZE: &str = "streamline_log_size_bytes";
const END: &str = "streamline_log_end_offset";

fn of_topic(metrics: &Exposition, name: &str, topic: &str) -> Option<f64> {
    metrics.value(name, &[("topic", topic)])
}

fn of_partition(metrics: &Exposition, name: &str, topic: &str, partition: &str) -> Option<f64> {
    metrics.value(name, &[("topic", topic), ("partition", partition)])
}

fn requests(metrics: &Exposition, api_key: &str, error: &str) -> f64 {
    let labels = [("api_key", api_key), ("error", error)];
    metrics
        .value("streamline_requests_total", &labels)
        .unwrap_or(0.0)
}

/// Waits for a count of requests, which are counted once their response has been handed to the socket; that may be shortly
/// after the client has received it.
fn until_counted(server: &Server, api_key: &str, error: &str, expected: f64) {
    let labels = [("api_key", api_key), ("error", error)];
    server.until_metric("streamline_requests_total", &labels, Some(expected));
}

fn delete(client: &mut Client, topic: &Topic) {
    let request = DeleteTopicsRequest {
        topic_names: vec![topic.name.clone()],
        ..DeleteTopicsRequest::default()
    };
    let response = client.call(5, &request);
    assert_eq!(response.responses[0].error_code, ErrorCode::NONE);
}

#[test]
fn records_and_bytes_are_counted_as_on_the_wire() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "exact", 2);
    let (mut bytes_in, mut records) = (0, [0, 0]);
    for (turn, codec) in (0..).zip(Compression::ALL) {
        let partition = turn % 2;
        let sent = batch_in(codec, &["some", "records", &"long ".repeat(100)]);
        produce(&mut client, &topic, partition, &sent);
        bytes_in += sent.size_bytes();
        records[partition as usize] += 3;
    }
    let metrics = server.metrics();
    assert_eq!(of_topic(&metrics, BYTES_IN, "exact"), Some(bytes_in as f64));
    assert_eq!(of_topic(&metrics, BYTES_OUT, "exact"), Some(0.0));
    let mut size = 0.0;
    for (partition, records) in ["0", "1"].into_iter().zip(records) {
        let records = f64::from(records);
        assert_eq!(
            of_partition(&metrics, RECORDS, "exact", partition),
            Some(records)
        );
        assert_eq!(
            of_partition(&metrics, END, "exact", partition),
            Some(records)
        );
        size += of_partition(&metrics, SIZE, "exact", partition).unwrap();
    }
    assert_eq!(size, bytes_in as f64);

    let mut bytes_out = 0;
    for partition in [0, 1, 1] {
        bytes_out += size_of(&fetch(&mut client, &topic, partition, 0));
    }
    until_counted(&server, "fetch", "false", 3.0);
    assert_eq!(
        of_topic(&server.metrics(), BYTES_OUT, "exact"),
        Some(bytes_out as f64)
    );
}

#[test]
fn batches_that_are_not_appended_are_not_counted() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create_with(&mut client, "refusing", 1, &[("max.message.bytes", "200")]);
    let first = batch_of(7, 0, 0, &["a", "b"]);
    produce(&mut client, &topic, 0, &first);
    // A duplicate is answered as if it had been appended.
    produce(&mut client, &topic, 0, &first);
    for refused in [batch_of(7, 0, 9, &["gap"]), batch(&[&"large".repeat(100)])] {
        let answer = try_produce(&mut client, &topic, 0, &refused);
        assert_ne!(answer.error_code, ErrorCode::NONE);
    }
    until_counted(&server, "produce", "true", 2.0);
    let metrics = server.metrics();
    assert_eq!(requests(&metrics, "produce", "false"), 2.0);
    assert_eq!(
        of_topic(&metrics, BYTES_IN, "refusing"),
        Some(first.size_bytes() as f64)
    );
    assert_eq!(of_partition(&metrics, RECORDS, "refusing", "0"), Some(2.0));
    assert_eq!(of_partition(&metrics, END, "refusing", "0"), Some(2.0));
}

#[test]
fn recompressed_batches_count_their_received_and_their_sent_size() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create_with(&mut client, "smaller", 1, &[("compression.type", "zstd")]);
    let sent = batch(&[&"repeat ".repeat(1_000)]);
    produce(&mut client, &topic, 0, &sent);
    let received = size_of(&fetch(&mut client, &topic, 0, 0));
    assert!(received < sent.size_bytes() / 2);
    until_counted(&server, "fetch", "false", 1.0);
    let metrics = server.metrics();
    assert_eq!(
        of_topic(&metrics, BYTES_IN, "smaller"),
        Some(sent.size_bytes() as f64)
    );
    assert_eq!(
        of_topic(&metrics, BYTES_OUT, "smaller"),
        Some(received as f64)
    );
    assert_eq!(
        of_partition(&metrics, SIZE, "smaller", "0"),
        Some(received as f64)
    );
}

#[test]
fn an_error_of_one_partition_counts_the_request_as_an_error() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "partly", 1);
    let good = batch(&["a"]).bytes().clone();
    let partitions = [(0, good.clone()), (5, good.clone())];
    client.call(PRODUCE, &produce_request(&topic, 1, &partitions));
    client.call(PRODUCE, &produce_request(&topic, 1, &partitions[..1]));
    client.call(FETCH, &fetch_request(&topic, &[(0, 0), (1, 0)]));
    client.call(FETCH, &fetch_request(&topic, &[(0, 0)]));
    client.call(10, &ListOffsetsRequest::default());
    until_counted(&server, "list_offsets", "false", 1.0);
    let metrics = server.metrics();
    for api_key in ["produce", "fetch"] {
        assert_eq!(requests(&metrics, api_key, "true"), 1.0, "{api_key}");
        assert_eq!(requests(&metrics, api_key, "false"), 1.0, "{api_key}");
    }
    assert_eq!(
        of_topic(&metrics, BYTES_IN, "partly"),
        Some(2.0 * good.len() as f64)
    );
    assert_eq!(requests(&metrics, "create_topics", "false"), 1.0);
}

#[test]
fn every_request_is_counted_once_with_its_sizes_and_its_duration() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "counted", 1);
    for _ in 0..50 {
        produce(&mut client, &topic, 0, &batch(&["x"]));
    }
    // acks=0 gets no response, but is counted like any other request.
    for _ in 0..10 {
        let quiet = produce_request(&topic, 0, &[(0, batch(&["y"]).bytes().clone())]);
        client.send(PRODUCE, &quiet);
    }
    client.call(10, &ListOffsetsRequest::default());
    until_counted(&server, "produce", "false", 60.0);
    let metrics = server.metrics();
    assert_eq!(requests(&metrics, "produce", "true"), 0.0);
    let produced = [("api_key", "produce")];
    for histogram in ["request_duration_seconds", "request_size_bytes"] {
        let count = metrics.value(&format!("streamline_{histogram}_count"), &produced);
        assert_eq!(count, Some(60.0), "{histogram}");
    }
    assert_eq!(of_partition(&metrics, RECORDS, "counted", "0"), Some(60.0));
}

#[test]
fn a_failed_acks_0_produce_is_an_error_and_counts_no_bytes() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "silent", 1);
    let mut broken = batch(&["x"]).bytes().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    client.send(
        PRODUCE,
        &produce_request(&topic, 0, &[(0, Bytes::from(broken))]),
    );
    assert!(client.is_closed());
    until_counted(&server, "produce", "true", 1.0);
    let metrics = server.metrics();
    assert_eq!(requests(&metrics, "produce", "false"), 0.0);
    assert_eq!(of_topic(&metrics, BYTES_IN, "silent"), Some(0.0));
}

#[test]
fn series_of_a_deleted_topic_are_removed_and_a_recreated_topic_starts_at_zero() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "phoenix", 2);
    produce(&mut client, &topic, 1, &batch(&["a", "b"]));
    fetch(&mut client, &topic, 1, 0);
    assert_eq!(
        server.metrics().value("streamline_topics_total", &[]),
        Some(1.0)
    );
    delete(&mut client, &topic);
    let metrics = server.metrics();
    let left: Vec<&str> = metrics
        .text()
        .lines()
        .filter(|line| line.contains("phoenix"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(metrics.value("streamline_topics_total", &[]), Some(0.0));
    create(&mut client, "phoenix", 2);
    let metrics = server.metrics();
    for name in [BYTES_IN, BYTES_OUT] {
        assert_eq!(of_topic(&metrics, name, "phoenix"), Some(0.0), "{name}");
    }
    for name in [RECORDS, SIZE, END] {
        for partition in ["0", "1"] {
            assert_eq!(
                of_partition(&metrics, name, "phoenix", partition),
                Some(0.0),
                "{name}"
            );
        }
    }
    let partitions = [("topic", "phoenix")];
    assert_eq!(
        metrics.value("streamline_partitions_total", &partitions),
        Some(2.0)
    );
}

#[test]
fn added_partitions_and_deleted_records_appear_in_the_next_scrape() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create_with(
        &mut client,
        "moving",
        1,
        &[("internal.segment.bytes", "256")],
    );
    for _ in 0..8 {
        produce(&mut client, &topic, 0, &batch(&[&"x".repeat(150)]));
    }
    let grow = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: "moving".to_owned(),
            count: 3,
            assignments: None,
        }],
        ..CreatePartitionsRequest::default()
    };
    client.call(3, &grow);
    let before = server.metrics();
    assert_eq!(
        of_topic(&before, "streamline_partitions_total", "moving"),
        Some(3.0)
    );
    assert_eq!(of_partition(&before, END, "moving", "2"), Some(0.0));
    let shrink = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "moving".to_owned(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset: 6,
            }],
        }],
        timeout_ms: 10_000,
    };
    client.call(2, &shrink);
    let after = server.metrics();
    for name in [SIZE, "streamline_segments_total"] {
        let (before, after) = (
            of_partition(&before, name, "moving", "0").unwrap(),
            of_partition(&after, name, "moving", "0").unwrap(),
        );
        assert!(after < before, "{name}: {before} → {after}");
    }
    assert_eq!(of_partition(&after, END, "moving", "0"), Some(8.0));
    assert_eq!(of_partition(&after, RECORDS, "moving", "0"), Some(8.0));
}

#[test]
fn after_a_restart_counters_start_at_zero_and_gauges_are_correct_at_the_first_scrape() {
    let mut server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "lasting", 1);
    let sent = batch(&["a", "b", "c"]);
    produce(&mut client, &topic, 0, &sent);
    for kill in [true, false] {
        match kill {
            true => server.kill9(),
            false => assert!(server.terminate().success()),
        }
        server.restart();
        let metrics = server.metrics();
        assert_eq!(of_partition(&metrics, END, "lasting", "0"), Some(3.0));
        let size = sent.size_bytes() as f64;
        assert_eq!(of_partition(&metrics, SIZE, "lasting", "0"), Some(size));
        assert_eq!(of_partition(&metrics, RECORDS, "lasting", "0"), Some(0.0));
        assert_eq!(of_topic(&metrics, BYTES_IN, "lasting"), Some(0.0));
        assert_eq!(metrics.value("streamline_topics_total", &[]), Some(1.0));
        assert_eq!(requests(&metrics, "produce", "false"), 0.0);
    }
}

#[test]
fn every_wait_for_durability_is_counted_in_the_flush_metrics() {
    const WAITED: &str = "streamline_log_flush_batches_sum";
    const FLUSHES: &str = "streamline_log_flush_batches_count";
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "flushed", 2);
    let records = || batch(&["a"]).bytes().clone();
    for acks in [-1, 1, -1] {
        let both = [(0, records()), (1, records())];
        client.call(PRODUCE, &produce_request(&topic, acks, &both));
    }
    // Two partitions of two requests, one after the other, so no flush serves two of them.
    server.until_metric(WAITED, &[], Some(4.0));
    server.until_metric(FLUSHES, &[], Some(4.0));
}
