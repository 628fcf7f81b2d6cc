//! Compaction: what it keeps, across restarts, failures of the disk and of the power.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::fs::Disk;
use crate::record::{BatchHeader, Record};
use crate::storage::TransactionMarker;
use crate::storage::TransactionOutcome::{self, Abort, Commit};
use crate::storage::committed_reader::committed_records;

/// Settings with which every closed segment is compacted at once.
const COMPACTED: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("internal.segment.bytes", "400"),
    ("index.interval.bytes", "100"),
    ("min.cleanable.dirty.ratio", "0"),
    ("delete.retention.ms", "1000"),
];

const UNCLEANABLE: &str = "streamline_compaction_uncleanable_partitions";

/// The same, with segments that hold all records of a test up to [`Fixture::roll`].
fn one_segment() -> Vec<(&'static str, &'static str)> {
    [COMPACTED, &[("internal.segment.bytes", "4000")]].concat()
}

/// A record: offset, key, value.
type Found = (i64, String, Option<String>);

fn keyed(key: &str, value: Option<&str>) -> RecordBatch {
    keyed_batch(BatchBuilder::new(Compression::None), &[(key, value)])
}

fn keyed_batch(mut builder: BatchBuilder, records: &[(&str, Option<&str>)]) -> RecordBatch {
    for (key, value) in records {
        let value = value.map(str::as_bytes);
        builder.push(NOW_MS, Some(key.as_bytes()), value, &[]);
    }
    builder.build().unwrap()
}

/// Reads all batches of a log, those without records included.
fn read_batches(partition: &Arc<Partition>) -> Vec<RecordBatch> {
    let mut found = Vec::new();
    let mut offset = partition.offsets().log_start;
    while let Some(records) = partition
        .read_now(ReadOptions::at(offset, 300))
        .unwrap()
        .records
    {
        let mut bytes = records.to_bytes().unwrap();
        while !bytes.is_empty() {
            let size = BatchHeader::read(&bytes).unwrap().size_bytes();
            let batch = RecordBatch::parse_stored(bytes.split_to(size)).unwrap();
            offset = batch.header().next_offset();
            found.push(batch);
        }
    }
    assert_eq!(offset, partition.offsets().high_watermark);
    found
}

fn records_of(batches: &[RecordBatch]) -> Vec<Found> {
    let data = batches
        .iter()
        .filter(|batch| !batch.header().attributes.is_control());
    let records = data.flat_map(|batch| {
        let records = batch.records(DecompressLimit::default()).unwrap();
        records.map(|record| record.unwrap())
    });
    records.map(|record| found(&record)).collect()
}

fn found(record: &Record) -> Found {
    let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let key = text(record.key.as_ref().unwrap());
    (record.offset, key, record.value.as_ref().map(text))
}

/// The last value of each key.
fn last_values(records: &[Found]) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (_, key, value) in records {
        match value {
            Some(value) => values.insert(key.clone(), value.clone()),
            None => values.remove(key),
        };
    }
    values
}

impl Fixture {
    fn put(&self, key: &str, value: Option<&str>) -> Appended {
        self.put_batch(keyed(key, value))
    }

    fn put_batch(&self, batch: RecordBatch) -> Appended {
        self.partition()
            .append_unflushed(vec![batch], ACKS_LEADER)
            .unwrap()
    }

    /// Fills the active segment, so that everything before can be compacted.
    fn roll(&self) {
        let config = self.partition().topic().config();
        let long = "x".repeat(config.segment_bytes_max() as usize * 3 / 4);
        self.put("roll", Some(&long));
        self.put("roll", Some(&long));
    }

    fn records(&self) -> Vec<Found> {
        records_of(&read_batches(&self.partition()))
    }

    /// Returns the offsets of the records of other keys than those that [`roll`](Self::roll) writes.
    fn offsets(&self) -> Vec<i64> {
        let records = self.records().into_iter();
        records
            .filter(|(_, key, _)| key != "roll")
            .map(|record| record.0)
            .collect()
    }

    fn sample(&self, name: &str) -> f64 {
        let text = PrometheusHandle::new(Arc::clone(&self.metrics)).render(Format::Text);
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }
}

