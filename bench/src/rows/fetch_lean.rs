//! Fetch throughput of one connection, against sendfile.

use anyhow::Result;

use super::{Part, Row};
use crate::ceilings;
use crate::context::Context;
use crate::loads::lean::frames::{Produce, batch};
use crate::loads::lean::{Connection, pipeline};
use crate::outcome::{Comparison, Findings, MovingTargets, Side, Target};
use crate::peers::streamline;
use crate::quantity::Unit;

pub const ROW: Row = Row {
    name: "fetch-lean",
    part: Part::Speed,
    about: "read the log from its start on one connection, against file → socket by sendfile",
    quick: true,
    run,
};

const TURN_BYTES: u64 = 2 << 30;
const BATCH_BYTES: usize = 1_000_000;
/// An answer comes from one segment, so that at the end of one it would be shorter.
const ONE_SEGMENT: &[(&str, &str)] = &[("segment.bytes", "2147483647")];
/// Batches in a response.
const BATCHES: usize = 8;

fn run(context: &Context) -> Result<Findings> {
    let server = streamline::start(context, &["--durability", "os"])?;
    let scratch = context.directory()?;
    let topic = context.topic();
    Connection::open(server.address)?.create_topic(&topic, 1, ONE_SEGMENT)?;
    let produce = Produce::new(&topic, 0, 1, &batch(1024, BATCH_BYTES)?)?;
    let answer_bytes = BATCHES * produce.batch_bytes;
    let answers = (context.effort.count(TURN_BYTES) as usize / answer_bytes).max(1);
    pipeline::produce(
        server.address,
        std::slice::from_ref(&produce),
        answers * BATCHES,
        8,
    )?;
    let bytes = (answers * answer_bytes) as u64;
    let file = ceilings::file(scratch.path(), bytes)?;

    let pairs = context.pairs(
        "fetch-lean",
        || {
            let before = server.process.threads()?;
            let moved = pipeline::fetch(server.address, &topic, &produce, answers, BATCHES)?;
            Ok((moved, server.process.threads()?.since(&before)))
        },
        || ceilings::sendfile(&file, bytes),
    )?;
    let mut findings = Findings::default();
    findings.compare_moving(
        "fetch, lean",
        "sendfile",
        &pairs,
        MovingTargets {
            speed: Target::AtLeast(0.8),
            cpu: Target::None,
        },
    );
    findings.compare(Comparison::absolute(
        "CPU of fetch, lean, for itself",
        Unit::CpuSecondsPerGb,
        Side::new(
            "Streamline",
            pairs
                .iter()
                .map(|((moved, spent), _)| moved.cpu_per_gb(*spent)),
        ),
        Target::AtMost(0.2),
    ));
    findings.remark(format!(
        "One connection, two requests in flight, {BATCHES} batches of {BATCH_BYTES} bytes per response, all in the page cache. \
         The CPU is the sending side's."
    ));
    Ok(findings)
}
