//! Instruction counts of the hot paths, compared with the expected ones.
//!
//! Times are too noisy to judge a change; these counts repeat within a fraction of a percent. The expected counts are in
//! `bench/instructions.json`, with the tools that they depend on. A change that moves one by more than [`BAND`] in either
//! direction must update them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::callgrind;
use crate::context::Context;
use crate::loads::http;
use crate::loads::lean::Connection;
use crate::loads::lean::small::{SmallRequests, repeat};
use crate::machine::{self, first_line};
use crate::peers::streamline;
use crate::rows::scrape;

/// Tolerance of a count.
const BAND: f64 = 0.02;

/// Work whose instructions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A request of one record of 100 bytes, acks=1.
    Produce,
    /// A fetch of one such batch.
    Fetch,
    /// `/metrics` with 10,000 series about partitions.
    Scrape,
}

impl Work {
    pub const ALL: [Work; 3] = [Work::Produce, Work::Fetch, Work::Scrape];

    pub fn name(self) -> &'static str {
        match self {
            Work::Produce => "produce",
            Work::Fetch => "fetch",
            Work::Scrape => "scrape of 10,000 series",
        }
    }

    /// Repetitions of a short and of a long run. The count of one repetition is the difference of the counts divided by the
    /// difference of the repetitions, so that startup, preparation and shutdown cancel out.
    fn repetitions(self) -> [u64; 2] {
        match self {
            Work::Produce | Work::Fetch => [2_000, 6_000],
            Work::Scrape => [5, 65],
        }
    }
}

/// Returns the instructions that the server needs for one repetition with these settings.
pub fn count(context: &Context, work: Work, settings: &[&str]) -> Result<f64> {
    let [few, many] = work.repetitions();
    let short = life(context, work, few, settings)?;
    let long = life(context, work, many, settings)?;
    Ok((long as f64 - short as f64) / (many - few) as f64)
}

/// Returns the instructions of a server from start to exit with so many repetitions.
fn life(context: &Context, work: Work, repetitions: u64, settings: &[&str]) -> Result<u64> {
    let directory = context.memory_directory()?;
    let profile = directory.path().join("profile");
    let command = callgrind::command(&context.server, &profile);
    let server = streamline::start_single(context, command, directory, settings)?;
    let small = SmallRequests::new(context)?;
    let mut connection = Connection::open(server.address)?;
    match work {
        Work::Produce => {
            small.prepare(&mut connection)?;
            repeat(&mut connection, small.produce(), repetitions)?;
        }
        Work::Fetch => {
            small.prepare(&mut connection)?;
            repeat(&mut connection, small.fetch(), repetitions)?;
        }
        Work::Scrape => {
            let metrics = server.http.context("the server shows its metrics")?;
            scrape::add_series(&mut connection, metrics, 10_000)?;
            for _ in 0..repetitions {
                http::get(metrics, "/metrics")?;
            }
        }
    }
    let _directory = server.stop()?;
    callgrind::total(&profile)
}

/// Counts, and the tools that they depend on.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Expected {
    tools: Tools,
    instructions: BTreeMap<Work, u64>,
}

/// Includes the processor, by which libraries select their routines.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tools {
    processor: String,
    compiler: String,
    libc: String,
    valgrind: String,
}

impl Tools {
    fn here() -> Tools {
        Tools {
            processor: machine::processor(),
            compiler: machine::compiler(),
            libc: first_line(Command::new("ldd").arg("--version")),
            valgrind: first_line(Command::new("valgrind").arg("--version")),
        }
    }
}

/// Counts, and compares with the expected counts or updates them.
pub fn guard(context: &Context, update: bool) -> Result<ExitCode> {
    let mut instructions = BTreeMap::new();
    for work in Work::ALL {
        context.say(format!("counting instructions: {}", work.name()));
        instructions.insert(work, count(context, work, &[])?.round() as u64);
    }
    let now = Expected {
        tools: Tools::here(),
        instructions,
    };
    let file = file();
    if update {
        fs::write(&file, serde_json::to_string_pretty(&now)? + "\n")?;
        println!("written to {}", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    let expected: Expected =
        serde_json::from_str(&text).with_context(|| format!("{}", file.display()))?;
    compare(&expected, &now)
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

fn compare(expected: &Expected, now: &Expected) -> Result<ExitCode> {
    println!("| instructions of | expected | now | change |\n|---|---|---|---|");
    let mut moved = 0;
    for (work, count) in &now.instructions {
        let before = expected
            .instructions
            .get(work)
            .with_context(|| format!("instructions.json has no count for {}", work.name()))?;
        let change = *count as f64 / *before as f64 - 1.0;
        moved += usize::from(change.abs() > BAND);
        println!(
            "| {} | {before} | {count} | {:+.2} % |",
            work.name(),
            change * 100.0
        );
    }
    if moved == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let (band, again) = (
        BAND * 100.0,
        "cargo run -p bench --release -- instructions --update",
    );
    if expected.tools != now.tools {
        println!(
            "More than {band} % apart, but counted with {:?}, and the expected counts with {:?}. Update them with `{again}`.",
            now.tools, expected.tools
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "More than {band} % apart. If this is intended, update the expected counts with `{again}`."
    );
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(produce: u64, valgrind: &str) -> Expected {
        Expected {
            tools: Tools {
                processor: "p".into(),
                compiler: "c".into(),
                libc: "l".into(),
                valgrind: valgrind.into(),
            },
            instructions: BTreeMap::from([(Work::Produce, produce)]),
        }
    }

    #[test]
    fn a_count_outside_the_band_fails_in_either_direction() {
        let before = expected(10_000, "3");
        for (now, exit) in [
            (10_199, ExitCode::SUCCESS),
            (9_801, ExitCode::SUCCESS),
            (10_201, ExitCode::FAILURE),
            (9_799, ExitCode::FAILURE),
        ] {
            assert_eq!(
                compare(&before, &expected(now, "3")).unwrap(),
                exit,
                "{now}"
            );
        }
    }

    #[test]
    fn counts_of_other_tools_do_not_fail() {
        let before = expected(10_000, "3");
        assert_eq!(
            compare(&before, &expected(20_000, "4")).unwrap(),
            ExitCode::SUCCESS
        );
    }

    #[test]
    fn the_committed_counts_can_be_read() {
        let expected: Expected =
            serde_json::from_str(include_str!("../instructions.json")).unwrap();
        assert!(
            Work::ALL
                .iter()
                .all(|work| expected.instructions.contains_key(work))
        );
    }
}
