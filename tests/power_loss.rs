//! Power failures: acknowledged data survives them.
//!
//! Two logs are on a simulated disk that loses everything unflushed: sectors of files, file sizes, names. Random operations
//! run on them, and the power fails at a random moment: in the middle of an append, a roll, a checkpoint, a recovery or a
//! shutdown. The logs found afterwards are compared with what was acknowledged: all flushed records are present, once and
//! in order; no record is present that was never written; retries are recognised; and readers of committed records see
//! neither aborted nor undecided ones.
//!
//! `POWER_CUTS=100000 cargo test --test power_loss -- --nocapture` runs that many power failures and prints its progress.
//! A failed run prints its seed and the operations; `POWER_SEED=…` repeats it.

#[path = "support/model.rs"]
mod model;
#[path = "support/random.rs"]
mod random;
#[path = "support/transactions.rs"]
mod transactions;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::{Producer, Sent, Written, compare};
use random::Random;
use streamline::clock::{Clock, ManualClock};
use streamline::config::{Durability, TopicConfig};
use streamline::fs::{Disk, Faults, Fs};
use streamline::metrics::Metrics;
use streamline::record::{BatchBuilder, Compression, RecordBatch};
use streamline::storage::{
    Acks, AppendOptions, Engine, Error, PartitionLog, ReadOptions, Ticket, TopicSpec,
    TransactionOutcome,
    local::{LocalEngine, Partition, StorageOptions},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use transactions::{Transactions, marker};
use uuid::Uuid;

const CUTS: u64 = 600;
/// Power failures per machine; then a new machine is created.
const CUTS_PER_MACHINE: u64 = 10;
const START_MS: i64 = 1_700_000_000_000;
const TOPIC: &str = "power";
/// Producers of a log, and the first of them whose batches belong to transactions.
const PRODUCERS: i64 = 4;
const FIRST_TRANSACTIONAL: i64 = 2;
/// Distance between the ids of producers that are replaced by new ones.
const PRODUCERS_MAX: i64 = 10;

/// The error of an operation or a start during which the power failed.
struct PowerFailed;

/// The expected state of one log.
#[derive(Default)]
struct Model {
    /// By offset, from 0: appended records, including those of an append during which the power failed.
    records: Vec<Written>,
    /// Records below this offset have been flushed.
    durable: i64,
    /// Records below this offset are durably deleted.
    deleted: i64,
    /// The log start offset, and its value if the operation in progress completes.
    log_start: i64,
    log_start_max: i64,
    producers: BTreeMap<i64, Producer>,
    first_producer: i64,
    transactions: Transactions,
}

impl Model {
    fn end(&self) -> i64 {
        self.records.len() as i64
    }
}

/// The way in which the last run of the server ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Clean,
    Killed,
    PowerLost,
}

struct Machine {
    random: Random,
    runtime: Runtime,
    /// One subdirectory per boot of the machine.
    boots: TempDir,
    boot: u64,
    disk: Arc<Disk>,
    faults: Arc<Faults>,
    clock: Arc<ManualClock>,
    spec: TopicSpec,
    /// True if the catalog contains the topic.
    known: bool,
    topics: Arc<LocalEngine>,
    models: Vec<Model>,
    next_value: u64,
    cuts: u64,
    log: Vec<String>,
}

