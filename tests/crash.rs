//! kill -9 under load: what was acknowledged is there again, once and in order.
//!
//! `CRASH_CYCLES` sets how often the server is killed (8 unless set; a campaign takes 1,000) and `CRASH_SEED` the moments
//! at which. The seed is printed, and with `-- --nocapture` how far a campaign is.

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
/// So often a log survives before it is read back and another one begun: a campaign reports as it goes, and neither the
/// log to be recovered nor the book about it grows without end.
const CYCLES_PER_LOG: u64 = 20;
/// Long enough for librdkafka to reconnect and drain its queue after the last restart.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the server put each acknowledged record: its number by partition and offset.
#[derive(Default)]
struct Ledger {
    acknowledged: Mutex<BTreeMap<(i32, i64), u64>>,
    failed: AtomicU64,
}

#[derive(Clone, Default)]
struct Bookkeeper(Arc<Ledger>);

impl ClientContext for Bookkeeper {}

impl ProducerContext for Bookkeeper {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(message) => {
                let place = (message.partition(), message.offset());
                let mut acknowledged = self.0.acknowledged.lock().unwrap();
                let before = acknowledged.insert(place, number as u64);
                assert_eq!(before, None, "two records were acknowledged at {place:?}");
            }
            Err(_) => {
                self.0.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Writes numbered records, round robin, until told to stop; then waits for what is still under way.
struct Writer {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Writer {
    fn start(address: &str, topic: &'static str, settings: &[(&str, &str)]) -> Writer {
        let book = Bookkeeper::default();
        let ledger = book.0.clone();
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
        let producer: ThreadedProducer<Bookkeeper> = config.create_with_context(book).unwrap();
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
                // A full queue is the client's back-pressure while the server is away.
                if producer.send(record).is_err() {
                    producer.flush(Duration::from_millis(50)).ok();
                }
            }
            producer
                .flush(PATIENCE)
                .expect("everything is settled once the server is back");
        });
        Writer {
            ledger,
            stop,
            thread,
        }
    }

    fn finish(self) -> Arc<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer ended in peace");
        self.ledger
    }
}

/// Every record of a topic by partition, in the order of the log.
fn read_all(address: &str, topic: &str) -> BTreeMap<i32, Vec<(i64, u64)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("group.id", "verifier")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        // The client pauses for a second whenever it holds this many.
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

/// Everything acknowledged stands where the acknowledgement said, and offsets have no holes.
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
        "{topic}: the load reached the server"
    );
    for (place, number) in acknowledged.iter() {
        assert_eq!(
            found.get(place),
            Some(number),
            "{topic}: record {number}, acknowledged at {place:?}"
        );
    }
    for (partition, list) in log {
        for (expected, (offset, _)) in list.iter().enumerate() {
            assert_eq!(*offset, expected as i64, "{topic}-{partition} has a hole");
        }
    }
}

/// An idempotent producer's records stand in the log once each and in the order they were sent.
fn assert_once_and_in_order(topic: &str, log: &BTreeMap<i32, Vec<(i64, u64)>>) {
    for (partition, list) in log {
        let mut seen = HashSet::new();
        let mut last = None;
        for (offset, number) in list {
            assert!(
                seen.insert(number),
                "{topic}-{partition}: record {number} stands twice, again at {offset}"
            );
            assert!(
                last < Some(number),
                "{topic}-{partition}: record {number} at {offset} came after {last:?}"
            );
            last = Some(number);
        }
    }
}

/// What was acknowledged, and found again.
#[derive(Default)]
struct Tally {
    all: usize,
    one: usize,
}

/// Kills a fresh server as often as asked while two producers write to it, then reads everything back.
fn kill_under_load(cycles: u64, seed: &mut u64) -> Tally {
    let mut server = Server::with(&FLAGS);
    // The clients know one address, so the server must come back where it was.
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
        // Load must flow again before the next blow, or the cycle proves nothing.
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
        "an idempotent producer lives through every restart"
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
fn acknowledged_records_survive_kill_nine_once_and_in_order() {
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

/// Half a batch at the end of a segment, as a crash in the middle of a write leaves it.
#[test]
fn a_torn_tail_is_cut_and_every_acknowledged_record_before_it_served() {
    let mut server = Server::with(&FLAGS);
    let write = |server: &Server, count: usize| {
        let address = server.kafka_addr().to_string();
        let book = Bookkeeper::default();
        let ledger = book.0.clone();
        let producer: ThreadedProducer<Bookkeeper> = ClientConfig::new()
            .set("bootstrap.servers", address)
            .set("acks", "all")
            .create_with_context(book)
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
        "the torn bytes are gone from the file's size"
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
        "writing goes on where the whole batches end"
    );
    let log = read_all(&server.kafka_addr().to_string(), "torn");
    assert_nothing_lost("torn", &first, &log);
    assert_nothing_lost("torn", &second, &log);
}
