//! Metrics: recording, collecting and exposing them.
//!
//! - [`catalog`] declares every metric; nothing else can name one.
//! - [`instruments`] (counters, gauges), [`histogram`] and [`requests`] are recorded on the hot path in a few
//!   nanoseconds. They are resolved once per API key, topic or connection, never looked up by label per request.
//! - [`collectors`] run at scrape time: state that already exists elsewhere is read there and never pushed here, so a
//!   deleted topic's series are absent from the next scrape.
//! - [`exposition`] writes the text formats.
//!
//! Components get an `Arc<Metrics>` through their constructors. The free functions of this module record into the
//! process-wide instance of [`init_metrics`], for code that has no handle. This area imports no other area but `sync`:
//! the measured components depend on it, not the other way round.

mod api_keys;
pub mod catalog;
mod claims;
mod collectors;
mod exposition;
mod histogram;
mod instruments;
mod requests;
mod rows;
mod slots;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;

pub use api_keys::api_key_name;
pub use catalog::{
    ConnectionRejection, HttpRejection, ProduceRefusal, RequestRejection, TransactionEnd,
};
pub use collectors::Collector;
pub use exposition::{Family, Format, Label, LabelValue, Samples, Value};
pub use histogram::{COUNT, Histogram, HistogramSnapshot, LATENCY, SIZE};
pub use instruments::{Counter, Gauge, LabelledCounters, TopicCounters};
pub use requests::{DoneRequest, RequestInstruments, RequestsSnapshot};

/// All instruments of one server, and the collectors that run at scrape time.
pub struct Metrics {
    enabled: bool,
    pub connections_active: Gauge,
    pub connections_total: Counter,
    /// Connections paused because their clients exceeded a quota.
    pub connections_throttled: Gauge,
    pub connections_rejected: LabelledCounters<ConnectionRejection>,
    pub requests_rejected: LabelledCounters<RequestRejection>,
    pub http_rejected: LabelledCounters<HttpRejection>,
    pub produce_refused: LabelledCounters<ProduceRefusal>,
    pub transactions_ended: LabelledCounters<TransactionEnd>,
    /// Connections closed by a panic in the server.
    pub connection_panics: Counter,
    pub log_flush_duration: Histogram,
    pub log_flush_failures: Counter,
    /// Waiting batches completed by one flush of a partition.
    pub log_flush_batches: Histogram,
    /// By [`api_keys::index`]. Created when the first request of an API arrives, so that an unused API has no series. From
    /// then on both values of `error` are exposed, because an error ratio needs both.
    requests: [OnceLock<Box<RequestInstruments>>; api_keys::COUNT],
    topics: RwLock<BTreeMap<Arc<str>, Arc<TopicCounters>>>,
    collectors: RwLock<Vec<Arc<dyn Collector>>>,
}

impl Metrics {
    /// Creates the instruments. If `enabled` is false, recording is a single branch and nothing is rendered.
    pub fn new(enabled: bool) -> Arc<Metrics> {
        Arc::new(Metrics {
            enabled,
            connections_active: Gauge::new(enabled),
            connections_total: Counter::new(enabled),
            connections_throttled: Gauge::new(enabled),
            connections_rejected: LabelledCounters::new(enabled),
            requests_rejected: LabelledCounters::new(enabled),
            http_rejected: LabelledCounters::new(enabled),
            produce_refused: LabelledCounters::new(enabled),
            transactions_ended: LabelledCounters::new(enabled),
            connection_panics: Counter::new(enabled),
            log_flush_duration: Histogram::new(enabled, &LATENCY),
            log_flush_failures: Counter::new(enabled),
            log_flush_batches: Histogram::new(enabled, &COUNT),
            requests: [const { OnceLock::new() }; api_keys::COUNT],
            topics: RwLock::default(),
            collectors: RwLock::new(vec![
                Arc::new(collectors::BuildInfo),
                Arc::new(collectors::Process),
            ]),
        })
    }

    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Returns the instruments of an API key from the wire. All keys unknown to Kafka share one set.
    #[inline]
    pub fn request(&self, api_key: i16) -> &RequestInstruments {
        self.requests[api_keys::index(api_key)]
            .get_or_init(|| Box::new(RequestInstruments::new(self.enabled)))
    }

