//! Losses of power: what was promised to survive them does.
//!
//! Two logs live on a simulated disk that forgets what was not synchronised: sectors of files, sizes, names. A random
//! sequence of operations runs on them, and at a random moment, in the middle of an append, a roll, a checkpoint, a
//! recovery or a shutdown, the power fails. What is found after that is held against what was acknowledged: everything
//! the disk was waited for is there, in order and once, nothing that was never written is, and retries are recognised.
//!
//! `POWER_CUTS=100000 cargo test --test power_loss -- --nocapture` runs so many losses of power and says how far it is.
//! A failure prints its seed and the operations; `POWER_SEED=…` runs that one again.

#[path = "support/model.rs"]
mod model;
#[path = "support/random.rs"]
mod random;

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
    Acks, AppendOptions, Error, Partition, StorageOptions, TopicSpec, Topics,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

const CUTS: u64 = 600;
/// How many losses of power one machine lives through before it is replaced.
const CUTS_PER_MACHINE: u64 = 10;
const START_MS: i64 = 1_700_000_000_000;
const TOPIC: &str = "power";

/// How an operation or a start ended when the power failed over it.
struct PowerFailed;

/// What is known about one log.
#[derive(Default)]
struct Model {
    /// By offset, from 0 on: what was appended, and what an append was about to when the power failed.
    records: Vec<Written>,
    /// The disk was waited for up to here.
    durable: i64,
    /// Records below were deleted for good.
    deleted: i64,
    /// Where the log starts, and where it may start if the operation that is under way gets done.
    log_start: i64,
    log_start_max: i64,
    producers: BTreeMap<i64, Producer>,
    first_producer: i64,
}

impl Model {
    fn end(&self) -> i64 {
        self.records.len() as i64
    }
}

/// How the last run of the server ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Clean,
    Killed,
    PowerLost,
}

struct Machine {
    random: Random,
    runtime: Runtime,
    /// One directory for each boot of the machine.
    boots: TempDir,
    boot: u64,
    disk: Arc<Disk>,
    faults: Arc<Faults>,
    clock: Arc<ManualClock>,
    spec: TopicSpec,
    /// The catalog knows the topic.
    known: bool,
    topics: Arc<Topics>,
    models: Vec<Model>,
    next_value: u64,
    cuts: u64,
    log: Vec<String>,
}