#[test]
fn the_latest_record_of_each_key_is_left_at_its_offset() {
    let mut fixture = Fixture::new(COMPACTED);
    for n in 0..30 {
        fixture.put(["a", "b", "c"][n % 3], Some(&format!("{n}")));
    }
    fixture.roll();
    let segments = fixture.partition().snapshot().segments;
    assert!(fixture.topics.compact());
    assert!(
        !fixture.topics.compact(),
        "there is nothing left to compact"
    );
    assert_eq!(fixture.offsets(), [27, 28, 29]);
    let last = BTreeMap::from([("a", "27"), ("b", "28"), ("c", "29")]);
    for (key, value) in last {
        assert_eq!(last_values(&fixture.records())[key], value);
    }
    assert_eq!(fixture.partition().offsets().log_end, 32);
    assert_eq!(
        fixture.sample("streamline_compaction_removed_records_total"),
        27.0
    );
    // Of a segment whose records are all superseded, an empty batch is left until the next compaction.
    fixture.roll();
    assert!(fixture.topics.compact());
    assert!(fixture.partition().snapshot().segments < segments);
    for reopen in [Fixture::restart, Fixture::crash] {
        reopen(&mut fixture);
        assert_eq!(fixture.offsets(), [27, 28, 29]);
    }
    assert_eq!(fixture.damaged_ranges(), 0);
    assert!(!fixture.topics.compact(), "the checkpoint has the offset");
    assert_eq!(
        files(fixture.dir.path(), "cleaner-offset-checkpoint").len(),
        1
    );
    assert_eq!(files(&fixture.log_dir(), ".cleaned").len(), 0);
}

#[test]
fn offsets_in_gaps_and_timestamps_are_found_after_compaction() {
    let mut fixture = Fixture::new(&one_segment());
    let put = |builder: BatchBuilder, timestamp_ms| {
        let mut builder = builder;
        builder.push(timestamp_ms, Some(b"k"), Some(b"v"), &[]);
        fixture.put_batch(builder.build().unwrap());
    };
    for n in 0..10 {
        put(BatchBuilder::new(Compression::None), NOW_MS + n * 10);
    }
    // The last batch of a producer is kept without its record, which had the largest timestamp.
    put(
        BatchBuilder::new(Compression::None).producer(7, 0, 0),
        NOW_MS + 900,
    );
    put(BatchBuilder::new(Compression::None), NOW_MS + 200);
    fixture.roll();
    fixture.topics.compact();
    fixture.restart();
    let partition = fixture.partition();
    for offset in 0..12 {
        let fetched = partition.read_now(ReadOptions::at(offset, 1)).unwrap();
        let bytes = fetched.records.unwrap().to_bytes().unwrap();
        let header = BatchHeader::read(&bytes).unwrap();
        assert_eq!(header.last_offset(), if offset < 11 { 10 } else { 11 });
    }
    let found = partition.find_timestamp(NOW_MS + 1).unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp_ms), (11, NOW_MS + 200));
    let newest = partition.find_max_timestamp().unwrap().unwrap();
    assert_eq!(newest.offset, 11);
}

#[test]
fn a_tombstone_is_kept_for_its_time_and_then_dropped() {
    let fixture = Fixture::new(COMPACTED);
    fixture.put("a", Some("1"));
    fixture.put("a", None);
    fixture.put("b", Some("2"));
    fixture.roll();
    assert!(fixture.topics.compact());
    assert_eq!(fixture.offsets(), [1, 2]);
    let tombstone = &read_batches(&fixture.partition())[0];
    let horizon = tombstone.header().delete_horizon_ms();
    assert_eq!(horizon, Some(NOW_MS + 1_000));
    for (advance_ms, left) in [(999, vec![1, 2]), (1, vec![2])] {
        fixture.clock.advance(Duration::from_millis(advance_ms));
        fixture.roll();
        assert!(fixture.topics.compact());
        assert_eq!(fixture.offsets(), left);
    }
}

#[test]
fn the_last_batch_of_a_producer_is_kept_without_records() {
    let mut fixture = Fixture::new(COMPACTED);
    let numbered = |sequence| {
        let builder = BatchBuilder::new(Compression::None).producer(7, 0, sequence);
        keyed_batch(builder, &[("a", Some("1"))])
    };
    for sequence in 0..3 {
        fixture.put_batch(numbered(sequence));
    }
    for _ in 0..5 {
        fixture.put("a", Some("2"));
    }
    fixture.roll();
    assert!(fixture.topics.compact());
    assert_eq!(fixture.offsets(), [7]);
    let batches = read_batches(&fixture.partition());
    let kept = batches[0].header();
    assert_eq!((kept.record_count, kept.last_offset()), (0, 2));
    for reopen in [Fixture::restart, Fixture::crash] {
        reopen(&mut fixture);
        let snapshots = files(&fixture.log_dir(), ".snapshot");
        for snapshot in snapshots {
            std::fs::write(snapshot, "corrupt").unwrap();
        }
        fixture.crash();
        assert!(fixture.put_batch(numbered(2)).duplicate);
        let appended = fixture.partition();
        let gap = appended.append_unflushed(vec![numbered(4)], ACKS_LEADER);
        assert!(matches!(gap, Err(Error::OutOfOrderSequence { .. })));
    }
    assert!(!fixture.put_batch(numbered(3)).duplicate);
}

