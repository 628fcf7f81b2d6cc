//! Model test of the log.
//!
//! Random operations run on one partition and on a plain list with the expected records. They include every way in which a
//! server stops: cleanly, killed in the middle of a write, and by a power failure that loses unflushed data. Segments hold
//! a few batches, so that they roll all the time.
//!
//! A failure prints its seed. `STREAMLINE_SEED=… cargo test --test property` repeats that case; `STREAMLINE_CASES=1000`
//! runs that many cases.

#[path = "support/model.rs"]
mod model;
#[path = "support/random.rs"]
mod random;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{Producer, Sent, Written, compare};
use random::Random;
use streamline::clock::{Clock, ManualClock};
use streamline::config::{Durability, TopicConfig};
use streamline::fs::{Fault, Faults, Fs, Op};
use streamline::metrics::Metrics;
use streamline::record::{BatchBuilder, Compression, RecordBatch};
use streamline::storage::{
    Acks, AppendOptions, Engine, Error, PartitionLog, ReadOptions, TopicSpec,
    local::{LocalEngine, Partition, StorageOptions},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

const CASES: u64 = 12;
const OPERATIONS: usize = 120;
const START_MS: i64 = 1_700_000_000_000;
const RETENTION_MS: i64 = 100_000;

/// The expected content of the log.
struct Model {
    /// By offset, from 0, including deleted records.
    records: Vec<Written>,
    log_start: i64,
    high_watermark: i64,
    /// Records below this offset have been flushed.
    durable: i64,
    producers: BTreeMap<i64, Producer>,
    next_value: u64,
    first_producer: i64,
}

impl Model {
    fn end(&self) -> i64 {
        self.records.len() as i64
    }
}

struct Run {
    random: Random,
    runtime: Runtime,
    dir: TempDir,
    clock: Arc<ManualClock>,
    faults: Arc<Faults>,
    spec: TopicSpec,
    topics: Arc<LocalEngine>,
    partition: Arc<Partition>,
    model: Model,
    log: Vec<String>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at_ms(START_MS);
        let faults = Faults::new();
        let settings = [
            ("segment.bytes", random.between(300, 2_000).to_string()),
            ("index.interval.bytes", random.between(0, 400).to_string()),
            ("segment.ms", random.between(5_000, 50_000).to_string()),
            ("retention.ms", RETENTION_MS.to_string()),
            ("retention.bytes", random.pick(&[-1, 4_000]).to_string()),
        ];
        let overrides = settings
            .into_iter()
            .map(|(name, value)| (name.to_string(), value))
            .collect();
        let spec = TopicSpec {
            name: "model".to_string(),
            id: Uuid::new_v4(),
            partitions: 1,
            config: TopicConfig::default().apply(&overrides).unwrap(),
        };
        let topics = open(dir.path(), &clock, &faults, vec![]);
        topics.create(spec.clone()).unwrap();
        let partition = topics.partition("model", 0).unwrap();
        Self {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .build()
                .unwrap(),
            model: Model {
                records: Vec::new(),
                log_start: 0,
                high_watermark: 0,
                durable: 0,
                producers: BTreeMap::new(),
                next_value: 0,
                first_producer: 0,
            },
            log: vec![format!("{:?}", spec.config)],
            random,
            dir,
            clock,
            faults,
            spec,
            topics,
            partition,
        }
    }

    fn note(&mut self, what: String) {
        self.log.push(what);
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..35 => self.append(),
            35..40 => self.retry(),
            40..43 => self.leave_a_gap(),
            43..48 => self.wait_durable(),
            48..51 => self.append_to_a_full_disk(),
            51..66 => self.read(),
            66..72 => self.look_up_a_timestamp(),
            72..76 => self.delete_records(),
            76..80 => self.retain(),
            80..85 => self
                .clock
                .advance(Duration::from_millis(self.random.below(20_000))),
            85..90 => self.reopen_cleanly(),
            90..95 => self.reopen_after_a_kill(),
            _ => self.reopen_after_a_power_failure(),
        }
        self.check_offsets();
    }

    fn batch(&mut self, producer: Option<(i64, i32)>) -> (RecordBatch, Vec<Written>) {
        let codec = self.random.pick(&[Compression::None, Compression::Lz4]);
        let mut builder = BatchBuilder::new(codec);
        if let Some((id, sequence)) = producer {
            builder = builder.producer(id, 0, sequence);
        }
        let mut records = Vec::new();
        for _ in 0..self.random.between(1, 5) {
            self.model.next_value += 1;
            let padding = "x".repeat(self.random.below(60) as usize);
            let record = Written {
                timestamp_ms: self.clock.now_ms() + self.random.between(-200, 200),
                value: format!("{}-{padding}", self.model.next_value),
            };
            let value = Some(record.value.as_bytes());
            builder.push(record.timestamp_ms, None, value, &[]);
            records.push(record);
        }
        (builder.build().unwrap(), records)
    }

    fn append(&mut self) {
        let acks = self.random.pick(&[Acks::None, Acks::Leader, Acks::All]);
        let id = match self.random.between(-2, 3) {
            anonymous @ ..0 => anonymous,
            number => self.model.first_producer + number,
        };
        let (batches, records) = if id >= 0 {
            let sequence = self.model.producers.entry(id).or_default().next_sequence;
            let (batch, records) = self.batch(Some((id, sequence)));
            (vec![batch], records)
        } else {
            let mut batches = Vec::new();
            let mut records = Vec::new();
            for _ in 0..self.random.between(1, 3) {
                let (batch, batch_records) = self.batch(None);
                batches.push(batch);
                records.extend(batch_records);
            }
            (batches, records)
        };
        self.note(format!("append {} as {acks:?} by {id}", records.len()));
        if self.random.one_in(4) {
            let at_most = self.random.between(1, 90) as usize;
            self.faults
                .plan(Op::Write, ".log", Fault::Short(at_most), 3);
        }
        let options = AppendOptions { acks };
        let appended = self
            .partition
            .append_unflushed(batches.clone(), options)
            .unwrap();
        self.faults.heal();
        assert_eq!(appended.base_offset, self.model.end());
        self.model.records.extend(records);
        assert_eq!(appended.last_offset + 1, self.model.end());
        assert!(!appended.duplicate);
        if let Some(producer) = self.model.producers.get_mut(&id) {
            producer.next_sequence += batches[0].header().record_count;
            producer.sent.push(Sent {
                batch: batches[0].clone(),
                base_offset: appended.base_offset,
                last_offset: appended.last_offset,
            });
        }
        // The high watermark never moves back. It moves forward unless an earlier acks=all append waits for its flush.
        let flush_pending = self.model.high_watermark < appended.base_offset;
        if acks != Acks::All && !flush_pending {
            self.model.high_watermark = self.model.end();
        }
        if acks == Acks::All && self.random.one_in(2) {
            self.wait_durable();
        }
    }

    fn retry(&mut self) {
        let id = self.model.first_producer + self.random.between(0, 3);
        let Some(producer) = self.model.producers.get(&id) else {
            return;
        };
        let recent = producer.recent();
        if recent.is_empty() {
            return;
        }
        let sent = recent[self.random.below(recent.len() as u64) as usize].clone();
        self.note(format!(
            "retry of {}..={} by {id}",
            sent.base_offset, sent.last_offset
        ));
        let options = AppendOptions { acks: Acks::All };
        let again = self
            .partition
            .append_unflushed(vec![sent.batch], options)
            .unwrap();
        assert!(again.duplicate);
        assert_eq!(
            (again.base_offset, again.last_offset),
            (sent.base_offset, sent.last_offset)
        );
    }

    fn leave_a_gap(&mut self) {
        let id = self.model.first_producer + self.random.between(0, 3);
        let Some(producer) = self.model.producers.get(&id) else {
            return;
        };
        if producer.sent.is_empty() {
            return;
        }
        let sequence = producer.next_sequence + self.random.between(1, 10) as i32;
        self.note(format!("gap before {sequence} by {id}"));
        let (batch, _) = self.batch(Some((id, sequence)));
        let options = AppendOptions { acks: Acks::Leader };
        let refused = self.partition.append_unflushed(vec![batch], options);
        assert!(
            matches!(refused, Err(Error::OutOfOrderSequence { .. })),
            "{refused:?}"
        );
    }

    fn wait_durable(&mut self) {
        self.note("wait for a flush".to_string());
        let end = self.model.end();
        self.runtime
            .block_on(self.partition.wait_durable(end))
            .unwrap();
        self.model.durable = end;
        self.model.high_watermark = end;
    }

    fn append_to_a_full_disk(&mut self) {
        self.note("append to a full disk".to_string());
        let (batch, _) = self.batch(None);
        self.faults.limit_space(self.random.below(40));
        let options = AppendOptions { acks: Acks::Leader };
        let refused = self.partition.append_unflushed(vec![batch], options);
        assert!(
            matches!(refused, Err(Error::DiskFull { .. })),
            "{refused:?}"
        );
        self.faults.heal();
    }

    fn read(&mut self) {
        let (low, high) = (self.model.log_start, self.model.high_watermark);
        let offset = self.random.between(low, high);
        let max_bytes = self.random.between(1, 3_000) as usize;
        let at_least_one = self.random.one_in(2);
        self.note(format!(
            "read {max_bytes} at {offset}, at least one: {at_least_one}"
        ));
        let fetched = self
            .partition
            .read_now(ReadOptions {
                at_least_one,
                ..ReadOptions::at(offset, max_bytes)
            })
            .unwrap();
        let Some(records) = fetched.records else {
            assert!(offset == high || !at_least_one, "nothing at {offset}");
            return;
        };
        let batches = RecordBatch::split(records.to_bytes().unwrap()).unwrap();
        assert!(records.len() <= max_bytes || (at_least_one && batches.len() == 1));
        let first = batches[0].header();
        assert!(first.base_offset <= offset && offset <= first.last_offset());
        let mut next = first.base_offset;
        for batch in &batches {
            assert_eq!(batch.header().base_offset, next);
            compare(batch, &self.model.records);
            next = batch.header().next_offset();
        }
        assert!(next <= high);
        for outside in [low - 1, self.model.end() + 1] {
            let refused = self.partition.read_now(ReadOptions::at(outside, 100));
            assert!(
                matches!(refused, Err(Error::OffsetOutOfRange { .. })),
                "{refused:?}"
            );
        }
    }

    fn look_up_a_timestamp(&mut self) {
        let now_ms = self.clock.now_ms();
        let timestamp_ms = self.random.between(START_MS - 500, now_ms + 500);
        self.note(format!("look up {timestamp_ms}"));
        let visible = self.model.log_start..self.model.high_watermark;
        let first = visible
            .clone()
            .find(|offset| self.model.records[*offset as usize].timestamp_ms >= timestamp_ms);
        let found = self.partition.find_timestamp(timestamp_ms).unwrap();
        assert_eq!(
            found.map(|found| found.offset),
            first,
            "{timestamp_ms} in {visible:?}"
        );
    }

    fn delete_records(&mut self) {
        let before = self
            .random
            .between(self.model.log_start, self.model.high_watermark);
        self.note(format!("delete records before {before}"));
        assert_eq!(self.partition.delete_records(before).unwrap(), before);
        self.model.log_start = before;
    }

    fn retain(&mut self) {
        let now_ms = self.clock.now_ms();
        self.note(format!("retain at {now_ms}"));
        self.topics.retain(now_ms);
        let start = self.partition.offsets().log_start;
        assert!((self.model.log_start..=self.model.high_watermark).contains(&start));
        if self.spec.config.retention_bytes < 0 {
            for offset in self.model.log_start..start {
                let record = &self.model.records[offset as usize];
                assert!(
                    record.timestamp_ms < now_ms - RETENTION_MS + 5_000,
                    "{offset} was deleted too early"
                );
            }
        }
        self.model.log_start = start;
    }

    fn reopen_cleanly(&mut self) {
        self.note("clean restart".to_string());
        self.topics.close().unwrap();
        self.model.durable = self.model.end();
        self.corrupt_indexes();
        self.reopen();
    }

    fn reopen_after_a_kill(&mut self) {
        let active = self.segments().pop().unwrap();
        let torn = match self.random.below(3) {
            0 => Vec::new(),
            1 => (0..self.random.between(1, 200))
                .map(|_| self.random.next() as u8)
                .collect(),
            _ => {
                let (batch, _) = self.batch(None);
                let end = self.model.end();
                let mut whole = [&batch.stamped_prefix(end, 0), batch.body()].concat();
                whole.truncate(self.random.between(1, whole.len() as i64 - 1) as usize);
                whole
            }
        };
        self.note(format!("kill with {} torn bytes", torn.len()));
        let mut content = std::fs::read(&active).unwrap();
        content.extend_from_slice(&torn);
        std::fs::write(&active, content).unwrap();
        self.corrupt_indexes();
        self.reopen();
    }

    fn reopen_after_a_power_failure(&mut self) {
        let mut segments = self.segments();
        // Unflushed data may be lost: whole segments, and the end of the last remaining one.
        while segments.len() > 1
            && base_offset(&segments[segments.len() - 1]) >= self.model.durable.max(1)
            && self.random.one_in(2)
        {
            std::fs::remove_file(segments.pop().unwrap()).unwrap();
        }
        let last = segments.pop().unwrap();
        let content = std::fs::read(&last).unwrap();
        let safe = position_of(&content, self.model.durable);
        let kept = self.random.between(safe as i64, content.len() as i64) as usize;
        let mut content = content;
        match self.random.below(3) {
            0 => content.truncate(kept),
            // The file size survives, the data does not.
            1 => content[kept..].fill(0),
            // A hole: some pages were not written, but later ones were.
            _ => {
                let end = self.random.between(kept as i64, content.len() as i64) as usize;
                content[kept..end].fill(0);
            }
        }
        self.note(format!(
            "power failure; {kept} bytes of {} left",
            last.display()
        ));
        std::fs::write(&last, content).unwrap();
        std::fs::remove_file(self.dir.path().join(".streamline-boot")).unwrap();
        self.corrupt_indexes();
        let before = self.model.end();
        self.reopen_and(|run| {
            let end = run.partition.offsets().log_end;
            assert!(
                (run.model.durable.max(run.model.log_start)..=before).contains(&end),
                "the log ends at {end}; durable {}, end {before}",
                run.model.durable
            );
            run.model.records.truncate(end as usize);
            if end == run.model.log_start {
                // Deleted records may be among the lost ones, so the model does not know which producers are still known.
                run.model.first_producer += 10;
                run.model.producers.clear();
            }
            for producer in run.model.producers.values_mut() {
                producer.sent.retain(|sent| sent.last_offset < end);
                if let Some(last) = producer.sent.last() {
                    let header = last.batch.header();
                    producer.next_sequence = header.base_sequence + header.record_count;
                }
            }
        });
    }

    /// Removes, empties, truncates or corrupts some index files.
    fn corrupt_indexes(&mut self) {
        for path in self.files(&["index", "timeindex"]) {
            let content = std::fs::read(&path).unwrap();
            match self.random.below(12) {
                0 => std::fs::remove_file(path).unwrap(),
                1 => std::fs::write(path, []).unwrap(),
                2 => std::fs::write(path, &content[..content.len() / 2]).unwrap(),
                3 => {
                    let corrupt: Vec<u8> = content.iter().map(|byte| byte ^ 0x11).collect();
                    std::fs::write(path, corrupt).unwrap();
                }
                _ => {}
            }
        }
    }

    fn reopen(&mut self) {
        let end = self.model.end();
        self.reopen_and(|run| assert_eq!(run.partition.offsets().log_end, end));
    }

    fn reopen_and(&mut self, update_model: impl FnOnce(&mut Self)) {
        let specs = vec![self.spec.clone()];
        self.topics = open(self.dir.path(), &self.clock, &self.faults, specs);
        self.partition = self.topics.partition("model", 0).unwrap();
        update_model(self);
        // After a restart the whole log is visible.
        self.model.high_watermark = self.model.end();
        self.check_offsets();
        self.check_everything();
        self.check_producers();
    }

    /// Checks that retries of each producer's last five batches are recognised.
    fn check_producers(&self) {
        for (id, producer) in &self.model.producers {
            producer.check_recognised(&self.partition, *id);
        }
    }

    fn check_offsets(&self) {
        let offsets = self.partition.offsets();
        assert_eq!(offsets.log_start, self.model.log_start);
        assert_eq!(offsets.high_watermark, self.model.high_watermark);
        assert_eq!(offsets.log_end, self.model.end());
    }

    fn check_everything(&self) {
        let mut offset = self.model.log_start;
        while offset < self.model.high_watermark {
            let fetched = self
                .partition
                .read_now(ReadOptions::at(offset, 1_000))
                .unwrap();
            let records = fetched.records.unwrap().to_bytes().unwrap();
            for batch in RecordBatch::split(records).unwrap() {
                let header = batch.header();
                assert!(header.base_offset <= offset && offset <= header.last_offset());
                compare(&batch, &self.model.records);
                offset = header.next_offset();
            }
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        self.files(&["log"])
    }

    fn files(&self, extensions: &[&str]) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = std::fs::read_dir(self.dir.path().join("model-0"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                let extension = path.extension().unwrap_or_default();
                extensions.iter().any(|each| extension == *each)
            })
            .collect();
        found.sort();
        found
    }
}