    /// Returns the counters of a topic, creating them on the first call. The topic keeps the handle. Call it only for
    /// existing topics: otherwise clients could create series by naming topics.
    pub fn topic(&self, name: &str) -> Arc<TopicCounters> {
        if let Some(counters) = self.topics.read().get(name) {
            return Arc::clone(counters);
        }
        let mut topics = self.topics.write();
        let counters = topics
            .entry(Arc::from(name))
            .or_insert_with(|| Arc::new(TopicCounters::new(self.enabled)));
        Arc::clone(counters)
    }

    /// Removes a deleted topic's series. A topic created later under the same name starts at 0.
    pub fn forget_topic(&self, name: &str) {
        self.topics.write().remove(name);
    }

    /// Adds a collector for the lifetime of the metrics. Register one that itself holds the metrics through a `Weak` (see
    /// [`Collector`]).
    pub fn register(&self, collector: Arc<dyn Collector>) {
        self.collectors.write().push(collector);
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn connection_opened(self: &Arc<Self>) -> ConnectionGuard {
        self.connections_total.inc();
        self.connections_active.add(1);
        ConnectionGuard {
            metrics: Arc::clone(self),
        }
    }

    /// Counts a connection as throttled until the guard is dropped.
    pub fn connection_throttled(self: &Arc<Self>) -> ThrottledGuard {
        self.connections_throttled.add(1);
        ThrottledGuard {
            metrics: Arc::clone(self),
        }
    }

    fn collect(&self, out: &mut Samples) {
        out.family(&catalog::CONNECTIONS_ACTIVE)
            .sample(&[], self.connections_active.value());
        out.family(&catalog::CONNECTIONS_TOTAL)
            .sample(&[], self.connections_total.value());
        out.family(&catalog::CONNECTIONS_THROTTLED)
            .sample(&[], self.connections_throttled.value());
        out.family(&catalog::CONNECTION_PANICS_TOTAL)
            .sample(&[], self.connection_panics.value());
        for (reason, counter) in self.connections_rejected.iter() {
            out.family(&catalog::CONNECTIONS_REJECTED_TOTAL)
                .sample(&[("reason", &reason)], counter.value());
        }
        for (reason, counter) in self.requests_rejected.iter() {
            out.family(&catalog::REQUESTS_REJECTED_TOTAL)
                .sample(&[("reason", &reason)], counter.value());
        }
        for (reason, counter) in self.http_rejected.iter() {
            out.family(&catalog::HTTP_REJECTED_TOTAL)
                .sample(&[("reason", &reason)], counter.value());
        }
        for (reason, counter) in self.produce_refused.iter() {
            out.family(&catalog::PRODUCE_REFUSED_TOTAL)
                .sample(&[("reason", &reason)], counter.value());
        }
        for (outcome, counter) in self.transactions_ended.iter() {
            out.family(&catalog::TRANSACTIONS_ENDED_TOTAL)
                .sample(&[("outcome", &outcome)], counter.value());
        }
        out.family(&catalog::LOG_FLUSH_DURATION_SECONDS)
            .histogram(&[], &self.log_flush_duration.snapshot());
        out.family(&catalog::LOG_FLUSH_FAILURES_TOTAL)
            .sample(&[], self.log_flush_failures.value());
        out.family(&catalog::LOG_FLUSH_BATCHES)
            .histogram(&[], &self.log_flush_batches.snapshot());
        self.collect_requests(out);
        self.collect_topics(out);
    }

    fn collect_requests(&self, out: &mut Samples) {
        for (index, instruments) in self.requests.iter().enumerate() {
            let Some(instruments) = instruments.get() else {
                continue;
            };
            let api_key = api_keys::name_at(index);
            let snapshot = instruments.snapshot();
            for error in [false, true] {
                out.family(&catalog::REQUESTS_TOTAL).sample(
                    &[("api_key", &api_key), ("error", &error)],
                    snapshot.requests(error),
                );
            }
            let labels: [Label<'_>; 1] = [("api_key", &api_key)];
            out.family(&catalog::REQUEST_DURATION_SECONDS)
                .histogram(&labels, &snapshot.duration);
            out.family(&catalog::REQUEST_SIZE_BYTES)
                .histogram(&labels, &snapshot.request_size);
            out.family(&catalog::RESPONSE_SIZE_BYTES)
                .histogram(&labels, &snapshot.response_size);
        }
    }

    fn collect_topics(&self, out: &mut Samples) {
        // Copied, so that topics can be created while thousands of them are being written out.
        let topics: Vec<_> = self
            .topics
            .read()
            .iter()
            .map(|(name, counters)| (Arc::clone(name), Arc::clone(counters)))
            .collect();
        for (topic, counters) in &topics {
            out.family(&catalog::BYTES_IN_TOTAL)
                .sample(&[("topic", topic)], counters.bytes_in());
            out.family(&catalog::BYTES_OUT_TOTAL)
                .sample(&[("topic", topic)], counters.bytes_out());
        }
    }
}

/// Counts an open connection until it is dropped.
pub struct ConnectionGuard {
    metrics: Arc<Metrics>,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.metrics.connections_active.add(-1);
    }
}

/// Counts a throttled connection until it is dropped.
pub struct ThrottledGuard {
    metrics: Arc<Metrics>,
}

impl Drop for ThrottledGuard {
    fn drop(&mut self) {
        self.metrics.connections_throttled.add(-1);
    }
}

/// Renders the metrics of a server. Cheap to clone.
#[derive(Clone)]
pub struct PrometheusHandle {
    metrics: Arc<Metrics>,
}

impl PrometheusHandle {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }

