//! Tests of Fetch.

use std::thread;
use std::time::{Duration, Instant};

use streamline::protocol::kafka::{ErrorCode, Request};
use streamline::protocol::messages::delete_topics::DeleteTopicsRequest;
use streamline::protocol::messages::fetch::{FetchRequest, FetchResponse};
use streamline::record::Compression;
use uuid::Uuid;

use crate::kafka::{
    Topic, batch, batch_in, batches_of, create, create_with, fetch, fetch_request, only, produce,
    size_of, values_of,
};
use crate::support::{Client, Server};

/// Longer than any response without waiting takes, shorter than the waits in these tests.
const AT_ONCE: Duration = Duration::from_secs(5);

#[test]
fn every_version_reads_produced_records() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "versions", 2);
    produce(&mut client, &topic, 1, &batch(&["a", "b"]));
    produce(&mut client, &topic, 1, &batch(&["c"]));
    for version in FetchRequest::VERSIONS {
        for isolation_level in [0, 1] {
            let request = FetchRequest {
                isolation_level,
                ..fetch_request(&topic, &[(0, 0), (1, 1)])
            };
            let response = client.call(version, &request);
            assert_eq!(
                (response.error_code, response.session_id),
                (ErrorCode::NONE, 0)
            );
            let answered = &response.responses[0];
            match version {
                13.. => assert_eq!((answered.topic.as_str(), answered.topic_id), ("", topic.id)),
                _ => assert_eq!(answered.topic, "versions"),
            }
            let [empty, full] = &answered.partitions[..] else {
                panic!("two partitions were asked for: {answered:?}");
            };
            assert_eq!((empty.partition_index, empty.high_watermark), (0, 0));
            assert_eq!(size_of(empty), 0);
            assert_eq!((full.partition_index, full.high_watermark), (1, 3));
            assert_eq!(full.last_stable_offset, 3);
            assert_eq!(full.log_start_offset, if version >= 5 { 0 } else { -1 });
            // Offset 1 lies in the middle of the first batch, which is returned whole.
            assert_eq!(values_of(full), ["a", "b", "c"], "version {version}");
            let aborted = full.aborted_transactions.as_ref().map(Vec::len);
            assert_eq!(aborted, (isolation_level == 1).then_some(0));
        }
    }
}

#[track_caller]
fn until_waiting(server: &Server, fetches: usize) {
    server.until_metric("streamline_fetches_waiting", &[], Some(fetches as f64));
}

/// Returns the response to a fetch, and the time it took.
fn timed(client: &mut Client, request: &FetchRequest) -> (FetchResponse, Duration) {
    let sent = Instant::now();
    let response = client.call(18, request);
    (response, sent.elapsed())
}

/// Sends a fetch, runs `meanwhile` once it waits, and returns the response and the time it took from then.
fn while_waiting(
    server: &Server,
    client: &mut Client,
    request: &FetchRequest,
    meanwhile: impl FnOnce(),
) -> (FetchResponse, Duration) {
    client.send(18, request);
    until_waiting(server, 1);
    let waiting = Instant::now();
    meanwhile();
    let response = client.receive::<FetchRequest>(18).1;
    (response, waiting.elapsed())
}

#[test]
fn a_waiting_fetch_is_answered_as_soon_as_records_arrive() {
    let server = Server::start();
    let (mut consumer, mut producer) = (server.connect(), server.connect());
    let topic = create(&mut producer, "awaited", 2);
    let request = FetchRequest {
        max_wait_ms: 60_000,
        ..fetch_request(&topic, &[(0, 0), (1, 0)])
    };
    let (response, took) = while_waiting(&server, &mut consumer, &request, || {
        produce(&mut producer, &topic, 1, &batch(&["news"]));
    });
    assert!(took < AT_ONCE, "{took:?}");
    let partitions = &response.responses[0].partitions;
    assert_eq!(size_of(&partitions[0]), 0);
    assert_eq!(values_of(&partitions[1]), ["news"]);
}

