//! Transactions of librdkafka, which speaks version 1 of the protocol.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::support::{PATIENCE, Server, until};

fn producer(server: &Server, id: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", server.kafka_addr().to_string())
        .set("transactional.id", id)
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

fn send(producer: &BaseProducer, topic: &str, values: &[String]) {
    for value in values {
        producer
            .send(BaseRecord::<str, str>::to(topic).payload(value))
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

fn numbered(name: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{name}-{number}"))
        .collect()
}

fn reader(server: &Server, group: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", server.kafka_addr().to_string())
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        .create()
        .unwrap()
}

/// Reads a topic of one partition from its start to its end.
fn read_all(server: &Server, topic: &str, isolation: &str) -> Vec<String> {
    let consumer = reader(server, "reader", isolation);
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&assignment).unwrap();
    let mut values = Vec::new();
    let mut is_at_end = false;
    until("the end of the partition", || {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                values.push(message.payload_view::<str>().unwrap().unwrap().to_owned());
            }
            Some(Err(KafkaError::PartitionEOF(_))) => is_at_end = true,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
        is_at_end
    });
    values
}

fn committed_offset(server: &Server, group: &str, topic: &str) -> Offset {
    let consumer = reader(server, group, "read_committed");
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, 0);
    let committed = consumer.committed_offsets(asked, PATIENCE).unwrap();
    committed.find_partition(topic, 0).unwrap().offset()
}

fn ended(server: &Server, outcome: &str) -> f64 {
    let labels = [("outcome", outcome)];
    let ended = server.metrics();
    ended
        .value("streamline_transactions_ended_total", &labels)
        .unwrap()
}

#[test]
fn committed_records_are_read_and_aborted_ones_are_not() {
    let server = Server::start();
    let producer = producer(&server, "payments");
    let mut committed = Vec::new();
    for round in 0..5 {
        producer.begin_transaction().unwrap();
        let values = numbered(&format!("commit-{round}"), 10);
        send(&producer, "orders", &values);
        producer.commit_transaction(PATIENCE).unwrap();
        committed.extend(values);
        producer.begin_transaction().unwrap();
        send(
            &producer,
            "orders",
            &numbered(&format!("abort-{round}"), 10),
        );
        producer.abort_transaction(PATIENCE).unwrap();
    }
    assert_eq!(read_all(&server, "orders", "read_committed"), committed);
    assert_eq!(read_all(&server, "orders", "read_uncommitted").len(), 100);
    assert_eq!(
        (ended(&server, "committed"), ended(&server, "aborted")),
        (5.0, 5.0)
    );
    let metrics = server.metrics();
    let state = |state| metrics.value("streamline_transactional_ids_by_state", &[("state", state)]);
    assert_eq!(state("CompleteAbort"), Some(1.0));
    assert_eq!(state("Ongoing"), Some(0.0));
}

#[test]
fn records_of_an_open_transaction_hold_back_later_ones() {
    let server = Server::start();
    let producer = producer(&server, "slow");
    producer.begin_transaction().unwrap();
    send(&producer, "orders", &numbered("open", 3));
    let other: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", server.kafka_addr().to_string())
        .create()
        .unwrap();
    send(&other, "orders", &numbered("plain", 2));
    assert_eq!(read_all(&server, "orders", "read_committed"), [""; 0]);
    let metrics = server.metrics();
    assert!(metrics.value("streamline_transaction_oldest_open_seconds", &[]) > Some(0.0));
    producer.commit_transaction(PATIENCE).unwrap();
    let expected = [numbered("open", 3), numbered("plain", 2)].concat();
    assert_eq!(read_all(&server, "orders", "read_committed"), expected);
}

