//! Time from a fresh clone to the first record, without compiled dependencies.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::{Part, Row};
use crate::context::Context;
use crate::loads::lean::Connection;
use crate::loads::lean::frames::{Produce, batch};
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::streamline;
use crate::process::Process;
use crate::quantity::Unit;

pub const ROW: Row = Row {
    name: "first-record",
    part: Part::Speed,
    about: "clone, build the release, start, produce one record; crates in the server's tree",
    quick: false,
    run,
};

fn run(context: &Context) -> Result<Findings> {
    let folder = context.directory()?;
    let clone = folder.path().join("clone");
    let began = Instant::now();
    finish(
        Command::new("git")
            .args(["clone", "--quiet", "--no-hardlinks", "."])
            .arg(&clone),
        folder.path(),
    )?;
    finish(
        Command::new("cargo")
            .args(["build", "--release", "--locked"])
            .current_dir(&clone)
            .env("CARGO_TARGET_DIR", clone.join("target")),
        folder.path(),
    )?;
    let program = clone.join("target/release/streamline");
    let command = Command::new(&program);
    let server = streamline::start_command(context, command, context.directory()?, &[])?;
    let mut connection = Connection::open(server.address)?;
    connection.create_topic("first", 1, &[])?;
    let produce = Produce::new("first", 0, 1, &batch(100, 1)?)?;
    connection.send(&produce.frame)?;
    produce.check(connection.receive()?)?;
    let taken = began.elapsed();

    let mut findings = Findings::default();
    findings.compare(Comparison::absolute(
        "clone → first record",
        Unit::Seconds,
        Side::new("Streamline", [taken.as_secs_f64()]),
        Target::AtMost(300.0),
    ));
    findings.compare(Comparison::absolute(
        "crates in the server's tree",
        Unit::Count,
        Side::new("Streamline", [crates(&clone)? as f64]),
        Target::AtMost(200.0),
    ));
    findings
        .remark("Measured once, not in pairs. Crates downloaded before are not downloaded again.");
    Ok(findings)
}

/// Runs a command, and shows its output if it fails.
fn finish(command: &mut Command, logs: &Path) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = Process::start_logged(&name, command, &logs.join("command.log"))?.wait()?;
    ensure!(status.success(), "{name} exited with {status}");
    Ok(())
}

/// Returns the number of crates needed to build the server on this machine, without itself.
fn crates(clone: &Path) -> Result<usize> {
    let output = Command::new("cargo")
        .args(["tree", "--locked", "--package", "streamline"])
        .args([
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(clone)
        .output()
        .context("cargo tree")?;
    ensure!(
        output.status.success(),
        "cargo tree exited with {}",
        output.status
    );
    let text = String::from_utf8(output.stdout)?;
    let names: std::collections::BTreeSet<&str> = text
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|line| !line.is_empty() && !line.starts_with("streamline "))
        .collect();
    Ok(names.len())
}
