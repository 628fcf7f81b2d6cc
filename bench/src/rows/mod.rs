//! The rows of the table, one file each.

mod acks_all;
mod compaction;
mod connections;
mod fdatasync;
mod fetch_lean;
mod first_record;
mod footprint;
mod latency;
mod librdkafka;
mod metrics_cost;
mod monitoring;
mod partitions;
mod produce_lean;
pub mod scrape;
mod small_requests;
mod start;
mod upkeep;

use anyhow::Result;

use crate::context::Context;
use crate::outcome::Findings;

/// Part of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Speed,
    Seeing,
}

impl Part {
    pub const ALL: &[Part] = &[Part::Speed, Part::Seeing];

    pub fn title(self) -> &'static str {
        match self {
            Part::Speed => "Speed",
            Part::Seeing => "Cost of monitoring",
        }
    }
}

/// A row, or several that are measured together.
pub struct Row {
    pub name: &'static str,
    pub part: Part,
    /// The two sides of the comparison.
    pub about: &'static str,
    /// True for the rows of `quick`.
    pub quick: bool,
    pub run: fn(&Context) -> Result<Findings>,
}

/// Every row, in the order of the report.
pub const ALL: &[Row] = &[
    produce_lean::ROW,
    fetch_lean::ROW,
    small_requests::ROW,
    fdatasync::ROW,
    partitions::ROW,
    connections::ROW,
    upkeep::ROW,
    start::OWN,
    footprint::ROW,
    librdkafka::PRODUCE_KAFKA,
    librdkafka::FETCH_KAFKA,
    librdkafka::PRODUCE_NISSHI,
    librdkafka::FETCH_NISSHI,
    latency::PRODUCE,
    acks_all::ROW,
    latency::END_TO_END,
    compaction::ROW,
    start::KAFKA,
    first_record::ROW,
    metrics_cost::REQUEST,
    metrics_cost::INSTRUMENT,
    scrape::TIME,
    scrape::NOTICED,
    metrics_cost::PARTITION,
    monitoring::ROW,
];
