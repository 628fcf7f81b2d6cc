//! Effect of background work on a producer: deletion of segments by retention, and reads of indexes from files.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;

use super::latency::{Quantile, compare};
use super::{Part, Row};
use crate::context::Context;
use crate::loads::beside::beside;
use crate::loads::http;
use crate::loads::lean::frames::{Fetch, FetchLimits, Produce, batch};
use crate::loads::lean::{Connection, latency, pipeline};
use crate::outcome::{Findings, Target};
use crate::peers::{Server, streamline};

pub const ROW: Row = Row {
    name: "upkeep-latency",
    part: Part::Speed,
    about: "latency of produce while retention deletes segments, and while indexes are read from files, against the same \
            load without either",
    quick: false,
    run,
};

const RATE: u32 = 1_000;
const TURN: Duration = Duration::from_secs(10);
const QUANTILES: &[Quantile] = &[
    ("p50", 0.5, Target::None),
    ("p99", 0.99, Target::None),
    ("p99.9", 0.999, Target::None),
];

const SEGMENT_BYTES: &str = "1048576";
const BATCH_BYTES: usize = 250_000;
/// Interval of batches: 25 MB/s, which fills a segment every 40 ms.
const APPEND_EVERY: Duration = Duration::from_millis(10);
const CHECK_EVERY_MS: &str = "100";

const OLD_BATCH_BYTES: usize = 8_000;
/// Batches in a topic of closed segments: 200 of these.
const OLD_BATCHES: usize = 26_000;
/// At most.
const BATCHES_A_SEGMENT: usize = 135;
/// Coprime to the number of batches, so that the steps reach all of them.
const STEP: usize = 9_973;
const LOOK_UP_EVERY: Duration = Duration::from_millis(2);

fn run(context: &Context) -> Result<Findings> {
    let server = streamline::start(
        context,
        &[
            "--durability",
            "os",
            "--log-retention-check-interval-ms",
            CHECK_EVERY_MS,
        ],
    )?;
    let mut findings = Findings::default();
    retention(context, &server, &mut findings)?;
    indexes(context, &server, &mut findings)?;
    findings.remark(format!(
        "{RATE} requests a second of 100 B on one connection, measured from when each was due. Meanwhile, on both sides of \
         the comparison, a batch of {} KB is written every {} ms to segments of 1 MiB, of which one side retains 4 MiB, checked \
         every {CHECK_EVERY_MS} ms; or one batch is fetched every {} ms, from a segment that is closed on one side and active \
         on the other. This load uses the same processors.",
        BATCH_BYTES / 1000,
        APPEND_EVERY.as_millis(),
        LOOK_UP_EVERY.as_millis(),
    ));
    Ok(findings)
}

type Latency = Histogram<u64>;

/// Returns the latency of small requests to a separate topic while `other` runs.
fn measured(
    context: &Context,
    server: &Server,
    every: Duration,
    other: impl FnMut() -> Result<()> + Send,
) -> Result<Latency> {
    let topic = context.topic();
    let mut admin = Connection::open(server.address)?;
    admin.create_topic(&topic, 1, &[])?;
    let produce = Produce::new(&topic, 0, 1, &batch(100, 1)?)?;
    let time = context.effort.time(TURN);
    let latency = beside(every, other, || {
        latency::produce(server.address, &produce, RATE, time)
    })?;
    admin.delete_topic(&topic)?;
    Ok(latency)
}

fn retention(context: &Context, server: &Server, findings: &mut Findings) -> Result<()> {
    let large = batch(1024, BATCH_BYTES)?;
    let turn = |retention_bytes: &str| {
        let topic = context.topic();
        let mut admin = Connection::open(server.address)?;
        let configs = [
            ("segment.bytes", SEGMENT_BYTES),
            ("retention.bytes", retention_bytes),
        ];
        admin.create_topic(&topic, 1, &configs)?;
        let produce = Produce::new(&topic, 0, 1, &large)?;
        let mut connection = Connection::open(server.address)?;
        let latency = measured(context, server, APPEND_EVERY, || {
            connection.send(&produce.frame)?;
            produce.check(connection.receive()?).map(drop)
        })?;
        admin.delete_topic(&topic)?;
        Ok(latency)
    };
    let what = "produce while retention deletes";
    let deleted_before = segments_deleted(server)?;
    let pairs = context.pairs(what, || turn("4194304"), || turn("-1"))?;
    let deleted = segments_deleted(server)? - deleted_before;
    ensure!(deleted > 0, "retention deleted no segment");
    findings.remark(format!(
        "Retention deleted {deleted} segments, including the warm-up."
    ));
    compare(
        findings,
        what,
        ["with deletions", "without"],
        &pairs,
        QUANTILES,
    );
    Ok(())
}

fn segments_deleted(server: &Server) -> Result<u64> {
    let metrics = server.http.context("the server shows its metrics")?;
    http::get(metrics, "/metrics")?.counter("streamline_retention_deleted_segments_total")
}

fn indexes(context: &Context, server: &Server, findings: &mut Findings) -> Result<()> {
    let small = batch(1024, OLD_BATCH_BYTES)?;
    let records = small.header().record_count as usize;
    let topic = context.topic();
    Connection::open(server.address)?.create_topic(
        &topic,
        1,
        &[("segment.bytes", SEGMENT_BYTES)],
    )?;
    let produce = Produce::new(&topic, 0, 1, &small)?;
    pipeline::produce(
        server.address,
        std::slice::from_ref(&produce),
        OLD_BATCHES,
        32,
    )?;
    let limits = FetchLimits {
        max_wait_ms: 0,
        max_bytes: 1,
    };
    let turn = |is_old: bool| {
        let mut connection = Connection::open(server.address)?;
        let mut fetch = Fetch::new(&topic, 0, limits)?;
        let mut look_up = 0;
        measured(context, server, LOOK_UP_EVERY, || {
            look_up += 1;
            let batch = match is_old {
                // Steps from segment to segment that reach every batch.
                true => look_up * STEP % (OLD_BATCHES - BATCHES_A_SEGMENT),
                false => OLD_BATCHES - 1,
            };
            connection.send(fetch.at((batch * records) as i64))?;
            let length = connection.receive_length()?;
            ensure!(length > small.size_bytes(), "the response has no batch");
            connection.skip(length)
        })
    };
    let what = "produce while indexes are read";
    let pairs = context.pairs(what, || turn(true), || turn(false))?;
    compare(
        findings,
        what,
        ["from files", "from memory"],
        &pairs,
        QUANTILES,
    );
    Ok(())
}
