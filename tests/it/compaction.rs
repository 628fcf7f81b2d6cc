//! Tests of compacted topics.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use streamline::protocol::kafka::ErrorCode;
use streamline::record::{BatchBuilder, Compression};

use crate::kafka::{create_with, fetch, now_ms, only_partition, produce_request};
use crate::support::{PATIENCE, Server, until};

const KEYS: usize = 100;
const UPDATES: usize = 40_000;

/// A server that looks for logs to compact all the time.
fn server() -> Server {
    Server::with(&["--log-cleaner-backoff-ms", "50"])
}

/// Topic settings with which every closed segment is compacted.
const COMPACTED: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("segment.bytes", "1048576"),
    ("min.cleanable.dirty.ratio", "0"),
];

/// Writes a value for each of many keys again and again, and deletes some keys at the end. Returns the values.
fn write_updates(server: &Server, topic: &str, codec: &str) -> BTreeMap<String, String> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", server.kafka_addr().to_string())
        .set("compression.type", codec)
        .set("enable.idempotence", "true")
        .create()
        .unwrap();
    let mut values = BTreeMap::new();
    for number in 0..UPDATES {
        let key = format!("key-{}", number % KEYS);
        let value = format!("value-{number:080}");
        let record = BaseRecord::to(topic).key(&key).payload(&value);
        producer.send(record).unwrap();
        values.insert(key, value);
        producer.poll(Duration::ZERO);
    }
    for number in 0..10 {
        let key = format!("key-{number}");
        let tombstone = BaseRecord::<_, [u8]>::to(topic).key(&key);
        producer.send(tombstone).unwrap();
        values.remove(&key);
    }
    // Closes the segment of the last update, whatever the codec.
    let large = incompressible(500_000);
    for _ in 0..3 {
        let record = BaseRecord::to(topic).key("large").payload(&large);
        producer.send(record).unwrap();
        producer.flush(PATIENCE).unwrap();
    }
    values.insert("large".to_owned(), large);
    values
}

fn incompressible(len: usize) -> String {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'!' + (state >> 33) as u8 % 90)
    };
    (0..len).map(|_| next()).collect()
}

fn consumer(server: &Server, topic: &str, offset: Offset) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", server.kafka_addr().to_string())
        .set("group.id", "readers")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut partition = TopicPartitionList::new();
    partition.add_partition_offset(topic, 0, offset).unwrap();
    consumer.assign(&partition).unwrap();
    consumer
}

/// Reads to the end. Returns the number of records and the last value of each key.
fn read_values(consumer: &BaseConsumer) -> (usize, BTreeMap<String, String>) {
    let mut values = BTreeMap::new();
    let (mut count, mut last_offset, mut is_at_end) = (0, -1, false);
    until("the end is reached", || {
        while let Some(message) = consumer.poll(Duration::from_millis(200)) {
            let Ok(message) = message else {
                is_at_end = true;
                break;
            };
            assert!(message.offset() > last_offset);
            last_offset = message.offset();
            count += 1;
            let key = message.key_view::<str>().unwrap().unwrap().to_owned();
            match message.payload_view::<str>() {
                Some(value) => values.insert(key, value.unwrap().to_owned()),
                None => values.remove(&key),
            };
        }
        is_at_end
    });
    (count, values)
}

