//! Produce and fetch through librdkafka, against peers.

use std::time::Duration;

use anyhow::Result;

use super::{Part, Row};
use crate::context::Context;
use crate::loads::lean::Connection;
use crate::loads::{Moved, librdkafka};
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::{Server, kafka, streamline};
use crate::quantity::Unit;

pub const PRODUCE_KAFKA: Row = Row {
    name: "produce-kafka",
    part: Part::Speed,
    about: "librdkafka produces 1 KiB and 100 B records, against Apache Kafka; both leave them to the page cache",
    quick: false,
    run: |context| {
        let theirs = kafka::start(context, &[])?;
        produce(
            context,
            &theirs,
            Target::AtLeast(2.0),
            Target::AtMost(1.0 / 3.0),
        )
    },
};

pub const FETCH_KAFKA: Row = Row {
    name: "fetch-kafka",
    part: Part::Speed,
    about: "librdkafka consumes 1 KiB and 100 B records from the page cache, against Apache Kafka",
    quick: false,
    run: |context| {
        let theirs = kafka::start(context, &[])?;
        fetch(context, &theirs, Target::AtLeast(1.5))
    },
};

/// Names, sizes, and records of a turn: a second or so each.
const SIZES: &[(&str, usize, u64)] = &[("1 KiB", 1024, 500_000), ("100 B", 100, 2_000_000)];

fn measured(server: &Server, work: impl FnOnce() -> Result<Moved>) -> Result<(Moved, Duration)> {
    let before = server.process.cpu()?;
    let moved = work()?;
    Ok((moved, server.process.cpu()? - before))
}

fn produce(context: &Context, theirs: &Server, speed: Target, cpu: Target) -> Result<Findings> {
    let ours = streamline::start(context, &["--durability", "os"])?;
    let mut findings = Findings::default();
    for &(size, record_bytes, records) in SIZES {
        let records = context.effort.count(records);
        let turn = |server: &Server| {
            let topic = context.topic();
            let mut admin = Connection::open(server.address)?;
            admin.create_topic(&topic, 1, &[])?;
            let measured = measured(server, || {
                librdkafka::produce(server.address, &topic, record_bytes, records)
            })?;
            admin.delete_topic(&topic)?;
            Ok(measured)
        };
        let what = format!("produce, librdkafka, {size}");
        let pairs = context.pairs(&what, || turn(&ours), || turn(theirs))?;
        compare(&mut findings, &what, theirs, &pairs, speed, cpu);
    }
    findings.remark(
        "librdkafka with its own defaults, acks=1, one partition. The turn ends when every record is acknowledged. Bytes are \
         those of the values.",
    );
    Ok(findings)
}

fn fetch(context: &Context, theirs: &Server, speed: Target) -> Result<Findings> {
    let ours = streamline::start(context, &["--durability", "os"])?;
    let mut findings = Findings::default();
    for &(size, record_bytes, records) in SIZES {
        let records = context.effort.count(records);
        let topic = context.topic();
        for server in [&ours, theirs] {
            Connection::open(server.address)?.create_topic(&topic, 1, &[])?;
            librdkafka::produce(server.address, &topic, record_bytes, records)?;
        }
        let turn = |server: &Server| {
            measured(server, || {
                librdkafka::consume(server.address, &topic, records)
            })
        };
        let what = format!("fetch, librdkafka, {size}");
        let pairs = context.pairs(&what, || turn(&ours), || turn(theirs))?;
        compare(&mut findings, &what, theirs, &pairs, speed, Target::None);
        for server in [&ours, theirs] {
            Connection::open(server.address)?.delete_topic(&topic)?;
        }
    }
    findings.remark(
        "librdkafka with its own defaults reads one partition from its start, as librdkafka produced it. Both logs are in the \
         page cache.",
    );
    Ok(findings)
}

type Pair = ((Moved, Duration), (Moved, Duration));

fn compare(
    findings: &mut Findings,
    what: &str,
    theirs: &Server,
    pairs: &[Pair],
    speed: Target,
    cpu: Target,
) {
    let side =
        |name: &str, figure: &dyn Fn(&Pair) -> f64| Side::new(name, pairs.iter().map(figure));
    findings.compare(Comparison::ratio(
        what,
        Unit::BytesPerSecond,
        side("Streamline", &|pair| pair.0.0.bytes_per_second()),
        side(&theirs.name, &|pair| pair.1.0.bytes_per_second()),
        speed,
    ));
    findings.compare(Comparison::ratio(
        format!("CPU of {what}"),
        Unit::CpuSecondsPerGb,
        side("Streamline", &|pair| pair.0.0.cpu_per_gb(pair.0.1)),
        side(&theirs.name, &|pair| pair.1.0.cpu_per_gb(pair.1.1)),
        cpu,
    ));
}
