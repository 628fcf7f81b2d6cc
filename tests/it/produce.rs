//! Tests of Produce.

use bytes::Bytes;
use streamline::protocol::kafka::{ErrorCode, Request};
use streamline::protocol::messages::init_producer_id::InitProducerIdRequest;
use streamline::protocol::messages::produce::{PartitionProduceResponse, ProduceRequest};
use streamline::record::{BatchBuilder, BatchHeader, Compression, RecordBatch, TimestampType};
use twox_hash::XxHash32;
use uuid::Uuid;

use crate::kafka::{
    Topic, batch, batch_at, batch_in, batch_of, batches_of, create, create_with, fetch, now_ms,
    produce, produce_request, records_of, try_produce, values_of,
};
use crate::support::Server;

#[test]
fn every_version_appends_and_returns_the_offset() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "versions", 2);
    let mut next_offset = 0;
    for version in ProduceRequest::VERSIONS {
        for acks in [-1, 1] {
            let value = format!("version {version} acks {acks}");
            let records = batch(&[&value, "and another"]).bytes().clone();
            let response = client.call(version, &produce_request(&topic, acks, &[(1, records)]));
            let answered = &response.responses[0];
            match version {
                13.. => assert_eq!((answered.name.as_str(), answered.topic_id), ("", topic.id)),
                _ => assert_eq!(answered.name, "versions"),
            }
            let expected = PartitionProduceResponse {
                index: 1,
                base_offset: next_offset,
                log_start_offset: if version >= 5 { 0 } else { -1 },
                ..PartitionProduceResponse::default()
            };
            assert_eq!(
                answered.partition_responses,
                [expected],
                "version {version}"
            );
            let fetched = fetch(&mut client, &topic, 1, next_offset);
            assert_eq!(values_of(&fetched), [value.as_str(), "and another"]);
            next_offset += 2;
        }
    }
    assert_eq!(fetch(&mut client, &topic, 0, 0).high_watermark, 0);
}

#[test]
fn batches_of_every_codec_are_stored_unchanged() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "codecs", 1);
    for codec in Compression::ALL {
        let text = "compressible ".repeat(50);
        let sent = batch_in(codec, &[&text, "short"]);
        let offset = produce(&mut client, &topic, 0, &sent);
        let fetched = fetch(&mut client, &topic, 0, offset);
        assert_eq!(values_of(&fetched), [text.as_str(), "short"], "{codec}");
        let stored = &batches_of(&fetched)[0];
        assert_eq!(stored.compression(), codec);
        assert_eq!(stored.body(), sent.body(), "{codec}: not recompressed");
    }
}

#[test]
fn zstd_is_refused_for_versions_before_zstd_support() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "old", 1);
    let records = batch_in(Compression::Zstd, &["x"]).bytes().clone();
    let request = produce_request(&topic, 1, &[(0, records)]);
    let refused = client.call(6, &request);
    let code = refused.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    let taken = client.call(7, &request);
    let code = taken.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ErrorCode::NONE);
}

#[test]
fn batches_are_recompressed_to_the_compression_type_of_the_topic() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create_with(&mut client, "lz4", 1, &[("compression.type", "lz4")]);
    for codec in Compression::ALL {
        let offset = produce(&mut client, &topic, 0, &batch_in(codec, &["a", "b"]));
        let fetched = fetch(&mut client, &topic, 0, offset);
        assert_eq!(batches_of(&fetched)[0].compression(), Compression::Lz4);
        assert_eq!(values_of(&fetched), ["a", "b"]);
    }
}

