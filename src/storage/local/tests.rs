//! The behaviour of the local engine across restarts and crashes, and of its files and flushes. `storage::conformance` has
//! what all engines have in common.

mod compaction;
mod damage;
mod faults;
mod full_disk;
mod kafka_swaps;
mod leader_epochs;
mod rewriting;
mod transactions;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::clock::ManualClock;
use crate::config::{Durability, TopicConfig};
use crate::fs::{Fault, Faults, Fs, Op, Reserve};
use crate::metrics::{Collector, Format, Metrics, PrometheusHandle, Samples};
use crate::record::{BatchBuilder, Compression, DecompressLimit, RecordBatch, Records};
use crate::storage::{
    Acks, AppendOptions, Appended, Engine, Error, FoundTopic, PartitionLog, ReadOptions,
    ReadTicket, Ticket, TopicSpec,
};

const NOW_MS: i64 = 1_700_000_000_000;

/// A data directory with one topic, `t`, of one partition.
struct Fixture {
    dir: TempDir,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
    faults: Arc<Faults>,
    durability: Durability,
    reserve_bytes: u64,
    spec: TopicSpec,
    topics: Arc<LocalEngine>,
}

impl Fixture {
    fn new(settings: &[(&str, &str)]) -> Self {
        Self::with_durability(Durability::Acks, settings)
    }

    fn with_durability(durability: Durability, settings: &[(&str, &str)]) -> Self {
        Self::with_reserve(0, durability, settings)
    }

    fn with_reserve(reserve_bytes: u64, durability: Durability, settings: &[(&str, &str)]) -> Self {
        let dir = scratch();
        let clock = ManualClock::at_ms(NOW_MS);
        let metrics = Metrics::new(true);
        let faults = Faults::new();
        let overrides: BTreeMap<String, String> = settings
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let spec = TopicSpec {
            name: "t".to_string(),
            id: Uuid::new_v4(),
            partitions: 1,
            config: TopicConfig::default().apply(&overrides).unwrap(),
        };
        let mut fixture = Self {
            topics: open(
                &dir,
                &clock,
                &metrics,
                &faults,
                durability,
                reserve_bytes,
                vec![],
            )
            .unwrap(),
            dir,
            clock,
            metrics,
            faults,
            durability,
            reserve_bytes,
            spec,
        };
        fixture.topics.create(fixture.spec.clone()).unwrap();
        fixture.spec.partitions = 1;
        fixture
    }

    fn partition(&self) -> Arc<Partition> {
        self.topics.partition("t", 0).unwrap()
    }

    fn log_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("t-0")
    }

    /// Drops everything without closing it, as a killed process would, and opens it again.
    fn crash(&mut self) {
        self.topics = open(
            &self.dir,
            &self.clock,
            &self.metrics,
            &self.faults,
            self.durability,
            self.reserve_bytes,
            vec![self.spec.clone()],
        )
        .unwrap();
    }

    fn restart(&mut self) {
        self.topics.close().unwrap();
        self.crash();
    }

    fn other_partition(&self) -> Arc<Partition> {
        self.topics.add_partitions("t", 2).unwrap();
        self.topics.partition("t", 1).unwrap()
    }

    fn damaged_ranges(&self) -> u64 {
        self.topics.environment.counters.damaged_ranges.value()
    }

    fn append(&self, values: &[&str]) -> Appended {
        self.partition()
            .append_unflushed(vec![batch(values)], ACKS_LEADER)
            .unwrap()
    }

    fn values(&self) -> Vec<(i64, String)> {
        read_all(&self.partition())
    }
}

/// A directory in memory, if the machine has one: many of these tests open a log hundreds of times.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let dir = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    dir.unwrap()
}

fn open(
    dir: &TempDir,
    clock: &Arc<ManualClock>,
    metrics: &Arc<Metrics>,
    faults: &Arc<Faults>,
    durability: Durability,
    reserve_bytes: u64,
    specs: Vec<TopicSpec>,
) -> Result<Arc<LocalEngine>, Error> {
    let fs = Fs::with_faults(Arc::clone(faults));
    let options = StorageOptions {
        reserve: Reserve::open(&fs, dir.path(), reserve_bytes),
        fs,
        ..StorageOptions::new(dir.path(), durability)
    };
    let clock: Arc<dyn crate::clock::Clock> = clock.clone();
    let topics = LocalEngine::open(options, specs, clock, Arc::clone(metrics))?;
    metrics.register(Arc::new(Arc::downgrade(&topics)));
    Ok(topics)
}

