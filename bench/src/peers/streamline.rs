//! The server under test.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use streamline::fs::Fs;
use streamline::server::RunFile;
use tempfile::TempDir;

use super::{Server, WORKERS};
use crate::context::Context;
use crate::process::Process;

/// Maximum time to start, including recovery.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Starts it in an empty directory, with `settings` as flags besides the common ones.
pub fn start(context: &Context, settings: &[&str]) -> Result<Server> {
    start_in(context, context.directory()?, settings)
}

/// Starts it on the directory of an earlier one.
pub fn start_in(context: &Context, directory: TempDir, settings: &[&str]) -> Result<Server> {
    start_command(context, Command::new(&context.server), directory, settings)
}

/// Starts it with one worker thread and by another command. Several threads would pass connections to each other at
/// random, which costs more than the effects to measure.
pub fn start_single(
    context: &Context,
    mut command: Command,
    directory: TempDir,
    settings: &[&str],
) -> Result<Server> {
    command.env(WORKERS, "1");
    start_command(context, command, directory, settings)
}

/// Starts it by another command, which gets the flags appended.
pub fn start_command(
    context: &Context,
    mut command: Command,
    directory: TempDir,
    settings: &[&str],
) -> Result<Server> {
    let data = directory.path().join("data");
    command
        .args(["--listen-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"])
        .args(["--log-level", "warn", "--data-dir"])
        .arg(&data)
        .args(settings);
    context.note_command("Streamline", &command);
    let log = directory.path().join("server.log");
    let mut process = Process::start_logged("Streamline", &mut command, &log)?;
    let run = process.wait_for("run.json", START_LIMIT, || {
        RunFile::read(&Fs::new(), &data).ok()
    })?;
    Ok(Server {
        name: "Streamline".to_owned(),
        address: run.listen_addr,
        http: Some(run.http_addr),
        process,
        directory,
    })
}