impl Machine {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // Durability is simulated, so the files themselves may be in memory.
        let memory = Path::new("/dev/shm");
        let boots = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let boots = boots.unwrap();
        let root = boots.path().canonicalize().unwrap().join("0");
        std::fs::create_dir(&root).unwrap();
        let disk = Disk::new(&root);
        let faults = Faults::new();
        let clock = ManualClock::at_ms(START_MS);
        let settings = [
            ("segment.bytes", random.between(300, 3_000).to_string()),
            ("index.interval.bytes", random.between(0, 400).to_string()),
            ("retention.ms", 100_000.to_string()),
            ("retention.bytes", random.pick(&[-1, 2_000]).to_string()),
            ("flush.ms", random.pick(&[1, 10_000]).to_string()),
        ];
        let overrides = settings
            .into_iter()
            .map(|(name, value)| (name.to_string(), value))
            .collect();
        let spec = TopicSpec {
            name: TOPIC.to_string(),
            id: Uuid::new_v4(),
            partitions: 2,
            config: TopicConfig::default().apply(&overrides).unwrap(),
        };
        let topics = open(&root.join("data"), &disk, &faults, &clock, vec![]).unwrap();
        let mut machine = Self {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .build()
                .unwrap(),
            log: vec![format!("{:?}", spec.config)],
            random,
            boots,
            boot: 0,
            disk,
            faults,
            clock,
            spec,
            known: false,
            topics,
            models: Vec::new(),
            next_value: 0,
            cuts: 0,
        };
        machine.create_topic().ok();
        machine
    }

    fn note(&mut self, what: String) {
        self.log.push(what);
    }

    fn partition(&self, number: usize) -> Arc<Partition> {
        let partition = self.topics.partition(TOPIC, number as i32);
        partition.expect("the topic was created with two partitions")
    }

    /// Runs operations until the power has failed `cuts` times.
    fn run(&mut self, cuts: u64) {
        while self.cuts < cuts {
            let stepped = self.step();
            if stepped.is_err() || self.disk.is_off() {
                self.restart(End::PowerLost);
            }
        }
    }

    fn step(&mut self) -> Result<(), PowerFailed> {
        let number = self.random.below(2) as usize;
        match self.random.below(200) {
            0..68 => self.append(number),
            68..80 => self.end_transaction(number),
            80..88 => self.retry(number),
            88..108 => self.wait_durable(number),
            108..114 => self.flush_due(),
            114..122 => self.append_to_a_full_disk(number),
            122..130 => self.delete_records(number),
            130..138 => self.retain(),
            138..143 => self.close_and_restart(),
            143..151 => {
                self.note("kill".to_string());
                self.restart(End::Killed);
                Ok(())
            }
            151..153 => self.recreate_topic(),
            153..170 => {
                // A roll with its snapshot makes a dozen changes, and so does a checkpoint.
                let after = self.random.below(25);
                self.note(format!("power fails after {after} more changes"));
                self.disk.fail_power_after(after);
                Ok(())
            }
            170..175 => {
                self.note("power fails now".to_string());
                Err(PowerFailed)
            }
            _ => {
                self.clock
                    .advance(Duration::from_millis(self.random.below(40_000)));
                Ok(())
            }
        }
    }

    /// Checks the result of an operation, which may fail only because of a power failure.
    fn check_result<T>(&self, result: Result<T, Error>) -> Result<T, PowerFailed> {
        match result {
            Ok(value) => Ok(value),
            Err(_) if self.disk.is_off() => Err(PowerFailed),
            Err(error) => panic!("failed with the power on: {error}"),
        }
    }

    fn batch(&mut self, producer: Option<(i64, i32)>) -> (RecordBatch, Vec<Written>) {
        let mut builder = BatchBuilder::new(Compression::None);
        if let Some((id, sequence)) = producer {
            builder = builder.producer(id, 0, sequence);
            if is_transactional(id) {
                builder = builder.transactional();
            }
        }
        let mut records = Vec::new();
        // With batches of equal size and count, one history of the log could be mistaken for another.
        for _ in 0..self.random.between(1, 2) {
            self.next_value += 1;
            let padding = "x".repeat(self.random.pick(&[0, 0, 0, 40, 700]));
            let record = Written {
                timestamp_ms: self.clock.now_ms(),
                value: format!("{:08}{padding}", self.next_value),
            };
            let value = Some(record.value.as_bytes());
            builder.push(record.timestamp_ms, None, value, &[]);
            records.push(record);
        }
        (builder.build().unwrap(), records)
    }

    fn append(&mut self, number: usize) -> Result<(), PowerFailed> {
        let acks = self.random.pick(&[Acks::None, Acks::Leader, Acks::All]);
        let producer = self.random.between(-1, PRODUCERS - 1);
        let mut batches = Vec::new();
        let mut records = Vec::new();
        let mut id = None;
        if producer >= 0 {
            let model = &mut self.models[number];
            let known = model.first_producer + producer;
            let sequence = model.producers.entry(known).or_default().next_sequence;
            let (batch, batch_records) = self.batch(Some((known, sequence)));
            id = Some(known);
            batches.push(batch);
            records.extend(batch_records);
        } else {
            for _ in 0..self.random.between(1, 4) {
                let (batch, batch_records) = self.batch(None);
                batches.push(batch);
                records.extend(batch_records);
            }
        }
        let count = records.len() as i64;
        let model = &mut self.models[number];
        let base_offset = model.end();
        self.log.push(format!(
            "append to {number}: {count} at {base_offset} as {acks:?} by {id:?}"
        ));
        model.records.extend(records);
        if let Some(id) = id {
            let producer = model.producers.entry(id).or_default();
            producer.next_sequence += count as i32;
            producer.sent.push(Sent {
                batch: batches[0].clone(),
                base_offset,
                last_offset: base_offset + count - 1,
            });
            if is_transactional(id) {
                let last_offset = base_offset + count - 1;
                model.transactions.note_batch(id, base_offset, last_offset);
            }
        }
        let awaits = self.random.one_in(2);
        let (partition, options) = (self.partition(number), AppendOptions { acks });
        let appended = match awaits {
            true => self.runtime.block_on(partition.append(batches, options)),
            false => partition.append_unflushed(batches, options),
        };
        let appended = self.check_result(appended)?;
        assert_eq!(
            (appended.base_offset, appended.duplicate),
            (base_offset, false)
        );
        if awaits && acks == Acks::All {
            self.note(format!("acknowledged to {}", base_offset + count));
            self.models[number].durable = base_offset + count;
        }
        Ok(())
    }

    fn end_transaction(&mut self, number: usize) -> Result<(), PowerFailed> {
        let acks = self.random.pick(&[Acks::Leader, Acks::All]);
        let outcome = self
            .random
            .pick(&[TransactionOutcome::Commit, TransactionOutcome::Abort]);
        let model = &mut self.models[number];
        let id = model.first_producer + self.random.between(FIRST_TRANSACTIONAL, PRODUCERS - 1);
        // Producers that were replaced do not end their transactions themselves.
        let open = model.transactions.open();
        let id = open.into_iter().find(|open| *open < id).unwrap_or(id);
        let offset = model.end();
        self.log.push(format!(
            "{outcome:?} in {number} at {offset} as {acks:?} by {id}"
        ));
        let (marker, written) = marker(id, outcome, self.clock.now_ms());
        model.records.push(written);
        model.transactions.note_marker(id, offset, outcome);
        let partition = self.partition(number);
        let ended = match partition.end_transaction(marker, AppendOptions { acks }) {
            Ticket::Pending(waiting) if self.random.one_in(2) => self.runtime.block_on(waiting),
            Ticket::Pending(_) => return Ok(()),
            Ticket::Ready(ended) => ended,
        };
        let ended = self.check_result(ended)?;
        assert_eq!(ended.base_offset, offset);
        if acks == Acks::All {
            self.note(format!("acknowledged to {}", offset + 1));
            self.models[number].durable = offset + 1;
        }
        Ok(())
    }

    fn retry(&mut self, number: usize) -> Result<(), PowerFailed> {
        let model = &self.models[number];
        let id = model.first_producer + self.random.between(0, PRODUCERS - 1);
        let Some(sent) = model.producers.get(&id).and_then(|it| it.sent.last()) else {
            return Ok(());
        };
        let sent = sent.clone();
        self.note(format!("retry in {number} of {}", sent.last_offset));
        let partition = self.partition(number);
        let again = partition.append_unflushed(vec![sent.batch], AppendOptions { acks: Acks::All });
        let again = self.check_result(again)?;
        assert_eq!(
            (again.base_offset, again.duplicate),
            (sent.base_offset, true)
        );
        let end = sent.last_offset + 1;
        let waited = self.runtime.block_on(partition.wait_durable(end));
        self.check_result(waited)?;
        let model = &mut self.models[number];
        model.durable = model.durable.max(end);
        Ok(())
    }

    fn wait_durable(&mut self, number: usize) -> Result<(), PowerFailed> {
        self.note(format!("wait for {number}"));
        let end = self.models[number].end();
        let partition = self.partition(number);
        let waited = self.runtime.block_on(partition.wait_durable(end));
        self.check_result(waited)?;
        self.models[number].durable = end;
        Ok(())
    }

    fn flush_due(&mut self) -> Result<(), PowerFailed> {
        self.note("flush due partitions".to_string());
        self.topics.flush_due();
        Ok(())
    }

    /// Part of the append may reach the disk and must be removed durably.
    fn append_to_a_full_disk(&mut self, number: usize) -> Result<(), PowerFailed> {
        self.note(format!("append to {number} on a full disk"));
        let (batches, records): (Vec<_>, Vec<_>) = (0..3).map(|_| self.batch(None)).unzip();
        let bytes: usize = batches.iter().map(RecordBatch::size_bytes).sum();
        self.faults.limit_space(self.random.below(bytes as u64));
        let options = AppendOptions { acks: Acks::Leader };
        let refused = self.partition(number).append_unflushed(batches, options);
        self.faults.heal();
        match refused {
            Err(_) if self.disk.is_off() => {
                let model = &mut self.models[number];
                model.records.extend(records.into_iter().flatten());
                Err(PowerFailed)
            }
            Err(Error::DiskFull { .. }) => Ok(()),
            other => panic!("{other:?}"),
        }
    }

    fn delete_records(&mut self, number: usize) -> Result<(), PowerFailed> {
        let partition = self.partition(number);
        let model = &mut self.models[number];
        let visible = partition.offsets().high_watermark;
        let before = self.random.between(model.log_start, visible);
        self.log
            .push(format!("delete records of {number} before {before}"));
        model.log_start_max = before;
        let deleted = partition.delete_records(before);
        let deleted = self.check_result(deleted)?;
        assert_eq!(deleted, before);
        let model = &mut self.models[number];
        model.log_start = before;
        model.deleted = before;
        Ok(())
    }

    fn retain(&mut self) -> Result<(), PowerFailed> {
        self.note("retain".to_string());
        for number in 0..self.models.len() {
            let visible = self.partition(number).offsets().high_watermark;
            self.models[number].log_start_max = visible;
        }
        self.topics.retain(self.clock.now_ms());
        if self.disk.is_off() {
            return Err(PowerFailed);
        }
        for number in 0..self.models.len() {
            let log_start = self.partition(number).offsets().log_start;
            let model = &mut self.models[number];
            assert!((model.log_start..=model.log_start_max).contains(&log_start));
            (model.log_start, model.log_start_max) = (log_start, log_start);
        }
        Ok(())
    }

    fn close_and_restart(&mut self) -> Result<(), PowerFailed> {
        self.note("close".to_string());
        let closed = self.topics.close();
        self.check_result(closed)?;
        for model in &mut self.models {
            model.durable = model.end();
        }
        if self.random.one_in(2) {
            return Err(PowerFailed);
        }
        self.restart(End::Clean);
        Ok(())
    }

    fn recreate_topic(&mut self) -> Result<(), PowerFailed> {
        self.note("delete the topic".to_string());
        self.known = false;
        let deleted = self.topics.delete(TOPIC);
        self.check_result(deleted)?;
        self.create_topic()
    }

    fn create_topic(&mut self) -> Result<(), PowerFailed> {
        self.note("create the topic".to_string());
        let admitted = self.topics.admit_topic(TOPIC);
        self.check_result(admitted)?;
        self.spec.id = Uuid::new_v4();
        self.models = (0..self.spec.partitions)
            .map(|_| Model::default())
            .collect();
        self.known = true;
        let created = self.topics.create(self.spec.clone());
        self.check_result(created).map(|_| ())
    }

    /// Restarts the server, and the machine again whenever the power fails during the start.
    fn restart(&mut self, mut end: End) {
        loop {
            if end == End::PowerLost {
                self.lose_power();
            }
            let specs = match self.known {
                true => vec![self.spec.clone()],
                false => vec![],
            };
            if self.random.one_in(4) {
                let after = self.random.below(20);
                self.note(format!("power fails after {after} changes of the start"));
                self.disk.fail_power_after(after);
            }
            let data_dir = self.root().join("data");
            let opened = open(&data_dir, &self.disk, &self.faults, &self.clock, specs);
            if let Ok(topics) = self.check_result(opened)
                && !self.disk.is_off()
            {
                self.topics = topics;
                break;
            }
            end = End::PowerLost;
        }
        if !self.known && self.create_topic().is_err() {
            return self.restart(End::PowerLost);
        }
        for number in 0..self.models.len() {
            self.check(number, end);
        }
    }

    fn root(&self) -> PathBuf {
        let boots = self.boots.path().canonicalize().unwrap();
        boots.join(self.boot.to_string())
    }

    fn lose_power(&mut self) {
        self.cuts += 1;
        let before = self.root();
        self.boot += 1;
        let root = self.root();
        let random = &mut self.random;
        self.disk = self
            .disk
            .after_power_loss(&root, &mut |count| random.below(count))
            .unwrap();
        // Keep the last two boots, which are needed to analyse a failure.
        if let Some(old) = self.boot.checked_sub(2) {
            std::fs::remove_dir_all(self.boots.path().join(old.to_string())).unwrap();
        }
        self.note(format!(
            "power lost; from {} to {}",
            before.display(),
            self.boot
        ));
    }

    /// Compares the log after a start with what was acknowledged.
    fn check(&mut self, number: usize, end: End) {
        let partition = self.partition(number);
        let offsets = partition.offsets();
        self.log.push(format!("{number} is {offsets:?}"));
        let model = &mut self.models[number];
        assert_eq!(offsets.high_watermark, offsets.log_end);
        if end == End::PowerLost {
            let least = model.durable.max(model.deleted);
            assert!(
                (least..=model.end()).contains(&offsets.log_end),
                "{number} ends at {}, it is durable up to {least} of {}",
                offsets.log_end,
                model.end()
            );
            // Segments deleted by retention may reappear, records deleted by DeleteRecords must not.
            let bounds = model.deleted..=model.log_start.max(model.log_start_max);
            assert!(
                bounds.contains(&offsets.log_start),
                "{number} starts at {}, not in {bounds:?}",
                offsets.log_start
            );
        } else {
            assert_eq!(offsets.log_end, model.end());
            assert_eq!(offsets.log_start, model.log_start);
        }
        model.records.truncate(offsets.log_end as usize);
        model.transactions.truncate(offsets.log_end);
        model.log_start = offsets.log_start;
        model.log_start_max = offsets.log_start;
        if end == End::PowerLost {
            if model.durable < offsets.log_start {
                // Some deleted records had never been flushed, so it is unknown which producers they belonged to.
                model.first_producer += PRODUCERS_MAX;
                model.producers.clear();
            }
            // All data that survived is on disk.
            model.durable = model.end();
        }
        check_records(&partition, model);
        check_producers(&partition, model);
        let Model {
            transactions,
            records,
            first_producer,
            ..
        } = model;
        transactions.check(&partition, records, *first_producer);
    }
}