impl Collector for LocalEngine {
    fn collect(&self, out: &mut Samples) {
        Engine::collect(self, out);
    }
}

const ACKS_LEADER: AppendOptions = AppendOptions { acks: Acks::Leader };
const ACKS_ALL: AppendOptions = AppendOptions { acks: Acks::All };

fn batch(values: &[&str]) -> RecordBatch {
    batch_at(NOW_MS, values)
}

fn batch_at(timestamp_ms: i64, values: &[&str]) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.push(timestamp_ms, None, Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap()
}

fn idempotent(id: i64, sequence: i32, value: &str) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None).producer(id, 0, sequence);
    builder.push(NOW_MS, None, Some(value.as_bytes()), &[]);
    builder.build().unwrap()
}

/// Every record from the log's start to the high watermark.
fn read_all(partition: &Arc<Partition>) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    let mut offset = partition.offsets().log_start;
    while let Some(records) = partition
        .read_now(ReadOptions::at(offset, 300))
        .unwrap()
        .records
    {
        for batch in RecordBatch::split(records.to_bytes().unwrap()).unwrap() {
            for record in batch.records(DecompressLimit::default()).unwrap() {
                let record = record.unwrap();
                if record.offset >= offset {
                    let value = record.value.unwrap_or_default();
                    found.push((record.offset, String::from_utf8_lossy(&value).into_owned()));
                }
            }
            offset = batch.header().next_offset();
        }
    }
    found
}

fn expected(values: &[&str]) -> Vec<(i64, String)> {
    (0..)
        .zip(values.iter().map(|value| value.to_string()))
        .collect()
}

fn files(dir: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(extension))
        .collect();
    found.sort();
    found
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap()
        .block_on(future)
}

/// Settings that roll the log every few records.
const SMALL_SEGMENTS: &[(&str, &str)] = &[
    ("internal.segment.bytes", "400"),
    ("index.interval.bytes", "100"),
];