#[test]
fn a_fetch_waits_for_min_bytes_over_all_partitions() {
    let server = Server::start();
    let (mut consumer, mut producer) = (server.connect(), server.connect());
    let topic = create(&mut producer, "least", 2);
    let piece = batch(&["0123456789"]);
    let request = FetchRequest {
        max_wait_ms: 60_000,
        min_bytes: 3 * piece.size_bytes() as i32,
        ..fetch_request(&topic, &[(0, 0), (1, 0)])
    };
    let (response, took) = while_waiting(&server, &mut consumer, &request, || {
        for partition in [0, 1, 0] {
            produce(&mut producer, &topic, partition, &piece);
        }
    });
    assert!(took < AT_ONCE, "{took:?}");
    let sizes: Vec<usize> = response.responses[0]
        .partitions
        .iter()
        .map(size_of)
        .collect();
    assert_eq!(sizes, [2 * piece.size_bytes(), piece.size_bytes()]);
}

#[test]
fn a_fetch_is_answered_at_max_wait_with_the_available_records() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "patient", 1);
    let request = |min_bytes, max_wait_ms| FetchRequest {
        min_bytes,
        max_wait_ms,
        ..fetch_request(&topic, &[(0, 0)])
    };
    let (empty, took) = timed(&mut client, &request(1, 200));
    assert!(
        took >= Duration::from_millis(190) && took < AT_ONCE,
        "{took:?}"
    );
    assert_eq!(size_of(&only(empty)), 0);
    produce(&mut client, &topic, 0, &batch(&["little"]));
    let (little, took) = timed(&mut client, &request(1 << 20, 200));
    assert!(
        took >= Duration::from_millis(190) && took < AT_ONCE,
        "{took:?}"
    );
    assert_eq!(values_of(&only(little)), ["little"]);
    // Fetches without max_wait, without min_bytes or without partitions are answered at once.
    for at_once in [
        request(1 << 20, 0),
        request(0, 60_000),
        FetchRequest {
            max_wait_ms: 60_000,
            min_bytes: 1,
            ..FetchRequest::default()
        },
    ] {
        let (_, took) = timed(&mut client, &at_once);
        assert!(took < AT_ONCE, "{took:?}");
    }
}

#[test]
fn a_fetch_does_not_wait_for_min_bytes_at_the_end_of_a_closed_segment() {
    let server = Server::start();
    let mut client = server.connect();
    let piece = batch(&["0123456789"]);
    let size = piece.size_bytes() as i32;
    let segment_bytes = (4 * size).max(256).to_string();
    let configs = [("internal.segment.bytes", segment_bytes.as_str())];
    let topic = create_with(&mut client, "pieces", 1, &configs);
    for _ in 0..20 {
        produce(&mut client, &topic, 0, &piece);
    }
    let request = FetchRequest {
        max_wait_ms: 60_000,
        min_bytes: 10 * size,
        ..fetch_request(&topic, &[(0, 0)])
    };
    let (response, took) = timed(&mut client, &request);
    assert!(took < AT_ONCE, "{took:?}");
    assert!(size_of(&only(response)) >= size as usize);
}

#[test]
fn a_waiting_fetch_is_answered_when_its_topic_is_deleted() {
    let server = Server::start();
    let (mut consumer, mut admin) = (server.connect(), server.connect());
    let topic = create(&mut admin, "leaving", 1);
    let request = FetchRequest {
        max_wait_ms: 60_000,
        ..fetch_request(&topic, &[(0, 0)])
    };
    let (response, took) = while_waiting(&server, &mut consumer, &request, || {
        let request = DeleteTopicsRequest {
            topic_names: vec![topic.name.clone()],
            timeout_ms: 1_000,
            ..DeleteTopicsRequest::default()
        };
        let deleted = admin.call(5, &request);
        assert_eq!(deleted.responses[0].error_code, ErrorCode::NONE);
    });
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(only(response).error_code, ErrorCode::UNKNOWN_TOPIC_ID);
}

