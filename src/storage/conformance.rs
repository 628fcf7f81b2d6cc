//! The behaviour that every engine has in common: each case runs with all of them.

mod transactions;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tempfile::TempDir;
use uuid::Uuid;

use super::local::{LocalStorage, StorageOptions};
use super::memory::MemoryStorage;
use super::*;
use crate::clock::ManualClock;
use crate::config::{Durability, TopicConfig};
use crate::metrics::{Collector, Format, Metrics, PrometheusHandle, Samples};
use crate::record::{BatchBuilder, Compression, DecompressLimit, RecordBatch};
use crate::sync::{Mutex, Notify};

const NOW_MS: i64 = 1_700_000_000_000;
const PRODUCER_EXPIRATION_MS: i64 = 60_000;

/// An engine with one topic, `t`, of one partition.
struct Fixture {
    engine: Arc<dyn Engine>,
    name: &'static str,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
    _dir: Option<TempDir>,
}

/// Runs a case with each engine, and a topic with these configs.
fn with_each(configs: &[(&str, &str)], case: impl Fn(Fixture)) {
    for fixture in [Fixture::local(), Fixture::memory()] {
        fixture.engine.create(spec("t", configs)).unwrap();
        case(fixture);
    }
}

impl Fixture {
    fn local() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StorageOptions {
            producer_id_expiration_ms: PRODUCER_EXPIRATION_MS,
            ..StorageOptions::new(dir.path(), Durability::Acks)
        };
        let fixture = Self::open("local", |clock, metrics| {
            Box::new(LocalStorage {
                options,
                clock,
                metrics,
            })
        });
        Self {
            _dir: Some(dir),
            ..fixture
        }
    }

    fn memory() -> Self {
        Self::open("memory", |clock, metrics| {
            Box::new(MemoryStorage {
                producer_id_expiration_ms: PRODUCER_EXPIRATION_MS,
                clock,
                metrics,
            })
        })
    }

    fn open(
        name: &'static str,
        storage: impl FnOnce(Arc<ManualClock>, Arc<Metrics>) -> Box<dyn Storage>,
    ) -> Self {
        let clock = ManualClock::at_ms(NOW_MS);
        let metrics = Metrics::new(true);
        let storage = storage(Arc::clone(&clock), Arc::clone(&metrics));
        Self {
            engine: storage.open(Vec::new(), HashSet::new()).unwrap(),
            name,
            clock,
            metrics,
            _dir: None,
        }
    }

    fn partition(&self) -> Arc<dyn PartitionLog> {
        self.engine.get("t").unwrap().partition(0).unwrap()
    }

    fn append(&self, batch: RecordBatch) -> Result<Appended, Error> {
        let options = AppendOptions { acks: Acks::Leader };
        let ticket = self.partition().append(vec![batch], options);
        ticket.now_or_never().unwrap()
    }

    fn read(&self, options: ReadOptions) -> Result<Fetched, Error> {
        match self.partition().read(options) {
            ReadTicket::Ready(result) => result,
            ReadTicket::WouldBlock | ReadTicket::Pending(_) => panic!("{}: not ready", self.name),
        }
    }

    /// Returns the offset and value of every record.
    fn records(&self) -> Vec<(i64, String)> {
        let mut found = Vec::new();
        let mut offset = self.partition().offsets().log_start;
        while let Some(records) = self.read(ReadOptions::at(offset, 200)).unwrap().records {
            for batch in RecordBatch::split(records.to_bytes().unwrap()).unwrap() {
                for record in batch.records(DecompressLimit::default()).unwrap() {
                    let record = record.unwrap();
                    let value = record.value.unwrap_or_default();
                    found.push((record.offset, String::from_utf8_lossy(&value).into_owned()));
                }
                offset = batch.header().next_offset();
            }
        }
        found
    }
}

fn spec(name: &str, configs: &[(&str, &str)]) -> TopicSpec {
    TopicSpec {
        name: name.to_owned(),
        id: Uuid::new_v4(),
        partitions: 1,
        config: config(configs),
    }
}