    /// Renders the whole exposition as of now. If metrics are off, the result is only a comment that says so.
    pub fn render(&self, format: Format) -> String {
        self.render_chunks(format).concat()
    }

    /// Renders the exposition in chunks, which can be sent without copying them into one string.
    pub fn render_chunks(&self, format: Format) -> Vec<String> {
        if !self.metrics.enabled {
            // OpenMetrics allows no other comment.
            let text = match format {
                Format::Text => "# Metrics are disabled by the setting `metrics`.\n",
                Format::OpenMetrics => "# EOF\n",
            };
            return vec![text.to_string()];
        }
        let mut out = Samples::new(format);
        self.metrics.collect(&mut out);
        let collectors = self.metrics.collectors.read().clone();
        for collector in collectors {
            collector.collect(&mut out);
        }
        out.finish()
    }

    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }
}

static PROCESS_WIDE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Returns the process-wide metrics, creating them on the first call.
pub fn init_metrics() -> PrometheusHandle {
    init_metrics_with(true)
}

/// Returns the process-wide metrics, enabled or disabled as the setting `metrics` says. Only the first call of this
/// function or [`init_metrics`] decides.
pub fn init_metrics_with(enabled: bool) -> PrometheusHandle {
    PROCESS_WIDE
        .get_or_init(|| PrometheusHandle::new(Metrics::new(enabled)))
        .clone()
}

fn process_wide() -> Option<&'static Arc<Metrics>> {
    PROCESS_WIDE.get().map(|handle| &handle.metrics)
}

/// Counts one completed request and records its latency. Like all functions here, it does nothing before
/// [`init_metrics`].
pub fn record_request(api_key: i16, duration: Duration, error: bool) {
    if let Some(metrics) = process_wide() {
        metrics.request(api_key).record(duration, error);
    }
}

