//! Instruction counts by valgrind's callgrind, which hardly depend on other load of the machine.
//!
//! Callgrind counts in user space only, without the kernel's instructions.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// Returns the command that runs `program` under callgrind; the caller adds arguments. The profile is written when the
/// program exits.
pub fn command(program: &Path, profile: &Path) -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program);
    valgrind
}

/// Returns the instructions of a program from start to exit.
pub fn total(profile: &Path) -> Result<u64> {
    let text = fs::read_to_string(profile).context("callgrind wrote no profile")?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix("totals: ")
                .or(line.strip_prefix("summary: "))
        })
        .and_then(|total| total.trim().parse().ok())
        .context("the profile has no total")
}
