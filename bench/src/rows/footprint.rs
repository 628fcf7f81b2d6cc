//! Footprint of an idle server: memory, binary size and startup time.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Part, Row};
use crate::context::Context;
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::streamline;
use crate::quantity::Unit;

pub const ROW: Row = Row {
    name: "footprint",
    part: Part::Speed,
    about: "start in an empty directory, idle resident memory, size of the stripped release binary",
    quick: true,
    run,
};

/// Time before memory is measured.
const SETTLE: Duration = Duration::from_secs(2);

fn run(context: &Context) -> Result<Findings> {
    let figures = context.turns("footprint", || {
        let began = Instant::now();
        let server = streamline::start(context, &[])?;
        let started = began.elapsed();
        thread::sleep(context.effort.time(SETTLE));
        Ok((started.as_secs_f64(), server.process.resident()? as f64))
    })?;
    let mut findings = Findings::default();
    findings.compare(Comparison::absolute(
        "start in an empty directory",
        Unit::Seconds,
        Side::new("Streamline", figures.iter().map(|(seconds, _)| *seconds)),
        Target::AtMost(0.05),
    ));
    findings.compare(Comparison::absolute(
        "idle resident memory",
        Unit::Bytes,
        Side::new("Streamline", figures.iter().map(|(_, bytes)| *bytes)),
        Target::AtMost(15e6),
    ));
    let folder = context.directory()?;
    let stripped = folder.path().join("stripped");
    let status = Command::new("strip")
        .arg("-o")
        .arg(&stripped)
        .arg(&context.server)
        .status()?;
    ensure!(status.success(), "strip exited with {status}");
    findings.compare(Comparison::absolute(
        "release binary, stripped",
        Unit::Bytes,
        Side::new("Streamline", [std::fs::metadata(&stripped)?.len() as f64]),
        Target::AtMost(20e6),
    ));
    findings.remark(
        "The server has started once it writes run.json, which is polled every millisecond: clients can connect by then. \
         Memory is all resident memory, including the program's own pages.",
    );
    Ok(findings)
}