fn open(
    dir: &Path,
    clock: &Arc<ManualClock>,
    faults: &Arc<Faults>,
    specs: Vec<TopicSpec>,
) -> Arc<LocalEngine> {
    let options = StorageOptions {
        fs: Fs::with_faults(Arc::clone(faults)),
        ..StorageOptions::new(dir, Durability::Acks)
    };
    let clock: Arc<dyn Clock> = clock.clone();
    LocalEngine::open(options, specs, clock, Metrics::new(true)).unwrap()
}

fn base_offset(path: &Path) -> i64 {
    let name = path.file_stem().unwrap().to_str().unwrap();
    name.parse().unwrap()
}

/// Returns the file position at which the batches below an offset end.
fn position_of(content: &[u8], offset: i64) -> usize {
    let mut position = 0;
    while let Some(header) = content.get(position..position + 61) {
        let base_offset = i64::from_be_bytes(header[..8].try_into().unwrap());
        if base_offset >= offset {
            break;
        }
        position += 12 + i32::from_be_bytes(header[8..12].try_into().unwrap()) as usize;
    }
    position
}

#[test]
fn the_log_matches_the_model_under_random_operations() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (first, cases) = match number("STREAMLINE_SEED") {
        Some(seed) => (seed, 1),
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let first = now.as_nanos() as u64;
            (first, number("STREAMLINE_CASES").unwrap_or(CASES))
        }
    };
    let mut records = 0;
    for seed in (0..cases).map(|case| first.wrapping_add(case * 7919)) {
        let mut run = Run::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..OPERATIONS {
                run.step();
            }
        }));
        if outcome.is_err() {
            let kept = run.dir.keep();
            panic!(
                "STREAMLINE_SEED={seed}\nfiles: {}\n{}",
                kept.display(),
                run.log.join("\n")
            );
        }
        records += run.model.next_value;
    }
    println!(
        "figures: {cases} logs from STREAMLINE_SEED={first} and every 7919th after it, {OPERATIONS} operations on each \
         including crashes, {records} records: every log matched its model"
    );
}
