//! Cost of metrics: recording on one core and on all cores, and a scrape of many series.
//!
//! `cargo bench --bench metrics`. The comparison with other libraries is in `bench/metrics-libraries`.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use streamline::metrics::{
    Collector, Counter, DoneRequest, Format, Histogram, LATENCY, Label, Metrics, PrometheusHandle,
    Samples, catalog,
};

const FETCH: i16 = 1;
const DURATION: Duration = Duration::from_micros(730);

/// Returns the CPU time of this thread, which excludes the load of other programs. It also excludes waiting for locks,
/// which favours implementations that use them.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Returns the CPU time of `iterations` sequential calls.
fn repeated<T>(iterations: u64, run: impl Fn() -> T) -> Duration {
    let start = cpu_time();
    for _ in 0..iterations {
        drop(black_box(run()));
    }
    cpu_time() - start
}

/// Runs `iterations` calls on each of `threads` threads concurrently and returns the CPU time per thread.
fn timed(iterations: u64, threads: usize, record: impl Fn() + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let run = || {
        barrier.wait();
        let start = cpu_time();
        for _ in 0..iterations {
            record();
        }
        cpu_time() - start
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let times = running
            .into_iter()
            .map(|thread| thread.join().expect("recording does not panic"));
        times.sum::<Duration>() / threads as u32
    })
}

fn recording(criterion: &mut Criterion) {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    for threads in [1, cores] {
        let mut group = criterion.benchmark_group(format!("record on {threads} threads"));
        let counter = Counter::new(true);
        group.bench_function("counter", |b| {
            b.iter_custom(|n| timed(n, threads, || counter.inc()))
        });
        let histogram = Histogram::new(true, &LATENCY);
        group.bench_function("histogram", |b| {
            b.iter_custom(|n| {
                timed(n, threads, || {
                    histogram.record_duration(black_box(DURATION));
                })
            })
        });
        for (name, enabled) in [("request", true), ("request, metrics off", false)] {
            let metrics = Metrics::new(enabled);
            let topic = metrics.topic("orders");
            group.bench_function(name, |b| {
                b.iter_custom(|n| {
                    timed(n, threads, || {
                        let done = DoneRequest {
                            duration_ns: black_box(DURATION.as_nanos() as u64),
                            error: false,
                            request_bytes: black_box(120),
                            response_bytes: Some(black_box(65_536)),
                        };
                        metrics.request(black_box(FETCH)).record_done(&done);
                        topic.add_bytes_out(black_box(65_400));
                    })
                })
            });
        }
        group.finish();
    }
}

/// Partition series as exposed by storage.
struct Partitions {
    topics: Vec<Arc<str>>,
}

const PARTITIONS_PER_TOPIC: i32 = 10;
const SERIES_PER_PARTITION: usize = 4;

impl Collector for Partitions {
    fn collect(&self, out: &mut Samples) {
        for topic in &self.topics {
            for partition in 0..PARTITIONS_PER_TOPIC {
                let labels: [Label<'_>; 2] = [("topic", topic), ("partition", &partition)];
                out.family(&catalog::RECORDS_TOTAL)
                    .sample(&labels, 123_456_u64);
                out.family(&catalog::LOG_SIZE_BYTES)
                    .sample(&labels, 1_234_567_890_u64);
                out.family(&catalog::LOG_END_OFFSET)
                    .sample(&labels, 123_456_i64);
                out.family(&catalog::SEGMENTS_TOTAL).sample(&labels, 3_i64);
            }
        }
    }
}

fn rendering(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("render");
    group.sample_size(20);
    for series in [10_000, 100_000] {
        let topics = series / SERIES_PER_PARTITION / PARTITIONS_PER_TOPIC as usize;
        let metrics = Metrics::new(true);
        metrics.register(Arc::new(Partitions {
            topics: (0..topics)
                .map(|topic| format!("orders-{topic:04}").into())
                .collect(),
        }));
        let handle = PrometheusHandle::new(metrics);
        group.throughput(Throughput::Elements(series as u64));
        for (name, format) in [("text", Format::Text), ("openmetrics", Format::OpenMetrics)] {
            group.bench_function(BenchmarkId::new(name, series), |b| {
                b.iter_custom(|n| repeated(n, || handle.render_chunks(format)))
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .without_plots();
    targets = recording, rendering
}
criterion_main!(benches);
