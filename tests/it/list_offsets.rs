//! Tests of ListOffsets, OffsetForLeaderEpoch and DeleteRecords.

use streamline::protocol::kafka::{ErrorCode, Request};
use streamline::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use streamline::protocol::messages::list_offsets::{
    EARLIEST_LOCAL_TIMESTAMP, EARLIEST_TIMESTAMP, LATEST_TIERED_TIMESTAMP, LATEST_TIMESTAMP,
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
    MAX_TIMESTAMP,
};
use streamline::protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use streamline::record::Compression;

use crate::kafka::{
    Topic, batch, batch_at, create, create_with, fetch, now_ms, produce, values_of,
};
use crate::support::{Client, Server};

fn request(topic: &str, partitions: &[(i32, i64)]) -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.to_owned(),
            partitions: partitions
                .iter()
                .map(|(partition_index, timestamp)| ListOffsetsPartition {
                    partition_index: *partition_index,
                    timestamp: *timestamp,
                    ..ListOffsetsPartition::default()
                })
                .collect(),
        }],
        ..ListOffsetsRequest::default()
    }
}

fn at(
    client: &mut Client,
    version: i16,
    topic: &str,
    timestamp: i64,
) -> ListOffsetsPartitionResponse {
    let mut response = client.call(version, &request(topic, &[(0, timestamp)]));
    assert_eq!(response.topics[0].name, topic);
    let found = response.topics.remove(0).partitions.remove(0);
    assert_eq!(found.partition_index, 0);
    found
}

/// Creates a topic with three batches; timestamps of the records in minutes after `start`: 10 20 | 40 30 | 50.
fn timed_topic(client: &mut Client, name: &str, codec: Compression) -> (Topic, i64) {
    let topic = create(client, name, 1);
    let start = now_ms() - 3 * 3_600_000;
    let minute = |minutes: i64| start + minutes * 60_000;
    let batches: [&[(i64, &str)]; 3] = [
        &[(minute(10), "10"), (minute(20), "20")],
        &[(minute(40), "40"), (minute(30), "30")],
        &[(minute(50), "50")],
    ];
    for records in batches {
        produce(client, &topic, 0, &batch_at(codec, records));
    }
    (topic, start)
}

#[test]
fn every_version_finds_log_start_log_end_and_timestamps() {
    let server = Server::start();
    let mut client = server.connect();
    let (_, start) = timed_topic(&mut client, "timed", Compression::None);
    let minute = |minutes: i64| start + minutes * 60_000;
    for version in ListOffsetsRequest::VERSIONS {
        let epoch = if version >= 4 { 0 } else { -1 };
        for isolation_level in [0, 1] {
            // Version 1 has no isolation level and means read_uncommitted.
            if version == 1 && isolation_level == 1 {
                continue;
            }
            let asked = ListOffsetsRequest {
                isolation_level,
                ..request("timed", &[(0, LATEST_TIMESTAMP)])
            };
            let latest = &client.call(version, &asked).topics[0].partitions[0];
            assert_eq!((latest.error_code, latest.offset), (ErrorCode::NONE, 5));
            assert_eq!((latest.timestamp, latest.leader_epoch), (-1, epoch));
        }
        let earliest = at(&mut client, version, "timed", EARLIEST_TIMESTAMP);
        assert_eq!(
            (earliest.offset, earliest.timestamp, earliest.leader_epoch),
            (0, -1, epoch)
        );
        for (time, offset, found_time) in [
            (0, 0, minute(10)),
            (minute(10), 0, minute(10)),
            (minute(10) + 1, 1, minute(20)),
            (minute(20) + 1, 2, minute(40)),
            (minute(40), 2, minute(40)),
            (minute(40) + 1, 4, minute(50)),
            (minute(50), 4, minute(50)),
        ] {
            let found = at(&mut client, version, "timed", time);
            assert_eq!(
                (found.offset, found.timestamp),
                (offset, found_time),
                "version {version}"
            );
            assert_eq!(found.leader_epoch, epoch);
        }
        let nothing = at(&mut client, version, "timed", minute(50) + 1);
        assert_eq!(nothing.error_code, ErrorCode::NONE);
        assert_eq!(
            (nothing.offset, nothing.timestamp, nothing.leader_epoch),
            (-1, -1, -1)
        );
    }
}