fn is_transactional(id: i64) -> bool {
    id % PRODUCERS_MAX >= FIRST_TRANSACTIONAL
}

fn check_records(partition: &Arc<Partition>, model: &Model) {
    let mut offset = model.log_start;
    while offset < model.end() {
        let fetched = partition.read_now(ReadOptions::at(offset, 4_000)).unwrap();
        let records = fetched.records.expect("there is more").to_bytes().unwrap();
        for batch in RecordBatch::split(records).unwrap() {
            assert!(batch.header().base_offset <= offset);
            compare(&batch, &model.records);
            offset = batch.header().next_offset();
        }
    }
    assert_eq!(offset, model.end());
}

/// Checks that retries of each producer's last five batches that reached the log are recognised, and sets its next sequence
/// to follow the last of them.
fn check_producers(partition: &Arc<Partition>, model: &mut Model) {
    let end = model.end();
    for (id, producer) in &mut model.producers {
        producer.sent.retain(|sent| sent.last_offset < end);
        producer.next_sequence = producer.sent.last().map_or(0, |last| {
            let header = last.batch.header();
            header.base_sequence + header.record_count
        });
        producer.check_recognised(partition, *id);
    }
}

fn open(
    data_dir: &Path,
    disk: &Arc<Disk>,
    faults: &Arc<Faults>,
    clock: &Arc<ManualClock>,
    specs: Vec<TopicSpec>,
) -> Result<Arc<LocalEngine>, Error> {
    let options = StorageOptions {
        fs: Fs::on_disk(Arc::clone(disk), Arc::clone(faults)),
        ..StorageOptions::new(data_dir, Durability::Acks)
    };
    let clock: Arc<dyn Clock> = clock.clone();
    LocalEngine::open(options, specs, clock, Metrics::new(true))
}