#[test]
fn a_log_with_more_keys_than_memory_is_compacted_in_several_passes() {
    let fixture = Fixture::new(COMPACTED);
    let keys: Vec<String> = (0..40).map(|key| format!("key-{key}")).collect();
    for round in ["1", "2"] {
        for key in &keys {
            fixture.put(key, Some(round));
        }
    }
    fixture.roll();
    let small = CompactionOptions {
        dedupe_buffer_bytes: 24 * 12,
        ..CompactionOptions::default()
    };
    let fixture = fixture.reopen_with(small);
    let mut passes = 0;
    while fixture.topics.compact() {
        passes += 1;
    }
    assert!(passes > 5, "{passes}");
    assert_eq!(fixture.offsets(), (40..80).collect::<Vec<_>>());
}

impl Fixture {
    fn reopen_with(mut self, compaction: CompactionOptions) -> Self {
        self.topics.close().unwrap();
        let options = StorageOptions {
            compaction,
            fs: Fs::with_faults(Arc::clone(&self.faults)),
            ..StorageOptions::new(self.dir.path(), self.durability)
        };
        let clock: Arc<dyn crate::clock::Clock> = self.clock.clone();
        let metrics = Arc::clone(&self.metrics);
        let specs = vec![self.spec.clone()];
        self.topics = LocalEngine::open(options, specs, clock, metrics).unwrap();
        let collector = Arc::new(Arc::downgrade(&self.topics));
        self.metrics.register(collector);
        self
    }
}

#[test]
fn young_records_and_those_that_await_a_flush_are_not_compacted() {
    let with_lag = [COMPACTED, &[("min.compaction.lag.ms", "5000")]].concat();
    let fixture = Fixture::new(&with_lag);
    for _ in 0..10 {
        fixture.put("a", Some("1"));
    }
    fixture.roll();
    assert!(!fixture.topics.compact());
    fixture.clock.advance(Duration::from_millis(5_000));
    assert!(fixture.topics.compact());

    let fixture = Fixture::new(COMPACTED);
    let partition = fixture.partition();
    for _ in 0..10 {
        let batch = vec![keyed("a", Some("1"))];
        partition.append_unflushed(batch, ACKS_ALL).unwrap();
    }
    fixture.roll();
    assert!(!fixture.topics.compact());
    partition.flush().unwrap();
    assert!(fixture.topics.compact());
}

#[test]
fn a_log_is_due_by_its_dirty_ratio_or_by_age() {
    let settings = [
        ("cleanup.policy", "compact"),
        ("internal.segment.bytes", "400"),
        ("min.cleanable.dirty.ratio", "0.9"),
        ("max.compaction.lag.ms", "60000"),
    ];
    let fixture = Fixture::new(&settings);
    for n in 0..40 {
        fixture.put(&format!("{n}"), Some("1"));
    }
    fixture.roll();
    assert!(fixture.topics.compact(), "all of it is dirty");
    fixture.roll();
    assert!(!fixture.topics.compact());
    assert!(fixture.sample("streamline_compaction_max_dirty_ratio") < 0.9);
    assert!(fixture.sample("streamline_compaction_dirty_bytes{topic=\"t\"}") > 0.0);
    fixture.clock.advance(Duration::from_millis(60_001));
    assert!(fixture.topics.compact());
    assert!(!fixture.topics.compact());
}

#[test]
fn a_topic_that_is_not_compacted_keeps_its_records() {
    let fixture = Fixture::new(&[("cleanup.policy", ""), ("internal.segment.bytes", "400")]);
    for _ in 0..10 {
        fixture.put("a", Some("1"));
    }
    fixture.roll();
    assert!(!fixture.topics.compact());
    assert_eq!(fixture.offsets().len(), 10);
}

