//! One connection that writes to many partitions in turn, against one partition.

use anyhow::Result;

use super::{Part, Row};
use crate::context::Context;
use crate::loads::lean::frames::{Produce, batch};
use crate::loads::lean::{Connection, pipeline};
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::streamline;
use crate::plot::{Line, Plot};
use crate::quantity::Unit;

pub const ROW: Row = Row {
    name: "partitions",
    part: Part::Speed,
    about: "1,000 partitions written round-robin, against the same requests to one partition",
    quick: true,
    run,
};

const PARTITIONS: i32 = 1_000;
/// Numbers of partitions in the chart.
const SCALING: &[i32] = &[1, 10, 100, 1_000, 3_000];
const BATCH_BYTES: usize = 64 * 1024;
const TURN_BYTES: u64 = 1 << 30;
const WINDOW: usize = 32;

fn run(context: &Context) -> Result<Findings> {
    let server = streamline::start(context, &["--durability", "os"])?;
    let mut admin = Connection::open(server.address)?;
    let batch = batch(1024, BATCH_BYTES)?;
    let mut turn = |partitions: i32| -> Result<f64> {
        let topic = context.topic();
        admin.create_topic(&topic, partitions, &[])?;
        let produce = (0..partitions)
            .map(|partition| Produce::new(&topic, partition, 1, &batch))
            .collect::<Result<Vec<_>>>()?;
        // The first write creates a partition's files, which is not measured.
        pipeline::produce(server.address, &produce, produce.len(), WINDOW)?;
        let requests = context.effort.count(TURN_BYTES) as usize / batch.size_bytes();
        let moved = pipeline::produce(server.address, &produce, requests, WINDOW)?;
        admin.delete_topic(&topic)?;
        Ok(moved.bytes_per_second())
    };
    let pairs = context.turns("partitions", || Ok((turn(PARTITIONS)?, turn(1)?)))?;
    let mut findings = Findings::default();
    findings.compare(Comparison::ratio(
        "1,000 partitions in turn",
        Unit::BytesPerSecond,
        Side::new("1,000 partitions", pairs.iter().map(|(many, _)| *many)),
        Side::new("one partition", pairs.iter().map(|(_, one)| *one)),
        Target::AtLeast(0.7),
    ));
    let mut points = Vec::new();
    for &partitions in SCALING {
        context.say(format!("partitions: {partitions}"));
        points.push((f64::from(partitions), turn(partitions)? / 1e6));
    }
    findings.plot(Plot {
        name: "partitions".to_owned(),
        title: "Produce by partitions".to_owned(),
        x_label: "partitions written in turn".to_owned(),
        y_label: "MB/s".to_owned(),
        log_x: true,
        log_y: false,
        lines: vec![Line {
            name: "Streamline".to_owned(),
            points,
        }],
    });
    findings.remark(format!(
        "Batches of {} KiB of 1 KiB records, {WINDOW} in flight on one connection, durability `os`.",
        BATCH_BYTES / 1024
    ));
    Ok(findings)
}
