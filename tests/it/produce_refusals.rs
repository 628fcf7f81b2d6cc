//! Rejected batches: the response to the producer, the log and the metrics.

use bytes::Bytes;
use streamline::protocol::kafka::{ErrorCode, encode_request};
use streamline::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use streamline::protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse,
};
use streamline::record::{BatchBuilder, Compression, RecordBatch};
use uuid::Uuid;

use crate::kafka::{
    PRODUCE, Topic, batch, batch_at, batch_in, batch_of, create, create_with, fetch, now_ms,
    only_partition, produce, produce_request, try_produce,
};
use crate::support::{Client, Server};

const METRIC: &str = "streamline_produce_refused_total";

#[track_caller]
fn assert_counted(server: &Server, reason: &str, expected: f64) {
    let counted = server.metrics().value(METRIC, &[("reason", reason)]);
    assert_eq!(counted, Some(expected), "{reason}");
}

/// Returns the log lines of rejected batches that contain all of `words`.
fn said(server: &Server, words: &[&str]) -> usize {
    let log = server.log();
    let said = log.lines().filter(|line| {
        line.contains("produce refused") && words.iter().all(|word| line.contains(word))
    });
    said.count()
}

/// Creates a topic whose log starts at 2.
fn create_trimmed(client: &mut Client, name: &str) -> Topic {
    let topic = create(client, name, 1);
    produce(client, &topic, 0, &batch(&["a", "b", "c"]));
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: name.to_owned(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset: 2,
            }],
        }],
        timeout_ms: 10_000,
    };
    let response = client.call(2, &request);
    assert_eq!(response.topics[0].partitions[0].low_watermark, 2);
    topic
}

/// Returns index and text of each record that a response names.
fn named(answered: &PartitionProduceResponse) -> Vec<(i32, &str)> {
    let errors = answered.record_errors.iter();
    errors
        .map(|each| {
            let text = each.batch_index_error_message.as_deref();
            (each.batch_index, text.unwrap())
        })
        .collect()
}

#[test]
fn records_with_bad_timestamps_are_each_named() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create_trimmed(&mut client, "micros");
    let now = now_ms();
    for codec in Compression::ALL {
        let records = [(now, "a"), (now * 1000, "b"), (now, "c"), (now * 1000, "d")];
        let records = batch_at(codec, &records).bytes().clone();
        let request = produce_request(&topic, -1, &[(0, records)]);
        for version in [3, 5, 7, 8, 12, 13] {
            if codec == Compression::Zstd && version < 7 {
                continue;
            }
            // Kafka 4.4 returns: error 32, log start 2, and from version 8 on the records 1 and 3 with a text each,
            // "Timestamp … is out of range. The timestamp should be within […]".
            let answered = only_partition(client.call(version, &request));
            assert_eq!(answered.error_code, ErrorCode::INVALID_TIMESTAMP);
            assert_eq!(
                (answered.base_offset, answered.log_append_time_ms),
                (-1, -1)
            );
            let log_start_offset = if version >= 5 { 2 } else { -1 };
            assert_eq!(answered.log_start_offset, log_start_offset, "{version}");
            let message = answered.error_message.as_deref();
            if version < 8 {
                assert_eq!((message, answered.record_errors.len()), (None, 0));
                continue;
            }
            let [(1, first), (3, _)] = named(&answered)[..] else {
                panic!("{answered:?}")
            };
            let timestamp = (now * 1000).to_string();
            assert!(
                first.contains(&timestamp) && first.contains("within"),
                "{first}"
            );
            let message = message.unwrap();
            for words in ["2 of", "record 1", "seems to be in microseconds"] {
                assert!(message.contains(words), "{message}");
            }
        }
    }
    assert_eq!(fetch(&mut client, &topic, 0, 2).high_watermark, 3);
    assert_counted(&server, "timestamp", 28.0);
    let words = [
        r#"topic="micros" partition=0 reason="timestamp" acks=-1 client_id="test" peer=127.0.0.1:"#,
        "silenced=0",
        "seems to be in microseconds",
    ];
    assert_eq!(said(&server, &words), 1, "{}", server.log());
    assert_eq!(said(&server, &[]), 1);
}

