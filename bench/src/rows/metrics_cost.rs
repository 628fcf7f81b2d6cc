//! What metrics cost when nobody looks: CPU of a request, memory of a partition, time of one record.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use ::streamline::metrics::{Counter, Histogram, LATENCY};
use anyhow::{Context as _, Result};

use super::{Part, Row, scrape};
use crate::context::Context;
use crate::instructions::{self, Work};
use crate::loads::http;
use crate::loads::lean::Connection;
use crate::loads::lean::frames::{Fetch, FetchLimits, Produce, batch};
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::{Server, streamline};
use crate::quantity::Unit;

pub const REQUEST: Row = Row {
    name: "metrics-cpu",
    part: Part::Seeing,
    about: "CPU of small produce and fetch requests with metrics on, against metrics off",
    quick: true,
    run: request,
};

pub const PARTITION: Row = Row {
    name: "metrics-memory",
    part: Part::Seeing,
    about: "memory of a partition with metrics on, beyond that with metrics off",
    quick: true,
    run: partition,
};

pub const INSTRUMENT: Row = Row {
    name: "metrics-record",
    part: Part::Seeing,
    about: "one record of a counter and of a histogram, alone and with every core recording",
    quick: true,
    run: instrument,
};

const ON: &[&str] = &["--durability", "os", "--metrics", "on"];
const OFF: &[&str] = &["--durability", "os", "--metrics", "off"];
/// How often instructions are counted: they hardly differ.
const COUNTS: usize = 3;
/// Requests of a turn.
const REQUESTS: u64 = 40_000;
const PARTITIONS: usize = 10_000;
/// Records of a turn.
const RECORDS: u64 = 20_000_000;

fn request(context: &Context) -> Result<Findings> {
    let servers = [
        streamline::start(context, ON)?,
        streamline::start(context, OFF)?,
    ];
    let topic = context.topic();
    let produce = Produce::new(&topic, 0, 1, &batch(100, 1)?)?;
    for server in &servers {
        let mut connection = Connection::open(server.address)?;
        connection.create_topic(&topic, 1, &[])?;
        connection.send(&produce.frame)?;
        produce.check(connection.receive()?)?;
    }
    let limits = FetchLimits {
        max_wait_ms: 1_000,
        max_bytes: 1,
    };
    let fetch = Fetch::new(&topic, 0, limits)?.at(0).to_vec();
    let mut findings = Findings::default();
    for (what, frame) in [("produce", &produce.frame[..]), ("fetch", &fetch[..])] {
        let requests = context.effort.count(REQUESTS);
        let turn = |server: &Server| -> Result<f64> {
            let mut connection = Connection::open(server.address)?;
            let before = server.process.threads()?;
            for _ in 0..requests {
                connection.send(frame)?;
                connection.receive()?;
            }
            let spent = server.process.threads()?.since(&before);
            Ok(spent.as_secs_f64() / requests as f64)
        };
        let what = format!("metrics on against off, small {what}");
        let pairs = context.pairs(&what, || turn(&servers[0]), || turn(&servers[1]))?;
        findings.compare(Comparison::ratio(
            what,
            Unit::CpuSecondsPerRequest,
            Side::new("on", pairs.iter().map(|(on, _)| *on)),
            Side::new("off", pairs.iter().map(|(_, off)| *off)),
            Target::AtMost(1.01),
        ));
    }
    findings.remark(
        "CPU: user and system time of the server, one request at a time on one connection. The machine's noise is larger than \
         what is measured. Instructions are counted by callgrind, in user space alone: what the kernel does for a request comes \
         on top of both sides.",
    );
    for work in [Work::Produce, Work::Fetch] {
        findings.compare(counted(context, work)?);
    }
    Ok(findings)
}

fn counted(context: &Context, work: Work) -> Result<Comparison> {
    context.say(format!(
        "metrics on against off: counting instructions of a small {}",
        work.name()
    ));
    let mut pairs = Vec::new();
    for _ in 0..COUNTS {
        pairs.push((
            instructions::count(context, work, ON)?,
            instructions::count(context, work, OFF)?,
        ));
    }
    Ok(Comparison::ratio(
        format!(
            "instructions, metrics on against off, small {}",
            work.name()
        ),
        Unit::Count,
        Side::new("on", pairs.iter().map(|(on, _)| *on)),
        Side::new("off", pairs.iter().map(|(_, off)| *off)),
        Target::AtMost(1.01),
    ))
}

fn partition(context: &Context) -> Result<Findings> {
    let partitions = context.effort.count(PARTITIONS as u64) as usize;
    let grown = |settings: &[&str]| -> Result<f64> {
        let server = streamline::start_in(context, context.memory_directory()?, settings)?;
        let metrics = server.http.context("the server has an HTTP port")?;
        let mut admin = Connection::open(server.address)?;
        admin.create_topic("first", 1, &[])?;
        let before = server.process.resident()?;
        scrape::create(&mut admin, partitions)?;
        // With metrics off there is nothing to scrape, and /health does as little.
        http::get(
            metrics,
            if settings == ON {
                "/metrics"
            } else {
                "/health"
            },
        )?;
        Ok(server.process.resident()?.saturating_sub(before) as f64 / partitions as f64)
    };
    let pairs = context.pairs("metrics-memory", || grown(ON), || grown(OFF))?;
    let mut findings = Findings::default();
    findings.compare(Comparison::absolute(
        "memory of a partition's metrics",
        Unit::Bytes,
        Side::new("on − off", pairs.iter().map(|(on, off)| on - off)),
        Target::AtMost(1024.0),
    ));
    findings.compare(Comparison::absolute(
        "memory of an empty partition, metrics off",
        Unit::Bytes,
        Side::new("off", pairs.iter().map(|(_, off)| *off)),
        Target::None,
    ));
    findings.remark(format!(
        "Growth of resident memory over {partitions} new partitions and one scrape, divided by their number. The scrape's own \
         buffers count too."
    ));
    Ok(findings)
}

fn instrument(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let records = context.effort.count(RECORDS);
    let counter = Counter::new(true);
    let histogram = Histogram::new(true, &LATENCY);
    for (threads, limit) in [(1, 10e-9), (cores, 20e-9)] {
        let what = match threads {
            1 => "alone".to_owned(),
            many => format!("on {many} cores at once"),
        };
        let turns = context.turns(&format!("metrics-record, {what}"), || {
            let counted = timed(threads, records, |_| counter.inc());
            let recorded = timed(threads, records, |i| {
                histogram.record_duration(Duration::from_nanos(black_box(50_000 + i % 50_000)));
            });
            Ok((counted, recorded))
        })?;
        for (name, samples) in [
            (
                "counter",
                turns.iter().map(|turn| turn.0).collect::<Vec<_>>(),
            ),
            ("histogram", turns.iter().map(|turn| turn.1).collect()),
        ] {
            findings.compare(Comparison::absolute(
                format!("one record of a {name}, {what}"),
                Unit::Seconds,
                Side::new("Streamline", samples),
                Target::AtMost(limit),
            ));
        }
    }
    Ok(findings)
}

/// Seconds of one record, where every thread makes so many.
fn timed(threads: usize, records: u64, record: impl Fn(u64) + Sync) -> f64 {
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..records).for_each(&record));
        }
    });
    began.elapsed().as_secs_f64() / records as f64
}