fn config(configs: &[(&str, &str)]) -> TopicConfig {
    let configs: BTreeMap<String, String> = configs
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    TopicConfig::default().apply(&configs).unwrap()
}

fn batch(values: &[&str]) -> RecordBatch {
    batch_at(NOW_MS, values)
}

fn batch_at(timestamp_ms: i64, values: &[&str]) -> RecordBatch {
    build(BatchBuilder::new(Compression::Lz4), timestamp_ms, values)
}

fn idempotent(sequence: i32) -> RecordBatch {
    let builder = BatchBuilder::new(Compression::None).producer(7, 0, sequence);
    build(builder, NOW_MS, &["value"])
}

fn build(mut builder: BatchBuilder, timestamp_ms: i64, values: &[&str]) -> RecordBatch {
    for value in values {
        builder.push(timestamp_ms, None, Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap()
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build();
    runtime.unwrap().block_on(future)
}

#[test]
fn records_are_read_in_order_with_their_offsets() {
    with_each(&[], |fixture| {
        let appended = fixture.append(batch(&["a", "b"])).unwrap();
        assert_eq!((appended.base_offset, appended.last_offset), (0, 1));
        assert_eq!(fixture.append(batch(&["c"])).unwrap().base_offset, 2);
        let expected = [(0, "a"), (1, "b"), (2, "c")].map(|(at, value)| (at, value.to_owned()));
        assert_eq!(fixture.records(), expected);
        let expected = Offsets {
            log_start: 0,
            last_stable: 3,
            high_watermark: 3,
            log_end: 3,
        };
        assert_eq!(fixture.partition().offsets(), expected);
        assert_eq!(fixture.partition().snapshot().records_total, 3);
    });
}

#[test]
fn batches_of_one_append_get_consecutive_offsets() {
    with_each(&[], |fixture| {
        let batches = vec![batch(&["a", "b"]), batch(&["c"]), batch(&["d"])];
        let options = AppendOptions { acks: Acks::All };
        let appended = block_on(fixture.partition().append(batches, options)).unwrap();
        assert_eq!((appended.base_offset, appended.last_offset), (0, 3));
        assert_eq!(fixture.records().len(), 4);
    });
}

#[test]
fn appends_have_the_order_of_their_calls() {
    with_each(&[], |fixture| {
        let partition = fixture.partition();
        let tickets: Vec<_> = (0..20)
            .map(|number| {
                let acks = [Acks::None, Acks::Leader, Acks::All][number % 3];
                partition.append(vec![batch(&["value"])], AppendOptions { acks })
            })
            .collect();
        let appended = block_on(futures_util::future::join_all(tickets));
        let offsets: Vec<_> = appended
            .iter()
            .map(|it| it.as_ref().unwrap().base_offset)
            .collect();
        assert_eq!(offsets, (0..20).collect::<Vec<_>>());
        assert_eq!(partition.offsets().high_watermark, 20);
    });
}

#[test]
fn an_append_whose_ticket_is_dropped_is_completed() {
    with_each(&[], |fixture| {
        let options = AppendOptions { acks: Acks::All };
        drop(fixture.partition().append(vec![batch(&["value"])], options));
        fixture.engine.flush_due();
        assert_eq!(fixture.records().len(), 1);
    });
}

#[test]
fn reads_respect_the_limit_except_for_the_first_batch() {
    with_each(&[], |fixture| {
        let one = batch(&["0123456789"]).size_bytes();
        for _ in 0..10 {
            fixture.append(batch(&["0123456789"])).unwrap();
        }
        for (max_bytes, at_least_one, expected) in [
            (3 * one, true, 3 * one),
            (3 * one + one - 1, false, 3 * one),
            (one - 1, true, one),
            (one - 1, false, 0),
            (0, false, 0),
            (usize::MAX, false, 10 * one),
        ] {
            for in_place in [false, true] {
                let fetched = fixture.read(ReadOptions {
                    at_least_one,
                    in_place,
                    ..ReadOptions::at(0, max_bytes)
                });
                let records = fetched.unwrap().records;
                let size = records.map_or(0, |records| records.to_bytes().unwrap().len());
                assert_eq!(size, expected, "{}: {max_bytes}", fixture.name);
            }
        }
    });
}

#[test]
fn a_read_starts_with_the_batch_that_holds_the_offset() {
    with_each(&[], |fixture| {
        fixture.append(batch(&["a", "b", "c"])).unwrap();
        fixture.append(batch(&["d", "e"])).unwrap();
        for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
            for (offset, base_offset) in [(0, 0), (2, 0), (3, 3), (4, 3)] {
                let fetched = fixture.read(ReadOptions {
                    isolation,
                    ..ReadOptions::at(offset, 1)
                });
                let records = fetched.unwrap().records.unwrap().to_bytes().unwrap();
                let first = &RecordBatch::split(records).unwrap()[0];
                assert_eq!(first.header().base_offset, base_offset);
                assert_eq!(first.header().partition_leader_epoch, 0);
            }
        }
    });
}

#[test]
fn offsets_out_of_range_are_refused_and_the_end_is_empty() {
    with_each(&[], |fixture| {
        fixture.append(batch(&["a"])).unwrap();
        let fetched = fixture.read(ReadOptions::at(1, 100)).unwrap();
        assert!(fetched.records.is_none() && !fetched.ends_early);
        for offset in [-1, 2] {
            let refused = fixture.read(ReadOptions::at(offset, 100)).unwrap_err();
            assert!(matches!(
                refused,
                Error::OffsetOutOfRange {
                    log_start: 0,
                    log_end: 1,
                    ..
                }
            ));
        }
    });
}

#[test]
fn a_retried_batch_is_stored_once_and_gaps_are_refused() {
    with_each(&[], |fixture| {
        for sequence in 0..7 {
            assert!(!fixture.append(idempotent(sequence)).unwrap().duplicate);
        }
        for sequence in 2..7 {
            let again = fixture.append(idempotent(sequence)).unwrap();
            assert!(again.duplicate);
            assert_eq!(again.base_offset, i64::from(sequence));
        }
        for sequence in [0, 8] {
            let refused = fixture.append(idempotent(sequence)).unwrap_err();
            assert!(matches!(
                refused,
                Error::OutOfOrderSequence { expected: 7, .. }
            ));
        }
        assert_eq!(fixture.partition().offsets().log_end, 7);
        let largest = fixture.partition().largest_producer_id();
        assert_eq!(largest.unwrap(), Some(7));
    });
}

#[test]
fn an_idle_producer_is_forgotten() {
    with_each(&[], |fixture| {
        fixture.append(idempotent(0)).unwrap();
        fixture.engine.retain(NOW_MS + PRODUCER_EXPIRATION_MS);
        assert!(fixture.append(idempotent(0)).unwrap().duplicate);
        fixture.engine.retain(NOW_MS + PRODUCER_EXPIRATION_MS + 1);
        assert!(!fixture.append(idempotent(0)).unwrap().duplicate);
    });
}

#[test]
fn batches_above_the_size_limit_are_refused() {
    with_each(&[("max.message.bytes", "100")], |fixture| {
        fixture.append(batch(&["small"])).unwrap();
        let mut large = BatchBuilder::new(Compression::None);
        large.push(NOW_MS, None, Some(&[0; 200]), &[]);
        let refused = fixture.append(large.build().unwrap()).unwrap_err();
        assert!(matches!(refused, Error::BatchTooLarge { limit: 100, .. }));
        assert_eq!(fixture.records().len(), 1);
    });
}

#[test]
fn the_time_of_the_append_replaces_timestamps() {
    let configs = [("message.timestamp.type", "LogAppendTime")];
    with_each(&configs, |fixture| {
        fixture.clock.advance(Duration::from_millis(5));
        let appended = fixture.append(batch_at(3, &["a"])).unwrap();
        assert_eq!(appended.log_append_time_ms, Some(NOW_MS + 5));
        let found = block_on(fixture.partition().max_timestamp()).unwrap();
        assert_eq!(found.unwrap().timestamp_ms, NOW_MS + 5);
    });
}

#[test]
fn waiters_are_notified_of_new_records_and_of_deletion() {
    with_each(&[], |fixture| {
        let partition = fixture.partition();
        block_on(async {
            let waiter = Arc::new(Notify::new());
            let watch = partition.watch(&waiter);
            assert!(waiter.notified().now_or_never().is_none());
            fixture.append(batch(&["a"])).unwrap();
            waiter.notified().await;
            let options = AppendOptions { acks: Acks::All };
            partition
                .append(vec![batch(&["b"])], options)
                .await
                .unwrap();
            waiter.notified().await;
            fixture.engine.delete("t").unwrap();
            waiter.notified().await;
            drop(watch);
        });
    });
}

#[test]
fn a_deleted_topic_refuses_its_users_and_its_name_is_free() {
    with_each(&[], |fixture| {
        fixture.append(batch(&["old"])).unwrap();
        let topic = fixture.engine.get("t").unwrap();
        let partition = fixture.partition();
        fixture.engine.delete("t").unwrap();
        let refused = partition.append(vec![batch(&["new"])], AppendOptions { acks: Acks::All });
        assert!(matches!(refused.now_or_never(), Some(Err(Error::Deleted))));
        let refused = partition.read(ReadOptions::at(0, 100));
        assert!(matches!(refused, ReadTicket::Ready(Err(Error::Deleted))));
        assert!(fixture.engine.get("t").is_none());
        assert!(fixture.engine.get_by_id(topic.id()).is_none());
        let refused = fixture.engine.delete("t").unwrap_err();
        assert!(matches!(refused, Error::UnknownTopic { .. }));
        fixture.engine.admit_topic("t").unwrap();
        fixture.engine.create(spec("t", &[])).unwrap();
        assert_eq!(fixture.records(), []);
    });
}

#[test]
fn topics_are_listed_by_name_and_found_by_id() {
    with_each(&[], |fixture| {
        let created = fixture.engine.create(spec("a", &[])).unwrap();
        fixture.engine.create(spec("z", &[])).unwrap();
        let topics = fixture.engine.list();
        let names: Vec<_> = topics
            .iter()
            .map(|topic| topic.name().to_string())
            .collect();
        assert_eq!(names, ["a", "t", "z"]);
        let found = fixture.engine.get_by_id(created.id()).unwrap();
        assert_eq!(found.name(), created.name());
        assert!(fixture.engine.get("none").is_none());
        assert!(created.partition(1).is_none() && created.partition(-1).is_none());
        for refused in [
            fixture.engine.admit_topic("a").unwrap_err(),
            fixture.engine.create(spec("a", &[])).unwrap_err(),
        ] {
            assert!(matches!(refused, Error::TopicExists { .. }));
        }
    });
}

#[test]
fn partitions_are_added_and_never_removed() {
    with_each(&[], |fixture| {
        let topic = fixture.engine.get("t").unwrap();
        fixture.append(batch(&["a"])).unwrap();
        fixture.engine.admit_growth().unwrap();
        fixture.engine.add_partitions("t", 3).unwrap();
        assert_eq!(topic.partition_count(), 3);
        let numbers: Vec<_> = topic.partitions().iter().map(|it| it.number()).collect();
        assert_eq!(numbers, [0, 1, 2]);
        assert_eq!(topic.partition(2).unwrap().to_string(), "t-2");
        assert_eq!(topic.partition(2).unwrap().offsets().log_end, 0);
        assert_eq!(fixture.records().len(), 1);
        let refused = fixture.engine.add_partitions("t", 2).unwrap_err();
        assert!(matches!(
            refused,
            Error::InvalidPartitionCount {
                have: 3,
                want: 2,
                ..
            }
        ));
        assert!(fixture.engine.add_partitions("none", 2).is_err());
    });
}

#[test]
fn a_changed_config_applies_to_the_next_append() {
    with_each(&[], |fixture| {
        fixture.append(batch(&["a"])).unwrap();
        let smaller = config(&[("max.message.bytes", "10")]);
        fixture.engine.set_config("t", smaller).unwrap();
        assert!(fixture.append(batch(&["b"])).is_err());
        let refused = fixture.engine.set_config("none", TopicConfig::default());
        assert!(matches!(refused, Err(Error::UnknownTopic { .. })));
    });
}

#[test]
fn records_are_found_by_their_timestamp() {
    with_each(&[], |fixture| {
        let partition = fixture.partition();
        let find = |timestamp_ms| {
            let found = block_on(partition.offset_for_timestamp(timestamp_ms)).unwrap();
            found.map(|found| {
                (
                    found.offset,
                    found.timestamp_ms - NOW_MS,
                    found.leader_epoch,
                )
            })
        };
        let newest = || {
            let found = block_on(partition.max_timestamp()).unwrap();
            found.map(|found| (found.offset, found.timestamp_ms - NOW_MS))
        };
        assert_eq!((find(0), newest()), (None, None));
        for after_ms in [0, 30, 10, 30] {
            let batch = batch_at(NOW_MS + after_ms, &["first", "second"]);
            fixture.append(batch).unwrap();
        }
        assert_eq!(find(0), Some((0, 0, 0)));
        assert_eq!(find(NOW_MS + 1), Some((2, 30, 0)));
        assert_eq!(find(NOW_MS + 30), Some((2, 30, 0)));
        assert_eq!(find(NOW_MS + 31), None);
        assert_eq!(newest(), Some((2, 30)));
        block_on(partition.delete_before(3)).unwrap();
        assert_eq!(find(NOW_MS), Some((3, 30, 0)));
        block_on(partition.delete_before(8)).unwrap();
        assert_eq!((find(0), newest()), (None, None));
    });
}

#[test]
fn the_newest_record_is_not_before_the_log_start() {
    with_each(&[], |fixture| {
        for times in [&[40, 10, 30][..], &[20, 30]] {
            let mut builder = BatchBuilder::new(Compression::None);
            for after_ms in times {
                builder.push(NOW_MS + after_ms, None, Some(b"value"), &[]);
            }
            fixture.append(builder.build().unwrap()).unwrap();
        }
        let partition = fixture.partition();
        for (log_start, expected) in [
            (0, Some((0, 40))),
            (1, Some((2, 30))),
            (3, Some((4, 30))),
            (5, None),
        ] {
            block_on(partition.delete_before(log_start)).unwrap();
            let found = block_on(partition.max_timestamp()).unwrap();
            let found = found.map(|found| (found.offset, found.timestamp_ms - NOW_MS));
            assert_eq!(found, expected, "{}: {log_start}", fixture.name);
        }
    });
}

#[test]
fn a_new_log_has_one_leader_epoch() {
    with_each(&[], |fixture| {
        fixture.append(batch(&["a", "b"])).unwrap();
        let partition = fixture.partition();
        assert_eq!(partition.leader_epoch().unwrap(), 0);
        for (epoch, expected) in [(0, (0, 2)), (1, (-1, -1)), (-1, (-1, -1))] {
            assert_eq!(partition.end_offset_for_epoch(epoch).unwrap(), expected);
        }
    });
}

#[test]
fn deleting_records_moves_the_start() {
    with_each(&[], |fixture| {
        for _ in 0..10 {
            fixture.append(batch(&["a", "b"])).unwrap();
        }
        let partition = fixture.partition();
        let delete = |before| block_on(partition.delete_before(before));
        assert_eq!(delete(5).unwrap(), 5);
        assert_eq!(delete(3).unwrap(), 5);
        let refused = fixture.read(ReadOptions::at(4, 100)).unwrap_err();
        assert!(matches!(
            refused,
            Error::OffsetOutOfRange { log_start: 5, .. }
        ));
        let appended = fixture.append(batch(&["c", "d"])).unwrap();
        assert_eq!((appended.base_offset, appended.log_start_offset), (20, 5));
        for outside in [-1, 23] {
            let refused = delete(outside).unwrap_err();
            assert!(matches!(
                refused,
                Error::OffsetOutOfRange { log_start: 5, .. }
            ));
        }
        assert_eq!(delete(22).unwrap(), 22);
        assert_eq!(fixture.records(), []);
        assert_eq!(partition.snapshot().size_bytes, 0);
        assert_eq!(fixture.append(batch(&["e"])).unwrap().base_offset, 22);
    });
}

#[test]
fn retention_by_time_deletes_expired_records() {
    with_each(&[("retention.ms", "1000")], |fixture| {
        fixture.append(batch_at(NOW_MS, &["a"])).unwrap();
        fixture.engine.retain(NOW_MS + 1_000);
        assert_eq!(fixture.records().len(), 1);
        fixture.engine.retain(NOW_MS + 1_001);
        assert_eq!(fixture.records(), []);
        let offsets = fixture.partition().offsets();
        assert_eq!((offsets.log_start, offsets.log_end), (1, 1));
        assert_eq!(fixture.append(batch(&["b"])).unwrap().base_offset, 1);
    });
}

#[test]
fn retention_by_size_keeps_at_least_retention_bytes() {
    let configs = [("segment.bytes", "400"), ("retention.bytes", "1000")];
    with_each(&configs, |fixture| {
        for _ in 0..40 {
            fixture.append(batch(&["0123456789"])).unwrap();
        }
        fixture.engine.retain(NOW_MS);
        let size = fixture.partition().snapshot().size_bytes;
        assert!((1_000..1_400).contains(&size), "{}: {size}", fixture.name);
    });
}

#[test]
fn records_without_limits_do_not_expire() {
    let configs = [("retention.ms", "-1"), ("retention.bytes", "-1")];
    with_each(&configs, |fixture| {
        fixture.append(batch(&["a"])).unwrap();
        fixture.engine.retain(i64::MAX);
        assert_eq!(fixture.records().len(), 1);
    });
}

#[test]
fn metrics_and_scraped_offsets_describe_every_partition() {
    with_each(&[], |fixture| {
        fixture.append(batch(&["a", "b"])).unwrap();
        fixture.engine.add_partitions("t", 2).unwrap();
        let scrape = Arc::new(Scrape::of(&fixture.engine));
        fixture.metrics.register(Arc::clone(&scrape) as _);
        let text = PrometheusHandle::new(Arc::clone(&fixture.metrics)).render(Format::Text);
        for expected in [
            "streamline_topics_total 1",
            r#"streamline_partitions_total{topic="t"} 2"#,
            r#"streamline_records_total{topic="t",partition="0"} 2"#,
            r#"streamline_log_end_offset{topic="t",partition="1"} 0"#,
        ] {
            assert!(text.contains(expected), "{}: {text}", fixture.name);
        }
        assert_eq!(*scrape.ends.lock(), [2, 0]);
    });
}

/// Collects an engine and keeps the log end offsets of its topic.
struct Scrape {
    engine: Arc<dyn Engine>,
    ends: Mutex<Vec<i64>>,
}

impl Scrape {
    fn of(engine: &Arc<dyn Engine>) -> Self {
        Self {
            engine: Arc::clone(engine),
            ends: Mutex::default(),
        }
    }
}

impl Collector for Scrape {
    fn collect(&self, out: &mut Samples) {
        let scraped = self.engine.collect(out);
        assert!(scraped.of_topic("none").is_empty());
        let logs = scraped.of_topic("t").iter();
        *self.ends.lock() = logs.map(|log| log.log_end).collect();
    }
}

#[test]
fn a_closed_engine_refuses_records_and_topics() {
    with_each(&[], |fixture| {
        fixture.append(batch(&["a"])).unwrap();
        fixture.engine.health().unwrap();
        fixture.engine.close().unwrap();
        fixture.engine.close().unwrap();
        assert!(matches!(fixture.append(batch(&["b"])), Err(Error::Closed)));
        for refused in [
            fixture.engine.create(spec("new", &[])).err(),
            fixture.engine.add_partitions("t", 2).err(),
        ] {
            assert!(matches!(refused, Some(Error::Closed)), "{}", fixture.name);
        }
    });
}
