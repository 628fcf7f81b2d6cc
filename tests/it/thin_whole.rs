//! End-to-end test with librdkafka: it produces and consumes, and the metrics count it.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::{PATIENCE, Server, until};

const RECORDS: usize = 1_000;

fn produce(server: &Server, topic: &str, codec: &str) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", server.kafka_addr().to_string())
        .set("compression.type", codec)
        .set("linger.ms", "5")
        .create()
        .unwrap();
    for number in 0..RECORDS {
        let (key, value) = (format!("key-{number}"), format!("value-{number}"));
        producer
            .send(BaseRecord::to(topic).key(&key).payload(&value))
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

fn consume(server: &Server, topic: &str, group: &str) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", server.kafka_addr().to_string())
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let mut values = Vec::new();
    until("all records are consumed", || {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.unwrap();
            let value = message.payload_view::<str>().unwrap().unwrap();
            values.push(value.to_string());
        }
        values.len() >= RECORDS
    });
    consumer
        .commit_consumer_state(rdkafka::consumer::CommitMode::Sync)
        .unwrap();
    values
}

#[test]
fn librdkafka_produces_and_consumes_and_metrics_count_it() {
    let server = Server::start();
    let expected: Vec<String> = (0..RECORDS)
        .map(|number| format!("value-{number}"))
        .collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("orders-{codec}");
        produce(&server, &topic, codec);
        assert_eq!(consume(&server, &topic, "readers"), expected, "{codec}");
        let partition = [("topic", topic.as_str()), ("partition", "0")];
        let metrics = server.metrics();
        let value = |name| metrics.value(name, &partition);
        assert_eq!(value("streamline_records_total"), Some(RECORDS as f64));
        assert_eq!(value("streamline_log_end_offset"), Some(RECORDS as f64));
        let bytes = |name| metrics.value(name, &[("topic", topic.as_str())]);
        assert_eq!(
            bytes("streamline_bytes_in_total"),
            value("streamline_log_size_bytes")
        );
        assert!(bytes("streamline_bytes_out_total") >= bytes("streamline_bytes_in_total"));
        let lag = [
            ("group", "readers"),
            ("topic", topic.as_str()),
            ("partition", "0"),
        ];
        assert_eq!(metrics.value("streamline_consumer_lag", &lag), Some(0.0));
    }
    let metrics = server.metrics();
    for api in [
        "produce",
        "fetch",
        "metadata",
        "join_group",
        "offset_commit",
    ] {
        let labels = [("api_key", api), ("error", "false")];
        let counted = metrics.value("streamline_requests_total", &labels);
        assert!(counted > Some(0.0), "{api}");
    }
}

#[test]
fn records_and_offsets_survive_a_restart() {
    let mut server = Server::start();
    produce(&server, "orders", "none");
    assert_eq!(consume(&server, "orders", "readers").len(), RECORDS);
    assert_eq!(server.terminate().code(), Some(0));
    server.restart();
    let partition = [("topic", "orders"), ("partition", "0")];
    let metrics = server.metrics();
    let end = metrics.value("streamline_log_end_offset", &partition);
    assert_eq!(end, Some(RECORDS as f64));
    let lag = [
        ("group", "readers"),
        ("topic", "orders"),
        ("partition", "0"),
    ];
    assert_eq!(metrics.value("streamline_consumer_lag", &lag), Some(0.0));
    assert_eq!(consume(&server, "orders", "others").len(), RECORDS);
}