/// Counts record-batch bytes appended to a topic.
pub fn record_bytes_in(topic: &str, bytes: u64) {
    if let Some(metrics) = process_wide() {
        metrics.topic(topic).add_bytes_in(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(metrics: &Arc<Metrics>) -> String {
        PrometheusHandle::new(Arc::clone(metrics)).render(Format::Text)
    }

    #[track_caller]
    fn assert_line(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }

    #[test]
    fn the_first_request_of_an_api_creates_series_for_both_outcomes() {
        let metrics = Metrics::new(true);
        assert!(!render(&metrics).contains("api_key"));
        metrics.request(0).record(Duration::from_micros(800), false);
        metrics.request(0).record(Duration::from_millis(20), false);
        metrics.request(-7).record(Duration::ZERO, true);
        let text = render(&metrics);
        for line in [
            r#"streamline_requests_total{api_key="produce",error="false"} 2"#,
            r#"streamline_requests_total{api_key="produce",error="true"} 0"#,
            r#"streamline_requests_total{api_key="unknown",error="true"} 1"#,
            r#"streamline_request_duration_seconds_bucket{api_key="produce",le="0.001"} 1"#,
            r#"streamline_request_duration_seconds_bucket{api_key="produce",le="0.01"} 1"#,
            r#"streamline_request_duration_seconds_bucket{api_key="produce",le="+Inf"} 2"#,
            r#"streamline_request_duration_seconds_sum{api_key="produce"} 0.0208"#,
        ] {
            assert_line(&text, line);
        }
        assert!(!text.contains(r#"api_key="fetch""#));
    }

    #[test]
    fn a_removed_topic_has_no_series_and_starts_again_at_zero() {
        let metrics = Metrics::new(true);
        let counters = metrics.topic("orders");
        counters.add_bytes_in(10);
        counters.add_bytes_out(20);
        let text = render(&metrics);
        assert_line(&text, r#"streamline_bytes_in_total{topic="orders"} 10"#);
        assert_line(&text, r#"streamline_bytes_out_total{topic="orders"} 20"#);
        metrics.forget_topic("orders");
        counters.add_bytes_in(5);
        assert!(!render(&metrics).contains("orders"));
        metrics.topic("orders").add_bytes_in(1);
        assert_line(
            &render(&metrics),
            r#"streamline_bytes_in_total{topic="orders"} 1"#,
        );
    }

    #[test]
    fn a_connection_is_counted_until_its_guard_is_dropped() {
        let metrics = Metrics::new(true);
        let first = metrics.connection_opened();
        drop(metrics.connection_opened());
        let text = render(&metrics);
        assert_line(&text, "streamline_connections_active 1");
        assert_line(&text, "streamline_connections_total 2");
        drop(first);
        assert_line(&render(&metrics), "streamline_connections_active 0");
    }

    #[test]
    fn every_reason_has_a_series_from_the_start() {
        let metrics = Metrics::new(true);
        metrics
            .connections_rejected
            .get(ConnectionRejection::TooMany)
            .inc();
        let text = render(&metrics);
        assert_line(
            &text,
            r#"streamline_connections_rejected_total{reason="too_many"} 1"#,
        );
        assert_line(
            &text,
            r#"streamline_connections_rejected_total{reason="too_many_from_address"} 0"#,
        );
    }

    #[test]
    fn disabled_metrics_render_only_a_comment() {
        let metrics = Metrics::new(false);
        metrics.request(0).record(Duration::ZERO, false);
        drop(metrics.connection_opened());
        let handle = PrometheusHandle::new(metrics);
        assert!(handle.render(Format::Text).contains("disabled"));
        assert_eq!(handle.render(Format::OpenMetrics), "# EOF\n");
    }

    #[test]
    fn the_free_functions_record_into_the_process_wide_metrics() {
        record_request(3, Duration::ZERO, false);
        let handle = init_metrics();
        let metadata =
            |handle: &PrometheusHandle| handle.metrics().request(3).snapshot().requests(true);
        let before = metadata(&handle);
        record_request(3, Duration::from_millis(1), true);
        assert_eq!(metadata(&init_metrics()), before + 1);
        record_bytes_in("free", 3);
        let text = handle.render(Format::Text);
        assert_line(&text, r#"streamline_bytes_in_total{topic="free"} 3"#);
    }
}
