//! Text exposition: the Prometheus format 0.0.4 and OpenMetrics 1.0.
//!
//! Collectors write directly into one list of chunks per family, in any order. [`Samples::finish`] concatenates the
//! families without copying large ones. Chunks are used instead of one string per family because reallocating several
//! strings that grow to megabytes took longer than writing them. Nothing is kept between scrapes, so a series exists
//! exactly as long as the object it describes.

use std::fmt::Write;

use super::catalog::{self, Kind, Metric};
use super::histogram::HistogramSnapshot;

/// A text format of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, version 0.0.4.
    Text,
    /// OpenMetrics text, version 1.0.0.
    OpenMetrics,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Selects the format by the rules of HTTP's `Accept`: the highest quality wins. On a tie plain text wins, because every
    /// client can read it. A client that accepts neither gets plain text too.
    pub fn negotiate(accept: Option<&str>) -> Format {
        let accept = accept.unwrap_or("*/*");
        let text = quality(accept, "text/plain", |version| version == "0.0.4");
        let open = quality(accept, "application/openmetrics-text", |version| {
            version == "1.0.0" || version == "0.0.1"
        });
        if open > text {
            Format::OpenMetrics
        } else {
            Format::Text
        }
    }
}

/// Returns the quality that an `Accept` header gives a media type, in thousandths; 0 if it is not accepted. The most
/// specific matching range decides; ranges that name an unsupported version are ignored.
fn quality(accept: &str, media_type: &str, speaks: impl Fn(&str) -> bool) -> u32 {
    let (kind, _) = media_type.split_once('/').unwrap_or((media_type, ""));
    let mut best = (0, 0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let specificity = if name.eq_ignore_ascii_case(media_type) {
            3
        } else if name
            .strip_suffix("/*")
            .is_some_and(|range| range.eq_ignore_ascii_case(kind))
        {
            2
        } else if name == "*/*" {
            1
        } else {
            continue;
        };
        let mut quality = 1000;
        let mut spoken = true;
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("q") {
                quality = value
                    .parse::<f32>()
                    .map_or(0, |q| (q.clamp(0.0, 1.0) * 1000.0) as u32);
            } else if name.eq_ignore_ascii_case("version") {
                spoken = speaks(value);
            }
        }
        if spoken && (specificity, quality) > best {
            best = (specificity, quality);
        }
    }
    best.1
}

/// A label value that can be written as text.
pub trait LabelValue {
    fn write_to(&self, out: &mut String);
}

impl LabelValue for &str {
    fn write_to(&self, out: &mut String) {
        escape_label(self, out);
    }
}

impl LabelValue for String {
    fn write_to(&self, out: &mut String) {
        escape_label(self, out);
    }
}

impl LabelValue for std::sync::Arc<str> {
    fn write_to(&self, out: &mut String) {
        escape_label(self, out);
    }
}

impl LabelValue for i32 {
    fn write_to(&self, out: &mut String) {
        write_integer(*self, out);
    }
}

