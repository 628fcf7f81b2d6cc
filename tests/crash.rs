//! kill -9 under load: acknowledged records survive, once and in order.
//!
//! `CRASH_CYCLES` sets the number of kills (default 8; a campaign takes 1,000) and `CRASH_SEED` their times. The seed is
//! printed, and with `-- --nocapture` also the progress of a campaign.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use support::Server;

const PARTITIONS: i32 = 2;
/// Small segments, so that some roll while the server is killed.
const FLAGS: [&str; 4] = [
    "--default-partitions",
    "2",
    "--log-segment-bytes",
    "1048576",
];
/// Kills per log, before it is read back and a new one is begun. So a campaign reports its progress, and neither the log to
/// recover nor the ledger grows without bound.
const CYCLES_PER_LOG: u64 = 20;
/// Long enough for librdkafka to reconnect and drain its queue after the last restart.
const PATIENCE: Duration = Duration::from_secs(60);

/// The number of each acknowledged record, by partition and offset.
#[derive(Default)]
struct Ledger {
    acknowledged: Mutex<BTreeMap<(i32, i64), u64>>,
    failed: AtomicU64,
}

#[derive(Clone, Default)]
struct LedgerContext(Arc<Ledger>);

impl ClientContext for LedgerContext {}

impl ProducerContext for LedgerContext {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(message) => {
                let position = (message.partition(), message.offset());
                let mut acknowledged = self.0.acknowledged.lock().unwrap();
                let before = acknowledged.insert(position, number as u64);
                assert_eq!(
                    before, None,
                    "two records were acknowledged at {position:?}"
                );
            }
            Err(_) => {
                self.0.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Writes numbered records, round robin, until stopped; then waits for outstanding deliveries.
struct Writer {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Writer {
    fn start(address: &str, topic: &'static str, settings: &[(&str, &str)]) -> Writer {
        let context = LedgerContext::default();
        let ledger = context.0.clone();
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", address)
            .set("linger.ms", "1")
            .set("reconnect.backoff.ms", "10")
            .set("reconnect.backoff.max.ms", "100")
            .set("retry.backoff.ms", "20");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let producer: ThreadedProducer<LedgerContext> =
            config.create_with_context(context).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let text = number.to_string();
                let record = BaseRecord::<(), str, usize>::with_opaque_to(topic, number)
                    .partition(number as i32 % PARTITIONS)
                    .payload(&text);
                // A full queue is the client's back-pressure while the server is down.
                if producer.send(record).is_err() {
                    producer.flush(Duration::from_millis(50)).ok();
                }
            }
            producer
                .flush(PATIENCE)
                .expect("all records are delivered or failed once the server is back");
        });
        Writer {
            ledger,
            stop,
            thread,
        }
    }

    fn finish(self) -> Arc<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer does not panic");
        self.ledger
    }
}

/// Returns all records of a topic by partition, in log order.
fn read_all(address: &str, topic: &str) -> BTreeMap<i32, Vec<(i64, u64)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("group.id", "verifier")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        // The client pauses for a second whenever its queue holds this many messages.
        .set("queued.min.messages", "10000000")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    let mut ends = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let (start, end) = consumer
            .fetch_watermarks(topic, partition, PATIENCE)
            .unwrap();
        assert_eq!(start, 0, "nothing was deleted");
        ends.insert(partition, end);
        assignment
            .add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let mut records: BTreeMap<i32, Vec<(i64, u64)>> = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    let complete = |records: &BTreeMap<i32, Vec<(i64, u64)>>| {
        ends.iter().all(|(partition, end)| {
            let last = records.get(partition).and_then(|it| it.last());
            *end == 0 || last.is_some_and(|(offset, _)| offset + 1 == *end)
        })
    };
    while !complete(&records) {
        assert!(
            Instant::now() < deadline,
            "the log could not be read to its end"
        );
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.expect("the log can be read");
            let list = records.entry(message.partition()).or_default();
            list.push((message.offset(), number_in(&message)));
        }
    }
    records
}