#[test]
fn a_log_of_many_segments_reads_like_one() {
    let mut fixture = Fixture::new(SMALL_SEGMENTS);
    let values: Vec<String> = (0..100).map(|n| format!("value-{n}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    for value in &values {
        fixture.append(&[value]);
    }
    assert!(fixture.partition().snapshot().segments > 10);
    assert_eq!(fixture.values(), expected(&values));
    for offset in 0..100 {
        let fetched = fixture
            .partition()
            .read_now(ReadOptions::at(offset, 1))
            .unwrap();
        let batch = RecordBatch::parse(fetched.records.unwrap().to_bytes().unwrap()).unwrap();
        assert_eq!(batch.header().base_offset, offset);
    }
    fixture.restart();
    assert_eq!(fixture.values(), expected(&values));
    fixture.crash();
    assert_eq!(fixture.values(), expected(&values));
    assert_eq!(fixture.append(&["next"]).base_offset, 100);
}

#[test]
fn large_regions_are_sent_from_the_file() {
    let fixture = Fixture::new(&[]);
    let large = "x".repeat(100_000);
    fixture.append(&[&large]);
    let fetched = fixture
        .partition()
        .read_now(ReadOptions::at(0, 1_000_000))
        .unwrap();
    let Some(Records::File(region)) = fetched.records else {
        panic!("a large region was copied");
    };
    assert!(!region.cold);
    RecordBatch::parse(region.read().unwrap()).unwrap();
}

#[test]
fn a_record_that_awaits_a_flush_becomes_visible_once_durable() {
    let fixture = Fixture::new(&[]);
    let partition = fixture.partition();
    let appended = partition
        .append_unflushed(vec![batch(&["a"])], ACKS_ALL)
        .unwrap();
    assert_eq!(partition.offsets().high_watermark, 0);
    partition
        .append_unflushed(vec![batch(&["b"])], ACKS_LEADER)
        .unwrap();
    assert_eq!(partition.offsets().high_watermark, 0);
    block_on(partition.wait_durable(appended.last_offset + 1)).unwrap();
    assert_eq!(partition.offsets().high_watermark, 2);
    assert!(fixture.faults.calls(Op::SyncData, ".log") == 1);
    block_on(partition.wait_durable(appended.last_offset + 1)).unwrap();
    assert!(fixture.faults.calls(Op::SyncData, ".log") == 1);
}

#[test]
fn with_durability_os_nothing_waits_for_a_flush() {
    let fixture = Fixture::with_durability(Durability::Os, &[]);
    let partition = fixture.partition();
    let appended = partition
        .append_unflushed(vec![batch(&["a"])], ACKS_ALL)
        .unwrap();
    assert_eq!(partition.offsets().high_watermark, 1);
    block_on(partition.wait_durable(appended.last_offset + 1)).unwrap();
    let ticket = partition.append(vec![batch(&["b"])], ACKS_ALL);
    assert!(matches!(ticket, Ticket::Ready(Ok(_))));
    assert_eq!(fixture.faults.calls(Op::SyncData, ".log"), 0);
}

#[test]
fn with_durability_os_appends_wait_only_while_a_flush_is_due() {
    let fixture = Fixture::with_durability(Durability::Os, &[("flush.messages", "2")]);
    let partition = fixture.partition();
    let is_pending = |sequence, acks| {
        let batch = idempotent(7, sequence, "value");
        matches!(partition.append(vec![batch], acks), Ticket::Pending(_))
    };
    assert!(!is_pending(0, ACKS_ALL));
    assert!(is_pending(1, ACKS_LEADER));
    assert!(is_pending(2, ACKS_ALL));
    assert!(
        is_pending(2, ACKS_ALL),
        "a duplicate is as durable as its batch"
    );
    assert!(!is_pending(2, ACKS_LEADER));
    partition.flush().unwrap();
    assert!(!is_pending(2, ACKS_ALL));
    assert!(!is_pending(3, ACKS_ALL));
}

#[test]
fn waiters_share_flushes() {
    let fixture = Fixture::new(&[]);
    let partition = fixture.partition();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut waits = Vec::new();
        for _ in 0..200 {
            let appended = partition
                .append_unflushed(vec![batch(&["a"])], ACKS_ALL)
                .unwrap();
            let partition = partition.clone();
            waits.push(tokio::spawn(async move {
                partition.wait_durable(appended.last_offset + 1).await
            }));
        }
        for wait in waits {
            wait.await.unwrap().unwrap();
        }
    });
    assert_eq!(partition.offsets().high_watermark, 200);
    assert!(fixture.faults.calls(Op::SyncData, ".log") < 200);
}

#[test]
fn data_without_waiters_is_flushed_after_flush_ms() {
    let fixture = Fixture::new(&[("flush.ms", "500")]);
    fixture.append(&["a"]);
    fixture.topics.flush_due();
    assert_eq!(fixture.faults.calls(Op::SyncData, ".log"), 0);
    fixture.clock.advance(Duration::from_millis(500));
    fixture.topics.flush_due();
    assert_eq!(fixture.faults.calls(Op::SyncData, ".log"), 1);
    fixture.clock.advance(Duration::from_millis(500));
    fixture.topics.flush_due();
    assert_eq!(fixture.faults.calls(Op::SyncData, ".log"), 1);
    fixture.append(&["b"]);
    fixture.clock.advance(Duration::from_millis(500));
    fixture.topics.flush_due();
    assert_eq!(fixture.faults.calls(Op::SyncData, ".log"), 2);
}

#[test]
fn an_idle_log_awaits_no_flush() {
    let fixture = Fixture::new(&[("flush.ms", "1000")]);
    assert!(!fixture.topics.awaits_flush());
    fixture.append(&["a"]);
    assert!(fixture.topics.awaits_flush());
    // Flushed, but the recovery points are not written yet.
    fixture.clock.advance(Duration::from_secs(2));
    fixture.topics.flush_due();
    assert!(fixture.topics.awaits_flush());
    fixture.clock.advance(Duration::from_secs(60));
    fixture.topics.flush_due();
    assert!(!fixture.topics.awaits_flush());
    let points = fixture.dir.path().join("recovery-point-offset-checkpoint");
    assert_eq!(std::fs::read_to_string(points).unwrap(), "0\n1\nt 0 1\n");
}

