//! `/metrics` with very many series: its duration, and its effect on producers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::latency::{Quantile, compare};
use super::{Part, Row};
use crate::context::Context;
use crate::loads::beside::beside;
use crate::loads::http;
use crate::loads::lean::Connection;
use crate::loads::lean::frames::{Produce, batch};
use crate::loads::lean::latency;
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::{Server, streamline};
use crate::plot::{Line, Plot};
use crate::quantity::Unit;
use crate::stats::median;

pub const TIME: Row = Row {
    name: "scrape",
    part: Part::Seeing,
    about: "time of /metrics with 10,000 and 100,000 partition series",
    quick: true,
    run: time,
};

pub const NOTICED: Row = Row {
    name: "scraped-latency",
    part: Part::Seeing,
    about: "p99 of produce while 100,000 partition series are scraped every second, against the same without scrapes",
    quick: true,
    run: noticed,
};

/// Numbers of series, and maximum duration of a scrape.
const SIZES: &[(usize, Target)] = &[
    (10_000, Target::AtMost(0.010)),
    (100_000, Target::AtMost(0.060)),
];
const TOPIC_PARTITIONS: usize = 1_000;
const SCRAPES: u64 = 20;
const RATE: u32 = 1_000;
const SCRAPE_EVERY: Duration = Duration::from_secs(1);
const QUANTILES: &[Quantile] = &[
    ("p50", 0.5, Target::None),
    ("p99", 0.99, Target::AtMost(1.1)),
    ("p99.9", 0.999, Target::None),
];
const TURN: Duration = Duration::from_secs(10);

/// Starts a server with at least `series` series of partitions.
pub fn with_series(context: &Context, series: usize, settings: &[&str]) -> Result<Server> {
    let server = streamline::start_in(context, context.memory_directory()?, settings)?;
    let metrics = server.http.context("the server shows its metrics")?;
    let mut admin = Connection::open(server.address)?;
    let partitions = add_series(&mut admin, metrics, series)?;
    context.say(format!("{partitions} partitions"));
    Ok(server)
}

/// Creates partitions until they have at least `series` series. Returns the number of partitions.
pub fn add_series(admin: &mut Connection, metrics: SocketAddr, series: usize) -> Result<usize> {
    admin.create_topic("series-one", 1, &[])?;
    let of_a_partition = http::get(metrics, "/metrics")?.partition_series();
    ensure!(of_a_partition > 0, "no series of partitions");
    let partitions = series.div_ceil(of_a_partition);
    create(admin, partitions)?;
    let seen = http::get(metrics, "/metrics")?.partition_series();
    ensure!(seen >= series, "{seen} series, expected {series}");
    Ok(partitions)
}

/// Creates partitions, in topics of a thousand.
pub fn create(admin: &mut Connection, partitions: usize) -> Result<()> {
    for (topic, from) in (0..partitions).step_by(TOPIC_PARTITIONS).enumerate() {
        let more = TOPIC_PARTITIONS.min(partitions - from);
        admin.create_topic(&format!("series-{topic:04}"), i32::try_from(more)?, &[])?;
    }
    Ok(())
}

fn time(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut points = Vec::new();
    for &(series, target) in SIZES {
        let server = with_series(context, series, &[])?;
        let metrics = server.http.context("the server shows its metrics")?;
        let scrapes = context.effort.count(SCRAPES);
        let turns = context.turns(&format!("scrape of {series} series"), || {
            let before = server.process.threads()?;
            let times = (0..scrapes)
                .map(|_| Ok(http::get(metrics, "/metrics")?.elapsed.as_secs_f64()))
                .collect::<Result<Vec<f64>>>()?;
            let spent = server.process.threads()?.since(&before).as_secs_f64() / scrapes as f64;
            Ok((median(&times), spent))
        })?;
        let side = Side::new("Streamline", turns.iter().map(|(time, _)| *time));
        points.push((series as f64, side.median() * 1e3));
        findings.compare(Comparison::absolute(
            format!("/metrics with {series} partition series"),
            Unit::Seconds,
            side,
            target,
        ));
        findings.compare(Comparison::absolute(
            format!("CPU of /metrics with {series} partition series"),
            Unit::Seconds,
            Side::new("Streamline", turns.iter().map(|(_, spent)| *spent)),
            Target::None,
        ));
        let size = http::get(metrics, "/metrics")?.text.len();
        findings.remark(format!(
            "{series} series are {:.1} MB of text.",
            size as f64 / 1e6
        ));
    }
    findings.plot(Plot {
        name: "scrape".to_owned(),
        title: "Time of a scrape".to_owned(),
        x_label: "partition series".to_owned(),
        y_label: "milliseconds".to_owned(),
        log_x: true,
        log_y: true,
        lines: vec![Line {
            name: "Streamline".to_owned(),
            points,
        }],
    });
    Ok(findings)
}

fn noticed(context: &Context) -> Result<Findings> {
    let server = with_series(context, 100_000, &["--durability", "os"])?;
    let metrics = server.http.context("the server shows its metrics")?;
    let topic = context.topic();
    Connection::open(server.address)?.create_topic(&topic, 1, &[])?;
    let produce = Produce::new(&topic, 0, 1, &batch(100, 1)?)?;
    let time = context.effort.time(TURN);
    let quiet = || latency::produce(server.address, &produce, RATE, time);
    let scrape = || http::get(metrics, "/metrics").map(drop);
    let pairs = context.pairs(
        "scraped-latency",
        || beside(SCRAPE_EVERY, scrape, quiet),
        quiet,
    )?;
    let mut findings = Findings::default();
    compare(
        &mut findings,
        "produce while scraped every second",
        ["scraped", "without scrapes"],
        &pairs,
        QUANTILES,
    );
    findings.remark(format!(
        "{RATE} requests a second of 100 B on one connection, measured from when each was due. The scraper runs on the same \
         machine and uses the same processors."
    ));
    Ok(findings)
}
