//! Produce throughput of one connection, against socket → file.

use anyhow::Result;

use super::{Part, Row};
use crate::ceilings;
use crate::context::Context;
use crate::loads::lean::frames::{Produce, batch};
use crate::loads::lean::{Connection, pipeline};
use crate::outcome::{Findings, MovingTargets, Target};
use crate::peers::streamline;

pub const ROW: Row = Row {
    name: "produce-lean",
    part: Part::Speed,
    about: "produce pre-built batches, pipelined on one connection, against socket → file",
    quick: true,
    run,
};

const TURN_BYTES: u64 = 1 << 30;
/// Just below the default limit of a batch.
const BATCH_BYTES: usize = 1_000_000;
const WINDOW: usize = 8;

fn run(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let server = streamline::start(context, &["--durability", "os"])?;
    let scratch = context.directory()?;
    let mut admin = Connection::open(server.address)?;
    for (size, record_bytes) in [("1 KiB", 1024), ("100 B", 100)] {
        let batch = batch(record_bytes, BATCH_BYTES)?;
        let requests = context.effort.count(TURN_BYTES) as usize / batch.size_bytes();
        let pairs = context.pairs(
            &format!("produce-lean, {size}"),
            || {
                let topic = context.topic();
                admin.create_topic(&topic, 1, &[])?;
                let produce = Produce::new(&topic, 0, 1, &batch)?;
                let before = server.process.threads()?;
                let moved = pipeline::produce(server.address, &[produce], requests, WINDOW)?;
                let spent = server.process.threads()?.since(&before);
                admin.delete_topic(&topic)?;
                Ok((moved, spent))
            },
            || {
                let bytes = (requests * batch.size_bytes()) as u64;
                ceilings::socket_to_file(scratch.path(), bytes)
            },
        )?;
        findings.compare_moving(
            &format!("produce, lean, {size} records"),
            "socket → file",
            &pairs,
            MovingTargets {
                speed: Target::AtLeast(0.7),
                cpu: Target::None,
            },
        );
    }
    findings.remark(format!(
        "One connection, {WINDOW} requests of {BATCH_BYTES} bytes in flight, durability `os`, acks=1; the ceiling reads and \
         writes 1 MiB at a time. The CPU is the receiving side's."
    ));
    Ok(findings)
}
