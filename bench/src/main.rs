//! Measures Streamline against what the machine can do and against its peers, and writes a report.
//!
//! ```text
//! main → rows/<row> ─┬▶ peers/     servers, each a process of its own
//!                    ├▶ loads/     what is done to them
//!                    ├▶ ceilings   what the machine can do at best
//!                    ├▶ sink       how fast a client is when the server does nothing
//!                    └▶ outcome ──▶ stats, report, plot
//! main → reliability   runs the tests that show what is survived
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

/// A row that takes longer is not run a second time.
const REPEATED_MAX: Duration = Duration::from_secs(150);

#[derive(Debug, Parser)]
#[command(
    name = "bench",
    about = "Measures Streamline against what the machine can do and against its peers",
    long_about = "Measures Streamline against what the machine can do and against its peers, in pairs A B A B, and writes \
                  a report: every ratio with its spread, the target, the command lines and the machine.\n\n\
                  Leave the machine alone meanwhile: whatever else runs is measured too. Servers run on the loopback \
                  interface and in a temporary directory; all that was started is ended and removed at the end, and on \
                  Ctrl-C.",
    after_help = "Examples:\n  \
                  cargo run -p bench --release -- list           which rows there are\n  \
                  cargo run -p bench --release -- quick          the rows for every day, in five minutes\n  \
                  cargo run -p bench --release -- all            every row, in less than an hour\n  \
                  cargo run -p bench --release -- fetch-peers    all peers beforehand; builds Nisshi, in 15 minutes\n  \
                  cargo run -p bench --release -- instructions   whether the hot paths still take as many as agreed on\n  \
                  cargo run -p bench --release -- reliability    whether every promise of reliability holds, for an hour\n  \
                  cargo run -p bench --release -- produce-lean   one row, with all its pairs"
)]
struct Arguments {
    /// `all`, `quick`, `list`, `fetch-peers`, `instructions`, `reliability`, or names of rows.
    #[arg(required = true, value_name = "WHAT")]
    what: Vec<String>,

    /// Turns of each side that count [default: 5; 3 for quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pairs: Option<u16>,

    /// Multiplies the work of a turn [default: 1; 0.3 for quick]
    #[arg(long, value_name = "FACTOR")]
    scale: Option<f64>,

    /// Where the report goes.
    #[arg(long, value_name = "FOLDER", default_value = "bench/report")]
    out: PathBuf,

    /// Where logs are written while measuring: 10 GB on the disk in question [default: target/bench]
    #[arg(long, value_name = "FOLDER")]
    work: Option<PathBuf>,

    /// Does not run a row a second time when its targets are missed or in doubt, as `quick` never does.
    #[arg(long)]
    once: bool,

    /// With `instructions`: agrees on what is counted now
    #[arg(long)]
    update: bool,

    /// A server to measure instead of the one built here and now.
    #[arg(long, value_name = "PROGRAM")]
    server: Option<PathBuf>,

    /// Nisshi's program, instead of the one that `fetch-peers` has built.
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
                row.with_context(|| {
                    format!("no row is called {name}; `list` shows which there are")
                })
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
            "--scale is above 0 and at most 100"
        );
        effort.scale = scale;
    }
    Ok(effort)
}

/// Runs a row, and once more when that left a target in doubt.
fn measure(context: &Context, row: &'static Row, doubt: bool) -> Measured {
    let began = Instant::now();
    let findings = attempt(context, row);
    let taken = began.elapsed();
    let again = match &findings {
        Ok(findings) if doubt && findings.in_doubt() && taken < REPEATED_MAX => {
            context.say(format!("{}: once more", row.name));
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

/// Builds the server as it is released and says where it is.
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
        .context("cargo builds the server")?;
    ensure!(status.success(), "the server does not build");
    // It lies beside this program.
    let own = std::env::current_exe()?;
    let server = own.with_file_name("streamline");
    if !server.is_file() {
        bail!("no {}; was bench run with --release?", server.display());
    }
    Ok(server)
}

/// Cargo's target folder, in which this program lies as `release/bench`. Of a copy elsewhere it is the one here.
fn target_folder() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let profile = own.parent().context("the program lies in a folder")?;
    let target = match profile.file_name() {
        Some(name) if name == "release" || name == "debug" => profile.parent(),
        _ => None,
    };
    Ok(target.map_or_else(|| PathBuf::from("target"), Path::to_owned))
}

/// A folder in memory, or else one on the disk.
fn memory_folder(work: &Path) -> Result<tempfile::TempDir> {
    let shared = Path::new("/dev/shm");
    let parent = if shared.is_dir() { shared } else { work };
    Ok(tempfile::Builder::new()
        .prefix("streamline-bench-")
        .tempdir_in(parent)?)
}