#[test]
fn retention_deletes_segments_of_a_log_that_is_compacted_too() {
    let both = [
        COMPACTED,
        &[
            ("cleanup.policy", "compact,delete"),
            ("retention.ms", "1000"),
        ],
    ]
    .concat();
    let fixture = Fixture::new(&both);
    for n in 0..10 {
        fixture.put(&format!("{n}"), Some("1"));
    }
    fixture.roll();
    assert!(fixture.topics.compact());
    fixture.clock.advance(Duration::from_millis(2_000));
    fixture.topics.retain(NOW_MS + 2_000);
    assert_eq!(fixture.records(), []);
    let offsets = fixture.partition().offsets();
    assert_eq!(offsets.log_start, offsets.log_end);
    fixture.put("a", Some("1"));
    fixture.roll();
    assert!(fixture.topics.compact());
    assert_eq!(fixture.offsets(), [offsets.log_end]);
}

#[test]
fn a_reader_of_a_segment_that_is_replaced_goes_on() {
    let fixture = Fixture::new(&one_segment());
    for n in 0..30 {
        fixture.put(["a", "b"][n % 2], Some(&format!("{n}")));
    }
    fixture.roll();
    let partition = fixture.partition();
    let in_place = ReadOptions {
        in_place: true,
        ..ReadOptions::at(0, 150)
    };
    let before = partition.read_now(in_place).unwrap().records.unwrap();
    let content = before.to_bytes().unwrap();
    assert!(fixture.topics.compact());
    assert_eq!(before.to_bytes().unwrap(), content);
    let last = BatchHeader::read(&content).unwrap();
    let next = partition.read_now(ReadOptions::at(last.next_offset(), 1));
    let bytes = next.unwrap().records.unwrap().to_bytes().unwrap();
    assert_eq!(BatchHeader::read(&bytes).unwrap().last_offset(), 28);
}

#[test]
fn a_corrupt_segment_stops_the_compaction_of_its_log_until_it_is_repaired() {
    let mut fixture = Fixture::new(COMPACTED);
    for _ in 0..20 {
        fixture.put("a", Some("1"));
    }
    fixture.roll();
    fixture.restart();
    let log = files(&fixture.log_dir(), ".log").remove(1);
    let mut content = std::fs::read(&log).unwrap();
    content[65] ^= 1;
    std::fs::write(&log, content).unwrap();
    assert!(fixture.topics.compact());
    assert!(!fixture.topics.compact());
    assert_eq!(fixture.sample(UNCLEANABLE), 1.0);
    assert_eq!(files(&fixture.log_dir(), ".cleaned").len(), 0);
    let lost = 1;
    assert_eq!(fixture.offsets().len(), 20 - lost);
    fixture.clock.advance(Duration::from_secs(15 * 60));
    assert!(fixture.topics.compact());
    assert_eq!(fixture.offsets(), [19]);
    assert_eq!(fixture.sample(UNCLEANABLE), 0.0);
}

#[test]
fn a_full_disk_is_left_to_the_records() {
    let fixture = Fixture::with_reserve(65_536, Durability::Acks, COMPACTED);
    for _ in 0..20 {
        fixture.put("a", Some("1"));
    }
    fixture.roll();
    let before = fixture.records();
    fixture.faults.limit_space(10_000);
    assert!(!fixture.topics.compact());
    assert_eq!(fixture.records(), before);
    assert_eq!(files(&fixture.log_dir(), ".cleaned").len(), 0);
    fixture.faults.heal();
    assert!(fixture.topics.compact());
    assert_eq!(fixture.offsets(), [19]);
}

#[test]
fn a_failed_compaction_leaves_the_log_and_no_files() {
    for (op, path_part) in [
        (Op::Write, ".cleaned"),
        (Op::SyncData, ".cleaned"),
        (Op::Rename, ".cleaned"),
        (Op::SyncDir, "t-0"),
        (Op::Rename, ".swap"),
        (Op::Read, ".log"),
    ] {
        let mut fixture = Fixture::new(COMPACTED);
        for n in 0..20 {
            fixture.put(["a", "b"][n % 2], Some(&format!("{n}")));
        }
        fixture.roll();
        fixture.partition().flush().unwrap();
        let values = last_values(&fixture.records());
        let fault = Fault::Error(ErrorKind::Other);
        fixture.faults.plan(op, path_part, fault, 1);
        fixture.topics.compact();
        assert_eq!(last_values(&fixture.records()), values, "{op:?}");
        assert_eq!(files(&fixture.log_dir(), ".cleaned").len(), 0, "{op:?}");
        fixture.crash();
        assert_eq!(last_values(&fixture.records()), values, "{op:?}");
        fixture.topics.compact();
        assert_eq!(fixture.offsets(), [18, 19], "{op:?}");
        assert_eq!(files(&fixture.log_dir(), ".swap").len(), 0, "{op:?}");
    }
}

