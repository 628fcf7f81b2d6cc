//! Compares Streamline with the limits of the machine and with other servers, and writes a report.
//!
//! ```text
//! main → rows/<row> ─┬▶ peers/     servers, each in a separate process
//!                    ├▶ loads/     their workloads
//!                    ├▶ ceilings   limits of the machine
//!                    ├▶ sink       limit of a client: a server that does nothing
//!                    └▶ outcome ──▶ stats, report, plot
//! main → reliability   runs the tests of the reliability guarantees
//! ```

mod callgrind;
mod ceilings;
mod clock;
mod context;
mod instructions;
mod loads;
mod machine;
mod outcome;
mod peers;
mod plot;
mod process;
mod quantity;
mod reliability;
mod report;
mod rows;
mod sink;
mod stats;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;

use context::{Context, Effort};
use outcome::Findings;
use peers::Peers;
use report::{Frame, Measured};
use rows::Row;

/// Duration above which a row is not run a second time.
const REPEATED_MAX: Duration = Duration::from_secs(150);

#[derive(Debug, Parser)]
#[command(
    name = "bench",
    about = "Compare Streamline with the limits of the machine and with other servers",
    long_about = "Compare Streamline with the limits of the machine and with other servers, in pairs A B A B, and write a \
                  report: ratios with their spread, targets, command lines and the machine.\n\n\
                  Do not run anything else on the machine meanwhile: other load distorts the results. Servers run on the \
                  loopback interface and in a temporary directory; they are stopped and their files removed at the end, \
                  and on Ctrl-C.",
    after_help = "Examples:\n  \
                  cargo run -p bench --release -- list           list the rows\n  \
                  cargo run -p bench --release -- quick          rows for daily use, in less than five minutes\n  \
                  cargo run -p bench --release -- all            every row, in less than an hour\n  \
                  cargo run -p bench --release -- fetch-peers    fetch all peers, and build Nisshi in 15 minutes\n  \
                  cargo run -p bench --release -- instructions   check instruction counts of the hot paths\n  \
                  cargo run -p bench --release -- reliability    test the reliability guarantees for an hour\n  \
                  cargo run -p bench --release -- produce-lean   a single row, with all its pairs"
)]
struct Arguments {
    /// `all`, `quick`, `list`, `fetch-peers`, `instructions`, `reliability`, or names of rows.
    #[arg(required = true, value_name = "WHAT")]
    what: Vec<String>,

    /// Measured turns of each side [default: 5; 3 for quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pairs: Option<u16>,

    /// Factor for the work of a turn [default: 1; 0.3 for quick]
    #[arg(long, value_name = "FACTOR")]
    scale: Option<f64>,

    /// Directory of the report
    #[arg(long, value_name = "FOLDER", default_value = "bench/report")]
    out: PathBuf,

    /// Directory of the servers' logs, on the disk to measure; needs 10 GB [default: target/bench]
    #[arg(long, value_name = "FOLDER")]
    work: Option<PathBuf>,

    /// Do not repeat rows whose targets are missed or in doubt; implied by `quick`
    #[arg(long)]
    once: bool,

    /// With `instructions`: update the expected counts
    #[arg(long)]
    update: bool,

    /// Server to measure instead of building one
    #[arg(long, value_name = "PROGRAM")]
    server: Option<PathBuf>,