#[test]
fn at_most_some_thousand_records_of_a_request_are_named() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "many", 3);
    let micros = now_ms() * 1000;
    let many = batch_at(Compression::Zstd, &vec![(micros, ""); 7_000]);
    let partitions = [0, 1, 2].map(|partition| (partition, many.bytes().clone()));
    let request = produce_request(&topic, -1, &partitions);
    let answered = &client.call(PRODUCE, &request).responses[0].partition_responses;
    let lengths: Vec<usize> = answered
        .iter()
        .map(|each| each.record_errors.len())
        .collect();
    assert_eq!(lengths, [7_000, 3_000, 0]);
    for each in answered {
        assert_eq!(each.error_code, ErrorCode::INVALID_TIMESTAMP);
        assert!(each.error_message.as_ref().unwrap().contains("7000 of"));
    }
    assert_counted(&server, "timestamp", 3.0);
}

/// Returns `batch` with other bytes from `at` on, and a matching checksum.
fn altered(batch: &RecordBatch, at: usize, bytes: &[u8]) -> Bytes {
    let mut altered = batch.bytes().to_vec();
    altered[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&altered[21..]);
    altered[17..21].copy_from_slice(&crc.to_be_bytes());
    altered.into()
}

#[test]
fn a_record_that_breaks_the_format_is_named() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create_trimmed(&mut client, "broken");
    let good = batch(&["first", "x"]);
    // The last bytes are the length of the value, the value, and the number of headers.
    let broken = altered(&good, good.size_bytes() - 3, &[0x7e]);
    let response = client.call(PRODUCE, &produce_request(&topic, 1, &[(0, broken)]));
    let answered = only_partition(response);
    assert_eq!(answered.error_code, ErrorCode::INVALID_RECORD);
    assert_eq!(answered.log_start_offset, 2);
    assert!(
        matches!(named(&answered)[..], [(1, text)] if !text.is_empty()),
        "{answered:?}"
    );
    assert_counted(&server, "invalid_record", 1.0);
}

fn produce_as(client: &mut Client, client_id: &str, request: &ProduceRequest) -> ProduceResponse {
    let frame = encode_request(7, PRODUCE, Some(client_id), request).unwrap();
    client.send_raw(&frame).unwrap();
    client.receive::<ProduceRequest>(PRODUCE).1
}

#[test]
fn every_refusal_is_counted_by_reason_and_logged_once_a_minute_for_each_client() {
    let server = Server::start();
    let mut client = server.connect();
    let configs = [
        ("max.message.bytes", "300"),
        ("message.timestamp.before.max.ms", "1000"),
    ];
    let topic = create_with(&mut client, "strict", 1, &configs);
    let good = batch(&["x"]);
    let built = |mut builder: BatchBuilder| {
        builder.push(now_ms(), Some(&[0; 4]), Some(b"x"), &[]);
        builder.build().unwrap().bytes().clone()
    };
    let plain = || BatchBuilder::new(Compression::None);
    assert_eq!(
        produce(&mut client, &topic, 0, &batch_of(9, 1, 0, &["x"])),
        0
    );
    let mut damaged = good.bytes().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    // Attributes of a codec, but records that are not compressed.
    let gzip = altered(&good, 21, &1_i16.to_be_bytes());
    let large = "x".repeat(400);
    let cases = [
        (
            batch_at(Compression::None, &[(5, "old")]).bytes().clone(),
            ErrorCode::INVALID_TIMESTAMP,
            "timestamp",
        ),
        (Bytes::new(), ErrorCode::INVALID_RECORD, "invalid_record"),
        (
            built(plain().control()),
            ErrorCode::INVALID_RECORD,
            "invalid_record",
        ),
        (
            altered(&good, 16, &[1]),
            ErrorCode::INVALID_RECORD,
            "invalid_record",
        ),
        (damaged.into(), ErrorCode::CORRUPT_MESSAGE, "corrupt"),
        (
            good.bytes().slice(..good.size_bytes() - 1),
            ErrorCode::CORRUPT_MESSAGE,
            "corrupt",
        ),
        (
            batch(&[&large]).bytes().clone(),
            ErrorCode::MESSAGE_TOO_LARGE,
            "too_large",
        ),
        (gzip, ErrorCode::INVALID_RECORD, "compression"),
        (
            built(plain().producer(1, 0, 0).transactional()),
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "transactional",
        ),
        (
            batch_of(9, 1, 5, &["gap"]).bytes().clone(),
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            "out_of_order_sequence",
        ),
        (
            batch_of(9, 0, 1, &["old epoch"]).bytes().clone(),
            ErrorCode::INVALID_PRODUCER_EPOCH,
            "producer_epoch",
        ),
    ];
    for client_id in ["one", "two"] {
        for (records, expected, reason) in &cases {
            let request = produce_request(&topic, -1, &[(0, records.clone())]);
            for _ in 0..2 {
                let answered = only_partition(produce_as(&mut client, client_id, &request));
                assert_eq!(answered.error_code, *expected, "{reason}");
                assert_eq!(answered.log_start_offset, 0, "{reason}");
                assert!(answered.error_message.is_some_and(|text| !text.is_empty()));
            }
            let reason = format!("reason={reason:?}");
            let client_id = format!("client_id={client_id:?}");
            assert_eq!(
                said(&server, &[&reason, &client_id, expected.name()]),
                1,
                "{}",
                server.log()
            );
        }
    }
    for (reason, expected) in [
        ("timestamp", 4.0),
        ("invalid_record", 12.0),
        ("corrupt", 8.0),
        ("too_large", 4.0),
        ("compression", 4.0),
        ("transactional", 4.0),
        ("out_of_order_sequence", 4.0),
        ("producer_epoch", 4.0),
        ("unknown_topic", 0.0),
        ("disk_full", 0.0),
    ] {
        assert_counted(&server, reason, expected);
    }
    assert_eq!(fetch(&mut client, &topic, 0, 0).high_watermark, 1);
}