/// Waits until the compaction hangs at this call, runs `meanwhile`, and lets it continue.
fn while_hanging(fixture: &Fixture, op: Op, path_part: &str, meanwhile: impl FnOnce()) {
    fixture.faults.plan(op, path_part, Fault::Hang, 1);
    std::thread::scope(|scope| {
        let compaction = scope.spawn(|| fixture.topics.compact());
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while fixture.faults.calls(op, path_part) == 0 {
            assert!(std::time::Instant::now() < deadline, "nothing is compacted");
            std::thread::yield_now();
        }
        meanwhile();
        fixture.faults.heal();
        compaction.join().unwrap();
    });
}

#[test]
fn appends_reads_and_deletions_do_not_wait_for_a_compaction() {
    let fixture = Fixture::new(COMPACTED);
    for n in 0..20 {
        fixture.put(["a", "b"][n % 2], Some("1"));
    }
    fixture.roll();
    while_hanging(&fixture, Op::Write, ".cleaned", || {
        fixture.put("a", Some("2"));
        assert!(fixture.records().len() > 20);
        fixture.partition().delete_records(10).unwrap();
    });
    // It ended since its segments were deleted.
    assert_eq!(fixture.offsets().len(), 11);
    assert!(fixture.topics.compact());
    assert_eq!(files(&fixture.log_dir(), ".cleaned").len(), 0);
    let values = last_values(&fixture.records());
    assert_eq!((&*values["a"], &*values["b"]), ("2", "1"));
}

#[test]
fn a_topic_deleted_during_its_compaction_leaves_a_new_one_of_its_name_alone() {
    let fixture = Fixture::new(COMPACTED);
    for _ in 0..20 {
        fixture.put("a", Some("1"));
    }
    fixture.roll();
    while_hanging(&fixture, Op::Write, ".cleaned", || {
        fixture.topics.delete("t").unwrap();
        let renewed = TopicSpec {
            id: Uuid::new_v4(),
            ..fixture.spec.clone()
        };
        fixture.topics.create(renewed).unwrap();
        for _ in 0..20 {
            fixture.put("a", Some("2"));
        }
    });
    assert_eq!(fixture.offsets().len(), 20);
    fixture.roll();
    assert!(fixture.topics.compact());
    assert_eq!(fixture.offsets(), [19]);
    assert_eq!(files(&fixture.log_dir(), ".cleaned").len(), 0);
}

#[test]
fn a_new_topic_does_not_inherit_the_cleaner_offset_of_a_deleted_one() {
    let fixture = Fixture::new(COMPACTED);
    for _ in 0..20 {
        fixture.put("a", Some("1"));
    }
    fixture.roll();
    assert!(fixture.topics.compact());
    fixture.topics.delete("t").unwrap();
    let checkpoint = fixture.dir.path().join("cleaner-offset-checkpoint");
    assert_eq!(std::fs::read_to_string(checkpoint).unwrap(), "0\n0\n");
}

#[test]
fn a_throttled_compaction_ends_when_the_engine_is_closed() {
    let fixture = Fixture::new(COMPACTED);
    for _ in 0..20 {
        fixture.put("a", Some("1"));
    }
    fixture.roll();
    let slow = CompactionOptions {
        io_bytes_per_second: 1.0,
        ..CompactionOptions::default()
    };
    let fixture = fixture.reopen_with(slow);
    std::thread::scope(|scope| {
        // The manual clock stands still, so that it waits for ever.
        let compaction = scope.spawn(|| fixture.topics.compact());
        while fixture.sample("streamline_compaction_read_bytes_total") == 0.0 {
            std::thread::yield_now();
        }
        assert!(fixture.sample("streamline_compaction_remaining_bytes") > 0.0);
        fixture.topics.close().unwrap();
        assert!(!compaction.join().unwrap());
    });
    assert!(!fixture.topics.compact());
}

fn transactional(id: i64, sequence: i32, records: &[(&str, Option<&str>)]) -> RecordBatch {
    let builder = BatchBuilder::new(Compression::None).producer(id, 0, sequence);
    keyed_batch(builder.transactional(), records)
}

impl Fixture {
    fn end_as(&self, producer_id: i64, outcome: TransactionOutcome) {
        let marker = TransactionMarker {
            producer_id,
            producer_epoch: 0,
            coordinator_epoch: 0,
            outcome,
        };
        block_on(self.partition().end_transaction(marker, ACKS_LEADER)).unwrap();
    }

