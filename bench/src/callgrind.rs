//! Instructions, as valgrind's callgrind counts them: nearly the same on a busy machine and on a quiet one.
//!
//! Callgrind sees user space alone; what the kernel does for a request comes on top.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// The command line that runs `program` under callgrind, to be given the program's arguments. The profile is there once
/// the program has ended.
pub fn command(program: &Path, profile: &Path) -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program);
    valgrind
}

/// Instructions of the whole life of a program.
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
