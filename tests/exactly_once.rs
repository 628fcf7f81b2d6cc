//! Exactly-once processing while clients and the server are killed.
//!
//! Worker processes consume numbered records from `input`, and in one transaction write a copy to `output` and commit their
//! offsets. Workers and the server are killed at random times, and some transactions are aborted on purpose. A
//! `read_committed` consumer of `output` must then see each record of each input partition once, in order, both while this
//! happens and afterwards, and the group's offsets must be the ends of the input.
//!
//! `EXACTLY_ONCE_SECONDS` sets the time for which processes are killed (default 20; a campaign takes 3,600) and
//! `EXACTLY_ONCE_SEED` the choices. The seed is printed, and with `-- --nocapture` also the progress of a campaign.

#[path = "support/random.rs"]
#[allow(dead_code)] // shared with other tests
mod random;
mod support;

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use random::Random;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use rdkafka::producer::{
    BaseProducer, BaseRecord, DefaultProducerContext, Producer, ThreadedProducer,
};
use rdkafka::{Offset, TopicPartitionList};
use support::Server;

const PARTITIONS: i32 = 3;
const WORKERS: usize = 3;
const GROUP: &str = "workers";
/// Small segments, so that some roll during transactions; transactions of killed workers end soon.
const FLAGS: [&str; 4] = [
    "--default-partitions",
    "3",
    "--log-segment-bytes",
    "1048576",
];
/// Time for everything to settle after the last kill.
const PATIENCE: Duration = Duration::from_secs(120);
/// Time for one call of a client to the server, which may be down.
const CALL: Duration = Duration::from_secs(20);
/// Records that may be waiting for the workers; more are not written.
const BACKLOG_MAX: u64 = 20_000;

const ADDRESS: &str = "EXACTLY_ONCE_ADDRESS";
const WORKER: &str = "EXACTLY_ONCE_WORKER";

type Copies = ThreadedProducer<DefaultProducerContext>;

/// A running worker process.
struct Worker {
    number: usize,
    address: String,
    child: Child,
}