#[test]
fn librdkafka_reads_the_last_value_of_each_key() {
    let mut server = server();
    for codec in ["none", "lz4"] {
        let topic = format!("table-{codec}");
        create_with(&mut server.connect(), &topic, 1, COMPACTED);
        let expected = write_updates(&server, &topic, codec);
        let removed = (UPDATES - 2 * KEYS) as f64;
        let before = server.metrics();
        let labels = [("topic", topic.as_str()), ("partition", "0")];
        let end = before.value("streamline_log_end_offset", &labels).unwrap();
        until("the log is compacted", || {
            let metrics = server.metrics();
            let dirty = [("topic", topic.as_str())];
            metrics.value("streamline_compaction_removed_records_total", &[]) >= Some(removed)
                && metrics.value("streamline_compaction_dirty_bytes", &dirty) == Some(0.0)
        });
        for offset in [Offset::Beginning, Offset::Offset(17)] {
            let (count, values) = read_values(&consumer(&server, &topic, offset));
            assert!(count < UPDATES / 4, "{count} records are left");
            assert_eq!(values, expected);
        }
        assert_eq!(server.terminate().code(), Some(0));
        server.restart();
        let (_, values) = read_values(&consumer(&server, &topic, Offset::Beginning));
        assert_eq!(values, expected);
        let metrics = server.metrics();
        assert_eq!(
            metrics.value("streamline_log_end_offset", &labels),
            Some(end)
        );
        let damaged = metrics.value("streamline_log_damaged_ranges_total", &[]);
        assert_eq!(damaged, Some(0.0));
        assert!(!server.log().contains("corrupt"), "{}", server.log());
    }
}

#[test]
fn a_consumer_goes_on_while_its_log_is_compacted() {
    let server = server();
    create_with(&mut server.connect(), "table", 1, COMPACTED);
    let reader = consumer(&server, "table", Offset::Beginning);
    let (values, expected) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut values = BTreeMap::new();
            while !values.contains_key("large") {
                values.extend(read_values(&reader).1);
            }
            values
        });
        let expected = write_updates(&server, "table", "none");
        (reading.join().unwrap(), expected)
    });
    for (key, value) in &expected {
        assert_eq!(values.get(key), Some(value));
    }
}

#[test]
fn records_without_a_key_are_each_named() {
    let server = server();
    let mut client = server.connect();
    let topic = create_with(&mut client, "table", 1, COMPACTED);
    for codec in [Compression::None, Compression::Gzip] {
        let mut builder = BatchBuilder::new(codec);
        for key in [None, Some(&b"key"[..]), None] {
            builder.push(now_ms(), key, Some(b"value"), &[]);
        }
        let records = builder.build().unwrap().bytes().clone();
        let request = produce_request(&topic, -1, &[(0, records)]);
        let answered = only_partition(client.call(13, &request));
        assert_eq!(answered.error_code, ErrorCode::INVALID_RECORD);
        assert_eq!(answered.base_offset, -1);
        let named: Vec<i32> = answered
            .record_errors
            .iter()
            .map(|each| {
                let message = each.batch_index_error_message.as_deref().unwrap();
                assert!(message.contains("key"), "{message}");
                each.batch_index
            })
            .collect();
        assert_eq!(named, [0, 2]);
        let message = answered.error_message.unwrap();
        assert!(
            message.contains("2 of the batch's records have no key"),
            "{message}"
        );
        let old = only_partition(client.call(7, &request));
        assert_eq!(old.error_code, ErrorCode::INVALID_RECORD);
        assert_eq!(old.record_errors, []);
    }
    assert_eq!(fetch(&mut client, &topic, 0, 0).high_watermark, 0);
    let metrics = server.metrics();
    let reason = [("reason", "invalid_record")];
    let refused = metrics.value("streamline_produce_refused_total", &reason);
    assert_eq!(refused, Some(4.0));
}

#[test]
fn compaction_can_be_turned_off() {
    let server = Server::with(&[
        "--log-cleaner-enable",
        "off",
        "--log-cleaner-backoff-ms",
        "10",
    ]);
    create_with(&mut server.connect(), "table", 1, COMPACTED);
    write_updates(&server, "table", "none");
    let (count, _) = read_values(&consumer(&server, "table", Offset::Beginning));
    assert_eq!(count, UPDATES + 13);
    let metrics = server.metrics();
    assert_eq!(
        metrics.value("streamline_compaction_logs_total", &[]),
        Some(0.0)
    );
}
