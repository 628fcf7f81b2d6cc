//! acks=all with durability against power failure: one request at a time, against one append and fdatasync; and the
//! throughput of many producers that share flushes.

use std::time::Duration;

use anyhow::Result;

use super::{Part, Row};
use crate::ceilings;
use crate::context::Context;
use crate::loads::lean::frames::{Produce, batch};
use crate::loads::lean::latency::seconds_at;
use crate::loads::lean::{Connection, many};
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::streamline;
use crate::plot::{Line, Plot};
use crate::quantity::Unit;
use crate::stats::median;

pub const ROW: Row = Row {
    name: "fdatasync",
    part: Part::Speed,
    about: "acks=all, power-loss durability, one request of 16 KiB at a time, against one append and fdatasync",
    quick: true,
    run,
};

const BATCH_BYTES: usize = 16 * 1024;
const SYNCS: u64 = 1_000;
const TURN: Duration = Duration::from_secs(1);
/// Numbers of producers in the chart.
const SCALING: &[usize] = &[1, 4, 16, 64, 256];

fn run(context: &Context) -> Result<Findings> {
    let server = streamline::start(context, &[])?;
    let scratch = context.directory()?;
    let topic = context.topic();
    Connection::open(server.address)?.create_topic(&topic, 1, &[])?;
    let produce = Produce::new(&topic, 0, -1, &batch(1024, BATCH_BYTES)?)?;
    let ours =
        |connections, time| many::closed_loop(server.address, &produce, connections, time, true);
    let syncs = context.effort.count(SYNCS) as usize;
    let pairs = context.pairs(
        "fdatasync",
        || ours(1, context.effort.time(TURN)),
        || {
            let taken = ceilings::append_and_fdatasync(scratch.path(), BATCH_BYTES, syncs)?;
            Ok(median(
                &taken.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
            ))
        },
    )?;
    let mut findings = Findings::default();
    findings.compare(Comparison::ratio(
        "acks=all on disk, p50, one producer",
        Unit::Seconds,
        Side::new(
            "Streamline",
            pairs.iter().map(|(ours, _)| seconds_at(&ours.latency, 0.5)),
        ),
        Side::new("append + fdatasync", pairs.iter().map(|(_, sync)| *sync)),
        Target::AtMost(3.0),
    ));
    let mut line = Vec::new();
    for &connections in SCALING {
        context.say(format!("fdatasync: {connections} producers"));
        line.push((
            connections as f64,
            ours(connections, context.effort.time(TURN))?.per_second(),
        ));
    }
    findings.plot(Plot {
        name: "group-commit".to_owned(),
        title: "acks=all on disk by producers".to_owned(),
        x_label: "producers with one request in flight".to_owned(),
        y_label: "requests of 16 KiB a second".to_owned(),
        log_x: true,
        log_y: true,
        lines: vec![Line {
            name: "Streamline".to_owned(),
            points: line,
        }],
    });
    findings.remark(
        "The ceiling appends to a growing file, like the log, so that each fdatasync also writes the file's new size.",
    );
    Ok(findings)
}
