//! Small requests over many connections, against a bare tokio echo of the same bytes; and how both scale.

use std::time::Duration;

use anyhow::Result;

use super::{Part, Row};
use crate::context::Context;
use crate::loads::lean::frames::{Produce, batch};
use crate::loads::lean::latency::seconds_at;
use crate::loads::lean::{Connection, many};
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::{own, streamline};
use crate::plot::{Line, Plot};
use crate::quantity::Unit;

pub const ROW: Row = Row {
    name: "small-requests",
    part: Part::Speed,
    about: "produce of 100 B on 64 connections, one request under way on each, against a bare tokio echo of the same bytes",
    quick: true,
    run,
};

const TURN: Duration = Duration::from_secs(3);
const CONNECTIONS: usize = 64;
/// For the picture.
const SCALING: &[usize] = &[1, 4, 16, 64, 256];

fn run(context: &Context) -> Result<Findings> {
    let server = streamline::start(context, &["--durability", "os"])?;
    let topic = context.topic();
    let mut connection = Connection::open(server.address)?;
    connection.create_topic(&topic, 1, &[])?;
    let produce = Produce::new(&topic, 0, 1, &batch(100, 1)?)?;
    connection.send(&produce.frame)?;
    let answer_bytes = connection.receive()?.len();
    let echo = own::echo(context, answer_bytes)?;
    let ours =
        |connections, time| many::closed_loop(server.address, &produce, connections, time, true);
    let theirs =
        |connections, time| many::closed_loop(echo.address, &produce, connections, time, false);

    let time = context.effort.time(TURN);
    let pairs = context.pairs(
        "small-requests",
        || {
            let before = server.process.threads()?;
            let answered = ours(CONNECTIONS, time)?;
            let spent = server.process.threads()?.since(&before);
            Ok((answered, spent))
        },
        || theirs(CONNECTIONS, time),
    )?;
    let mut findings = Findings::default();
    findings.compare(Comparison::ratio(
        format!("small requests, {CONNECTIONS} connections"),
        Unit::PerSecond,
        Side::new(
            "Streamline",
            pairs.iter().map(|((ours, _), _)| ours.per_second()),
        ),
        Side::new(
            "tokio echo",
            pairs.iter().map(|(_, echo)| echo.per_second()),
        ),
        Target::AtLeast(0.6),
    ));
    findings.compare(Comparison::ratio(
        format!("latency at that rate, p99, {CONNECTIONS} connections"),
        Unit::Seconds,
        Side::new(
            "Streamline",
            pairs
                .iter()
                .map(|((ours, _), _)| seconds_at(&ours.latency, 0.99)),
        ),
        Side::new(
            "tokio echo",
            pairs
                .iter()
                .map(|(_, echo)| seconds_at(&echo.latency, 0.99)),
        ),
        Target::None,
    ));
    findings.compare(Comparison::absolute(
        "CPU of a small produce",
        Unit::CpuSecondsPerRequest,
        Side::new(
            "Streamline",
            pairs
                .iter()
                .map(|((ours, spent), _)| spent.as_secs_f64() / ours.requests as f64),
        ),
        Target::None,
    ));
    findings.remark(format!(
        "Requests of {} bytes, answers of {} bytes, length prefixes included. The load of both is one thread, which has to \
         share the machine's processors with the server.",
        produce.frame.len(),
        answer_bytes + 4
    ));

    let mut lines = [("Streamline", Vec::new()), ("tokio echo", Vec::new())];
    for &connections in SCALING {
        context.say(format!("small-requests: {connections} connections"));
        let time = time.mul_f64(0.5);
        lines[0]
            .1
            .push((connections as f64, ours(connections, time)?.per_second()));
        lines[1]
            .1
            .push((connections as f64, theirs(connections, time)?.per_second()));
    }
    findings.plot(Plot {
        name: "connections".to_owned(),
        title: "Small requests by connections".to_owned(),
        x_label: "connections".to_owned(),
        y_label: "requests a second".to_owned(),
        log_x: true,
        log_y: false,
        lines: lines
            .into_iter()
            .map(|(name, points)| Line {
                name: name.to_owned(),
                points,
            })
            .collect(),
    });
    Ok(findings)
}