impl Machine {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // What would survive is simulated, so the files themselves may lie in memory.
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
        let topic = self.topics.get(TOPIC).expect("it was created");
        topic.partition(number as i32).expect("there are two")
    }

    /// Lives until the power has failed as often as asked.
    fn live(&mut self, cuts: u64) {
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
            0..80 => self.append(number),
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
                // A roll with its snapshot is a dozen changes, so is a checkpoint.
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

    /// The result of an operation that only a loss of power may make fail.
    fn settled<T>(&self, result: Result<T, Error>) -> Result<T, PowerFailed> {
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
        }
        let mut records = Vec::new();
        // Batches of equal size and count are those that one past can be mistaken for another with.
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
        let producer = self.random.between(-1, 2);
        let mut batches = Vec::new();
        let mut records = Vec::new();
        let mut id = None;
        if producer >= 0 {
            let model = &mut self.models[number];
            let known = model.first_producer + producer;
            let sequence = model.producers.entry(known).or_default().next_sequence;
            let (batch, of_batch) = self.batch(Some((known, sequence)));
            id = Some(known);
            batches.push(batch);
            records.extend(of_batch);
        } else {
            for _ in 0..self.random.between(1, 4) {
                let (batch, of_batch) = self.batch(None);
                batches.push(batch);
                records.extend(of_batch);
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
        }
        let appended = self
            .partition(number)
            .append(batches, AppendOptions { acks });
        let appended = self.settled(appended)?;
        assert_eq!(
            (appended.base_offset, appended.duplicate),
            (base_offset, false)
        );
        if acks == Acks::All && self.random.one_in(2) {
            self.wait_durable(number)?;
        }
        Ok(())
    }

    fn retry(&mut self, number: usize) -> Result<(), PowerFailed> {
        let model = &self.models[number];
        let id = model.first_producer + self.random.between(0, 2);
        let Some(sent) = model.producers.get(&id).and_then(|it| it.sent.last()) else {
            return Ok(());
        };
        let sent = sent.clone();
        self.note(format!("retry in {number} of {}", sent.last_offset));
        let partition = self.partition(number);
        let again = partition.append(vec![sent.batch], AppendOptions { acks: Acks::All });
        let again = self.settled(again)?;
        assert_eq!(
            (again.base_offset, again.duplicate),
            (sent.base_offset, true)
        );
        let end = sent.last_offset + 1;
        let waited = self.runtime.block_on(partition.wait_durable(end));
        self.settled(waited)?;
        let model = &mut self.models[number];
        model.durable = model.durable.max(end);
        Ok(())
    }

    fn wait_durable(&mut self, number: usize) -> Result<(), PowerFailed> {
        self.note(format!("wait for {number}"));
        let end = self.models[number].end();
        let partition = self.partition(number);
        let waited = self.runtime.block_on(partition.wait_durable(end));
        self.settled(waited)?;
        self.models[number].durable = end;
        Ok(())
    }

    fn flush_due(&mut self) -> Result<(), PowerFailed> {
        self.note("flush what is due".to_string());
        self.topics.flush_due();
        Ok(())
    }

    /// Part of an append may get as far as the disk, and must be taken back for good.
    fn append_to_a_full_disk(&mut self, number: usize) -> Result<(), PowerFailed> {
        self.note(format!("append to {number} on a full disk"));
        let (batches, records): (Vec<_>, Vec<_>) = (0..3).map(|_| self.batch(None)).unzip();
        let bytes: usize = batches.iter().map(RecordBatch::size_bytes).sum();
        self.faults.limit_space(self.random.below(bytes as u64));
        let options = AppendOptions { acks: Acks::Leader };
        let refused = self.partition(number).append(batches, options);
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
        let deleted = self.settled(deleted)?;
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
        self.settled(closed)?;
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
        self.settled(deleted)?;
        self.create_topic()
    }

    fn create_topic(&mut self) -> Result<(), PowerFailed> {
        self.note("create the topic".to_string());
        let admitted = self.topics.admit_topic(TOPIC);
        self.settled(admitted)?;
        self.spec.id = Uuid::new_v4();
        self.models = (0..self.spec.partitions)
            .map(|_| Model::default())
            .collect();
        self.known = true;
        let created = self.topics.create(self.spec.clone());
        self.settled(created).map(|_| ())
    }

    /// Starts the server again, and the machine as often as the power fails meanwhile.
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
            if let Ok(topics) = self.settled(opened)
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
        // What the last failure needs for a look is the last two boots.
        if let Some(old) = self.boot.checked_sub(2) {
            std::fs::remove_dir_all(self.boots.path().join(old.to_string())).unwrap();
        }
        self.note(format!(
            "power lost; from {} to {}",
            before.display(),
            self.boot
        ));
    }

    /// Holds what a start has found against what was acknowledged.
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
            // Deleted segments may come back, deleted records may not.
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
        model.log_start = offsets.log_start;
        model.log_start_max = offsets.log_start;
        if end == End::PowerLost {
            if model.durable < offsets.log_start {
                // Of records that were deleted, some had never reached the disk. Nobody can tell whose they were.
                model.first_producer += 10;
                model.producers.clear();
            }
            // The disk has what was read from it.
            model.durable = model.end();
        }
        check_records(&partition, model);
        check_producers(&partition, model);
    }
}

fn check_records(partition: &Arc<Partition>, model: &Model) {
    let mut offset = model.log_start;
    while offset < model.end() {
        let fetched = partition.read(offset, 4_000, true).unwrap();
        let records = fetched.records.expect("there is more").to_bytes().unwrap();
        for batch in RecordBatch::split(records).unwrap() {
            assert!(batch.header().base_offset <= offset);
            compare(&batch, &model.records);
            offset = batch.header().next_offset();
        }
    }
    assert_eq!(offset, model.end());
}

/// The last five batches of each producer, as far as they reached the log, are recognised, and its next one will follow.
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
) -> Result<Arc<Topics>, Error> {
    let options = StorageOptions {
        fs: Fs::on_disk(Arc::clone(disk), Arc::clone(faults)),
        ..StorageOptions::new(data_dir, Durability::Acks)
    };
    let clock: Arc<dyn Clock> = clock.clone();
    Topics::open(options, specs, clock, Metrics::new(true))
}

#[test]
fn what_was_acknowledged_survives_losses_of_power() {
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
        let outcome = catch_unwind(AssertUnwindSafe(|| machine.live(CUTS_PER_MACHINE)));
        if outcome.is_err() {
            let log = machine.log.join("\n");
            let kept = machine.boots.keep();
            panic!("POWER_SEED={seed}\nfiles: {}\n{log}", kept.display());
        }
        if (machine_number + 1) % 100 == 0 || machine_number + 1 == machines {
            println!(
                "{} losses of power in {} s: nothing promised is gone",
                (machine_number + 1) * CUTS_PER_MACHINE,
                started.elapsed().as_secs()
            );
        }
    }
    println!(
        "figures: {} losses of power on {machines} machines, POWER_SEED={first} and every 7919th after it; nothing promised \
         is gone",
        machines * CUTS_PER_MACHINE,
    );
}