#[test]
fn a_retried_batch_is_stored_once_across_restarts_and_crashes() {
    let mut fixture = Fixture::new(SMALL_SEGMENTS);
    let mut appended = Vec::new();
    for sequence in 0..10 {
        let batch = idempotent(7, sequence, &format!("v{sequence}"));
        appended.push(
            fixture
                .partition()
                .append_unflushed(vec![batch], ACKS_LEADER)
                .unwrap(),
        );
    }
    let check = |fixture: &Fixture| {
        for sequence in 5..10 {
            let batch = idempotent(7, sequence, &format!("v{sequence}"));
            let again = fixture
                .partition()
                .append_unflushed(vec![batch], ACKS_ALL)
                .unwrap();
            assert!(again.duplicate);
            assert_eq!(again.base_offset, appended[sequence as usize].base_offset);
        }
        assert!(matches!(
            fixture
                .partition()
                .append_unflushed(vec![idempotent(7, 11, "gap")], ACKS_ALL),
            Err(Error::OutOfOrderSequence {
                expected: 10,
                got: 11,
                ..
            })
        ));
    };
    check(&fixture);
    fixture.restart();
    check(&fixture);
    fixture.crash();
    check(&fixture);
    fixture.restart();
    fixture.restart();
    check(&fixture);
    fixture
        .partition()
        .append_unflushed(vec![idempotent(7, 10, "v10")], ACKS_ALL)
        .unwrap();
}

#[test]
fn records_are_found_by_their_timestamp() {
    let mut fixture = Fixture::new(SMALL_SEGMENTS);
    let partition = fixture.partition();
    for n in 0..50 {
        let batch = batch_at(NOW_MS + n * 10, &["first", "second"]);
        partition
            .append_unflushed(vec![batch], ACKS_LEADER)
            .unwrap();
    }
    for _ in 0..2 {
        let partition = fixture.partition();
        for n in 0..50 {
            let found = partition
                .find_timestamp(NOW_MS + n * 10 - 5)
                .unwrap()
                .unwrap();
            assert_eq!((found.offset, found.timestamp_ms), (n * 2, NOW_MS + n * 10));
        }
        assert_eq!(partition.find_timestamp(NOW_MS + 491).unwrap(), None);
        let newest = partition.find_max_timestamp().unwrap().unwrap();
        assert_eq!((newest.offset, newest.timestamp_ms), (98, NOW_MS + 490));
        fixture.restart();
    }
}

#[test]
fn a_search_by_timestamp_caches_nothing_above_the_high_watermark() {
    let fixture = Fixture::new(&[("internal.segment.bytes", "256")]);
    let partition = fixture.partition();
    let append = |timestamp_ms, acks| {
        let batch = batch_at(timestamp_ms, &[&"x".repeat(50)]);
        partition.append_unflushed(vec![batch], acks).unwrap()
    };
    append(NOW_MS, ACKS_LEADER);
    let held = append(NOW_MS + 200, ACKS_ALL);
    append(NOW_MS + 300, ACKS_ALL);
    assert_eq!(partition.snapshot().segments, 2);
    let search = || partition.find_timestamp(NOW_MS + 100).unwrap();
    assert_eq!(search(), None);
    partition.flush().unwrap();
    let found = search().map(|found| found.offset);
    assert_eq!(found, Some(held.base_offset));
}

#[test]
fn deleting_records_moves_the_start_for_good_and_frees_segments() {
    let mut fixture = Fixture::new(SMALL_SEGMENTS);
    for n in 0..40 {
        fixture.append(&[&format!("value-{n}")]);
    }
    let before = files(&fixture.log_dir(), ".log").len();
    assert_eq!(fixture.partition().delete_records(22).unwrap(), 22);
    assert_eq!(fixture.partition().delete_records(3).unwrap(), 22);
    assert!(files(&fixture.log_dir(), ".log").len() < before);
    for _ in 0..2 {
        assert_eq!(fixture.values()[0], (22, "value-22".to_string()));
        assert!(matches!(
            fixture.partition().read_now(ReadOptions::at(21, 100)),
            Err(Error::OffsetOutOfRange { log_start: 22, .. })
        ));
        fixture.restart();
    }
    fixture.crash();
    assert_eq!(fixture.partition().offsets().log_start, 22);
    assert!(fixture.partition().delete_records(41).is_err());
    assert_eq!(fixture.partition().delete_records(40).unwrap(), 40);
    assert_eq!(fixture.values(), []);
    fixture.restart();
    assert_eq!(fixture.append(&["next"]).base_offset, 40);
}

