//! Tests of leader epochs after a power failure that took unflushed records.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use streamline::protocol::kafka::ErrorCode;
use streamline::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use streamline::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use streamline::protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};

use crate::kafka::{Topic, batch, batches_of, create, fetch, fetch_request, only, produce};
use crate::support::{Client, PATIENCE, Server};

/// Starts the server again as after a power failure, which left only the first `kept` bytes of partition 0.
fn lose_power(server: &mut Server, topic: &Topic, kept: usize) {
    server.kill9();
    let data_dir = server.data_dir();
    let log = data_dir.join(format!("{}-0/00000000000000000000.log", topic.name));
    let log = std::fs::OpenOptions::new().write(true).open(log).unwrap();
    log.set_len(kept as u64).unwrap();
    std::fs::write(data_dir.join(".streamline-boot"), "another boot").unwrap();
    server.restart();
}

/// Returns the end offset of a leader epoch.
fn end_of(client: &mut Client, topic: &Topic, current: i32, epoch: i32) -> (ErrorCode, i32, i64) {
    let request = OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: topic.name.clone(),
            partitions: vec![OffsetForLeaderPartition {
                partition: 0,
                current_leader_epoch: current,
                leader_epoch: epoch,
            }],
        }],
        ..OffsetForLeaderEpochRequest::default()
    };
    let response = client.call(4, &request);
    let found = &response.topics[0].partitions[0];
    (found.error_code, found.leader_epoch, found.end_offset)
}

fn listed_epoch(client: &mut Client, topic: &Topic, timestamp: i64) -> (i64, i32) {
    let request = ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name: topic.name.clone(),
            partitions: vec![ListOffsetsPartition {
                timestamp,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let response = client.call(7, &request);
    let found = &response.topics[0].partitions[0];
    (found.offset, found.leader_epoch)
}

fn metadata_epoch(client: &mut Client, topic: &Topic) -> i32 {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(topic.name.clone()),
            ..MetadataRequestTopic::default()
        }]),
        ..MetadataRequest::default()
    };
    let response = client.call(12, &request);
    response.topics[0].partitions[0].leader_epoch
}

#[test]
fn every_api_has_the_new_epoch_after_a_power_failure() {
    let mut server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "epochs", 1);
    let kept = batch(&["a"]);
    produce(&mut client, &topic, 0, &kept);
    produce(&mut client, &topic, 0, &batch(&["b", "c"]));
    lose_power(&mut server, &topic, kept.size_bytes());
    let mut client = server.connect();
    produce(&mut client, &topic, 0, &batch(&["d", "e", "f"]));

    assert_eq!(metadata_epoch(&mut client, &topic), 1);
    let none = ErrorCode::NONE;
    assert_eq!(end_of(&mut client, &topic, 1, 0), (none, 0, 1));
    assert_eq!(end_of(&mut client, &topic, 1, 1), (none, 1, 4));
    let (fenced, ..) = end_of(&mut client, &topic, 0, 0);
    assert_eq!(fenced, ErrorCode::FENCED_LEADER_EPOCH);
    assert_eq!(listed_epoch(&mut client, &topic, -2), (0, 0));
    assert_eq!(listed_epoch(&mut client, &topic, -1), (4, 1));
    let stamped: Vec<i32> = batches_of(&fetch(&mut client, &topic, 0, 0))
        .iter()
        .map(|batch| batch.header().partition_leader_epoch)
        .collect();
    assert_eq!(stamped, [0, 1]);
    // A consumer that has read the lost records, up to offset 3.
    let mut diverged = fetch_request(&topic, &[(0, 3)]);
    diverged.topics[0].partitions[0].current_leader_epoch = 1;
    diverged.topics[0].partitions[0].last_fetched_epoch = 0;
    let diverged = only(client.call(18, &diverged));
    let end = &diverged.diverging_epoch;
    assert_eq!((end.epoch, end.end_offset), (0, 1));
    server.until_metric("streamline_recovery_raised_epochs_total", &[], Some(1.0));
}

#[test]
fn a_restart_without_a_power_failure_keeps_the_epoch() {
    let mut server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "same", 1);
    produce(&mut client, &topic, 0, &batch(&["a"]));
    server.kill9();
    server.restart();
    assert_eq!(metadata_epoch(&mut server.connect(), &topic), 0);
    server.terminate();
    server.restart();
    assert_eq!(metadata_epoch(&mut server.connect(), &topic), 0);
}

/// Polls until there is a record or a reason for which there will be none.
#[track_caller]
fn next(consumer: &BaseConsumer) -> Result<i64, RDKafkaErrorCode> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => return Ok(message.offset()),
            Some(Err(KafkaError::MessageConsumption(code))) if !is_disconnect(code) => {
                return Err(code);
            }
            _ => assert!(Instant::now() < deadline, "neither a record nor an error"),
        }
    }
}

fn is_disconnect(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown
    )
}

#[test]
fn a_consumer_that_has_read_past_the_cut_detects_the_truncation() {
    let mut server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "cut", 1);
    let kept = batch(&["a"]);
    produce(&mut client, &topic, 0, &kept);
    produce(&mut client, &topic, 0, &batch(&["b", "c", "d"]));
    let addr = server.kafka_addr().to_string();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &addr)
        .set("group.id", "truncated")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(&topic.name, 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&assignment).unwrap();
    for offset in 0..4 {
        assert_eq!(next(&consumer), Ok(offset));
    }
    server.set_flags(&["--listen-addr", &addr]);
    lose_power(&mut server, &topic, kept.size_bytes());
    // Other records take the offsets that the consumer has read.
    produce(
        &mut server.connect(),
        &topic,
        0,
        &batch(&["e", "f", "g", "h", "i"]),
    );
    // Its position is in range and, without epochs, the next record would be "h".
    assert_eq!(next(&consumer), Err(RDKafkaErrorCode::AutoOffsetReset));
}