impl LabelValue for bool {
    fn write_to(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

/// A label's name and value.
pub type Label<'a> = (&'a str, &'a dyn LabelValue);

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Unsigned(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Value::Unsigned(value as u64)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Signed(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Value::Signed(i64::from(value))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Unsigned(u64::from(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Float(value)
    }
}

impl Value {
    fn write_to(self, out: &mut String) {
        match self {
            Value::Unsigned(value) => write_integer(value, out),
            Value::Signed(value) => write_integer(value, out),
            Value::Float(value) => write_f64(value, out),
        }
    }
}

/// The samples collected so far by one scrape.
pub struct Samples {
    format: Format,
    /// By position in the catalogue. A family without samples is not exposed.
    families: Vec<Chunks>,
}

/// Text in pieces of bounded size.
type Chunks = Vec<String>;

const CHUNK_BYTES: usize = 64 * 1024;
/// A chunk with less free space than this is full. A longer sample makes its chunk grow, which is only slower.
const SAMPLE_BYTES_USUAL_MAX: usize = 512;

/// Returns the chunk for the next sample.
fn open_chunk(chunks: &mut Chunks) -> &mut String {
    match chunks.last() {
        None => chunks.push(String::new()),
        Some(last) if last.len() + SAMPLE_BYTES_USUAL_MAX > CHUNK_BYTES => {
            chunks.push(String::with_capacity(CHUNK_BYTES));
        }
        Some(_) => {}
    }
    chunks
        .last_mut()
        .expect("the list is not empty after the match")
}

impl Samples {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            families: catalog::ALL.iter().map(|_| Chunks::new()).collect(),
        }
    }

    /// Returns a family to add samples to. May be called repeatedly and in any order.
    pub fn family(&mut self, metric: &'static Metric) -> Family<'_> {
        Family {
            metric,
            format: self.format,
            chunks: &mut self.families[metric.index()],
        }
    }

    pub(super) fn finish(self) -> Chunks {
        let mut out = Chunks::new();
        for (metric, samples) in catalog::ALL.iter().zip(self.families) {
            if samples.is_empty() {
                continue;
            }
            write_header(metric, self.format, open_chunk(&mut out));
            match <[String; 1]>::try_from(samples) {
                Ok([small]) => open_chunk(&mut out).push_str(&small),
                Err(large) => out.extend(large),
            }
        }
        if self.format == Format::OpenMetrics {
            open_chunk(&mut out).push_str("# EOF\n");
        }
        out
    }
}

fn write_header(metric: &Metric, format: Format, out: &mut String) {
    let name = match format {
        Format::Text => metric.name,
        Format::OpenMetrics => metric.family_name(),
    };
    out.push_str("# HELP ");
    out.push_str(name);
    out.push(' ');
    escape_help(metric.help, format, out);
    out.push_str("\n# TYPE ");
    out.push_str(name);
    out.push(' ');
    out.push_str(metric.kind.as_str());
    out.push('\n');
    if format == Format::OpenMetrics
        && let Some(unit) = metric.unit()
    {
        out.push_str("# UNIT ");
        out.push_str(name);
        out.push(' ');
        out.push_str(unit);
        out.push('\n');
    }
}

/// One family of a scrape, to add samples to.
pub struct Family<'a> {
    metric: &'static Metric,
    format: Format,
    chunks: &'a mut Chunks,
}

impl Family<'_> {
    /// Adds the sample of a counter or gauge. Labels must be in the catalogue's order.
    pub fn sample(&mut self, labels: &[Label<'_>], value: impl Into<Value>) {
        debug_assert_ne!(self.metric.kind, Kind::Histogram, "{}", self.metric.name);
        self.write_sample("", labels, None, value.into());
    }

    /// Adds the samples of a histogram.
    pub fn histogram(&mut self, labels: &[Label<'_>], snapshot: &HistogramSnapshot) {
        debug_assert_eq!(self.metric.kind, Kind::Histogram, "{}", self.metric.name);
        let mut count = 0;
        for (bound, in_bucket) in snapshot.buckets.bounds.iter().zip(&snapshot.counts) {
            count += in_bucket;
            let le = *bound as f64 / snapshot.buckets.per_unit;
            self.write_sample("_bucket", labels, Some(le), Value::Unsigned(count));
        }
        let count = snapshot.count();
        self.write_sample(
            "_bucket",
            labels,
            Some(f64::INFINITY),
            Value::Unsigned(count),
        );
        self.write_sample("_sum", labels, None, Value::Float(snapshot.sum()));
        self.write_sample("_count", labels, None, Value::Unsigned(count));
    }

    fn write_sample(&mut self, suffix: &str, labels: &[Label<'_>], le: Option<f64>, value: Value) {
        debug_assert!(
            self.metric
                .labels
                .iter()
                .eq(labels.iter().map(|(name, _)| name)),
            "{} has the labels {:?}",
            self.metric.name,
            self.metric.labels
        );
        let out = open_chunk(self.chunks);
        out.push_str(self.metric.name);
        out.push_str(suffix);
        let mut separator = '{';
        for (name, value) in labels {
            out.push(separator);
            out.push_str(name);
            out.push_str("=\"");
            value.write_to(out);
            out.push('"');
            separator = ',';
        }
        if let Some(le) = le {
            out.push(separator);
            out.push_str("le=\"");
            write_bound(le, self.format, out);
            out.push('"');
            separator = ',';
        }
        if separator == ',' {
            out.push('}');
        }
        out.push(' ');
        value.write_to(out);
        out.push('\n');
    }
}

fn escape_label(value: &str, out: &mut String) {
    if !value.bytes().any(|b| matches!(b, b'\\' | b'"' | b'\n')) {
        out.push_str(value);
        return;
    }
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

/// Escapes a help text. OpenMetrics escapes quotes, the Prometheus text format does not.
fn escape_help(help: &str, format: Format, out: &mut String) {
    for c in help.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if format == Format::OpenMetrics => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

fn write_integer(value: impl itoa::Integer, out: &mut String) {
    out.push_str(itoa::Buffer::new().format(value));
}

fn write_f64(value: f64, out: &mut String) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        write!(out, "{value}").expect("writing to a String cannot fail");
    }
}

/// Writes a bucket's bound. OpenMetrics requires the output of Go's `%g`, with `.0` appended to integers. The Prometheus
/// text format allows any number; plain decimals are the easiest to read and type.
fn write_bound(bound: f64, format: Format, out: &mut String) {
    if format == Format::Text || bound.is_infinite() {
        return write_f64(bound, out);
    }
    let scientific = format!("{bound:e}");
    let (mantissa, exponent) = scientific
        .split_once('e')
        .expect("the format asked for has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is an integer");
    if (-4..6).contains(&exponent) {
        let start = out.len();
        write_f64(bound, out);
        if !out[start..].contains('.') {
            out.push_str(".0");
        }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{mantissa}e{sign}{:02}", exponent.abs())
            .expect("writing to a String cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::histogram::{Histogram, LATENCY, SIZE};

    fn render(format: Format, fill: impl FnOnce(&mut Samples)) -> String {
        let mut samples = Samples::new(format);
        fill(&mut samples);
        samples.finish().concat()
    }

    #[test]
    fn text_format_keeps_the_counter_suffix_and_has_no_end_marker() {
        let text = render(Format::Text, |out| {
            out.family(&catalog::REQUESTS_TOTAL)
                .sample(&[("api_key", &"produce"), ("error", &false)], 1523_u64);
        });
        assert_eq!(
            text,
            "# HELP streamline_requests_total Total requests by API type\n\
             # TYPE streamline_requests_total counter\n\
             streamline_requests_total{api_key=\"produce\",error=\"false\"} 1523\n"
        );
    }

    #[test]
    fn openmetrics_drops_the_family_suffix_and_ends_with_eof() {
        let text = render(Format::OpenMetrics, |out| {
            out.family(&catalog::REQUESTS_TOTAL)
                .sample(&[("api_key", &"fetch"), ("error", &true)], 7_u64);
            out.family(&catalog::PROCESS_CPU_SECONDS_TOTAL)
                .sample(&[], 1.5);
        });
        assert_eq!(
            text,
            "# HELP streamline_requests Total requests by API type\n\
             # TYPE streamline_requests counter\n\
             streamline_requests_total{api_key=\"fetch\",error=\"true\"} 7\n\
             # HELP process_cpu_seconds Total user and system CPU time spent\n\
             # TYPE process_cpu_seconds counter\n\
             # UNIT process_cpu_seconds seconds\n\
             process_cpu_seconds_total 1.5\n\
             # EOF\n"
        );
    }

    #[test]
    fn families_are_exposed_in_catalogue_order() {
        let text = render(Format::Text, |out| {
            for partition in 0..2 {
                let labels: [Label<'_>; 2] = [("topic", &"t"), ("partition", &partition)];
                out.family(&catalog::LOG_END_OFFSET).sample(&labels, 3_i64);
                out.family(&catalog::LOG_SIZE_BYTES).sample(&labels, 9_u64);
            }
        });
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                r#"streamline_log_size_bytes{topic="t",partition="0"} 9"#,
                r#"streamline_log_size_bytes{topic="t",partition="1"} 9"#,
                r#"streamline_log_end_offset{topic="t",partition="0"} 3"#,
                r#"streamline_log_end_offset{topic="t",partition="1"} 3"#,
            ]
        );
    }

    #[test]
    fn a_large_family_is_split_into_chunks_without_loss() {
        let mut samples = Samples::new(Format::OpenMetrics);
        let partitions = 0..5_000;
        for partition in partitions.clone() {
            samples
                .family(&catalog::LOG_END_OFFSET)
                .sample(&[("topic", &"orders"), ("partition", &partition)], 1_i64);
        }
        samples.family(&catalog::TOPICS_TOTAL).sample(&[], 1_i64);
        let chunks = samples.finish();
        assert!(chunks.len() > 3);
        assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES));
        let text = chunks.concat();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.contains("orders"))
            .collect();
        assert!(lines.iter().copied().eq(partitions.map(|partition| {
            format!("streamline_log_end_offset{{topic=\"orders\",partition=\"{partition}\"}} 1")
        })));
        assert_eq!(text.lines().last(), Some("# EOF"));
    }

    #[test]
    fn label_values_are_escaped() {
        let text = render(Format::Text, |out| {
            let group = "a\"b\\c\nd".to_string();
            out.family(&catalog::CONSUMER_LAG).sample(
                &[("group", &group), ("topic", &"ü"), ("partition", &-1)],
                0_i64,
            );
        });
        assert!(text.ends_with("{group=\"a\\\"b\\\\c\\nd\",topic=\"ü\",partition=\"-1\"} 0\n"));
    }

    #[test]
    fn histograms_accumulate_and_end_with_infinity() {
        let histogram = Histogram::new(true, &SIZE);
        for bytes in [10, 100, 1 << 30] {
            histogram.record(bytes);
        }
        let snapshot = histogram.snapshot();
        let text = render(Format::Text, |out| {
            out.family(&catalog::REQUEST_SIZE_BYTES)
                .histogram(&[("api_key", &"produce")], &snapshot);
        });
        for line in [
            r#"streamline_request_size_bytes_bucket{api_key="produce",le="64"} 1"#,
            r#"streamline_request_size_bytes_bucket{api_key="produce",le="256"} 2"#,
            r#"streamline_request_size_bytes_bucket{api_key="produce",le="134217728"} 2"#,
            r#"streamline_request_size_bytes_bucket{api_key="produce",le="+Inf"} 3"#,
            r#"streamline_request_size_bytes_sum{api_key="produce"} 1073741934"#,
            r#"streamline_request_size_bytes_count{api_key="produce"} 3"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn bounds_are_plain_decimals_in_text_and_canonical_in_openmetrics() {
        let bounds = |format| -> Vec<String> {
            [&LATENCY, &SIZE]
                .iter()
                .flat_map(|buckets| {
                    buckets.bounds.iter().map(|bound| {
                        let mut out = String::new();
                        write_bound(*bound as f64 / buckets.per_unit, format, &mut out);
                        out
                    })
                })
                .collect()
        };
        let text = bounds(Format::Text);
        for bound in [
            "0.00005",
            "0.001",
            "0.005",
            "0.01",
            "0.1",
            "1",
            "30",
            "64",
            "134217728",
        ] {
            assert!(text.iter().any(|b| b == bound), "{bound} in {text:?}");
        }
        let open = bounds(Format::OpenMetrics);
        for bound in [
            "5e-05",
            "0.0001",
            "0.001",
            "1.0",
            "30.0",
            "64.0",
            "65536.0",
            "1.048576e+06",
        ] {
            assert!(open.iter().any(|b| b == bound), "{bound} in {open:?}");
        }
    }

    #[test]
    fn special_floats_have_prometheus_names() {
        let shown = |value: f64| {
            let mut out = String::new();
            write_f64(value, &mut out);
            out
        };
        assert_eq!(shown(f64::NAN), "NaN");
        assert_eq!(shown(f64::INFINITY), "+Inf");
        assert_eq!(shown(f64::NEG_INFINITY), "-Inf");
        assert_eq!(shown(0.25), "0.25");
    }

    #[test]
    fn integers_are_written_in_full() {
        let shown = |value: Value| {
            let mut out = String::new();
            value.write_to(&mut out);
            out
        };
        assert_eq!(shown(Value::Unsigned(u64::MAX)), u64::MAX.to_string());
        assert_eq!(shown(Value::Signed(i64::MIN)), i64::MIN.to_string());
        assert_eq!(shown(Value::Unsigned(0)), "0");
    }

    #[test]
    fn accept_decides_the_format() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0;q=0.5,\
                            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                            application/openmetrics-text;version=0.0.1;q=0.5,\
                            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (None, Format::Text),
            (Some(""), Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/html, */*;q=0.1"), Format::Text),
            (Some("application/json"), Format::Text),
            (Some("text/plain"), Format::Text),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (
                Some("Application/OpenMetrics-Text; Version=1.0.0"),
                Format::OpenMetrics,
            ),
            (
                Some("application/openmetrics-text;version=9.9.9"),
                Format::Text,
            ),
            (
                Some("application/openmetrics-text;q=0.1, text/plain;q=0.9"),
                Format::Text,
            ),
            (Some("application/openmetrics-text;q=0, */*"), Format::Text),
            (
                Some("text/*;q=0.2, application/*;q=0.8"),
                Format::OpenMetrics,
            ),
            (
                Some("text/plain;q=nonsense, application/openmetrics-text;q=0.1"),
                Format::OpenMetrics,
            ),
            (Some(prometheus_2), Format::OpenMetrics),
            (Some(prometheus_3), Format::OpenMetrics),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept:?}");
        }
    }
}
