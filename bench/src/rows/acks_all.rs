//! acks=all with durability against power failure, against Kafka with a flush for every message.

use std::time::Duration;

use anyhow::Result;

use super::{Part, Row};
use crate::context::Context;
use crate::loads::lean::frames::{Produce, batch};
use crate::loads::lean::latency::seconds_at;
use crate::loads::lean::many::Answered;
use crate::loads::lean::{Connection, many};
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::{Server, kafka, streamline};
use crate::quantity::Unit;

pub const ROW: Row = Row {
    name: "acks-all-kafka",
    part: Part::Speed,
    about: "acks=all with every record flushed before its response, against Apache Kafka with flush.messages=1, at equal p99",
    quick: false,
    run,
};

const TURN: Duration = Duration::from_secs(3);
/// Producers against Kafka, each with one request in flight.
const THEIR_PRODUCERS: usize = 16;
/// Numbers tried against Streamline, of which the largest whose p99 is at or below Kafka's is measured.
const OUR_PRODUCERS: &[usize] = &[16, 32, 64, 128, 256, 512];

fn run(context: &Context) -> Result<Findings> {
    let ours = streamline::start(context, &["--durability", "acks"])?;
    let theirs = kafka::start(context, &["log.flush.interval.messages=1"])?;
    let batch = batch(1024, 1)?;
    let time = context.effort.time(TURN);
    let prepared = |server: &Server| {
        let topic = context.topic();
        Connection::open(server.address)?.create_topic(&topic, 1, &[])?;
        Produce::new(&topic, 0, -1, &batch)
    };
    let (our_request, their_request) = (prepared(&ours)?, prepared(&theirs)?);
    let load = |server: &Server, request: &Produce, producers| {
        many::closed_loop(server.address, request, producers, time, true)
    };

    // Lets Java compile its code first.
    for _ in 0..2 {
        load(&theirs, &their_request, THEIR_PRODUCERS)?;
    }
    let baseline = load(&theirs, &their_request, THEIR_PRODUCERS)?;
    let limit = seconds_at(&baseline.latency, 0.99);
    let mut producers = OUR_PRODUCERS[0];
    for &more in OUR_PRODUCERS {
        context.say(format!("acks-all-kafka: {more} producers"));
        let answered = load(&ours, &our_request, more)?;
        if seconds_at(&answered.latency, 0.99) > limit {
            break;
        }
        producers = more;
    }

    let pairs: Vec<(Answered, Answered)> = context.pairs(
        &format!("acks-all-kafka, {producers} producers against {THEIR_PRODUCERS}"),
        || load(&ours, &our_request, producers),
        || load(&theirs, &their_request, THEIR_PRODUCERS),
    )?;
    let sides = |figure: &dyn Fn(&Answered) -> f64| {
        (
            Side::new("Streamline", pairs.iter().map(|(ours, _)| figure(ours))),
            Side::new(&theirs.name, pairs.iter().map(|(_, theirs)| figure(theirs))),
        )
    };
    let mut findings = Findings::default();
    let (our_rate, their_rate) = sides(&Answered::per_second);
    findings.compare(Comparison::ratio(
        "acks=all on disk, requests at equal p99",
        Unit::PerSecond,
        our_rate,
        their_rate,
        Target::AtLeast(5.0),
    ));
    let (our_p99, their_p99) = sides(&|answered| seconds_at(&answered.latency, 0.99));
    findings.compare(Comparison::ratio(
        "p99 at these rates",
        Unit::Seconds,
        our_p99,
        their_p99,
        Target::AtMost(1.0),
    ));
    findings.remark(format!(
        "One record of 1 KiB per request, one partition, one request in flight per producer: {THEIR_PRODUCERS} producers \
         against Kafka, and {producers} against Streamline, the largest of {OUR_PRODUCERS:?} whose p99 was at or below Kafka's \
         in a trial."
    ));
    Ok(findings)
}