#[test]
fn deleting_unflushed_segments_does_not_fail_the_next_flush() {
    let fixture = Fixture::new(SMALL_SEGMENTS);
    let partition = fixture.partition();
    for _ in 0..20 {
        fixture.append(&["0123456789"]);
    }
    partition.delete_records(15).unwrap();
    partition.flush().unwrap();
    fixture.topics.health().unwrap();
}

#[test]
fn retention_by_time_deletes_whole_segments_and_finally_the_active_one() {
    let mut fixture = Fixture::new(&[("internal.segment.bytes", "400"), ("retention.ms", "1000")]);
    for n in 0..20 {
        let batch = batch_at(NOW_MS + n * 100, &["0123456789"]);
        fixture
            .partition()
            .append_unflushed(vec![batch], ACKS_LEADER)
            .unwrap();
    }
    fixture.topics.retain(NOW_MS + 1_000);
    assert_eq!(fixture.partition().offsets().log_start, 0);
    fixture.topics.retain(NOW_MS + 2_000);
    let start = fixture.partition().offsets().log_start;
    assert!((1..=10).contains(&start), "{start}");
    assert_eq!(fixture.values()[0].0, start);
    fixture.topics.retain(NOW_MS + 10_000);
    assert_eq!(fixture.values(), []);
    assert_eq!(fixture.partition().snapshot().size_bytes, 0);
    fixture.topics.retain(NOW_MS + 10_000);
    fixture.restart();
    assert_eq!(fixture.append(&["next"]).base_offset, 20);
    fixture.crash();
    assert_eq!(fixture.values(), [(20, "next".to_string())]);
}

#[test]
fn records_without_a_timestamp_are_as_old_as_their_file() {
    let fixture = Fixture::new(&[("internal.segment.bytes", "256"), ("retention.ms", "1000")]);
    for _ in 0..10 {
        let batch = batch_at(-1, &["0123456789"]);
        let partition = fixture.partition();
        partition
            .append_unflushed(vec![batch], ACKS_LEADER)
            .unwrap();
    }
    let written_at = SystemTime::UNIX_EPOCH + Duration::from_millis(NOW_MS as u64);
    for log in files(&fixture.log_dir(), ".log") {
        let log = std::fs::File::open(log).unwrap();
        log.set_modified(written_at).unwrap();
    }
    fixture.topics.retain(NOW_MS + 1_000);
    assert_eq!(fixture.partition().offsets().log_start, 0);
    fixture.topics.retain(NOW_MS + 1_001);
    assert_eq!(fixture.partition().offsets().log_start, 10);
}

#[test]
fn retention_keeps_records_above_the_high_watermark() {
    let fixture = Fixture::new(&[("retention.ms", "1000")]);
    let partition = fixture.partition();
    let appended = partition
        .append_unflushed(vec![batch(&["a"])], ACKS_ALL)
        .unwrap();
    let later = NOW_MS + 60_000;
    fixture.topics.retain(later);
    assert_eq!(partition.offsets().log_start, 0);
    block_on(partition.wait_durable(appended.last_offset + 1)).unwrap();
    fixture.topics.retain(later);
    assert_eq!(partition.offsets().log_start, 1);
}