#[test]
fn a_refused_partition_does_not_affect_the_others() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "mixed", 2);
    let mut broken = batch(&["broken"]).bytes().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let partitions = [
        (0, batch(&["good"]).bytes().clone()),
        (1, Bytes::from(broken)),
        (7, batch(&["nowhere"]).bytes().clone()),
    ];
    let response = client.call(12, &produce_request(&topic, -1, &partitions));
    let answered = &response.responses[0].partition_responses;
    assert_eq!(answered[0].error_code, ErrorCode::NONE);
    assert_eq!(answered[1].error_code, ErrorCode::CORRUPT_MESSAGE);
    let message = answered[1].error_message.as_deref().unwrap();
    assert!(message.contains("CRC"), "{message}");
    assert_eq!(
        answered[2].error_code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(answered[2].base_offset, -1);
    assert_eq!(values_of(&fetch(&mut client, &topic, 0, 0)), ["good"]);
    assert_eq!(fetch(&mut client, &topic, 1, 0).high_watermark, 0);
}

#[test]
fn invalid_batches_are_refused_with_kafkas_code_and_a_reason() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create_with(
        &mut client,
        "strict",
        1,
        &[
            ("max.message.bytes", "300"),
            ("message.timestamp.before.max.ms", "1000"),
        ],
    );
    let large = "x".repeat(400);
    let (two, control, transactional, old) = (
        [
            batch(&["a"]).bytes().as_ref(),
            batch(&["b"]).bytes().as_ref(),
        ]
        .concat(),
        BatchBuilder::new(Compression::None).control(),
        BatchBuilder::new(Compression::None)
            .producer(1, 0, 0)
            .transactional(),
        batch_at(Compression::None, &[(now_ms() - 60_000, "old")]),
    );
    let built = |mut builder: BatchBuilder| {
        builder.push(now_ms(), Some(&[0, 0, 0, 0]), Some(b"x"), &[]);
        builder.build().unwrap().bytes().clone()
    };
    let whole = batch(&["cut"]).bytes().clone();
    let mut magic = batch(&["old format"]).bytes().to_vec();
    magic[16] = 1;
    let cases = [
        (
            batch(&[&large]).bytes().clone(),
            ErrorCode::MESSAGE_TOO_LARGE,
        ),
        (Bytes::from(two), ErrorCode::INVALID_RECORD),
        (Bytes::new(), ErrorCode::INVALID_RECORD),
        (built(control), ErrorCode::INVALID_RECORD),
        (
            built(transactional),
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ),
        (old.bytes().clone(), ErrorCode::INVALID_TIMESTAMP),
        (whole.slice(..whole.len() - 1), ErrorCode::CORRUPT_MESSAGE),
        (Bytes::from(magic), ErrorCode::INVALID_RECORD),
    ];
    for (records, expected) in cases {
        let response = client.call(13, &produce_request(&topic, -1, &[(0, records)]));
        let answered = &response.responses[0].partition_responses[0];
        assert_eq!(answered.error_code, expected, "{answered:?}");
        assert!(
            answered
                .error_message
                .as_ref()
                .is_some_and(|text| !text.is_empty())
        );
    }
    assert_eq!(fetch(&mut client, &topic, 0, 0).high_watermark, 0);
    assert_eq!(produce(&mut client, &topic, 0, &batch(&["fine"])), 0);
}

/// Builds an LZ4 batch as a library with linked blocks writes it.
fn batch_of_linked_blocks() -> RecordBatch {
    const FRAME_FLAGS_AT: usize = BatchHeader::LEN + 4;
    const FRAME_CHECKSUM_AT: usize = FRAME_FLAGS_AT + 2;
    const INDEPENDENT_BLOCKS: u8 = 1 << 5;
    let mut bytes = batch_in(Compression::Lz4, &["linked"]).bytes().to_vec();
    bytes[FRAME_FLAGS_AT] &= !INDEPENDENT_BLOCKS;
    let checksum = XxHash32::oneshot(0, &bytes[FRAME_FLAGS_AT..FRAME_CHECKSUM_AT]);
    bytes[FRAME_CHECKSUM_AT] = (checksum >> 8) as u8;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::parse(Bytes::from(bytes)).unwrap()
}