    /// Returns the records that a reader of committed records sees.
    fn committed_records(&self) -> Vec<Found> {
        let records = committed_records(&*self.partition(), 300);
        records.iter().map(found).collect()
    }

    /// Returns the offsets of all batches that are not of [`roll`](Self::roll), and whether they are markers.
    fn batch_offsets(&self) -> Vec<(i64, bool)> {
        let batches = read_batches(&self.partition()).into_iter();
        let headers = batches.map(|batch| *batch.header());
        headers
            .filter(|header| header.producer_id >= 0)
            .map(|header| (header.last_offset(), header.attributes.is_control()))
            .collect()
    }
}

#[test]
fn aborted_records_supersede_none_and_markers_outlive_their_transactions() {
    let mut fixture = Fixture::new(&one_segment());
    fixture.put("a", Some("0"));
    fixture.put_batch(transactional(1, 0, &[("a", Some("1"))]));
    fixture.put_batch(transactional(2, 0, &[("b", Some("2"))]));
    fixture.end_as(1, Abort);
    fixture.put_batch(transactional(1, 1, &[("c", Some("4"))]));
    fixture.end_as(2, Commit);
    fixture.end_as(1, Commit);
    fixture.put_batch(transactional(2, 1, &[("d", Some("7"))]));
    fixture.end_as(2, Commit);
    fixture.put("b", Some("9"));
    fixture.roll();
    let expected = fixture.committed_records();
    let last = last_values(&expected);
    assert!(fixture.topics.compact());
    let found = fixture.committed_records();
    assert_eq!(last_values(&found), last);
    assert_eq!(fixture.offsets(), [0, 4, 7, 9]);
    let markers = [
        (3, true),
        (4, false),
        (5, true),
        (6, true),
        (7, false),
        (8, true),
    ];
    assert_eq!(fixture.batch_offsets(), markers);
    // Nothing is left of the transactions that ended at 3 and 5, so the next compaction sets a delete horizon.
    fixture.roll();
    assert!(fixture.topics.compact());
    assert_eq!(fixture.batch_offsets(), markers);
    fixture.clock.advance(Duration::from_millis(1_000));
    fixture.roll();
    assert!(fixture.topics.compact());
    let left = [(4, false), (6, true), (7, false), (8, true)];
    assert_eq!(fixture.batch_offsets(), left);
    assert_eq!(last_values(&fixture.committed_records()), last);
    for reopen in [Fixture::restart, Fixture::crash] {
        reopen(&mut fixture);
        let offsets = fixture.partition().offsets();
        assert_eq!(offsets.last_stable, offsets.log_end);
        assert_eq!(fixture.offsets(), [0, 4, 7, 9]);
    }
}

#[test]
fn an_open_transaction_limits_what_is_compacted() {
    let fixture = Fixture::new(COMPACTED);
    fixture.put_batch(transactional(1, 0, &[("a", Some("1"))]));
    for _ in 0..20 {
        fixture.put("a", Some("2"));
    }
    fixture.roll();
    assert!(!fixture.topics.compact());
    fixture.end_as(1, Abort);
    fixture.roll();
    assert!(fixture.topics.compact());
    assert_eq!(fixture.offsets(), [20]);
}

/// A compacted log on a disk that may lose power.
struct Machine {
    dir: TempDir,
    disk: Arc<Disk>,
    clock: Arc<ManualClock>,
    spec: TopicSpec,
}

impl Machine {
    /// Creates a log of which the first part is flushed.
    fn new() -> (Self, Arc<LocalEngine>) {
        let dir = scratch();
        let overrides = COMPACTED
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let machine = Self {
            disk: Disk::new(&dir.path().canonicalize().unwrap()),
            dir,
            clock: ManualClock::at_ms(NOW_MS),
            spec: TopicSpec {
                name: "t".to_string(),
                id: Uuid::new_v4(),
                partitions: 1,
                config: TopicConfig::default().apply(&overrides.collect()).unwrap(),
            },
        };
        let topics = machine.open(&machine.disk, machine.dir.path(), vec![]);
        topics.create(machine.spec.clone()).unwrap();
        let partition = topics.partition("t", 0).unwrap();
        let append = |key, value: &str| {
            let batch = vec![keyed(key, Some(value))];
            partition.append_unflushed(batch, ACKS_LEADER).unwrap();
        };
        append("old", "1");
        append("old", "2");
        for n in 0..12 {
            append(["a", "b", "c"][n % 3], &format!("{n}"));
        }
        partition.flush().unwrap();
        // Superseded by a record that is not flushed.
        for n in 12..24 {
            append(["a", "b", "c"][n % 3], &format!("{n}"));
        }
        append("active", &"x".repeat(300));
        append("active", &"y".repeat(300));
        (machine, topics)
    }

