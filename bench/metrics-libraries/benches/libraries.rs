//! Cost of recording and rendering with Streamline's own instruments, with `prometheus-client`, and with `metrics` +
//! `metrics-exporter-prometheus`. `bench/metrics-libraries/report` runs this several times and compares the medians.

use std::fmt::Write;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle as ExporterHandle};
use metrics_libraries::metrics as streamline;
use prometheus_client::collector::Collector as ClientCollector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter as ClientCounter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge as ClientGauge};
use prometheus_client::metrics::histogram::Histogram as ClientHistogram;
use prometheus_client::registry::Registry;

/// Samples after which the exporter is drained, outside the measured time: it keeps every sample of a histogram until
/// then.
const SAMPLES_UNTIL_DRAINED: u64 = 50_000;
const LATENCY: Duration = Duration::from_micros(730);

fn seconds_bounds() -> Vec<f64> {
    let buckets = &streamline::LATENCY;
    buckets
        .bounds
        .iter()
        .map(|bound| *bound as f64 / buckets.per_unit)
        .collect()
}

/// The recorder of `metrics` is global; it is installed once.
fn exporter() -> ExporterHandle {
    static HANDLE: std::sync::OnceLock<ExporterHandle> = std::sync::OnceLock::new();
    HANDLE
        .get_or_init(|| {
            PrometheusBuilder::new()
                .set_buckets(&seconds_bounds())
                .expect("the list of buckets is not empty")
                .install_recorder()
                .expect("no other recorder is installed")
        })
        .clone()
}

/// Returns the CPU time of this thread, so that other programs do not distort the results. Time spent waiting for a lock
/// is not included, which favours libraries with locks.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Returns the CPU time of `iterations` successive calls.
fn repeated<T>(iterations: u64, run: impl Fn() -> T) -> Duration {
    let start = cpu_time();
    for _ in 0..iterations {
        drop(black_box(run()));
    }
    cpu_time() - start
}

/// Returns the CPU time per thread of `iterations` calls on each of `threads` threads at once; `drain` runs in between.
fn timed(
    iterations: u64,
    threads: usize,
    record: impl Fn() + Sync,
    drain: Option<&dyn Fn()>,
) -> Duration {
    let mut total = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        let chunk = drain.map_or(left, |_| left.min(SAMPLES_UNTIL_DRAINED));
        left -= chunk;
        let barrier = Barrier::new(threads);
        let run = || {
            barrier.wait();
            let start = cpu_time();
            for _ in 0..chunk {
                record();
            }
            cpu_time() - start
        };
        total += if threads == 1 {
            run()
        } else {
            std::thread::scope(|scope| {
                let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
                let times: Vec<_> = running
                    .into_iter()
                    .map(|thread| thread.join().expect("recording does not panic"))
                    .collect();
                times.iter().sum::<Duration>() / threads as u32
            })
        };
        if let Some(drain) = drain {
            drain();
        }
    }
    total
}

