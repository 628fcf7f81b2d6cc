//! The metric instruments.

#[path = "../../../src/metrics/catalog.rs"]
#[allow(
    dead_code,
    reason = "the exposition, which numbers the metrics, is not here"
)]
pub mod catalog;
#[path = "../../../src/metrics/claims.rs"]
mod claims;
#[path = "../../../src/metrics/histogram.rs"]
mod histogram;
#[path = "../../../src/metrics/instruments.rs"]
mod instruments;
#[path = "../../../src/metrics/requests.rs"]
mod requests;
#[path = "../../../src/metrics/rows.rs"]
mod rows;
pub mod slots;
mod tally;

pub use self::histogram::{COUNT, Histogram, HistogramSnapshot, LATENCY, SIZE};
pub use self::instruments::{Counter, Gauge, LabelledCounters, TopicCounters};
pub use self::requests::{DoneRequest, RequestInstruments, RequestsSnapshot};
pub use self::tally::Tally;

/// Returns the instruments of one API key.
pub fn request_instruments() -> RequestInstruments {
    RequestInstruments::new(true)
}

pub fn topic_counters() -> TopicCounters {
    TopicCounters::new(true)
}