    fn open(&self, disk: &Arc<Disk>, root: &Path, specs: Vec<TopicSpec>) -> Arc<LocalEngine> {
        let root = root.canonicalize().unwrap();
        let options = StorageOptions {
            fs: Fs::on_disk(Arc::clone(disk), Faults::new()),
            ..StorageOptions::new(root.join("data"), Durability::Acks)
        };
        let clock: Arc<dyn crate::clock::Clock> = self.clock.clone();
        LocalEngine::open(options, specs, clock, Metrics::new(true)).unwrap()
    }
}

/// Power fails at each change that a compaction makes to the disk. No key loses the value that was flushed before, and no
/// value goes back.
#[test]
fn a_compaction_interrupted_by_a_power_failure_loses_no_key() {
    let (mut before, mut after) = (0, 0);
    for changes in 0.. {
        let mut completed = false;
        for luck in 0..5_u64 {
            let (machine, topics) = Machine::new();
            machine.disk.fail_power_after(changes);
            completed = topics.compact() && !machine.disk.is_off();
            let left = scratch();
            let root = left.path().canonicalize().unwrap();
            let mut step = luck;
            let mut choose = |count: u64| {
                step += 1;
                match luck {
                    0 | 1 => luck.min(count - 1),
                    _ => step.wrapping_mul(0x9e37_79b9) % count,
                }
            };
            let disk = machine.disk.after_power_loss(&root, &mut choose).unwrap();
            for _ in 0..2 {
                let topics = machine.open(&disk, &root, vec![machine.spec.clone()]);
                let partition = topics.partition("t", 0).unwrap();
                let records = records_of(&read_batches(&partition));
                let offsets: BTreeSet<i64> = records.iter().map(|record| record.0).collect();
                assert_eq!(offsets.len(), records.len());
                let values = last_values(&records);
                assert_eq!(values["old"], "2");
                for (key, flushed) in [("a", 9), ("b", 10), ("c", 11)] {
                    let value: i32 = values[key].parse().unwrap();
                    assert!(
                        value >= flushed,
                        "{changes} changes, luck {luck}: {values:?}"
                    );
                }
                match offsets.contains(&0) {
                    true => before += 1,
                    false => after += 1,
                }
                let dir = root.join("data/t-0");
                for extension in [".cleaned", ".swap", ".damaged"] {
                    assert_eq!(files(&dir, extension).len(), 0);
                }
                topics.compact();
                assert_eq!(last_values(&records_of(&read_batches(&partition))), values);
            }
        }
        if completed {
            break;
        }
    }
    assert!(before > 0 && after > 0);
}

#[derive(Debug, Clone)]
enum Step {
    Append {
        codec: Compression,
        producer: Option<i64>,
        /// Keys and whether they get a value.
        records: Vec<(u8, bool)>,
    },
    /// Appends to the transaction of a producer.
    AppendTo {
        producer: i64,
        records: Vec<(u8, bool)>,
    },
    End {
        producer: i64,
        is_committed: bool,
    },
    Compact,
    Restart,
    Crash,
    Advance(u64),
    DeleteRecords(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let codec = prop::sample::select(&Compression::ALL[..]);
    let records = vec((0..8_u8, prop::bool::weighted(0.8)), 1..6);
    let append = (codec, prop::option::of(0..3_i64), records);
    prop_oneof![
        12 => append.prop_map(|(codec, producer, records)| Step::Append { codec, producer, records }),
        6 => (3..5_i64, vec((0..8_u8, prop::bool::weighted(0.8)), 1..4))
            .prop_map(|(producer, records)| Step::AppendTo { producer, records }),
        6 => (3..5_i64, any::<bool>())
            .prop_map(|(producer, is_committed)| Step::End { producer, is_committed }),
        3 => Just(Step::Compact),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        1 => (0..1_500_u64).prop_map(Step::Advance),
        1 => any::<prop::sample::Index>().prop_map(Step::DeleteRecords),
    ]
}

/// A record or a marker that was appended.
#[derive(Debug, Clone)]
enum Sent {
    Record {
        record: Found,
        /// The producer whose transaction it is part of.
        transaction: Option<i64>,
        is_aborted: bool,
    },
    Marker,
}

/// Everything that was appended, by offset.
#[derive(Default)]
struct Sender {
    sent: Vec<Sent>,
    sequences: [i32; 5],
    /// First offsets of open transactions, by producer.
    open: BTreeMap<i64, usize>,
}

impl Sender {
    /// Builds the next batch of a producer.
    fn batch(
        &mut self,
        codec: Compression,
        producer: Option<i64>,
        is_transactional: bool,
        records: Vec<(u8, bool)>,
    ) -> RecordBatch {
        let mut builder = BatchBuilder::new(codec);
        if let Some(id) = producer {
            let sequence = &mut self.sequences[id as usize];
            builder = builder.producer(id, 0, *sequence);
            *sequence += records.len() as i32;
        }
        if is_transactional {
            builder = builder.transactional();
        }
        for (key, has_value) in records {
            let offset = self.sent.len() as i64;
            let (key, value) = (key.to_string(), has_value.then(|| offset.to_string()));
            let bytes = value.as_deref().map(str::as_bytes);
            builder.push(NOW_MS + offset % 7, Some(key.as_bytes()), bytes, &[]);
            self.sent.push(Sent::Record {
                record: (offset, key, value),
                transaction: producer.filter(|_| is_transactional),
                is_aborted: false,
            });
        }
        builder.build().unwrap()
    }