fn number_in(message: &BorrowedMessage<'_>) -> u64 {
    let payload = message.payload().expect("records have values");
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

/// Asserts that every acknowledged record is at its acknowledged offset, and that offsets have no gaps.
fn assert_nothing_lost(topic: &str, ledger: &Ledger, log: &BTreeMap<i32, Vec<(i64, u64)>>) {
    let found: BTreeMap<(i32, i64), u64> = log
        .iter()
        .flat_map(|(partition, list)| {
            list.iter()
                .map(|(offset, number)| ((*partition, *offset), *number))
        })
        .collect();
    let acknowledged = ledger.acknowledged.lock().unwrap();
    assert!(
        !acknowledged.is_empty(),
        "{topic}: no record was acknowledged"
    );
    for (position, number) in acknowledged.iter() {
        assert_eq!(
            found.get(position),
            Some(number),
            "{topic}: record {number}, acknowledged at {position:?}"
        );
    }
    for (partition, list) in log {
        for (expected, (offset, _)) in list.iter().enumerate() {
            assert_eq!(*offset, expected as i64, "{topic}-{partition} has a gap");
        }
    }
}

/// Asserts that an idempotent producer's records are in the log once each, in the order in which they were sent.
fn assert_once_and_in_order(topic: &str, log: &BTreeMap<i32, Vec<(i64, u64)>>) {
    for (partition, list) in log {
        let mut seen = HashSet::new();
        let mut last = None;
        for (offset, number) in list {
            assert!(
                seen.insert(number),
                "{topic}-{partition}: record {number} is duplicated at {offset}"
            );
            assert!(
                last < Some(number),
                "{topic}-{partition}: record {number} at {offset} came after {last:?}"
            );
            last = Some(number);
        }
    }
}

/// Numbers of acknowledged records that were found again, by acks.
#[derive(Default)]
struct Tally {
    all: usize,
    one: usize,
}

/// Kills a new server `cycles` times while two producers write to it, then reads everything back.
fn kill_under_load(cycles: u64, seed: &mut u64) -> Tally {
    let mut server = Server::with(&FLAGS);
    // The clients know one address, so the server must keep it across restarts.
    let address = server.kafka_addr().to_string();
    server.set_flags(&[&["--listen-addr", &address], &FLAGS[..]].concat());
    let idempotent = Writer::start(
        &address,
        "ledger-all",
        &[
            ("enable.idempotence", "true"),
            ("message.timeout.ms", "300000"),
        ],
    );
    let leader = Writer::start(
        &address,
        "ledger-one",
        &[("acks", "1"), ("message.timeout.ms", "300000")],
    );
    for _ in 0..cycles {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let progress = idempotent.ledger.acknowledged.lock().unwrap().len();
        // Records must be acknowledged again before the next kill, or the cycle tests nothing.
        support::until("records are acknowledged again", || {
            idempotent.ledger.acknowledged.lock().unwrap().len() > progress
        });
        thread::sleep(Duration::from_millis(20 + (*seed >> 33) % 200));
        server.kill9();
        server.restart();
    }
    let idempotent = idempotent.finish();
    let leader = leader.finish();

    let log = read_all(&address, "ledger-all");
    assert_nothing_lost("ledger-all", &idempotent, &log);
    assert_once_and_in_order("ledger-all", &log);
    assert_eq!(
        idempotent.failed.load(Ordering::Relaxed),
        0,
        "deliveries of an idempotent producer failed"
    );
    let log = read_all(&address, "ledger-one");
    assert_nothing_lost("ledger-one", &leader, &log);
    let acknowledged = |ledger: &Ledger| ledger.acknowledged.lock().unwrap().len();
    Tally {
        all: acknowledged(&idempotent),
        one: acknowledged(&leader),
    }
}

#[test]
fn acknowledged_records_survive_sigkill_once_and_in_order() {
    let from_env = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|it| it.parse::<u64>().ok())
    };
    let cycles = from_env("CRASH_CYCLES").unwrap_or(8);
    let first_seed = from_env("CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let mut seed = first_seed;
    println!("{cycles} cycles, CRASH_SEED={seed}");
    let started = Instant::now();
    let mut total = Tally::default();
    let mut done = 0;
    while done < cycles {
        let round = CYCLES_PER_LOG.min(cycles - done);
        let tally = kill_under_load(round, &mut seed);
        done += round;
        total.all += tally.all;
        total.one += tally.one;
        println!(
            "{done} of {cycles} kills in {} s; next CRASH_SEED={seed}; acknowledged and found again: {} with acks=all, {} with acks=1",
            started.elapsed().as_secs(),
            total.all,
            total.one,
        );
    }
    println!(
        "figures: {done} kills from CRASH_SEED={first_seed} on; acknowledged: {} records with acks=all, {} with acks=1; \
         each found again, once and in order",
        total.all, total.one,
    );
}

/// A partial batch at the end of a segment, as left by a crash in the middle of a write.
#[test]
fn a_torn_tail_is_truncated_without_losing_acknowledged_records() {
    let mut server = Server::with(&FLAGS);
    let write = |server: &Server, count: usize| {
        let address = server.kafka_addr().to_string();
        let context = LedgerContext::default();
        let ledger = context.0.clone();
        let producer: ThreadedProducer<LedgerContext> = ClientConfig::new()
            .set("bootstrap.servers", address)
            .set("acks", "all")
            .create_with_context(context)
            .unwrap();
        for number in 0..count {
            let text = number.to_string();
            let record = BaseRecord::<(), str, usize>::with_opaque_to("torn", number)
                .partition(0)
                .payload(&text);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        ledger
    };
    let first = write(&server, 100);
    server.kill9();

    let segment = server
        .data_dir()
        .join("torn-0")
        .join(format!("{:020}.log", 0));
    let whole = std::fs::read(&segment).unwrap();
    let torn: Vec<u8> = [&whole[..], &whole[..80]].concat();
    std::fs::write(&segment, &torn).unwrap();
    server.restart();

    let metrics = server.metrics();
    let labels = [("topic", "torn"), ("partition", "0")];
    assert_eq!(
        metrics.value("streamline_log_end_offset", &labels),
        Some(100.0)
    );
    assert_eq!(
        metrics.value("streamline_log_size_bytes", &labels),
        Some(whole.len() as f64),
        "the torn bytes were not truncated"
    );
    let second = write(&server, 50);
    assert_eq!(
        second
            .acknowledged
            .lock()
            .unwrap()
            .first_key_value()
            .unwrap()
            .0,
        &(0, 100),
        "the next append follows the last whole batch"
    );
    let log = read_all(&server.kafka_addr().to_string(), "torn");
    assert_nothing_lost("torn", &first, &log);
    assert_nothing_lost("torn", &second, &log);
}
