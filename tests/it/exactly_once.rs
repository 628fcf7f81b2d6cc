//! Exactly-once processing while the server is killed: each input is transformed into one output in each partition, and the
//! offsets of the inputs are committed with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::create;
use crate::support::{PATIENCE, Server, until};

const KILLS: u32 = 6;
const PARTITIONS: i32 = 2;
/// Inputs of one transaction. They are numbers, equal to their offsets.
const BATCH: i64 = 5;
const CALL: Duration = Duration::from_secs(10);

fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100")
        .set("retry.backoff.ms", "20");
    config
}

fn consumer(address: &str) -> BaseConsumer {
    config(address)
        .set("group.id", "transformers")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap()
}

/// Transforms inputs until it is told to stop, with a new producer after each failure.
struct Transformer {
    address: String,
    consumer: BaseConsumer,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicI64>,
}

impl Transformer {
    fn run(self) {
        while !self.stop.load(Ordering::Relaxed) {
            // Any failure is answered by a new producer, which has the open transaction decided.
            let _ = self.run_producer();
        }
    }

    fn run_producer(&self) -> KafkaResult<()> {
        let producer: BaseProducer = config(&self.address)
            .set("transactional.id", "transformer-0")
            .create()?;
        producer.init_transactions(CALL)?;
        let mut next = self.committed_offset()?;
        for attempt in 1.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let commits = attempt % 5 != 0;
            self.transform(&producer, next, commits)?;
            if commits {
                next += BATCH;
                self.committed.store(next, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn committed_offset(&self) -> KafkaResult<i64> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition("input", 0);
        let found = self.consumer.committed_offsets(asked, CALL)?;
        match found.find_partition("input", 0).unwrap().offset() {
            Offset::Offset(offset) => Ok(offset),
            _ => Ok(0),
        }
    }

    fn transform(&self, producer: &BaseProducer, first: i64, commits: bool) -> KafkaResult<()> {
        producer.begin_transaction()?;
        for number in first..first + BATCH {
            for partition in 0..PARTITIONS {
                let value = number.to_string();
                let record = BaseRecord::<str, str>::to("output").partition(partition);
                let sent = producer.send(record.payload(&value));
                sent.map_err(|(error, _)| error)?;
            }
        }
        producer.flush(CALL)?;
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset("input", 0, Offset::Offset(first + BATCH))?;
        let group = self.consumer.group_metadata().unwrap();
        producer.send_offsets_to_transaction(&offsets, &group, CALL)?;
        match commits {
            true => producer.commit_transaction(CALL),
            false => producer.abort_transaction(CALL),
        }
    }
}

/// Returns the numbers in each partition of the output, as a reader of committed records sees them.
fn read_output(address: &str) -> BTreeMap<i32, Vec<i64>> {
    let consumer = consumer(address);
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment
            .add_partition_offset("output", partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let mut numbers: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    let mut ended = 0;
    until("the ends of the output", || {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let value = message.payload_view::<str>().unwrap().unwrap();
                let of_partition = numbers.entry(message.partition()).or_default();
                of_partition.push(value.parse().unwrap());
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
        ended == PARTITIONS
    });
    numbers
}

#[test]
fn each_input_is_transformed_once_although_the_server_is_killed() {
    let mut server = Server::start();
    let address = server.kafka_addr().to_string();
    let mut client = server.connect();
    create(&mut client, "input", 1);
    create(&mut client, "output", PARTITIONS);
    drop(client);
    let transformer = Transformer {
        address: address.clone(),
        consumer: consumer(&address),
        stop: Arc::default(),
        committed: Arc::default(),
    };
    let (stop, committed) = (
        Arc::clone(&transformer.stop),
        Arc::clone(&transformer.committed),
    );
    let worker = thread::spawn(move || transformer.run());
    server.set_flags(&["--listen-addr", &address]);
    for kill in 0..KILLS {
        let before = committed.load(Ordering::Relaxed);
        until("progress between two kills", || {
            committed.load(Ordering::Relaxed) > before + BATCH
        });
        thread::sleep(Duration::from_millis(u64::from(kill) * 13));
        server.kill9();
        server.restart();
    }
    let before = committed.load(Ordering::Relaxed);
    until("progress after the last kill", || {
        committed.load(Ordering::Relaxed) > before + BATCH
    });
    stop.store(true, Ordering::Relaxed);
    worker.join().unwrap();

    // The last producer may have left a transaction open.
    let last: BaseProducer = config(&address)
        .set("transactional.id", "transformer-0")
        .create()
        .unwrap();
    last.init_transactions(PATIENCE).unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition("input", 0);
    let found = consumer(&address)
        .committed_offsets(asked, PATIENCE)
        .unwrap();
    let Offset::Offset(end) = found.find_partition("input", 0).unwrap().offset() else {
        panic!("no offset is committed");
    };
    let expected: Vec<i64> = (0..end).collect();
    for (partition, numbers) in read_output(&address) {
        assert_eq!(numbers, expected, "partition {partition}");
    }
}
