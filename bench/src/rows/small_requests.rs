//! Small requests over many connections, against a bare tokio echo of the same bytes; and how both scale.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{Part, Row};
use crate::context::Context;
use crate::loads::lean::Connection;
use crate::loads::lean::frames::{Produce, batch};
use crate::loads::lean::latency::seconds_at;
use crate::loads::lean::many::{self, Answered};
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::{Server, own, streamline};
use crate::plot::{Line, Plot};
use crate::quantity::Unit;

pub const ROW: Row = Row {
    name: "small-requests",
    part: Part::Speed,
    about: "produce of 100 B on 64 connections, one request in flight on each, against a bare tokio echo of the same bytes",
    quick: true,
    run,
};

const TURN: Duration = Duration::from_secs(3);
const CONNECTIONS: usize = 64;
/// Numbers of connections in the chart.
const SCALING: &[usize] = &[1, 4, 16, 64, 256];

/// Both servers of a comparison, and the request sent to both.
struct Sides {
    ours: Server,
    echo: Server,
    produce: Produce,
    answer_bytes: usize,
}

impl Sides {
    fn start(
        context: &Context,
        ours: Server,
        echo: fn(&Context, usize) -> Result<Server>,
    ) -> Result<Sides> {
        let topic = context.topic();
        let mut connection = Connection::open(ours.address)?;
        connection.create_topic(&topic, 1, &[])?;
        let produce = Produce::new(&topic, 0, 1, &batch(100, 1)?)?;
        connection.send(&produce.frame)?;
        let answer_bytes = connection.receive()?.len();
        Ok(Sides {
            echo: echo(context, answer_bytes)?,
            ours,
            produce,
            answer_bytes,
        })
    }

    fn ours(&self, connections: usize, time: Duration) -> Result<Answered> {
        many::closed_loop(self.ours.address, &self.produce, connections, time, true)
    }

    fn echo(&self, connections: usize, time: Duration) -> Result<Answered> {
        many::closed_loop(self.echo.address, &self.produce, connections, time, false)
    }

    fn compare(
        &self,
        context: &Context,
        findings: &mut Findings,
        what: &str,
        target: Target,
    ) -> Result<()> {
        let time = context.effort.time(TURN);
        let pairs = context.pairs(
            what,
            || {
                let before = self.ours.process.threads()?;
                let answered = self.ours(CONNECTIONS, time)?;
                let spent = self.ours.process.threads()?.since(&before);
                Ok((answered, spent))
            },
            || self.echo(CONNECTIONS, time),
        )?;
        let sides = |unit, figure: &dyn Fn(&Answered) -> f64, what: String, target| {
            Comparison::ratio(
                what,
                unit,
                Side::new(
                    "Streamline",
                    pairs.iter().map(|((ours, _), _)| figure(ours)),
                ),
                Side::new(
                    self.echo.name.clone(),
                    pairs.iter().map(|(_, echo)| figure(echo)),
                ),
                target,
            )
        };
        findings.compare(sides(
            Unit::PerSecond,
            &|answered| answered.per_second(),
            what.to_owned(),
            target,
        ));
        findings.compare(sides(
            Unit::Seconds,
            &|answered| seconds_at(&answered.latency, 0.99),
            format!("latency at that rate, p99, {what}"),
            Target::None,
        ));
        findings.compare(Comparison::absolute(
            format!("CPU of one of {what}"),
            Unit::CpuSecondsPerRequest,
            Side::new(
                "Streamline",
                pairs
                    .iter()
                    .map(|((ours, spent), _)| spent.as_secs_f64() / ours.requests as f64),
            ),
            Target::None,
        ));
        Ok(())
    }
}

fn run(context: &Context) -> Result<Findings> {
    const SETTINGS: &[&str] = &["--durability", "os"];
    let mut findings = Findings::default();
    let sides = Sides::start(context, streamline::start(context, SETTINGS)?, own::echo)?;
    let what = format!("small requests, {CONNECTIONS} connections");
    sides.compare(context, &mut findings, &what, Target::AtLeast(0.6))?;

    let single = Command::new(&context.server);
    let single = streamline::start_single(context, single, context.directory()?, SETTINGS)?;
    let single = Sides::start(context, single, own::echo_single)?;
    let what = format!("{what}, one thread each");
    single.compare(context, &mut findings, &what, Target::None)?;
    drop(single);

    findings.remark(format!(
        "Requests of {} bytes, responses of {} bytes, including length prefixes. The client of both is one thread, which \
         shares the machine's processors with the server: on two processors a server with two threads has one too many, and \
         Streamline's threads also contend for the one partition. The comparison with one thread each avoids both.",
        sides.produce.frame.len(),
        sides.answer_bytes + 4
    ));

    let mut lines = [("Streamline", Vec::new()), ("tokio echo", Vec::new())];
    for &connections in SCALING {
        context.say(format!("small-requests: {connections} connections"));
        let time = context.effort.time(TURN).mul_f64(0.5);
        lines[0].1.push((
            connections as f64,
            sides.ours(connections, time)?.per_second(),
        ));
        lines[1].1.push((
            connections as f64,
            sides.echo(connections, time)?.per_second(),
        ));
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