fn recording(criterion: &mut Criterion) {
    let handle = exporter();
    let drain = || handle.run_upkeep();
    for threads in [1, 2] {
        let mut group = criterion.benchmark_group(format!("counter, {threads} thread"));
        let counter = streamline::Counter::new(true);
        group.bench_function("streamline", |b| {
            b.iter_custom(|n| timed(n, threads, || counter.inc(), None))
        });
        let counter: ClientCounter = ClientCounter::default();
        group.bench_function("prometheus-client", |b| {
            b.iter_custom(|n| timed(n, threads, || _ = counter.inc(), None))
        });
        let counter = metrics::counter!("bench_counter", "api_key" => "produce");
        group.bench_function("exporter", |b| {
            b.iter_custom(|n| timed(n, threads, || counter.increment(1), None))
        });
        group.finish();

        let mut group = criterion.benchmark_group(format!("histogram, {threads} thread"));
        let histogram = streamline::Histogram::new(true, &streamline::LATENCY);
        group.bench_function("streamline", |b| {
            b.iter_custom(|n| {
                timed(
                    n,
                    threads,
                    || histogram.record_duration(black_box(LATENCY)),
                    None,
                )
            })
        });
        let histogram = ClientHistogram::new(seconds_bounds());
        group.bench_function("prometheus-client", |b| {
            b.iter_custom(|n| {
                timed(
                    n,
                    threads,
                    || histogram.observe(black_box(LATENCY).as_secs_f64()),
                    None,
                )
            })
        });
        let histogram = metrics::histogram!("bench_histogram", "api_key" => "produce");
        group.bench_function("exporter", |b| {
            b.iter_custom(|n| {
                timed(
                    n,
                    threads,
                    || histogram.record(black_box(LATENCY)),
                    Some(&drain),
                )
            })
        });
        group.finish();

        // A request with lookups of its series by label, as with the macros of `metrics`.
        let mut group = criterion.benchmark_group(format!("request by label, {threads} thread"));
        let all = streamline::Metrics::new(true);
        group.bench_function("streamline", |b| {
            b.iter_custom(|n| {
                timed(
                    n,
                    threads,
                    || all.request(black_box(1)).record(black_box(LATENCY), false),
                    None,
                )
            })
        });
        let counters = Family::<RequestLabels, ClientCounter>::default();
        let histograms = Family::<ApiLabels, ClientHistogram, _>::new_with_constructor(
            (|| ClientHistogram::new(seconds_bounds())) as fn() -> ClientHistogram,
        );
        group.bench_function("prometheus-client", |b| {
            b.iter_custom(|n| {
                let record = || {
                    let api_key = black_box("fetch");
                    counters
                        .get_or_create(&RequestLabels {
                            api_key,
                            error: "false",
                        })
                        .inc();
                    histograms
                        .get_or_create(&ApiLabels { api_key })
                        .observe(black_box(LATENCY).as_secs_f64());
                };
                timed(n, threads, record, None)
            })
        });
        group.bench_function("exporter", |b| {
            b.iter_custom(|n| {
                let record = || {
                    let api_key = black_box("fetch");
                    metrics::counter!("bench_requests", "api_key" => api_key, "error" => "false")
                        .increment(1);
                    metrics::histogram!("bench_durations", "api_key" => api_key)
                        .record(black_box(LATENCY));
                };
                timed(n, threads, record, Some(&drain))
            })
        });
        group.finish();
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    api_key: &'static str,
    error: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ApiLabels {
    api_key: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PartitionLabels {
    topic: Arc<str>,
    partition: i32,
}

/// A partition with the four series of storage.
#[derive(Clone, Debug)]
struct Partition {
    topic: Arc<str>,
    partition: i32,
    records: u64,
    log_size_bytes: u64,
    log_end_offset: i64,
    segments: i64,
}

const SERIES_PER_PARTITION: usize = 4;

fn partitions(series: usize) -> Arc<Vec<Partition>> {
    let partitions = (0..series / SERIES_PER_PARTITION).map(|index| Partition {
        topic: format!("orders-{:04}", index / 10).into(),
        partition: (index % 10) as i32,
        records: index as u64 * 7_919,
        log_size_bytes: index as u64 * 1_048_573,
        log_end_offset: index as i64 * 7_919,
        segments: 3,
    });
    Arc::new(partitions.collect())
}

struct Ours(Arc<Vec<Partition>>);

impl streamline::Collector for Ours {
    fn collect(&self, out: &mut streamline::Samples) {
        use streamline::catalog;
        for p in self.0.iter() {
            let labels: [streamline::Label<'_>; 2] =
                [("topic", &p.topic), ("partition", &p.partition)];
            out.family(&catalog::RECORDS_TOTAL)
                .sample(&labels, p.records);
            out.family(&catalog::LOG_SIZE_BYTES)
                .sample(&labels, p.log_size_bytes);
            out.family(&catalog::LOG_END_OFFSET)
                .sample(&labels, p.log_end_offset);
            out.family(&catalog::SEGMENTS_TOTAL)
                .sample(&labels, p.segments);
        }
    }
}

/// The same state, with the official client's collector.
#[derive(Debug)]
struct Theirs(Arc<Vec<Partition>>);

impl Theirs {
    fn gauge(
        &self,
        encoder: &mut DescriptorEncoder,
        name: &str,
        value: impl Fn(&Partition) -> i64,
    ) -> std::fmt::Result {
        let mut family = encoder.encode_descriptor(name, "help", None, MetricType::Gauge)?;
        for p in self.0.iter() {
            let labels = [
                ("topic", LabelText::Text(&p.topic)),
                ("partition", LabelText::Number(p.partition)),
            ];
            let sample = family.encode_family(&labels)?;
            ConstGauge::new(value(p)).encode(sample)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
enum LabelText<'a> {
    Text(&'a str),
    Number(i32),
}

impl prometheus_client::encoding::EncodeLabelValue for LabelText<'_> {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder,
    ) -> std::fmt::Result {
        match self {
            LabelText::Text(text) => encoder.write_str(text),
            LabelText::Number(number) => {
                prometheus_client::encoding::EncodeLabelValue::encode(number, encoder)
            }
        }
    }
}

impl ClientCollector for Theirs {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let mut family =
            encoder.encode_descriptor("streamline_records", "help", None, MetricType::Counter)?;
        for p in self.0.iter() {
            let labels = [
                ("topic", LabelText::Text(&p.topic)),
                ("partition", LabelText::Number(p.partition)),
            ];
            let sample = family.encode_family(&labels)?;
            ConstCounter::new(p.records).encode(sample)?;
        }
        self.gauge(&mut encoder, "streamline_log_size_bytes", |p| {
            p.log_size_bytes as i64
        })?;
        self.gauge(&mut encoder, "streamline_log_end_offset", |p| {
            p.log_end_offset
        })?;
        self.gauge(&mut encoder, "streamline_segments_total", |p| p.segments)
    }
}

fn series_in(text: &str) -> usize {
    text.lines()
        .filter(|line| line.contains("partition="))
        .count()
}

fn rendering(criterion: &mut Criterion) {
    for series in [10_000, 100_000] {
        let partitions = partitions(series);
        let mut group = criterion.benchmark_group(format!("render {series} series"));
        group.sample_size(10);

        let metrics = streamline::Metrics::new(true);
        metrics.register(Arc::new(Ours(Arc::clone(&partitions))));
        let handle = streamline::PrometheusHandle::new(metrics);
        assert_eq!(series_in(&handle.render(streamline::Format::Text)), series);
        group.bench_function("streamline", |b| {
            b.iter_custom(|n| repeated(n, || handle.render_chunks(streamline::Format::Text)))
        });

        let mut registry = Registry::default();
        registry.register_collector(Box::new(Theirs(Arc::clone(&partitions))));
        let render = |registry: &Registry| {
            let mut text = String::new();
            prometheus_client::encoding::prometheus_text::encode(&mut text, registry)
                .expect("writing to a String cannot fail");
            text
        };
        assert_eq!(series_in(&render(&registry)), series);
        group.bench_function("prometheus-client, collector", |b| {
            b.iter_custom(|n| repeated(n, || render(&registry)))
        });

        let mut registry = Registry::default();
        let records = Family::<PartitionLabels, ClientCounter>::default();
        registry.register("streamline_records", "help", records.clone());
        let gauges: Vec<_> = ["log_size_bytes", "log_end_offset", "segments_total"]
            .map(|name| {
                let family = Family::<PartitionLabels, ClientGauge>::default();
                registry.register(format!("streamline_{name}"), "help", family.clone());
                family
            })
            .into();
        for p in partitions.iter() {
            let labels = PartitionLabels {
                topic: Arc::clone(&p.topic),
                partition: p.partition,
            };
            records.get_or_create(&labels).inc_by(p.records);
            let values = [p.log_size_bytes as i64, p.log_end_offset, p.segments];
            for (family, value) in gauges.iter().zip(values) {
                family.get_or_create(&labels).set(value);
            }
        }
        assert_eq!(series_in(&render(&registry)), series);
        group.bench_function("prometheus-client, families", |b| {
            b.iter_custom(|n| repeated(n, || render(&registry)))
        });
        drop((registry, records, gauges));

        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            for p in partitions.iter() {
                let labels = [
                    ("topic", p.topic.to_string()),
                    ("partition", p.partition.to_string()),
                ];
                metrics::counter!("streamline_records_total", &labels).absolute(p.records);
                metrics::gauge!("streamline_log_size_bytes", &labels).set(p.log_size_bytes as f64);
                metrics::gauge!("streamline_log_end_offset", &labels).set(p.log_end_offset as f64);
                metrics::gauge!("streamline_segments_total", &labels).set(p.segments as f64);
            }
        });
        assert_eq!(series_in(&handle.render()), series);
        group.bench_function("exporter", |b| {
            b.iter_custom(|n| repeated(n, || handle.render()))
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(1000))
        .sample_size(10)
        .without_plots();
    targets = recording, rendering
}
criterion_main!(benches);
