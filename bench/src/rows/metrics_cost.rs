//! Cost of metrics without scrapes: CPU of a request, memory of a partition, time of one recording.

use std::hint::black_box;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ::streamline::metrics::{Counter, Histogram, LATENCY};
use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{Part, Row, scrape};
use crate::context::Context;
use crate::instructions::{self, Work};
use crate::loads::http;
use crate::loads::lean::Connection;
use crate::loads::lean::small::{SmallRequests, repeat};
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::streamline;
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
    about: "one recording in a counter and in a histogram, on one core and on all cores",
    quick: true,
    run: instrument,
};

const ON: &[&str] = &["--durability", "os", "--metrics", "on"];
const OFF: &[&str] = &["--durability", "os", "--metrics", "off"];
/// Number of instruction counts, which hardly differ.
const COUNTS: usize = 3;
/// Requests to one server before the other's turn, and number of such turns in a sample.
const SLICE_REQUESTS: u64 = 2_000;
const SLICES: u64 = 40;
const PARTITIONS: usize = 10_000;
/// Recordings of a turn.
const RECORDS: u64 = 20_000_000;

fn request(context: &Context) -> Result<Findings> {
    let mut findings = on_one_core(|| cpu(context))?;
    for work in [Work::Produce, Work::Fetch] {
        findings.compare(counted(context, work)?);
    }
    Ok(findings)
}

/// Runs `work` and all that it starts on one core. Whether a server shares a core with its client changes its CPU time
/// fourfold, because waking it may mean waking a core, and the scheduler's placement is random.
fn on_one_core<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    let all = sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU).find(|core| all.is_set(*core));
    let mut one = CpuSet::new();
    one.set(first.context("a process may run on some core")?);
    sched_setaffinity(None, &one)?;
    let result = run();
    sched_setaffinity(None, &all)?;
    result
}

fn cpu(context: &Context) -> Result<Findings> {
    let start = |settings| {
        let command = Command::new(&context.server);
        streamline::start_single(context, command, context.directory()?, settings)
    };
    let small = SmallRequests::new(context)?;
    let mut findings = Findings::default();
    for (what, frame) in [("produce", small.produce()), ("fetch", small.fetch())] {
        let slices = context.effort.count(SLICES);
        let turn = || -> Result<[f64; 2]> {
            // New servers for each turn: one process may be cheaper than another for its whole lifetime.
            let servers = [start(ON)?, start(OFF)?];
            for server in &servers {
                small.prepare(&mut Connection::open(server.address)?)?;
            }
            let mut spent = [0.0; 2];
            for _ in 0..slices {
                for (server, spent) in servers.iter().zip(&mut spent) {
                    let mut connection = Connection::open(server.address)?;
                    let before = server.process.threads()?;
                    repeat(&mut connection, frame, SLICE_REQUESTS)?;
                    *spent += server.process.threads()?.since(&before).as_secs_f64();
                }
            }
            Ok(spent.map(|spent| spent / (slices * SLICE_REQUESTS) as f64))
        };
        let what = format!("metrics on against off, small {what}");
        let turns = context.turns(&what, turn)?;
        findings.compare(Comparison::ratio(
            what,
            Unit::CpuSecondsPerRequest,
            Side::new("on", turns.iter().map(|[on, _]| *on)),
            Side::new("off", turns.iter().map(|[_, off]| *off)),
            Target::AtMost(1.01),
        ));
    }
    findings.remark(
        "CPU: user and system time of the server, one request at a time on one connection; the servers are loaded alternately, \
         for a fraction of a second each, and share one core with the client. Instructions are counted by callgrind in user \
         space; the kernel's instructions for a request are not included.",
    );
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
        // With metrics off there are none to scrape; /health is about as cheap.
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
        "Growth of resident memory over {partitions} new partitions and one scrape, divided by their number. The scrape's \
         buffers are included."
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

/// Returns the seconds of one recording; every thread makes `records`.
fn timed(threads: usize, records: u64, record: impl Fn(u64) + Sync) -> f64 {
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..records).for_each(&record));
        }
    });
    began.elapsed().as_secs_f64() / records as f64
}
