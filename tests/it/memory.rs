//! A server that keeps everything in memory.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message};

use crate::support::{PATIENCE, Server};
use streamline::protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use streamline::protocol::messages::metadata::MetadataRequest;

fn client(server: &Server) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", server.kafka_addr().to_string())
        .set("group.id", "readers")
        .set("auto.offset.reset", "earliest")
        .set("enable.idempotence", "true");
    config
}

fn produce(server: &Server, values: &[&str]) {
    let producer: BaseProducer = client(server).create().unwrap();
    for value in values {
        let record = BaseRecord::<(), str>::to("orders").payload(value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// Waits for the next record. A poll may also return after a rebalance.
fn next(consumer: &BaseConsumer) -> BorrowedMessage<'_> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no record came");
        if let Some(message) = consumer.poll(Duration::from_secs(1)) {
            return message.unwrap();
        }
    }
}

fn consume(server: &Server, count: usize) -> Vec<String> {
    let consumer: BaseConsumer = client(server).create().unwrap();
    consumer.subscribe(&["orders"]).unwrap();
    let mut values = Vec::new();
    while values.len() < count {
        let message = next(&consumer);
        let value = message.payload_view::<str>().unwrap().unwrap();
        values.push(value.to_owned());
    }
    consumer.commit_consumer_state(CommitMode::Sync).unwrap();
    values
}

#[test]
fn records_and_groups_are_served_and_nothing_is_kept() {
    let mut server = Server::with(&["--storage", "memory"]);
    produce(&server, &["a", "b", "c"]);
    assert_eq!(consume(&server, 3), ["a", "b", "c"]);
    produce(&server, &["d"]);
    assert_eq!(consume(&server, 1), ["d"], "the group committed its offset");

    assert_eq!(server.get("/health/ready").0, 200);
    let labels = [("topic", "orders"), ("partition", "0")];
    let metrics = server.metrics();
    assert_eq!(
        metrics.value("streamline_records_total", &labels),
        Some(4.0)
    );
    assert_eq!(
        metrics.value("streamline_log_end_offset", &labels),
        Some(4.0)
    );
    assert!(server.get("/info").1.contains(r#""topics":1"#));
    let request = DescribeLogDirsRequest::default();
    let described = server.connect().call(4, &request);
    assert_eq!(described.results[0].log_dir, "memory");
    assert_eq!(described.results[0].total_bytes, -1);
    assert!(!server.data_dir().exists(), "no directory is used");

    assert!(server.terminate().success());
    server.restart();
    let request = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    let topics = server.connect().call(12, &request).topics;
    assert!(topics.is_empty(), "{topics:?}");
    assert!(!server.data_dir().exists());
}

#[test]
fn a_consumer_that_waits_gets_the_next_record() {
    let server = Server::with(&["--storage", "memory"]);
    produce(&server, &["a"]);
    let consumer: BaseConsumer = client(&server).create().unwrap();
    consumer.subscribe(&["orders"]).unwrap();
    assert_eq!(next(&consumer).offset(), 0);
    assert!(consumer.poll(Duration::from_millis(50)).is_none());
    produce(&server, &["b"]);
    assert_eq!(next(&consumer).offset(), 1);
}
