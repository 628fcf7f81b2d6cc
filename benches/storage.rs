//! Cost of the storage layer itself: appending to a log and reading from it in the page cache.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use streamline::clock::{Clock, SystemClock};
use streamline::config::{Durability, TopicConfig};
use streamline::metrics::{Format, Metrics, PrometheusHandle};
use streamline::record::{BatchBuilder, Compression, RecordBatch};
use streamline::storage::local::{LocalEngine, Partition, StorageOptions};
use streamline::storage::{Acks, AppendOptions, Engine, PartitionLog, ReadOptions, TopicSpec};
use uuid::Uuid;

const OPTIONS: AppendOptions = AppendOptions { acks: Acks::Leader };
const RECORD_BYTES: usize = 1024;

fn open(dir: &Path) -> (Arc<LocalEngine>, Arc<Partition>) {
    let options = StorageOptions::new(dir, Durability::Os);
    let topics = LocalEngine::open(options, vec![], SystemClock::new(), Metrics::new(true))
        .expect("an empty directory opens");
    let config = TopicConfig {
        max_message_bytes: 4 << 20,
        segment_bytes: 256 << 20,
        retention_bytes: 512 << 20,
        ..TopicConfig::default()
    };
    let spec = TopicSpec {
        name: "bench".to_string(),
        id: Uuid::new_v4(),
        partitions: 1,
        config,
    };
    topics.create(spec).expect("the topic is new");
    let partition = topics.partition("bench", 0).expect("it has one partition");
    (topics, partition)
}

fn batch(bytes: usize, now_ms: i64) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = vec![b'x'; bytes.min(RECORD_BYTES)];
    while builder.size_bytes() < bytes {
        builder.push(now_ms, None, Some(&value), &[]);
    }
    builder.build().expect("it holds records")
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    let now_ms = SystemClock::new().now_ms();
    for bytes in [1 << 10, 16 << 10, 128 << 10, 1 << 20] {
        let dir = tempfile::tempdir().expect("there is room");
        let (topics, partition) = open(dir.path());
        let batch = batch(bytes, now_ms);
        group.throughput(Throughput::Bytes(batch.size_bytes() as u64));
        let mut appended = 0;
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| {
                appended += batch.size_bytes();
                if appended > 256 << 20 {
                    appended = 0;
                    topics.retain(now_ms);
                }
                partition
                    .append_unflushed(vec![batch.clone()], OPTIONS)
                    .expect("the disk has room")
            });
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("there is room");
    let (_topics, partition) = open(dir.path());
    let batch = batch(16 << 10, SystemClock::new().now_ms());
    for _ in 0..4096 {
        partition
            .append_unflushed(vec![batch.clone()], OPTIONS)
            .expect("the disk has room");
    }
    let end = partition.offsets().high_watermark;
    let mut group = criterion.benchmark_group("read");
    for (name, max_bytes) in [("16 KiB copied", 16 << 10), ("1 MiB region", 1 << 20)] {
        let mut offset = 0;
        group.bench_function(BenchmarkId::new("sequential", name), |bencher| {
            bencher.iter(|| {
                let fetched = partition
                    .read_now(ReadOptions::at(offset, max_bytes))
                    .expect("the offset is there");
                // Each batch has the same number of records.
                let batches =
                    fetched.records.map_or(0, |records| records.len()) / batch.size_bytes();
                offset += batches as i64 * i64::from(batch.header().record_count);
                if offset >= end {
                    offset = 0;
                }
                black_box(batches)
            });
        });
        let mut place: i64 = 0;
        group.bench_function(BenchmarkId::new("random", name), |bencher| {
            bencher.iter(|| {
                place = (place + 7_919 * i64::from(batch.header().record_count)) % end;
                black_box(
                    partition
                        .read_now(ReadOptions::at(place, max_bytes))
                        .expect("the offset is there"),
                )
            });
        });
    }
    group.finish();
}