#[test]
fn a_new_producer_fences_the_previous_one_and_aborts_its_transaction() {
    let server = Server::start();
    let first = producer(&server, "payments");
    first.begin_transaction().unwrap();
    send(&first, "orders", &numbered("zombie", 3));
    let second = producer(&server, "payments");
    second.begin_transaction().unwrap();
    send(&second, "orders", &numbered("new", 3));
    let error = first.commit_transaction(PATIENCE).unwrap_err();
    match error {
        KafkaError::Transaction(error) => {
            assert!(error.is_fatal(), "{error:?}");
            assert!(matches!(
                error.code(),
                RDKafkaErrorCode::Fenced | RDKafkaErrorCode::InvalidProducerEpoch
            ));
        }
        error => panic!("{error:?}"),
    }
    second.commit_transaction(PATIENCE).unwrap();
    assert_eq!(
        read_all(&server, "orders", "read_committed"),
        numbered("new", 3)
    );
    assert_eq!(ended(&server, "fenced"), 1.0);
}

/// Reads, transforms and writes with the offsets in the same transaction.
#[test]
fn offsets_are_committed_with_the_transaction_and_dropped_with_it() {
    let server = Server::start();
    let plain: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", server.kafka_addr().to_string())
        .create()
        .unwrap();
    send(&plain, "input", &numbered("in", 10));
    let consumer = reader(&server, "transformer", "read_committed");
    consumer.subscribe(&["input"]).unwrap();
    until("the group is assigned", || {
        consumer.poll(Duration::from_millis(100));
        consumer.assignment().unwrap().count() == 1
    });
    let producer = producer(&server, "transformer-0");
    let send_offset = |offset| {
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset("input", 0, Offset::Offset(offset))
            .unwrap();
        let group = consumer.group_metadata().unwrap();
        producer
            .send_offsets_to_transaction(&offsets, &group, PATIENCE)
            .unwrap();
    };
    producer.begin_transaction().unwrap();
    send(&producer, "output", &numbered("out", 5));
    send_offset(5);
    let lag = [
        ("group", "transformer"),
        ("topic", "input"),
        ("partition", "0"),
    ];
    let metrics = server.metrics();
    assert_eq!(metrics.value("streamline_consumer_lag", &lag), None);
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(
        committed_offset(&server, "transformer", "input"),
        Offset::Offset(5)
    );
    let metrics = server.metrics();
    assert_eq!(metrics.value("streamline_consumer_lag", &lag), Some(5.0));

    producer.begin_transaction().unwrap();
    send(&producer, "output", &numbered("dropped", 5));
    send_offset(10);
    producer.abort_transaction(PATIENCE).unwrap();
    assert_eq!(
        committed_offset(&server, "transformer", "input"),
        Offset::Offset(5)
    );
    assert_eq!(
        read_all(&server, "output", "read_committed"),
        numbered("out", 5)
    );
}

#[test]
fn a_transaction_goes_on_after_a_restart_and_after_a_crash() {
    let mut server = Server::start();
    let addr = server.kafka_addr().to_string();
    let producer = producer(&server, "patient");
    let mut expected = Vec::new();
    for round in 0..2 {
        producer.begin_transaction().unwrap();
        let before = numbered(&format!("before-{round}"), 3);
        send(&producer, "orders", &before);
        match round {
            0 => assert_eq!(server.terminate().code(), Some(0)),
            _ => server.kill9(),
        }
        server.set_flags(&["--listen-addr", &addr]);
        server.restart();
        let after = numbered(&format!("after-{round}"), 3);
        send(&producer, "orders", &after);
        producer.commit_transaction(PATIENCE).unwrap();
        expected.extend(before);
        expected.extend(after);
    }
    assert_eq!(read_all(&server, "orders", "read_committed"), expected);
}

#[test]
fn a_transaction_that_exceeds_its_timeout_is_aborted() {
    let server = Server::with(&[
        "--transaction-abort-timed-out-transaction-cleanup-interval-ms",
        "100",
    ]);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", server.kafka_addr().to_string())
        .set("transactional.id", "forgetful")
        .set("transaction.timeout.ms", "1000")
        .set("message.timeout.ms", "1000")
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, "orders", &numbered("late", 3));
    server.until_metric(
        "streamline_transactions_ended_total",
        &[("outcome", "timed_out")],
        Some(1.0),
    );
    assert_eq!(read_all(&server, "orders", "read_committed"), [""; 0]);
    assert!(producer.commit_transaction(PATIENCE).is_err());
    assert!(server.log().contains("transaction timed out, aborting it"));
}
