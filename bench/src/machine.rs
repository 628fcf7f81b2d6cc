//! Description of the machine.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Returns properties of the machine and their values.
pub fn facts(work: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("processor", processor()),
        ("memory", memory()),
        ("kernel", first_line(Command::new("uname").args(["-sr"]))),
        ("file system of the logs", file_system(work)),
        ("rustc", compiler()),
        (
            "commit",
            first_line(Command::new("git").args([
                "describe",
                "--always",
                "--dirty",
                "--abbrev=12",
            ])),
        ),
        ("load at the start (1, 5, 15 min)", load()),
    ]
}

pub fn compiler() -> String {
    first_line(Command::new("rustc").arg("--version"))
}

/// Returns cores and model.
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} × {model}")
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<f64>().ok());
    kib.map_or("unknown".to_owned(), |kib| {
        format!("{:.1} GiB", kib / 1024.0 / 1024.0)
    })
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

fn file_system(work: &Path) -> String {
    first_line(Command::new("stat").args(["-f", "-c", "%T"]).arg(work))
}

/// Returns the first line of a program's output, or that it is missing.
pub fn first_line(command: &mut Command) -> String {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success());
    output
        .and_then(|output| {
            Some(
                String::from_utf8_lossy(&output.stdout)
                    .lines()
                    .next()?
                    .to_owned(),
            )
        })
        .unwrap_or_else(|| "unknown".to_owned())
}
