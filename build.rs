//! Sets the build information of the program: `BUILT_COMMIT`, `BUILT_RUSTC`, `BUILT_TARGET`, `BUILT_PROFILE` and
//! `BUILT_TIME` (seconds since the Unix epoch). Cargo also sets these variables for a program that it runs, so they must
//! not look like settings, which start with `STREAMLINE_`.
//!
//! `SOURCE_COMMIT` in the environment takes precedence over git, for builds without the history (containers), and
//! `SOURCE_DATE_EPOCH` over the clock, for reproducible builds.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_COMMIT");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=build.rs");
    watch_git_head();
    set("COMMIT", &commit());
    set("RUSTC", &rustc());
    set("TARGET", &env::var("TARGET").unwrap_or_default());
    set("PROFILE", &env::var("PROFILE").unwrap_or_default());
    set("TIME", &build_time().to_string());
}

fn set(name: &str, value: &str) {
    println!("cargo::rustc-env=BUILT_{name}={value}");
}

/// Rebuilds when another commit is checked out. Watches only files that exist: cargo treats missing ones as changed and
/// would rebuild every time.
fn watch_git_head() {
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = output("git", &["rev-parse", "--git-path", name])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

fn commit() -> String {
    env::var("SOURCE_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty())
        .or_else(|| output("git", &["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_string())
}

fn rustc() -> String {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_string());
    output(&rustc, &["--version"]).unwrap_or_else(|| "unknown".to_string())
}

fn build_time() -> u64 {
    env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|epoch| epoch.parse().ok())
        .unwrap_or_else(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs())
        })
}

/// Returns the first line of a command's output, if it succeeds.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let line = String::from_utf8(output.stdout)
        .ok()?
        .lines()
        .next()?
        .trim()
        .to_string();
    (output.status.success() && !line.is_empty()).then_some(line)
}