#[test]
fn a_deleted_topic_is_removed_from_disk_and_metrics_and_its_name_is_free() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["old"]);
    let render =
        |fixture: &Fixture| PrometheusHandle::new(fixture.metrics.clone()).render(Format::Text);
    assert!(render(&fixture).contains(r#"streamline_records_total{topic="t",partition="0"} 1"#));
    fixture.topics.delete("t").unwrap();
    assert!(!render(&fixture).contains(r#"topic="t""#));
    assert!(fixture.topics.get("t").is_none());
    assert!(!fixture.log_dir().exists());
    fixture.spec.id = Uuid::new_v4();
    fixture.topics.create(fixture.spec.clone()).unwrap();
    assert_eq!(fixture.values(), []);
    fixture.append(&["new"]);
    fixture.restart();
    assert_eq!(fixture.values(), expected(&["new"]));
    assert_eq!(
        files(fixture.dir.path(), "-delete"),
        Vec::<std::path::PathBuf>::new()
    );
}

#[test]
fn a_log_of_another_topic_of_the_same_name_is_renamed() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["old"]);
    fixture.topics.close().unwrap();
    fixture.spec.id = Uuid::new_v4();
    std::fs::remove_file(fixture.dir.path().join("recovery-point-offset-checkpoint")).unwrap();
    fixture.crash();
    assert_eq!(fixture.values(), []);
    assert_eq!(files(fixture.dir.path(), "-stray").len(), 1);
}

#[test]
fn partitions_are_added_and_never_removed() {
    let mut fixture = Fixture::new(&[]);
    fixture.topics.add_partitions("t", 3).unwrap();
    let topic = fixture.topics.get("t").unwrap();
    assert_eq!(topic.partition_count(), 3);
    let partition = fixture.topics.partition("t", 2).unwrap();
    partition
        .append_unflushed(vec![batch(&["a"])], ACKS_LEADER)
        .unwrap();
    assert!(matches!(
        fixture.topics.add_partitions("t", 2),
        Err(Error::InvalidPartitionCount {
            have: 3,
            want: 2,
            ..
        })
    ));
    fixture.topics.close().unwrap();
    let found = data_dir::scan(&Fs::new(), fixture.dir.path()).unwrap();
    assert_eq!(
        found,
        [FoundTopic {
            name: "t".to_string(),
            id: fixture.spec.id,
            partitions: 3
        }]
    );
    fixture.spec.partitions = 3;
    fixture.crash();
    let partition = fixture.topics.partition("t", 2).unwrap();
    assert_eq!(read_all(&partition), expected(&["a"]));
}

#[test]
fn leader_epochs_of_an_adopted_log_continue() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["a"]);
    fixture.topics.close().unwrap();
    let checkpoint = fixture.log_dir().join("leader-epoch-checkpoint");
    std::fs::write(checkpoint, "0\n2\n0 0\n5 1\n").unwrap();
    fixture.crash();
    fixture.append(&["b"]);
    assert_eq!(fixture.partition().leader_epoch().unwrap(), 5);
    assert_eq!(fixture.partition().end_offset_for_epoch(5).unwrap(), (5, 2));
    assert_eq!(fixture.partition().end_offset_for_epoch(3).unwrap(), (0, 1));
    assert_eq!(
        fixture.partition().end_offset_for_epoch(6).unwrap(),
        (-1, -1)
    );
    assert_eq!(fixture.values(), expected(&["a", "b"]));
}

#[test]
fn a_flush_by_count_is_waited_for_with_any_durability() {
    let fixture = Fixture::with_durability(Durability::Os, &[("flush.messages", "1")]);
    let partition = fixture.partition();
    let appended = partition
        .append_unflushed(vec![batch(&["a"])], ACKS_LEADER)
        .unwrap();
    block_on(partition.wait_durable(appended.last_offset + 1)).unwrap();
    assert_eq!(fixture.faults.calls(Op::SyncData, ".log"), 1);
}

#[test]
fn a_flush_by_count_happens_without_a_waiter() {
    for durability in [Durability::Os, Durability::Acks] {
        let fixture = Fixture::with_durability(durability, &[("flush.messages", "3")]);
        fixture.append(&["a", "b"]);
        fixture.topics.flush_due();
        assert_eq!(fixture.partition().durable_offset(), 0);
        fixture.append(&["c"]);
        fixture.topics.flush_due();
        assert_eq!(fixture.partition().durable_offset(), 3);
    }
}

#[test]
fn records_a_killed_process_may_have_acknowledged_are_flushed_by_the_next_one() {
    let mut fixture = Fixture::new(&[]);
    let promised = fixture
        .partition()
        .append_unflushed(vec![batch(&["a"])], ACKS_ALL);
    assert_eq!(promised.unwrap().base_offset, 0);
    fixture.crash();
    // Readers see the record, and what they write because of it may be durable before it is.
    assert_eq!(fixture.values(), expected(&["a"]));
    fixture.topics.flush_due();
    assert_eq!(fixture.partition().durable_offset(), 1);
}