#[test]
fn the_rejection_of_a_whole_request_is_counted_for_each_of_its_partitions() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "two", 2);
    let partitions = [0, 1].map(|index| (index, batch(&["x"]).bytes().clone()));
    let wrong_acks = produce_request(&topic, 2, &partitions);
    let missing = Topic {
        name: "missing\nforged line".to_owned(),
        id: Uuid::from_u128(0x1234),
    };
    let unknown = produce_request(&missing, -1, &partitions);
    let cases = [
        (wrong_acks, "invalid_acks", "acks=2"),
        (unknown, "unknown_topic", r#"topic="missing\nforged line""#),
    ];
    for (request, reason, words) in cases {
        for answered in &client.call(12, &request).responses[0].partition_responses {
            assert_eq!(answered.log_start_offset, -1, "{reason}");
            assert!(answered.record_errors.is_empty());
        }
        assert_counted(&server, reason, 2.0);
        let reason = format!("reason={reason:?}");
        assert_eq!(said(&server, &[&reason, words]), 1, "{}", server.log());
    }
    // By id, for which there is no name; with another client id, so that it is logged at once.
    let unknown = produce_request(&missing, -1, &partitions[..1]);
    produce_as(&mut client, "by id", &unknown);
    let id = format!("topic=\"{}\"", missing.id);
    assert_eq!(said(&server, &[&id]), 1, "{}", server.log());
    // A partition that does not exist.
    let beyond = try_produce(&mut client, &topic, 2, &batch_in(Compression::None, &["x"]));
    assert_eq!(beyond.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_counted(&server, "unknown_topic", 4.0);
}

#[test]
fn an_unacknowledged_batch_that_is_refused_is_logged_once() {
    let server = Server::start();
    let topic = create(&mut server.connect(), "quiet", 1);
    let mut broken = batch(&["broken"]).bytes().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let broken = produce_request(&topic, 0, &[(0, Bytes::from(broken))]);
    let mut transactional = BatchBuilder::new(Compression::None)
        .producer(1, 0, 0)
        .transactional();
    transactional.push(now_ms(), None, Some(b"x"), &[]);
    let transactional = transactional.build().unwrap();
    let transactional = produce_request(&topic, 0, &[(0, transactional.bytes().clone())]);
    // Such a producer reconnects and fails repeatedly, which is logged once.
    for request in [&broken, &broken, &transactional] {
        let mut client = server.connect();
        client.send(PRODUCE, request);
        assert!(client.is_closed());
    }
    assert_counted(&server, "corrupt", 2.0);
    assert_counted(&server, "transactional", 1.0);
    let corrupt = [r#"reason="corrupt" acks=0"#, "CORRUPT_MESSAGE"];
    assert_eq!(said(&server, &corrupt), 1);
    assert_eq!(said(&server, &[]), 2);
    assert_eq!(server.log().matches("connection closed").count(), 0);
}