#[test]
fn timestamps_are_found_within_compressed_batches() {
    let server = Server::start();
    let mut client = server.connect();
    for codec in Compression::ALL {
        let name = format!("timed-{codec}");
        let (_, start) = timed_topic(&mut client, &name, codec);
        let found = at(&mut client, 10, &name, start + 11 * 60_000);
        assert_eq!(
            (found.offset, found.timestamp),
            (1, start + 20 * 60_000),
            "{codec}"
        );
    }
}

#[test]
fn special_timestamps_are_supported_from_the_version_that_introduced_them() {
    let server = Server::start();
    let mut client = server.connect();
    let (_, start) = timed_topic(&mut client, "special", Compression::None);
    for (special, from, offset, timestamp) in [
        (MAX_TIMESTAMP, 7, 4, start + 50 * 60_000),
        (EARLIEST_LOCAL_TIMESTAMP, 8, 0, -1),
        (LATEST_TIERED_TIMESTAMP, 9, -1, -1),
        (-6, 11, -1, -1),
    ] {
        for version in ListOffsetsRequest::VERSIONS {
            let found = at(&mut client, version, "special", special);
            if version < from {
                assert_eq!(
                    found.error_code,
                    ErrorCode::UNSUPPORTED_VERSION,
                    "{special}"
                );
            } else {
                assert_eq!(found.error_code, ErrorCode::NONE, "{special}");
                assert_eq!(
                    (found.offset, found.timestamp),
                    (offset, timestamp),
                    "{special}"
                );
            }
        }
    }
}

#[test]
fn the_maximum_timestamp_is_the_first_of_several_and_absent_from_an_empty_log() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "peaks", 1);
    let empty = at(&mut client, 10, "peaks", MAX_TIMESTAMP);
    assert_eq!((empty.error_code, empty.offset), (ErrorCode::NONE, -1));
    let peak = now_ms();
    let records = [(peak - 5, "a"), (peak, "b"), (peak - 1, "c"), (peak, "d")];
    produce(
        &mut client,
        &topic,
        0,
        &batch_at(Compression::Lz4, &records),
    );
    produce(
        &mut client,
        &topic,
        0,
        &batch_at(Compression::None, &[(peak - 3, "e")]),
    );
    let found = at(&mut client, 10, "peaks", MAX_TIMESTAMP);
    assert_eq!((found.offset, found.timestamp), (1, peak));
}

#[test]
fn errors_are_reported_for_each_partition() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "present", 2);
    let asked = request("present", &[(0, -1), (9, -1), (1, -1), (1, -2)]);
    let answered = client.call(10, &asked);
    let codes: Vec<_> = answered.topics[0]
        .partitions
        .iter()
        .map(|each| each.error_code)
        .collect();
    let expected = [
        ErrorCode::NONE,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::INVALID_REQUEST,
        ErrorCode::INVALID_REQUEST,
    ];
    assert_eq!(codes, expected);
    let unknown = at(&mut client, 10, "absent", -1);
    assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let mut ahead = request("present", &[(0, -1)]);
    ahead.topics[0].partitions[0].current_leader_epoch = 4;
    for version in 4..=10 {
        let refused = client.call(version, &ahead);
        let code = refused.topics[0].partitions[0].error_code;
        assert_eq!(code, ErrorCode::UNKNOWN_LEADER_EPOCH);
    }
}

