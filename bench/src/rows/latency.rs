//! Latency at a given rate, measured from when a request was due.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

use super::{Part, Row};
use crate::context::Context;
use crate::loads::lean::frames::{Produce, batch};
use crate::loads::lean::latency::{self, new_histogram, seconds_at};
use crate::loads::lean::{Connection, many};
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::{Server, kafka, own, streamline};
use crate::plot::{Line, Plot};
use crate::quantity::Unit;

pub const PRODUCE: Row = Row {
    name: "latency-kafka",
    part: Part::Speed,
    about: "latency of produce of 100 B with acks=1 at 500 and 5,000 requests a second, against Apache Kafka",
    quick: false,
    run: produce,
};

pub const END_TO_END: Row = Row {
    name: "end-to-end-kafka",
    part: Part::Speed,
    about: "latency from producing 100 B until a waiting consumer receives it, at 500 a second, against Apache Kafka",
    quick: false,
    run: end_to_end,
};

const TURN: Duration = Duration::from_secs(5);
/// Warm-up requests, after which Java has compiled the code.
const WARM_UP: Duration = Duration::from_secs(5);
const RATES: &[u32] = &[500, 5_000];
/// About the size of a response to a Produce of one batch.
const PRODUCE_ANSWER_BYTES: usize = 60;
/// A name, the quantile, and the target of its ratio.
pub type Quantile = (&'static str, f64, Target);
const PRODUCE_QUANTILES: &[Quantile] = &[
    ("p50", 0.5, Target::AtMost(1.0 / 2.0)),
    ("p99", 0.99, Target::AtMost(1.0 / 3.0)),
    ("p99.9", 0.999, Target::AtMost(1.0 / 5.0)),
];
/// For orientation: a bare echo of the same bytes has the network's and the scheduler's latency and no other.
const FLOOR_QUANTILES: &[Quantile] = &[
    ("p50", 0.5, Target::None),
    ("p99", 0.99, Target::None),
    ("p99.9", 0.999, Target::None),
];
const END_TO_END_QUANTILES: &[Quantile] = &[
    ("p50", 0.5, Target::AtMost(1.0 / 2.0)),
    ("p99", 0.99, Target::AtMost(1.0 / 3.0)),
    ("p99.9", 0.999, Target::None),
];

fn servers(context: &Context) -> Result<(Server, Server)> {
    let ours = streamline::start(context, &["--durability", "os"])?;
    let theirs = kafka::start(context, &[])?;
    for server in [&ours, &theirs] {
        let topic = context.topic();
        Connection::open(server.address)?.create_topic(&topic, 1, &[])?;
        let produce = Produce::new(&topic, 0, 1, &batch(100, 1)?)?;
        many::closed_loop(
            server.address,
            &produce,
            16,
            context.effort.time(WARM_UP),
            true,
        )?;
    }
    Ok((ours, theirs))
}

fn produce(context: &Context) -> Result<Findings> {
    let (ours, theirs) = servers(context)?;
    let mut findings = Findings::default();
    let batch = batch(100, 1)?;
    // Its responses are zeros, which mean success.
    let echo = own::echo(context, PRODUCE_ANSWER_BYTES)?;
    for &rate in RATES {
        let turn = |server: &Server| {
            let topic = context.topic();
            let mut admin = Connection::open(server.address)?;
            admin.create_topic(&topic, 1, &[])?;
            let produce = Produce::new(&topic, 0, 1, &batch)?;
            let latency =
                latency::produce(server.address, &produce, rate, context.effort.time(TURN))?;
            admin.delete_topic(&topic)?;
            Ok(latency)
        };
        let what = format!("produce at {rate}/s");
        let pairs = context.pairs(&what, || turn(&ours), || turn(&theirs))?;
        compare(
            &mut findings,
            &what,
            ["Streamline", &theirs.name],
            &pairs,
            PRODUCE_QUANTILES,
        );
        let produce = Produce::new(&context.topic(), 0, 1, &batch)?;
        let machine = context.turns(&format!("{what}: bare echo"), || {
            latency::produce(echo.address, &produce, rate, context.effort.time(TURN))
        })?;
        let beside_echo: Vec<Pair> = pairs
            .iter()
            .map(|(ours, _)| ours.clone())
            .zip(machine)
            .collect();
        let what_of_it = format!("{what} against what the machine takes by itself");
        compare(
            &mut findings,
            &what_of_it,
            ["Streamline", &echo.name],
            &beside_echo,
            FLOOR_QUANTILES,
        );
        findings.plot(picture(
            &format!("latency-{rate}"),
            &what,
            &theirs.name,
            &pairs,
        )?);
    }
    findings.remark(OPEN_LOOP);
    Ok(findings)
}

fn end_to_end(context: &Context) -> Result<Findings> {
    const RATE: u32 = 500;
    let (ours, theirs) = servers(context)?;
    let batch = batch(100, 1)?;
    let turn = |server: &Server| {
        let topic = context.topic();
        let mut admin = Connection::open(server.address)?;
        admin.create_topic(&topic, 1, &[])?;
        let produce = Produce::new(&topic, 0, 1, &batch)?;
        let latency = latency::end_to_end(
            server.address,
            &topic,
            &produce,
            RATE,
            context.effort.time(TURN),
        )?;
        admin.delete_topic(&topic)?;
        Ok(latency)
    };
    let what = format!("end to end at {RATE}/s");
    let pairs = context.pairs(&what, || turn(&ours), || turn(&theirs))?;
    let mut findings = Findings::default();
    compare(
        &mut findings,
        &what,
        ["Streamline", &theirs.name],
        &pairs,
        END_TO_END_QUANTILES,
    );
    findings.plot(picture("end-to-end", &what, &theirs.name, &pairs)?);
    findings.remark(OPEN_LOOP);
    Ok(findings)
}

const OPEN_LOOP: &str = "Requests are due at even intervals on one connection, regardless of earlier ones; latency is \
                         measured from when a request was due, so that a stalling server is charged for every request that \
                         waited. Before, both servers serve 16 busy connections, so that Java compiles its code.";

type Pair = (Histogram<u64>, Histogram<u64>);

/// Compares two sides at each quantile.
pub fn compare(
    findings: &mut Findings,
    what: &str,
    [ours, theirs]: [&str; 2],
    pairs: &[Pair],
    quantiles: &[Quantile],
) {
    for &(name, quantile, target) in quantiles {
        findings.compare(Comparison::ratio(
            format!("{what}, {name}"),
            Unit::Seconds,
            Side::new(
                ours,
                pairs.iter().map(|(ours, _)| seconds_at(ours, quantile)),
            ),
            Side::new(
                theirs,
                pairs.iter().map(|(_, theirs)| seconds_at(theirs, quantile)),
            ),
            target,
        ));
    }
}

/// Plots all turns together by percentile; the x axis shows one in how many requests is slower.
fn picture(name: &str, what: &str, theirs: &str, pairs: &[Pair]) -> Result<Plot> {
    let mut ours_all = new_histogram();
    let mut theirs_all = new_histogram();
    for (ours, theirs) in pairs {
        ours_all.add(ours)?;
        theirs_all.add(theirs)?;
    }
    let line = |name: &str, histogram: &Histogram<u64>| Line {
        name: name.to_owned(),
        points: (0..)
            .map(|step| 10f64.powf(f64::from(step) / 10.0))
            .take_while(|one_in| *one_in <= histogram.len() as f64 / 5.0)
            .map(|one_in| (one_in, seconds_at(histogram, 1.0 - 1.0 / one_in) * 1e3))
            .collect(),
    };
    Ok(Plot {
        name: name.to_owned(),
        title: format!("Latency: {what}"),
        x_label: "one in this many requests is slower".to_owned(),
        y_label: "milliseconds".to_owned(),
        log_x: true,
        log_y: true,
        lines: vec![line("Streamline", &ours_all), line(theirs, &theirs_all)],
    })
}