#[test]
fn lz4_frames_with_linked_blocks_are_refused_with_the_remedy() {
    let server = Server::start();
    let mut client = server.connect();
    for compression_type in ["producer", "zstd"] {
        let configs = [("compression.type", compression_type)];
        let topic = create_with(&mut client, compression_type, 1, &configs);
        let records = batch_of_linked_blocks().bytes().clone();
        let response = client.call(13, &produce_request(&topic, -1, &[(0, records)]));
        let answered = &response.responses[0].partition_responses[0];
        assert_eq!(answered.error_code, ErrorCode::INVALID_RECORD);
        let message = answered.error_message.as_deref().unwrap();
        assert!(
            message.contains("independent (not linked) blocks"),
            "{message}"
        );
        assert_eq!(fetch(&mut client, &topic, 0, 0).high_watermark, 0);
    }
}

#[test]
fn invalid_acks_refuse_every_partition() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "acks", 2);
    let partitions = [
        (0, batch(&["a"]).bytes().clone()),
        (1, batch(&["b"]).bytes().clone()),
    ];
    let wrong_acks = produce_request(&topic, 2, &partitions);
    let response = client.call(9, &wrong_acks);
    let answered = &response.responses[0].partition_responses;
    assert_eq!(answered.len(), 2);
    let expected = ErrorCode::INVALID_REQUIRED_ACKS;
    assert!(
        answered.iter().all(|each| each.error_code == expected),
        "{answered:?}"
    );
    assert_eq!(fetch(&mut client, &topic, 0, 0).high_watermark, 0);
}

#[test]
fn unknown_topics_are_refused_by_name_and_by_id() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = Topic {
        name: "missing".to_owned(),
        id: Uuid::from_u128(0x1234),
    };
    let request = produce_request(&topic, 1, &[(0, batch(&["x"]).bytes().clone())]);
    for (version, expected) in [
        (12, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (13, ErrorCode::UNKNOWN_TOPIC_ID),
    ] {
        let response = client.call(version, &request);
        let code = response.responses[0].partition_responses[0].error_code;
        assert_eq!(code, expected);
    }
}

#[test]
fn acks_0_gets_no_response_and_closes_the_connection_on_failure() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "quiet", 1);
    let good = produce_request(&topic, 0, &[(0, batch(&["unseen"]).bytes().clone())]);
    client.send(13, &good);
    // The next response on the connection is the next request's, and follows the append.
    assert_eq!(values_of(&fetch(&mut client, &topic, 0, 0)), ["unseen"]);
    let mut broken = batch(&["broken"]).bytes().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let broken = produce_request(&topic, 0, &[(0, Bytes::from(broken))]);
    for _ in 0..3 {
        let mut client = server.connect();
        client.send(13, &broken);
        assert!(client.is_closed());
    }
    let mut again = server.connect();
    assert_eq!(values_of(&fetch(&mut again, &topic, 0, 0)), ["unseen"]);
    let failed = [("api_key", "produce"), ("error", "true")];
    server.until_metric("streamline_requests_total", &failed, Some(3.0));
}

#[test]
fn sequence_numbers_and_epochs_of_idempotent_producers_are_checked() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "idempotent", 1);
    let identity = client.call(
        5,
        &InitProducerIdRequest {
            transactional_id: None,
            ..InitProducerIdRequest::default()
        },
    );
    assert_eq!(identity.error_code, ErrorCode::NONE);
    let id = identity.producer_id;
    let first = batch_of(id, 0, 0, &["0", "1"]);
    let second = batch_of(id, 0, 2, &["2"]);
    assert_eq!(produce(&mut client, &topic, 0, &first), 0);
    assert_eq!(produce(&mut client, &topic, 0, &second), 2);
    // A retry, as after a lost response, returns the same offset and appends nothing.
    assert_eq!(produce(&mut client, &topic, 0, &first), 0);
    assert_eq!(produce(&mut client, &topic, 0, &second), 2);
    let gap = try_produce(&mut client, &topic, 0, &batch_of(id, 0, 9, &["9"]));
    assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(
        produce(&mut client, &topic, 0, &batch_of(id, 1, 0, &["3"])),
        3
    );
    let fenced = try_produce(&mut client, &topic, 0, &batch_of(id, 0, 3, &["old"]));
    assert_eq!(fenced.error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(
        values_of(&fetch(&mut client, &topic, 0, 0)),
        ["0", "1", "2", "3"]
    );
}

