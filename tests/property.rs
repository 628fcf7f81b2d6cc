//! Model test of the log.
//!
//! Random operations run on one partition and on a plain list with the expected records. They include every way in which a
//! server stops: cleanly, killed in the middle of a write, and by a power failure that loses unflushed data. Segments hold
//! a few batches, so that they roll all the time.
//!
//! A failure prints the shortest operations found that cause it, and a seed: `PROPTEST_RNG_SEED=… cargo test --test
//! property` repeats the run. `PROPTEST_CASES=1000` checks that many logs.

#[path = "support/model.rs"]
mod model;
#[path = "support/transactions.rs"]
mod transactions;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{Producer, Sent, Written, compare};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{RngSeed, TestRunner};
use streamline::clock::{Clock, ManualClock};
use streamline::config::{Durability, TopicConfig};
use streamline::fs::{Fault, Faults, Fs, Op};
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

const CASES: u32 = 12;
const OPERATIONS_MAX: usize = 240;
const SHRINK_TIME_MAX_MS: u32 = 120_000;
const START_MS: i64 = 1_700_000_000_000;
const RETENTION_MS: i64 = 100_000;

/// The first of a log's four producers whose batches belong to transactions.
const FIRST_TRANSACTIONAL: i64 = 2;

/// Distance between the ids of producers that are replaced by new ones.
const PRODUCERS_MAX: i64 = 10;

/// A step of a test. An [`Index`] picks among the possibilities at that step, such as the offsets of the log.
#[derive(Debug, Clone)]
enum Operation {
    Append {
        acks: Acks,
        sender: Sender,
        /// The first writes write at most this many bytes.
        short_writes: Option<usize>,
        waits: bool,
    },
    Retry {
        producer: i64,
        batch: Index,
    },
    SkipSequences {
        producer: i64,
        skipped: i32,
        batch: Batch,
    },
    EndTransaction {
        producer: i64,
        outcome: TransactionOutcome,
        acks: Acks,
    },
    WaitDurable,
    AppendToFullDisk {
        batch: Batch,
        space_left: u64,
    },
    Read {
        offset: Index,
        max_bytes: usize,
        at_least_one: bool,
    },
    LookUpTimestamp(Index),
    DeleteRecords(Index),
    Retain,
    Advance(u64),
    Restart(IndexFiles),
    Kill(Torn, IndexFiles),
    LosePower {
        segments: usize,
        kept: Index,
        loss: Loss,
        index_files: IndexFiles,
    },
}

#[derive(Debug, Clone)]
enum Sender {
    Anonymous(Vec<Batch>),
    Producer(i64, Batch),
}

#[derive(Debug, Clone)]
struct Batch {
    codec: Compression,
    /// Distance of each record's timestamp from the clock, and its padding in bytes.
    records: Vec<(i64, usize)>,
}

/// Bytes of an unfinished write.
#[derive(Debug, Clone)]
enum Torn {
    Nothing,
    Garbage(Vec<u8>),
    Batch(Batch, Index),
}

/// Fate of unflushed bytes.
#[derive(Debug, Clone)]
enum Loss {
    Truncated,
    /// The file size survives, the data does not.
    Zeroed,
    /// Some pages were not written, but later ones were.
    Hole(Index),
}

/// Damage to the index files, in turn.
type IndexFiles = Vec<Option<Damage>>;

#[derive(Debug, Clone, Copy)]
enum Damage {
    Removed,
    Emptied,
    Truncated,
    Corrupted,
}