#[test]
fn acknowledged_records_survive_power_failures() {
    let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let cuts = number("POWER_CUTS").unwrap_or(CUTS);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (first, machines) = match number("POWER_SEED") {
        Some(seed) => (seed, 1),
        None => (
            since_epoch.as_nanos() as u64,
            cuts.div_ceil(CUTS_PER_MACHINE),
        ),
    };
    let started = Instant::now();
    for machine_number in 0..machines {
        let seed = first.wrapping_add(machine_number * 7919);
        let mut machine = Machine::new(seed);
        let outcome = catch_unwind(AssertUnwindSafe(|| machine.run(CUTS_PER_MACHINE)));
        if outcome.is_err() {
            let log = machine.log.join("\n");
            let kept = machine.boots.keep();
            panic!("POWER_SEED={seed}\nfiles: {}\n{log}", kept.display());
        }
        if (machine_number + 1) % 100 == 0 || machine_number + 1 == machines {
            println!(
                "{} power failures in {} s: no acknowledged record was lost",
                (machine_number + 1) * CUTS_PER_MACHINE,
                started.elapsed().as_secs()
            );
        }
    }
    println!(
        "figures: {} power failures on {machines} machines, POWER_SEED={first} and every 7919th after it; no acknowledged \
         record was lost",
        machines * CUTS_PER_MACHINE,
    );
}