#[test]
fn an_error_of_one_partition_answers_the_fetch_at_once() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "errors", 2);
    produce(&mut client, &topic, 0, &batch(&["a"]));
    let request = FetchRequest {
        max_wait_ms: 60_000,
        ..fetch_request(&topic, &[(0, 1), (0, 2), (0, -1), (5, 0), (1, 0)])
    };
    let (response, took) = timed(&mut client, &request);
    assert!(took < AT_ONCE, "{took:?}");
    let codes: Vec<ErrorCode> = response.responses[0]
        .partitions
        .iter()
        .map(|partition| partition.error_code)
        .collect();
    let expected = [
        ErrorCode::NONE,
        ErrorCode::OFFSET_OUT_OF_RANGE,
        ErrorCode::OFFSET_OUT_OF_RANGE,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::NONE,
    ];
    assert_eq!(codes, expected);
    let out_of_range = &response.responses[0].partitions[1];
    assert_eq!(out_of_range.high_watermark, -1);
    assert_eq!(out_of_range.log_start_offset, -1);
}

#[test]
fn the_first_batch_is_returned_whole_and_limits_apply_after_it() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "limits", 3);
    let piece = batch(&[&"x".repeat(2_000)]);
    let size = piece.size_bytes();
    for partition in [1, 2] {
        for _ in 0..4 {
            produce(&mut client, &topic, partition, &piece);
        }
    }
    let sizes = |client: &mut Client, max_bytes: usize, partition_max: usize| {
        let mut request = FetchRequest {
            max_bytes: max_bytes as i32,
            ..fetch_request(&topic, &[(0, 0), (1, 0), (2, 0)])
        };
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = partition_max as i32;
        }
        let response = client.call(18, &request);
        let partitions = &response.responses[0].partitions;
        partitions.iter().for_each(|each| drop(batches_of(each)));
        partitions.iter().map(size_of).collect::<Vec<_>>()
    };
    let client = &mut client;
    // Too little for any batch: only the first batch of the first non-empty partition is returned.
    assert_eq!(sizes(client, 1, 1), [0, size, 0]);
    assert_eq!(sizes(client, 1 << 20, 1), [0, size, 0]);
    assert_eq!(sizes(client, 0, 0), [0, size, 0]);
    // The limit per partition: whole batches that fit.
    assert_eq!(sizes(client, 1 << 20, 2 * size), [0, 2 * size, 2 * size]);
    assert_eq!(
        sizes(client, 1 << 20, 3 * size - 1),
        [0, 2 * size, 2 * size]
    );
    // The limit over all partitions.
    assert_eq!(sizes(client, 3 * size, 1 << 20), [0, 3 * size, 0]);
    assert_eq!(sizes(client, 6 * size, 1 << 20), [0, 4 * size, 2 * size]);
    assert_eq!(sizes(client, 1 << 20, 1 << 20), [0, 4 * size, 4 * size]);
}

#[test]
fn large_fetches_return_records_byte_for_byte() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create_with(
        &mut client,
        "large",
        1,
        &[("internal.segment.bytes", "300000")],
    );
    let mut sent = Vec::new();
    for number in 0..20_u32 {
        let value = format!("{number:05}").repeat(10_000);
        let batch = batch(&[&value]);
        produce(&mut client, &topic, 0, &batch);
        sent.push(value);
    }
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let fetched = fetch(&mut client, &topic, 0, received.len() as i64);
        let values = values_of(&fetched);
        assert!(!values.is_empty(), "there is more at {}", received.len());
        received.extend(values);
    }
    assert!(received == sent, "received bytes differ from those sent");
}