fn operation() -> impl Strategy<Value = Operation> {
    let index = || any::<Index>();
    prop_oneof![
        35 => (acks(), sender(), option::weighted(0.25, 1..=90_usize), any::<bool>()).prop_map(
            |(acks, sender, short_writes, waits)| Operation::Append { acks, sender, short_writes, waits }
        ),
        5 => (0..=3_i64, index()).prop_map(|(producer, batch)| Operation::Retry { producer, batch }),
        3 => (0..=3_i64, 1..=10, batch())
            .prop_map(|(producer, skipped, batch)| Operation::SkipSequences { producer, skipped, batch }),
        12 => (FIRST_TRANSACTIONAL..=3_i64, outcome(), acks())
            .prop_map(|(producer, outcome, acks)| Operation::EndTransaction { producer, outcome, acks }),
        5 => Just(Operation::WaitDurable),
        3 => (batch(), 0..40_u64)
            .prop_map(|(batch, space_left)| Operation::AppendToFullDisk { batch, space_left }),
        15 => (index(), 1..=3_000_usize, any::<bool>())
            .prop_map(|(offset, max_bytes, at_least_one)| Operation::Read { offset, max_bytes, at_least_one }),
        6 => index().prop_map(Operation::LookUpTimestamp),
        4 => index().prop_map(Operation::DeleteRecords),
        4 => Just(Operation::Retain),
        5 => (0..20_000_u64).prop_map(Operation::Advance),
        5 => index_files().prop_map(Operation::Restart),
        5 => (torn(), index_files()).prop_map(|(torn, files)| Operation::Kill(torn, files)),
        5 => (prop_oneof![4 => Just(0), 2 => Just(1), 2 => 2..5_usize], index(), loss(), index_files()).prop_map(
            |(segments, kept, loss, index_files)| Operation::LosePower { segments, kept, loss, index_files }
        ),
    ]
}

fn acks() -> impl Strategy<Value = Acks> {
    select(&[Acks::None, Acks::Leader, Acks::All][..])
}

fn outcome() -> impl Strategy<Value = TransactionOutcome> {
    select(&[TransactionOutcome::Commit, TransactionOutcome::Abort][..])
}

fn sender() -> impl Strategy<Value = Sender> {
    prop_oneof![
        1 => vec(batch(), 1..=3).prop_map(Sender::Anonymous),
        2 => (0..=3_i64, batch()).prop_map(|(id, batch)| Sender::Producer(id, batch)),
    ]
}

fn batch() -> impl Strategy<Value = Batch> {
    let codec = select(&[Compression::None, Compression::Lz4][..]);
    (codec, vec((-200..=200_i64, 0..60_usize), 1..=5))
        .prop_map(|(codec, records)| Batch { codec, records })
}

fn torn() -> impl Strategy<Value = Torn> {
    prop_oneof![
        Just(Torn::Nothing),
        vec(any::<u8>(), 1..=200).prop_map(Torn::Garbage),
        (batch(), any::<Index>()).prop_map(|(batch, end)| Torn::Batch(batch, end)),
    ]
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        Just(Loss::Truncated),
        Just(Loss::Zeroed),
        any::<Index>().prop_map(Loss::Hole),
    ]
}

fn index_files() -> impl Strategy<Value = IndexFiles> {
    let damage = [
        Damage::Removed,
        Damage::Emptied,
        Damage::Truncated,
        Damage::Corrupted,
    ];
    vec(option::weighted(0.33, select(damage.to_vec())), 8)
}

/// The topic's configs.
fn configs() -> impl Strategy<Value = BTreeMap<String, String>> {
    let retention_bytes = select(&[-1_i64, 4_000][..]);
    (
        300..=2_000_i64,
        0..=400_i64,
        5_000..=50_000_i64,
        retention_bytes,
    )
        .prop_map(
            |(segment_bytes, index_interval_bytes, segment_ms, retention_bytes)| {
                let settings = [
                    ("segment.bytes", segment_bytes.to_string()),
                    ("index.interval.bytes", index_interval_bytes.to_string()),
                    ("segment.ms", segment_ms.to_string()),
                    ("retention.ms", RETENTION_MS.to_string()),
                    ("retention.bytes", retention_bytes.to_string()),
                ];
                BTreeMap::from(settings.map(|(name, value)| (name.to_string(), value)))
            },
        )
}

fn is_transactional(id: i64) -> bool {
    id >= 0 && id % PRODUCERS_MAX >= FIRST_TRANSACTIONAL
}

/// Returns the number from `low` to `high`, inclusive, that `index` picks.
fn pick(index: &Index, low: i64, high: i64) -> i64 {
    low + index.index((high - low + 1) as usize) as i64
}

/// The expected content of the log.
struct Model {
    /// By offset, from 0, including deleted records.
    records: Vec<Written>,
    log_start: i64,
    high_watermark: i64,
    /// Records below this offset have been flushed.
    durable: i64,
    producers: BTreeMap<i64, Producer>,
    transactions: Transactions,
    next_value: u64,
    first_producer: i64,
}

impl Model {
    fn end(&self) -> i64 {
        self.records.len() as i64
    }
}