    /// Nisshi to measure instead of the one built by `fetch-peers`
    #[arg(long, value_name = "PROGRAM")]
    nisshi: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(served) = peers::own::serve(&arguments.what) {
        return served.map(|()| ExitCode::SUCCESS);
    }
    if arguments.what == ["list"] {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    let peers = Peers::new(
        &target_folder()?.join("bench-peers"),
        arguments.nisshi.clone(),
    );
    if arguments.what == ["fetch-peers"] {
        process::end_all_on_signal(Vec::new())?;
        peers.fetch_all();
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.what == ["reliability"] {
        process::end_all_on_signal(Vec::new())?;
        let logs = target_folder()?.join("bench/reliability");
        let mut call = "cargo run -p bench --release -- reliability".to_owned();
        if let Some(scale) = arguments.scale {
            call += &format!(" --scale {scale}");
        }
        return reliability::campaign(effort(arguments)?, &arguments.out, &logs, &call);
    }
    let guard = arguments.what == ["instructions"];
    let rows = if guard {
        Vec::new()
    } else {
        chosen(&arguments.what)?
    };
    let effort = effort(arguments)?;
    let server = match &arguments.server {
        Some(program) => program
            .canonicalize()
            .with_context(|| format!("{}", program.display()))?,
        None => build_server()?,
    };
    let work_parent = match &arguments.work {
        Some(folder) => folder.clone(),
        None => target_folder()?.join("bench"),
    };
    fs::create_dir_all(&work_parent).with_context(|| format!("{}", work_parent.display()))?;
    let work = tempfile::Builder::new()
        .prefix("run-")
        .tempdir_in(work_parent.canonicalize()?)?;
    let memory = memory_folder(work.path())?;
    process::end_all_on_signal(vec![work.path().to_owned(), memory.path().to_owned()])?;
    let began = Instant::now();
    let machine = machine::facts(work.path());
    let context = Context::new(effort, server, peers, work.path(), memory.path());
    if guard {
        return instructions::guard(&context, arguments.update);
    }
    let doubt = !arguments.once && arguments.what != ["quick"];
    let measured: Vec<Measured> = rows
        .into_iter()
        .map(|row| measure(&context, row, doubt))
        .collect();
    let frame = Frame {
        call: format!(
            "cargo run -p bench --release -- {}",
            arguments.what.join(" ")
        ),
        pairs: effort.pairs,
        machine,
        commands: context.commands(),
        seconds: began.elapsed().as_secs_f64(),
    };
    report::write(&arguments.out, &frame, &measured)?;
    context.say(format!(
        "written to {}",
        arguments.out.join("report.md").display()
    ));
    let failed = measured
        .iter()
        .filter(|measured| measured.findings.is_err());
    Ok(match failed.count() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn list() {
    for row in rows::ALL {
        let quick = if row.quick { "quick" } else { "" };
        println!("{:<20} {quick:<6} {}", row.name, row.about);
    }
}

fn chosen(what: &[String]) -> Result<Vec<&'static Row>> {
    match what {
        [one] if one == "all" => Ok(rows::ALL.iter().collect()),
        [one] if one == "quick" => Ok(rows::ALL.iter().filter(|row| row.quick).collect()),
        names => names
            .iter()
            .map(|name| {
                let row = rows::ALL.iter().find(|row| row.name == name);
                row.with_context(|| format!("no such row: {name}; list them with `list`"))
            })
            .collect(),
    }
}

fn effort(arguments: &Arguments) -> Result<Effort> {
    let mut effort = if arguments.what == ["quick"] {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    if let Some(pairs) = arguments.pairs {
        effort.pairs = pairs.into();
    }
    if let Some(scale) = arguments.scale {
        ensure!(
            scale > 0.0 && scale <= 100.0,
            "--scale must be above 0 and at most 100"
        );
        effort.scale = scale;
    }
    Ok(effort)
}

/// Runs a row, and repeats it if a target is in doubt.
fn measure(context: &Context, row: &'static Row, doubt: bool) -> Measured {
    let began = Instant::now();
    let findings = attempt(context, row);
    let taken = began.elapsed();
    let again = match &findings {
        Ok(findings) if doubt && findings.in_doubt() && taken < REPEATED_MAX => {
            context.say(format!("{}: repeating", row.name));
            attempt(context, row).ok()
        }
        _ => None,
    };
    Measured {
        row,
        findings,
        again,
        seconds: taken.as_secs_f64(),
    }
}

fn attempt(context: &Context, row: &Row) -> Result<Findings, String> {
    context.say(format!("{}: {}", row.name, row.about));
    let findings = (row.run)(context).map_err(|error| format!("{error:#}"));
    match &findings {
        Ok(findings) => {
            for comparison in &findings.comparisons {
                context.say(format!("  {}", report::one_line(comparison)));
            }
        }
        Err(why) => context.say(format!("{}: not measured: {why}", row.name)),
    }
    findings
}

/// Builds the server's release binary and returns its path.
fn build_server() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "streamline",
            "--bin",
            "streamline",
        ])
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "building the server failed");
    // In the same folder as this program.
    let own = std::env::current_exe()?;
    let server = own.with_file_name("streamline");
    if !server.is_file() {
        bail!(
            "{} does not exist; run bench with --release",
            server.display()
        );
    }
    Ok(server)
}

/// Returns Cargo's target folder, which has this program as `release/bench`; for a copy elsewhere, `target`.
fn target_folder() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let profile = own.parent().context("the program has no folder")?;
    let target = match profile.file_name() {
        Some(name) if name == "release" || name == "debug" => profile.parent(),
        _ => None,
    };
    Ok(target.map_or_else(|| PathBuf::from("target"), Path::to_owned))
}

/// Creates a folder in memory if possible, else on the disk.
fn memory_folder(work: &Path) -> Result<tempfile::TempDir> {
    let shared = Path::new("/dev/shm");
    let parent = if shared.is_dir() { shared } else { work };
    Ok(tempfile::Builder::new()
        .prefix("streamline-bench-")
        .tempdir_in(parent)?)
}