/// Cost of a start after a clean shutdown, and of a scrape, with many partitions.
fn many_partitions(criterion: &mut Criterion) {
    let partitions = 10_000;
    let dir = tempfile::tempdir().expect("there is room");
    let spec = TopicSpec {
        name: "many".to_string(),
        id: Uuid::new_v4(),
        partitions,
        config: TopicConfig::default(),
    };
    let open = |specs| {
        let metrics = Metrics::new(true);
        let options = StorageOptions::new(dir.path(), Durability::Os);
        let topics = LocalEngine::open(options, specs, SystemClock::new(), Arc::clone(&metrics));
        (topics.expect("the logs are sound"), metrics)
    };
    let (topics, _) = open(vec![]);
    topics.create(spec.clone()).expect("the topic is new");
    let batch = batch(1_000, SystemClock::new().now_ms());
    for number in 0..partitions {
        let partition = topics.partition("many", number);
        partition
            .expect("it was just created")
            .append_unflushed(vec![batch.clone()], OPTIONS)
            .expect("the disk has room");
    }
    topics.close().expect("the disk works");
    drop(topics);
    let mut group = criterion.benchmark_group("10,000 partitions");
    group.sample_size(10);
    group.bench_function("start after a clean shutdown", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations {
                let started = Instant::now();
                let (topics, _) = open(vec![spec.clone()]);
                took += started.elapsed();
                topics.close().expect("the disk works");
            }
            took
        });
    });
    let (topics, metrics) = open(vec![spec]);
    let handle = PrometheusHandle::new(metrics);
    group.bench_function("scrape", |bencher| {
        bencher.iter(|| black_box(handle.render(Format::Text)));
    });
    group.finish();
    drop(topics);
}

/// Compaction of small updates, of which few are left.
fn compact(criterion: &mut Criterion) {
    const SEGMENT_BYTES: i32 = 16 << 20;
    const SEGMENTS: usize = 4;
    const KEYS: u32 = 100_000;
    let dir = tempfile::tempdir().expect("there is room");
    let options = StorageOptions::new(dir.path(), Durability::Os);
    let topics = LocalEngine::open(options, vec![], SystemClock::new(), Metrics::new(true))
        .expect("an empty directory opens");
    let settings = [("cleanup.policy", "compact"), ("segment.bytes", "16777216")];
    let settings = settings.map(|(name, value)| (name.to_string(), value.to_string()));
    let config = TopicConfig::default()
        .apply(&settings.into())
        .expect("the settings are allowed");
    let now_ms = SystemClock::new().now_ms();
    let mut group = criterion.benchmark_group("compact");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(SEGMENT_BYTES as u64 * SEGMENTS as u64));
    group.bench_function("100 B updates", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            let mut key: u32 = 1;
            for _ in 0..iterations {
                let spec = TopicSpec {
                    name: "table".to_string(),
                    id: Uuid::new_v4(),
                    partitions: 1,
                    config: config.clone(),
                };
                topics.create(spec).expect("the topic is new");
                let partition = topics.partition("table", 0).expect("it has one partition");
                while partition.snapshot().segments <= SEGMENTS {
                    let mut builder = BatchBuilder::new(Compression::None);
                    while builder.size_bytes() < 16 << 10 {
                        key = key.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        let name = format!("key-{}", (key >> 8) % KEYS);
                        builder.push(now_ms, Some(name.as_bytes()), Some(&[b'x'; 100]), &[]);
                    }
                    let batch = builder.build().expect("it holds records");
                    partition
                        .append_unflushed(vec![batch], OPTIONS)
                        .expect("the disk has room");
                }
                partition.flush().expect("the disk works");
                let started = Instant::now();
                assert!(topics.compact());
                took += started.elapsed();
                topics.delete("table").expect("it exists");
            }
            took
        });
    });
    group.finish();
}

criterion_group!(benches, append, read, compact, many_partitions);
criterion_main!(benches);