#[test]
fn topics_are_found_by_id_and_distinguished_from_deleted_ones_of_the_same_name() {
    let server = Server::start();
    let mut client = server.connect();
    let old = create(&mut client, "reborn", 1);
    produce(&mut client, &old, 0, &batch(&["old"]));
    let request = DeleteTopicsRequest {
        topic_names: vec!["reborn".to_owned()],
        ..DeleteTopicsRequest::default()
    };
    client.call(5, &request);
    let new = create(&mut client, "reborn", 1);
    assert_ne!(old.id, new.id);
    assert_eq!(
        fetch(&mut client, &old, 0, 0).error_code,
        ErrorCode::UNKNOWN_TOPIC_ID
    );
    assert_eq!(fetch(&mut client, &new, 0, 0).error_code, ErrorCode::NONE);
    assert_eq!(fetch(&mut client, &new, 0, 0).high_watermark, 0);
    let by_name = client.call(12, &fetch_request(&old, &[(0, 0)]));
    assert_eq!(only(by_name).error_code, ErrorCode::NONE);
    let never = Topic {
        name: "never".to_owned(),
        id: Uuid::from_u128(7),
    };
    let by_name = client.call(12, &fetch_request(&never, &[(0, 0)]));
    assert_eq!(
        only(by_name).error_code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
}

#[test]
fn leader_epochs_are_checked_and_divergence_is_reported() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "epochs", 1);
    produce(&mut client, &topic, 0, &batch(&["a"]));
    let with = |current_leader_epoch, last_fetched_epoch| {
        let mut request = fetch_request(&topic, &[(0, 0)]);
        let partition = &mut request.topics[0].partitions[0];
        partition.current_leader_epoch = current_leader_epoch;
        partition.last_fetched_epoch = last_fetched_epoch;
        request
    };
    assert_eq!(
        only(client.call(18, &with(0, 0))).error_code,
        ErrorCode::NONE
    );
    let ahead = only(client.call(18, &with(1, -1)));
    assert_eq!(ahead.error_code, ErrorCode::UNKNOWN_LEADER_EPOCH);
    // The client's last fetched epoch never existed in this log.
    let foreign = only(client.call(18, &with(0, 3)));
    assert_eq!(foreign.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    // The client's fetch offset is beyond the end of its last fetched epoch.
    let mut beyond = with(0, 0);
    beyond.topics[0].partitions[0].fetch_offset = 5;
    let diverged = only(client.call(18, &beyond));
    assert_eq!(diverged.error_code, ErrorCode::NONE);
    let end = &diverged.diverging_epoch;
    assert_eq!((end.epoch, end.end_offset), (0, 1));
    assert_eq!(size_of(&diverged), 0);
}

#[test]
fn a_zstd_topic_is_refused_for_versions_before_zstd_support() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create_with(&mut client, "zstd", 1, &[("compression.type", "zstd")]);
    produce(&mut client, &topic, 0, &batch_in(Compression::None, &["a"]));
    let request = fetch_request(&topic, &[(0, 0)]);
    let refused = only(client.call(9, &request));
    assert_eq!(refused.error_code, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    assert_eq!(values_of(&only(client.call(10, &request))), ["a"]);
}

#[test]
fn all_fetches_waiting_for_the_same_partition_are_answered() {
    let server = Server::start();
    let mut producer = server.connect();
    let topic = create(&mut producer, "popular", 1);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let mut client = server.connect();
            let request = FetchRequest {
                max_wait_ms: 60_000,
                ..fetch_request(&topic, &[(0, 0)])
            };
            client.send(18, &request);
            thread::spawn(move || values_of(&only(client.receive::<FetchRequest>(18).1)))
        })
        .collect();
    until_waiting(&server, waiting.len());
    produce(&mut producer, &topic, 0, &batch(&["for everyone"]));
    for each in waiting {
        assert_eq!(each.join().unwrap(), ["for everyone"]);
    }
    until_waiting(&server, 0);
}

#[test]
fn a_fetch_is_counted_while_it_waits_and_not_after_its_client_disconnects() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "lonely", 1);
    until_waiting(&server, 0);
    let request = FetchRequest {
        max_wait_ms: 60_000,
        ..fetch_request(&topic, &[(0, 0)])
    };
    let mut waiting: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for (number, each) in waiting.iter_mut().enumerate() {
        each.send(18, &request);
        until_waiting(&server, number + 1);
    }
    // A fetch without max_wait is not counted.
    fetch(&mut client, &topic, 0, 0);
    until_waiting(&server, 3);
    waiting.pop();
    until_waiting(&server, 2);
    waiting.clear();
    until_waiting(&server, 0);
}
