//! Start with 10,000 partitions after a clean shutdown.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::{Part, Row};
use crate::context::Context;
use crate::loads::lean::Connection;
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::{Server, kafka, streamline};
use crate::quantity::Unit;

pub const OWN: Row = Row {
    name: "start",
    part: Part::Speed,
    about: "start with 10,000 partitions after a clean shutdown",
    quick: true,
    run: own,
};

pub const KAFKA: Row = Row {
    name: "start-kafka",
    part: Part::Speed,
    about: "start with 10,000 partitions after a clean shutdown, against Apache Kafka",
    quick: false,
    run: against_kafka,
};

const TOPICS: u64 = 10;
const PARTITIONS: i32 = 1_000;

/// Fills a server with topics and stops it.
fn filled(context: &Context, server: Server) -> Result<TempDir> {
    let mut admin = Connection::open(server.address)?;
    for topic in 0..TOPICS {
        context.say(format!(
            "{}: topic {topic} of {PARTITIONS} partitions",
            server.name
        ));
        admin.create_topic(&name(topic), PARTITIONS, &[])?;
    }
    server.stop()
}

fn name(topic: u64) -> String {
    format!("start-{topic}")
}

/// Returns the time from the start of the process until every partition responds. Stops the server afterwards.
fn timed(
    directory: TempDir,
    start: impl FnOnce(TempDir) -> Result<Server>,
) -> Result<(Duration, TempDir)> {
    let began = Instant::now();
    let server = start(directory)?;
    let mut connection = Connection::open(server.address)?;
    for topic in 0..TOPICS {
        connection.wait_for_topic(&name(topic), PARTITIONS)?;
    }
    let taken = began.elapsed();
    drop(connection);
    Ok((taken, server.stop()?))
}

fn own(context: &Context) -> Result<Findings> {
    let mut directory = Some(filled(context, streamline::start(context, &[])?)?);
    let turns = context.turns("start", || {
        let (taken, left) = timed(
            directory.take().context("the previous turn failed")?,
            |directory| streamline::start_in(context, directory, &[]),
        )?;
        directory = Some(left);
        Ok(taken.as_secs_f64())
    })?;
    let mut findings = Findings::default();
    findings.compare(Comparison::absolute(
        "start with 10,000 partitions",
        Unit::Seconds,
        Side::new("Streamline", turns),
        Target::None,
    ));
    Ok(findings)
}

fn against_kafka(context: &Context) -> Result<Findings> {
    let mut ours = Some(filled(context, streamline::start(context, &[])?)?);
    let mut theirs = Some(filled(context, kafka::start(context, &[])?)?);
    let pairs = context.cold_pairs(
        "start-kafka",
        || {
            let (taken, left) = timed(
                ours.take().context("the previous turn failed")?,
                |directory| streamline::start_in(context, directory, &[]),
            )?;
            ours = Some(left);
            Ok(taken.as_secs_f64())
        },
        || {
            let (taken, left) = timed(
                theirs.take().context("the previous turn failed")?,
                |directory| kafka::start_in(context, directory),
            )?;
            theirs = Some(left);
            Ok(taken.as_secs_f64())
        },
    )?;
    let mut findings = Findings::default();
    findings.compare(Comparison::ratio(
        "start with 10,000 partitions, against Kafka",
        Unit::Seconds,
        Side::new("Streamline", pairs.iter().map(|(ours, _)| *ours)),
        Side::new("Apache Kafka", pairs.iter().map(|(_, theirs)| *theirs)),
        Target::AtMost(1.0 / 20.0),
    ));
    findings.remark(format!(
        "{TOPICS} empty topics of {PARTITIONS} partitions. From the start of the process until every partition returns its \
         end offset."
    ));
    Ok(findings)
}