/// One log and its model.
struct Run {
    runtime: Runtime,
    dir: TempDir,
    clock: Arc<ManualClock>,
    faults: Arc<Faults>,
    spec: TopicSpec,
    topics: Arc<LocalEngine>,
    partition: Arc<Partition>,
    model: Model,
    /// The operations so far, in words.
    log: Vec<String>,
}

impl Drop for Run {
    /// Prints the operations of a failed test; the last that are printed are the shortest found.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log.join("\n"));
        }
    }
}

impl Run {
    fn new(configs: &BTreeMap<String, String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at_ms(START_MS);
        let faults = Faults::new();
        let spec = TopicSpec {
            name: "model".to_string(),
            id: Uuid::new_v4(),
            partitions: 1,
            config: TopicConfig::default().apply(configs).unwrap(),
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
                transactions: Transactions::default(),
                next_value: 0,
                first_producer: 0,
            },
            log: vec![format!("{configs:?}")],
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

    fn step(&mut self, operation: Operation) {
        match operation {
            Operation::Append {
                acks,
                sender,
                short_writes,
                waits,
            } => self.append(acks, sender, short_writes, waits),
            Operation::Retry { producer, batch } => self.retry(producer, batch),
            Operation::SkipSequences {
                producer,
                skipped,
                batch,
            } => self.skip_sequences(producer, skipped, &batch),
            Operation::EndTransaction {
                producer,
                outcome,
                acks,
            } => self.end_transaction(producer, outcome, acks),
            Operation::WaitDurable => self.wait_durable(),
            Operation::AppendToFullDisk { batch, space_left } => {
                self.append_to_full_disk(&batch, space_left);
            }
            Operation::Read {
                offset,
                max_bytes,
                at_least_one,
            } => self.read(&offset, max_bytes, at_least_one),
            Operation::LookUpTimestamp(index) => self.look_up_timestamp(&index),
            Operation::DeleteRecords(index) => self.delete_records(&index),
            Operation::Retain => self.retain(),
            Operation::Advance(ms) => self.clock.advance(Duration::from_millis(ms)),
            Operation::Restart(index_files) => self.restart(&index_files),
            Operation::Kill(torn, index_files) => self.kill(torn, &index_files),
            Operation::LosePower {
                segments,
                kept,
                loss,
                index_files,
            } => self.lose_power(segments, &kept, &loss, &index_files),
        }
        self.check_offsets();
    }

    fn build(
        &mut self,
        batch: &Batch,
        producer: Option<(i64, i32)>,
    ) -> (RecordBatch, Vec<Written>) {
        let mut builder = BatchBuilder::new(batch.codec);
        if let Some((id, sequence)) = producer {
            builder = builder.producer(id, 0, sequence);
            if is_transactional(id) {
                builder = builder.transactional();
            }
        }
        let mut records = Vec::new();
        for (ahead_ms, padding) in &batch.records {
            self.model.next_value += 1;
            let record = Written {
                timestamp_ms: self.clock.now_ms() + ahead_ms,
                value: format!("{}-{}", self.model.next_value, "x".repeat(*padding)),
            };
            let value = Some(record.value.as_bytes());
            builder.push(record.timestamp_ms, None, value, &[]);
            records.push(record);
        }
        (builder.build().unwrap(), records)
    }

    fn append(&mut self, acks: Acks, sender: Sender, short_writes: Option<usize>, waits: bool) {
        let mut batches = Vec::new();
        let mut records = Vec::new();
        let mut add = |(batch, batch_records): (RecordBatch, Vec<Written>)| {
            batches.push(batch);
            records.extend(batch_records);
        };
        let id = match sender {
            Sender::Anonymous(sent) => {
                sent.iter().for_each(|batch| add(self.build(batch, None)));
                -1
            }
            Sender::Producer(number, batch) => {
                let id = self.model.first_producer + number;
                let sequence = self.model.producers.entry(id).or_default().next_sequence;
                add(self.build(&batch, Some((id, sequence))));
                id
            }
        };
        self.note(format!("append {} as {acks:?} by {id}", records.len()));
        if let Some(bytes) = short_writes {
            self.faults.plan(Op::Write, ".log", Fault::Short(bytes), 3);
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
            if is_transactional(id) {
                let transactions = &mut self.model.transactions;
                transactions.note_batch(id, appended.base_offset, appended.last_offset);
            }
        }
        self.note_appended(acks, appended.base_offset);
        if acks == Acks::All && waits {
            self.wait_durable();
        }
    }

    /// Moves the high watermark. It never moves back, and forward unless an earlier acks=all append waits for its flush.
    fn note_appended(&mut self, acks: Acks, base_offset: i64) {
        let flush_pending = self.model.high_watermark < base_offset;
        if acks != Acks::All && !flush_pending {
            self.model.high_watermark = self.model.end();
        }
    }

    fn end_transaction(&mut self, producer: i64, outcome: TransactionOutcome, acks: Acks) {
        let id = self.model.first_producer + producer;
        // Producers that were replaced do not end their transactions themselves.
        let open = self.model.transactions.open();
        let id = open.into_iter().find(|open| *open < id).unwrap_or(id);
        self.note(format!("{outcome:?} by {id} as {acks:?}"));
        let (marker, written) = marker(id, outcome, self.clock.now_ms());
        let offset = self.model.end();
        let ticket = self
            .partition
            .end_transaction(marker, AppendOptions { acks });
        if let Ticket::Ready(ended) = ticket {
            assert_eq!(ended.unwrap().base_offset, offset);
        }
        self.model.records.push(written);
        self.model.transactions.note_marker(id, offset, outcome);
        self.note_appended(acks, offset);
    }

    fn retry(&mut self, producer: i64, batch: Index) {
        let id = self.model.first_producer + producer;
        let Some(producer) = self.model.producers.get(&id) else {
            return;
        };
        let recent = producer.recent();
        if recent.is_empty() {
            return;
        }
        let sent = batch.get(recent).clone();
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

    fn skip_sequences(&mut self, producer: i64, skipped: i32, batch: &Batch) {
        let id = self.model.first_producer + producer;
        let Some(producer) = self.model.producers.get(&id) else {
            return;
        };
        if producer.sent.is_empty() {
            return;
        }
        let sequence = producer.next_sequence + skipped;
        self.note(format!("gap before {sequence} by {id}"));
        let (batch, _) = self.build(batch, Some((id, sequence)));
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

    fn append_to_full_disk(&mut self, batch: &Batch, space_left: u64) {
        self.note(format!("append to a disk with {space_left} bytes left"));
        let (batch, _) = self.build(batch, None);
        self.faults.limit_space(space_left);
        let options = AppendOptions { acks: Acks::Leader };
        let refused = self.partition.append_unflushed(vec![batch], options);
        assert!(
            matches!(refused, Err(Error::DiskFull { .. })),
            "{refused:?}"
        );
        self.faults.heal();
    }

    fn read(&mut self, offset: &Index, max_bytes: usize, at_least_one: bool) {
        self.check_transactions();
        let (low, high) = (self.model.log_start, self.model.high_watermark);
        let offset = pick(offset, low, high);
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

    fn look_up_timestamp(&mut self, index: &Index) {
        let now_ms = self.clock.now_ms();
        let timestamp_ms = pick(index, START_MS - 500, now_ms + 500);
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

    fn delete_records(&mut self, index: &Index) {
        let before = pick(index, self.model.log_start, self.model.high_watermark);
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

    fn restart(&mut self, index_files: &IndexFiles) {
        self.note("clean restart".to_string());
        self.topics.close().unwrap();
        self.model.durable = self.model.end();
        self.damage_indexes(index_files);
        self.reopen();
    }

    fn kill(&mut self, torn: Torn, index_files: &IndexFiles) {
        let active = self.segments().pop().unwrap();
        let torn = match torn {
            Torn::Nothing => Vec::new(),
            Torn::Garbage(bytes) => bytes,
            Torn::Batch(batch, end) => {
                let (batch, _) = self.build(&batch, None);
                let end_offset = self.model.end();
                let mut whole = [&batch.stamped_prefix(end_offset, 0), batch.body()].concat();
                whole.truncate(1 + end.index(whole.len() - 1));
                whole
            }
        };
        self.note(format!("kill with {} torn bytes", torn.len()));
        let mut content = std::fs::read(&active).unwrap();
        content.extend_from_slice(&torn);
        std::fs::write(&active, content).unwrap();
        self.damage_indexes(index_files);
        self.reopen();
    }

    /// Loses up to `lost` whole segments without flushed data, and a part of the end of the last remaining one.
    fn lose_power(&mut self, lost: usize, kept: &Index, loss: &Loss, index_files: &IndexFiles) {
        let mut segments = self.segments();
        for _ in 0..lost {
            let last = segments.last().unwrap();
            if segments.len() > 1 && base_offset(last) >= self.model.durable.max(1) {
                std::fs::remove_file(segments.pop().unwrap()).unwrap();
            }
        }
        let last = segments.pop().unwrap();
        let mut content = std::fs::read(&last).unwrap();
        let safe = position_of(&content, self.model.durable);
        let kept = safe + kept.index(content.len() - safe + 1);
        match loss {
            Loss::Truncated => content.truncate(kept),
            Loss::Zeroed => content[kept..].fill(0),
            Loss::Hole(end) => {
                let end = kept + end.index(content.len() - kept + 1);
                content[kept..end].fill(0);
            }
        }
        self.note(format!(
            "power failure; {kept} bytes of {} left, then {loss:?}",
            last.display()
        ));
        std::fs::write(&last, content).unwrap();
        std::fs::remove_file(self.dir.path().join(".streamline-boot")).unwrap();
        self.damage_indexes(index_files);
        let before = self.model.end();
        self.reopen_and(|run| {
            let end = run.partition.offsets().log_end;
            assert!(
                (run.model.durable.max(run.model.log_start)..=before).contains(&end),
                "the log ends at {end}; durable {}, end {before}",
                run.model.durable
            );
            run.model.records.truncate(end as usize);
            run.model.transactions.truncate(end);
            if end == run.model.log_start {
                // Deleted records may be among the lost ones, so the model does not know which producers are still known.
                run.model.first_producer += PRODUCERS_MAX;
                run.model.producers.clear();
            }
            for producer in run.model.producers.values_mut() {
                producer.sent.retain(|sent| sent.last_offset < end);
                // A marker may be left of a producer without a batch.
                producer.next_sequence = producer.sent.last().map_or(0, |last| {
                    let header = last.batch.header();
                    header.base_sequence + header.record_count
                });
            }
        });
    }

    fn damage_indexes(&mut self, damage: &IndexFiles) {
        let files = self.files(&["index", "timeindex"]);
        for (path, damage) in files.into_iter().zip(damage.iter().cycle()) {
            let content = std::fs::read(&path).unwrap();
            match damage {
                None => {}
                Some(Damage::Removed) => std::fs::remove_file(path).unwrap(),
                Some(Damage::Emptied) => std::fs::write(path, []).unwrap(),
                Some(Damage::Truncated) => {
                    std::fs::write(path, &content[..content.len() / 2]).unwrap();
                }
                Some(Damage::Corrupted) => {
                    let corrupt: Vec<u8> = content.iter().map(|byte| byte ^ 0x11).collect();
                    std::fs::write(path, corrupt).unwrap();
                }
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
        self.check_transactions();
    }

    /// Checks that retries of each producer's last five batches are recognised.
    fn check_producers(&self) {
        for (id, producer) in &self.model.producers {
            producer.check_recognised(&self.partition, *id);
        }
    }

    fn check_transactions(&mut self) {
        let Model {
            transactions,
            records,
            first_producer,
            ..
        } = &mut self.model;
        transactions.check(&self.partition, records, *first_producer);
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
    let mut config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: u32::MAX - 1,
        max_shrink_time: SHRINK_TIME_MAX_MS,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            now.as_nanos() as u64
        }
    };
    config.rng_seed = RngSeed::Fixed(seed);
    let cases = config.cases;
    let (operations, records) = (Cell::new(0), Cell::new(0));
    let cases_of_logs = (configs(), vec(operation(), 1..=OPERATIONS_MAX));
    let outcome = TestRunner::new(config).run(&cases_of_logs, |(configs, steps)| {
        operations.set(operations.get() + steps.len());
        let mut run = Run::new(&configs);
        steps.into_iter().for_each(|step| run.step(step));
        records.set(records.get() + run.model.next_value);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("PROPTEST_RNG_SEED={seed}\n{failure}");
    }
    println!(
        "figures: {cases} logs from PROPTEST_RNG_SEED={seed}, {} operations on them including crashes, {} records: every \
         log matched its model",
        operations.get(),
        records.get()
    );
}