impl Worker {
    fn start(number: usize, address: &str) -> Worker {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker", "--ignored", "--nocapture"])
            .env(ADDRESS, address)
            .env(WORKER, number.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Worker {
            number,
            address: address.to_owned(),
            child,
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the worker again if it has ended, as its supervisor would.
    fn supervise(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            *self = Worker::start(self.number, &self.address);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100")
        .set("retry.backoff.ms", "20");
    config
}

/// A process of the test below; by itself it does nothing.
#[test]
#[ignore = "started by the other test as a process"]
fn worker() {
    let (Ok(address), Ok(number)) = (std::env::var(ADDRESS), std::env::var(WORKER)) else {
        return;
    };
    // Polled by a thread of its own, without which an abort waits for the delivery reports for ever.
    let producer: Copies = config(&address)
        .set("transactional.id", format!("worker-{number}"))
        .set("transaction.timeout.ms", "10000")
        .set("linger.ms", "1")
        .create()
        .unwrap();
    let mut random = Random::new(u64::from(std::process::id()));
    // After a fatal error the process ends, and its supervisor starts it again.
    producer
        .init_transactions(CALL)
        .expect("the server starts transactions");
    loop {
        let consumer: BaseConsumer = config(&address)
            .set("group.id", GROUP)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "500")
            .create()
            .unwrap();
        consumer.subscribe(&["input"]).unwrap();
        // A new consumer begins at the committed offsets, from which a failed transaction has to be repeated.
        while transact(&consumer, &producer, &mut random).is_ok() {}
        abort(&producer);
    }
}

/// Repeats a call while its error is retriable.
fn retried(mut call: impl FnMut() -> KafkaResult<()>) -> KafkaResult<()> {
    loop {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            result => return result,
        }
    }
}

/// Copies a few records in one transaction, and commits their offsets with it.
fn transact(consumer: &BaseConsumer, producer: &Copies, random: &mut Random) -> KafkaResult<()> {
    let Some(first) = consumer.poll(Duration::from_millis(100)) else {
        return Ok(());
    };
    let mut message = first?;
    producer.begin_transaction()?;
    let mut next = HashMap::new();
    for left in (0..=random.below(200)).rev() {
        let text = std::str::from_utf8(message.payload().unwrap()).unwrap();
        let record = BaseRecord::<(), str>::to("output")
            .partition(message.partition())
            .payload(text);
        producer.send(record).map_err(|(error, _)| error)?;
        next.insert(message.partition(), message.offset() + 1);
        if left == 0 {
            break;
        }
        match consumer.poll(Duration::ZERO) {
            Some(following) => message = following?,
            None => break,
        }
    }
    if random.one_in(50) {
        return Err(KafkaError::Canceled);
    }
    let mut offsets = TopicPartitionList::new();
    for (partition, offset) in next {
        offsets.add_partition_offset("input", partition, Offset::Offset(offset))?;
    }
    let group = consumer.group_metadata().ok_or(KafkaError::Canceled)?;
    retried(|| producer.send_offsets_to_transaction(&offsets, &group, CALL))?;
    retried(|| producer.commit_transaction(CALL))
}

/// Aborts the transaction, if there is one.
fn abort(producer: &Copies) {
    if let Err(KafkaError::Transaction(error)) = retried(|| producer.abort_transaction(CALL)) {
        assert!(!error.is_fatal(), "{error}");
    }
}

/// Writes numbered records to each input partition until stopped.
struct Feeder {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<[u64; PARTITIONS as usize]>,
}

impl Feeder {
    fn start(address: &str, seen: Arc<AtomicU64>) -> Feeder {
        let producer: BaseProducer = config(address)
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "300000")
            .set("linger.ms", "2")
            .create()
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut next = [0; PARTITIONS as usize];
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                while number > seen.load(Ordering::Relaxed) + BACKLOG_MAX
                    && !stopped.load(Ordering::Relaxed)
                {
                    producer.poll(Duration::from_millis(10));
                }
                let partition = (number % PARTITIONS as u64) as usize;
                let text = next[partition].to_string();
                loop {
                    let record = BaseRecord::<(), str>::to("input")
                        .partition(partition as i32)
                        .payload(&text);
                    if producer.send(record).is_ok() {
                        break;
                    }
                    producer.poll(Duration::from_millis(10));
                }
                next[partition] += 1;
            }
            producer.flush(PATIENCE).expect("the input is written");
            next
        });
        Feeder { stop, thread }
    }

    /// Stops, and returns the number of records written to each partition.
    fn finish(self) -> [u64; PARTITIONS as usize] {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the feeder does not panic")
    }
}

/// Reads the committed records of `output` and checks each as it arrives.
struct Reader {
    seen: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<String>>>,
    thread: thread::JoinHandle<()>,
}