#[test]
fn every_version_of_offset_for_leader_epoch_returns_the_end_of_an_epoch() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "epochs", 1);
    produce(&mut client, &topic, 0, &batch(&["a", "b"]));
    let asked = |partition, current_leader_epoch, leader_epoch| OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: "epochs".to_owned(),
            partitions: vec![OffsetForLeaderPartition {
                partition,
                current_leader_epoch,
                leader_epoch,
            }],
        }],
        ..OffsetForLeaderEpochRequest::default()
    };
    for version in OffsetForLeaderEpochRequest::VERSIONS {
        let mut answer = |request: OffsetForLeaderEpochRequest| {
            let response = client.call(version, &request);
            assert_eq!(response.topics[0].topic, "epochs");
            response.topics[0].partitions[0].clone()
        };
        for current in [-1, 0] {
            let found = answer(asked(0, current, 0));
            assert_eq!(found.error_code, ErrorCode::NONE);
            assert_eq!(
                (found.partition, found.leader_epoch, found.end_offset),
                (0, 0, 2)
            );
        }
        let ahead = answer(asked(0, 1, 0));
        assert_eq!(ahead.error_code, ErrorCode::UNKNOWN_LEADER_EPOCH);
        assert_eq!((ahead.leader_epoch, ahead.end_offset), (-1, -1));
        let missing = answer(asked(1, -1, 0));
        assert_eq!(missing.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
}

fn delete_before(topic: &str, partition_index: i32, offset: i64) -> DeleteRecordsRequest {
    DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: topic.to_owned(),
            partitions: vec![DeleteRecordsPartition {
                partition_index,
                offset,
            }],
        }],
        timeout_ms: 10_000,
    }
}

#[test]
fn every_version_of_delete_records_advances_the_log_start_offset() {
    let mut server = Server::start();
    let mut client = server.connect();
    let topic = create_with(
        &mut client,
        "shrinking",
        1,
        &[("internal.segment.bytes", "256")],
    );
    for number in 0..10 {
        produce(
            &mut client,
            &topic,
            0,
            &batch(&[&number.to_string(), &"x".repeat(100)]),
        );
    }
    let mut start = 0;
    for version in DeleteRecordsRequest::VERSIONS {
        start += 3;
        let response = client.call(version, &delete_before("shrinking", 0, start));
        let deleted = &response.topics[0].partitions[0];
        assert_eq!(
            (deleted.error_code, deleted.low_watermark),
            (ErrorCode::NONE, start)
        );
        let earliest = at(&mut client, 10, "shrinking", EARLIEST_TIMESTAMP);
        assert_eq!(earliest.offset, start);
        let before = fetch(&mut client, &topic, 0, start - 1);
        assert_eq!(before.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
        assert_eq!(before.log_start_offset, -1);
        assert!(!values_of(&fetch(&mut client, &topic, 0, start)).is_empty());
    }
    // A lower offset does nothing; one past the end, and an unknown partition, are refused.
    let response = client.call(2, &delete_before("shrinking", 0, 1));
    assert_eq!(response.topics[0].partitions[0].low_watermark, start);
    for (partition, offset, expected) in [
        (0, 21, ErrorCode::OFFSET_OUT_OF_RANGE),
        (0, -2, ErrorCode::OFFSET_OUT_OF_RANGE),
        (1, 0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    ] {
        let refused = client.call(2, &delete_before("shrinking", partition, offset));
        let refused = &refused.topics[0].partitions[0];
        assert_eq!((refused.error_code, refused.low_watermark), (expected, -1));
    }
    server.kill9();
    server.restart();
    let mut client = server.connect();
    let earliest = at(&mut client, 10, "shrinking", EARLIEST_TIMESTAMP);
    assert_eq!(
        earliest.offset, start,
        "the new log start offset survives a kill"
    );
    // Deletes all records: the log is empty and continues at its end offset.
    let all = client.call(2, &delete_before("shrinking", 0, -1));
    assert_eq!(all.topics[0].partitions[0].low_watermark, 20);
    assert_eq!(produce(&mut client, &topic, 0, &batch(&["next"])), 20);
}