#[test]
fn idempotent_producer_state_survives_a_kill_and_a_clean_shutdown() {
    let mut server = Server::start();
    let topic = create(&mut server.connect(), "remembering", 1);
    let mut sequence = 0;
    for kill in [true, false, true] {
        let sent = batch_of(42, 3, sequence, &["a", "b"]);
        let offset = produce(&mut server.connect(), &topic, 0, &sent);
        assert_eq!(offset, i64::from(sequence));
        match kill {
            true => server.kill9(),
            false => assert!(server.terminate().success()),
        }
        server.restart();
        let mut client = server.connect();
        assert_eq!(
            produce(&mut client, &topic, 0, &sent),
            offset,
            "a duplicate"
        );
        let gap = try_produce(&mut client, &topic, 0, &batch_of(42, 3, 99, &["x"]));
        assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        sequence += 2;
    }
    let all = fetch(&mut server.connect(), &topic, 0, 0);
    assert_eq!(values_of(&all), ["a", "b"].repeat(3));
}

#[test]
fn log_append_time_is_set_by_the_server_and_returned_to_the_producer() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create_with(
        &mut client,
        "stamped",
        1,
        &[("message.timestamp.type", "LogAppendTime")],
    );
    let before = now_ms();
    let sent = batch_at(Compression::Gzip, &[(5, "a"), (6, "b")]);
    let answered = try_produce(&mut client, &topic, 0, &sent);
    assert_eq!(answered.error_code, ErrorCode::NONE);
    let stamped = answered.log_append_time_ms;
    assert!((before..=now_ms()).contains(&stamped), "{stamped}");
    let fetched = fetch(&mut client, &topic, 0, 0);
    let header = *batches_of(&fetched)[0].header();
    assert_eq!(
        header.attributes.timestamp_type(),
        TimestampType::LogAppendTime
    );
    assert_eq!(header.max_timestamp, stamped);
    assert!(
        records_of(&fetched)
            .iter()
            .all(|record| record.timestamp_ms == stamped)
    );
}

#[test]
fn pipelined_requests_are_appended_and_answered_in_order() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "pipelined", 1);
    let values: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    for value in &values {
        // acks=all waits for a flush in between, acks=1 does not: neither overtakes the other.
        let acks = if value.ends_with('7') { -1 } else { 1 };
        let records = batch(&[value]).bytes().clone();
        client.send(13, &produce_request(&topic, acks, &[(0, records)]));
    }
    for expected in 0..values.len() as i64 {
        let response = client.receive::<ProduceRequest>(13).1;
        let answered = &response.responses[0].partition_responses[0];
        assert_eq!(
            (answered.error_code, answered.base_offset),
            (ErrorCode::NONE, expected)
        );
    }
    assert_eq!(values_of(&fetch(&mut client, &topic, 0, 0)), values);
}

#[test]
fn removed_versions_close_the_connection() {
    let server = Server::start();
    for version in [0, 1, 2, 14] {
        let mut client = server.connect();
        let mut frame = vec![0, 0, 0, 20, 0, 0, 0, version, 0, 0, 0, 1, 0xff, 0xff];
        // acks=1, no timeout, no topics: a valid body in every one of these versions.
        frame.extend([0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        client.send_raw(&frame).unwrap();
        assert!(client.is_closed(), "version {version}");
    }
}
