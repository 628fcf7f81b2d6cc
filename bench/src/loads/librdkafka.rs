//! librdkafka, the client of most programs outside Java, with default settings.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use super::Moved;

/// Maximum time without progress.
const PATIENCE: Duration = Duration::from_secs(60);

/// Duration of a poll for deliveries, which always takes all of it.
const POLL: Duration = Duration::from_millis(1);

/// Counts deliveries and failures.
#[derive(Debug, Default, Clone)]
struct Deliveries {
    good: Arc<AtomicU64>,
    bad: Arc<AtomicU64>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() {
            &self.good
        } else {
            &self.bad
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Produces records to partition 0 with acks=1. The time ends when all are acknowledged.
pub fn produce(
    address: SocketAddr,
    topic: &str,
    record_bytes: usize,
    records: u64,
) -> Result<Moved> {
    let deliveries = Deliveries::default();
    let producer: BaseProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", address.to_string())
        .set("acks", "1")
        .create_with_context(deliveries.clone())?;
    // The connection is not measured.
    producer.client().fetch_metadata(Some(topic), PATIENCE)?;
    let value = vec![b'x'; record_bytes];
    let began = Instant::now();
    for _ in 0..records {
        loop {
            let record: BaseRecord<'_, (), [u8]> =
                BaseRecord::to(topic).partition(0).payload(&value);
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(POLL);
                    ensure!(began.elapsed() < PATIENCE * 5, "the queue stays full");
                }
                Err((error, _)) => return Err(error).context("librdkafka rejected a record"),
            }
        }
    }
    let delivered = || {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&deliveries.good), count(&deliveries.bad))
    };
    // Its flush() polls ten times a second, which would be a large part of a turn.
    while delivered().0 + delivered().1 < records {
        producer.poll(POLL);
        ensure!(began.elapsed() < PATIENCE * 5, "records stay undelivered");
    }
    let elapsed = began.elapsed();
    let (good, bad) = delivered();
    ensure!(
        bad == 0 && good == records,
        "of {records} records {good} were delivered and {bad} were not"
    );
    Ok(Moved {
        bytes: records * record_bytes as u64,
        elapsed,
    })
}

/// Consumes records of partition 0 from its start.
pub fn consume(address: SocketAddr, topic: &str, records: u64) -> Result<Moved> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address.to_string())
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        // By default it pauses fetching for half a second or longer when its queue is full, which penalises the faster
        // server. These are the largest allowed values.
        .set("queued.min.messages", "10000000")
        .set("queued.max.messages.kbytes", "2097151")
        .create()?;
    consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning)?;
    let began = Instant::now();
    consumer.assign(&assignment)?;
    let mut bytes = 0;
    let mut seen = 0;
    while seen < records {
        let Some(message) = consumer.poll(PATIENCE) else {
            bail!("no more records after {seen} of {records}");
        };
        bytes += message?.payload_len() as u64;
        seen += 1;
    }
    Ok(Moved {
        bytes,
        elapsed: began.elapsed(),
    })
}
