//! How many instructions the hot paths take, and whether that is still what was agreed on.
//!
//! Times are too noisy to hold a change against; these counts repeat within a fraction of a percent. The agreed ones
//! stand in `bench/instructions.json`, with what they depend on besides our code. A change that moves one by more than
//! [`BAND`] in either direction has to say so by writing them anew.

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

/// How far a count may be from the agreed one.
const BAND: f64 = 0.02;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A request of one record of 100 bytes, acks=1.
    Produce,
    /// A request that is answered with one such batch.
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

    /// Repetitions of a short and of a long run. What one takes is the difference divided by theirs, so that start,
    /// preparation and end cancel out.
    fn repetitions(self) -> [u64; 2] {
        match self {
            Work::Produce | Work::Fetch => [2_000, 6_000],
            Work::Scrape => [5, 65],
        }
    }
}

/// Instructions that the server takes for the work, once, with such settings.
pub fn count(context: &Context, work: Work, settings: &[&str]) -> Result<f64> {
    let [few, many] = work.repetitions();
    let short = life(context, work, few, settings)?;
    let long = life(context, work, many, settings)?;
    Ok((long as f64 - short as f64) / (many - few) as f64)
}

/// Those of a server's whole life with so many repetitions in it.
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

/// The agreed counts, and what they depend on besides our code.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Agreed {
    tools: Tools,
    instructions: BTreeMap<Work, u64>,
}

/// Among them the processor, by which libraries choose their routines.
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

/// Counts, and compares with what was agreed on, or writes that anew.
pub fn guard(context: &Context, update: bool) -> Result<ExitCode> {
    let mut instructions = BTreeMap::new();
    for work in Work::ALL {
        context.say(format!("counting instructions: {}", work.name()));
        instructions.insert(work, count(context, work, &[])?.round() as u64);
    }
    let now = Agreed {
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
    let agreed: Agreed =
        serde_json::from_str(&text).with_context(|| format!("{}", file.display()))?;
    compare(&agreed, &now)
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

fn compare(agreed: &Agreed, now: &Agreed) -> Result<ExitCode> {
    println!("| instructions of | agreed | now | change |\n|---|---|---|---|");
    let mut moved = 0;
    for (work, count) in &now.instructions {
        let before = agreed
            .instructions
            .get(work)
            .with_context(|| format!("nothing was agreed on for {}", work.name()))?;
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
    if agreed.tools != now.tools {
        println!(
            "More than {band} % apart, but here with {:?} and there with {:?}. `{again}` agrees on what these count.",
            now.tools, agreed.tools
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("More than {band} % apart. If that is meant, `{again}` agrees on it.");
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(produce: u64, valgrind: &str) -> Agreed {
        Agreed {
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
        let before = agreed(10_000, "3");
        for (now, exit) in [
            (10_199, ExitCode::SUCCESS),
            (9_801, ExitCode::SUCCESS),
            (10_201, ExitCode::FAILURE),
            (9_799, ExitCode::FAILURE),
        ] {
            assert_eq!(compare(&before, &agreed(now, "3")).unwrap(), exit, "{now}");
        }
    }

    #[test]
    fn other_tools_count_otherwise() {
        let before = agreed(10_000, "3");
        assert_eq!(
            compare(&before, &agreed(20_000, "4")).unwrap(),
            ExitCode::SUCCESS
        );
    }

    #[test]
    fn the_committed_counts_can_be_read() {
        let agreed: Agreed = serde_json::from_str(include_str!("../instructions.json")).unwrap();
        assert!(
            Work::ALL
                .iter()
                .all(|work| agreed.instructions.contains_key(work))
        );
    }
}