    /// Notes that a producer's transaction is ended.
    fn end(&mut self, producer: i64, outcome: TransactionOutcome) {
        let begun = self.open.remove(&producer);
        for sent in self.sent.iter_mut().skip(begun.unwrap_or(usize::MAX)) {
            if let Sent::Record {
                transaction,
                is_aborted,
                ..
            } = sent
                && *transaction == Some(producer)
            {
                *is_aborted = outcome == Abort;
            }
        }
        self.sent.push(Sent::Marker);
    }

    fn record(&self, offset: i64) -> Option<&Found> {
        match &self.sent[offset as usize] {
            Sent::Record { record, .. } => Some(record),
            Sent::Marker => None,
        }
    }

    /// Returns the last value of each key in a range of offsets without open transactions.
    fn last_values(&self, offsets: std::ops::Range<i64>) -> BTreeMap<String, String> {
        let sent = &self.sent[offsets.start as usize..offsets.end as usize];
        let committed = sent.iter().filter_map(|sent| match sent {
            Sent::Record {
                record,
                is_aborted: false,
                ..
            } => Some(record.clone()),
            _ => None,
        });
        last_values(&committed.collect::<Vec<_>>())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever happens, a reader of committed records finds the last value of each key, as a map of keys has it, and
    /// otherwise a part of the records that were appended, in their order.
    #[test]
    fn a_compacted_log_has_the_last_value_of_each_key(steps in vec(step(), 1..120)) {
        let mut fixture = Fixture::new(COMPACTED);
        let mut sender = Sender::default();
        for step in steps {
            match step {
                Step::Append { codec, producer, records } => {
                    let batch = sender.batch(codec, producer, false, records);
                    prop_assert!(!fixture.put_batch(batch).duplicate);
                }
                Step::AppendTo { producer, records } => {
                    let begun = sender.sent.len();
                    sender.open.entry(producer).or_insert(begun);
                    let batch = sender.batch(Compression::None, Some(producer), true, records);
                    prop_assert!(!fixture.put_batch(batch).duplicate);
                }
                Step::End { producer, is_committed } => {
                    let outcome = if is_committed { Commit } else { Abort };
                    fixture.end_as(producer, outcome);
                    sender.end(producer, outcome);
                }
                Step::Compact => while fixture.topics.compact() {},
                Step::Restart => fixture.restart(),
                Step::Crash => fixture.crash(),
                Step::Advance(ms) => fixture.clock.advance(Duration::from_millis(ms)),
                Step::DeleteRecords(index) => {
                    let before = index.index(sender.sent.len() + 1) as i64;
                    fixture.partition().delete_records(before).unwrap();
                    let log_start = fixture.partition().offsets().log_start;
                    prop_assert!(log_start >= before);
                }
            }
            let offsets = fixture.partition().offsets();
            prop_assert_eq!(offsets.log_end, sender.sent.len() as i64);
            let found = fixture.records();
            for record in &found {
                prop_assert_eq!(Some(record), sender.record(record.0));
            }
            prop_assert!(found.is_sorted_by(|one, other| one.0 < other.0));
            let expected = sender.last_values(offsets.log_start..offsets.last_stable);
            prop_assert_eq!(last_values(&fixture.committed_records()), expected);
        }
        prop_assert_eq!(fixture.damaged_ranges(), 0);
        prop_assert_eq!(fixture.sample(UNCLEANABLE), 0.0);
    }
}