impl Reader {
    fn start(address: &str) -> Reader {
        let consumer: BaseConsumer = config(address)
            .set("group.id", "reader")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("check.crcs", "true")
            .create()
            .unwrap();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            assignment
                .add_partition_offset("output", partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let (seen, stop, failure) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
            Arc::new(Mutex::new(None)),
        );
        let (count, stopped, failed) = (seen.clone(), stop.clone(), failure.clone());
        let thread = thread::spawn(move || {
            let mut next = [0u64; PARTITIONS as usize];
            while !stopped.load(Ordering::Relaxed) {
                // Errors of a server that is down are repeated until it is back.
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else {
                    continue;
                };
                let partition = message.partition() as usize;
                let number: u64 = std::str::from_utf8(message.payload().unwrap())
                    .unwrap()
                    .parse()
                    .unwrap();
                if number != next[partition] {
                    let (offset, expected) = (message.offset(), next[partition]);
                    *failed.lock().unwrap() = Some(format!(
                        "output-{partition} has record {number} at offset {offset}, expected record {expected}"
                    ));
                    return;
                }
                next[partition] += 1;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Reader {
            seen,
            stop,
            failure,
            thread,
        }
    }

    fn check(&self) {
        if let Some(failure) = &*self.failure.lock().unwrap() {
            panic!("{failure}");
        }
    }

    /// Waits until `count` records were seen.
    fn wait_for(&self, count: u64, mut beside: impl FnMut()) {
        let deadline = Instant::now() + PATIENCE;
        while self.seen.load(Ordering::Relaxed) < count {
            self.check();
            beside();
            let seen = self.seen.load(Ordering::Relaxed);
            assert!(
                Instant::now() < deadline,
                "{seen} of {count} records are in the output"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the reader does not panic");
        let failure = self.failure.lock().unwrap().take();
        assert_eq!(failure, None);
        self.seen.load(Ordering::Relaxed)
    }
}

/// Returns the group's committed offsets.
fn committed(address: &str) -> Vec<Offset> {
    let consumer: BaseConsumer = config(address)
        .set("group.id", GROUP)
        .set("isolation.level", "read_committed")
        .create()
        .unwrap();
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition("input", partition);
    }
    let committed = consumer.committed_offsets(partitions, CALL).unwrap();
    committed
        .elements()
        .iter()
        .map(|element| element.offset())
        .collect()
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn records_are_processed_exactly_once_while_processes_are_killed() {
    let time = Duration::from_secs(from_env("EXACTLY_ONCE_SECONDS").unwrap_or(20));
    let seed = from_env("EXACTLY_ONCE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("{} s, EXACTLY_ONCE_SEED={seed}", time.as_secs());
    let mut random = Random::new(seed);

    let mut server = Server::with(&FLAGS);
    // The clients know one address, so the server must keep it across restarts.
    let address = server.kafka_addr().to_string();
    server.set_flags(&[&["--listen-addr", &address], &FLAGS[..]].concat());
    let reader = Reader::start(&address);
    let feeder = Feeder::start(&address, reader.seen.clone());
    let mut workers: Vec<_> = (0..WORKERS)
        .map(|number| Worker::start(number, &address))
        .collect();
    let (mut worker_kills, mut server_kills) = (0, 0);
    let (started, mut reported) = (Instant::now(), Instant::now());
    while started.elapsed() < time {
        // Records must arrive again before the next kill, or the kill tests nothing.
        let seen = reader.seen.load(Ordering::Relaxed);
        reader.wait_for(seen + 1, || workers.iter_mut().for_each(Worker::supervise));
        thread::sleep(Duration::from_millis(random.below(700)));
        if random.one_in(3) {
            server.kill9();
            server.restart();
            server_kills += 1;
        } else {
            workers[random.below(WORKERS as u64) as usize].kill();
            worker_kills += 1;
        }
        if reported.elapsed() > Duration::from_secs(30) {
            reported = Instant::now();
            println!(
                "{} s: {worker_kills} kills of workers, {server_kills} of the server, {} records",
                started.elapsed().as_secs(),
                reader.seen.load(Ordering::Relaxed),
            );
        }
    }
    let written = feeder.finish();
    let total = written.iter().sum();
    reader.wait_for(total, || workers.iter_mut().for_each(Worker::supervise));
    let ends: Vec<_> = written
        .iter()
        .map(|count| Offset::Offset(*count as i64))
        .collect();
    let deadline = Instant::now() + PATIENCE;
    while committed(&address) != ends {
        assert!(
            Instant::now() < deadline,
            "{:?} committed, expected {ends:?}",
            committed(&address)
        );
    }
    drop(workers);
    assert_eq!(
        reader.finish(),
        total,
        "records are in the output that are not in the input"
    );
    // A second reader sees the same, with all transactions ended.
    let again = Reader::start(&address);
    again.wait_for(total, || {});
    assert_eq!(again.finish(), total);
    println!(
        "figures: {worker_kills} kills of workers and {server_kills} of the server from EXACTLY_ONCE_SEED={seed} on; {total} records \
         processed, each once and in order"
    );
}
