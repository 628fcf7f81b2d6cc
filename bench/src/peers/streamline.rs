//! The server under test.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use streamline::server::RunFile;
use tempfile::TempDir;

use super::{Server, WORKERS};
use crate::context::Context;
use crate::process::Process;

/// How long it may take to start, recovery included.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Starts it in an empty directory, with `settings` as flags beyond those that every run has.
pub fn start(context: &Context, settings: &[&str]) -> Result<Server> {
    start_in(context, context.directory()?, settings)
}

/// Starts it on what an earlier one left.
pub fn start_in(context: &Context, directory: TempDir, settings: &[&str]) -> Result<Server> {
    start_command(context, Command::new(&context.server), directory, settings)
}

/// Starts it with one worker thread, by another command: several hand connections to one another as chance has it, which
/// costs more than what is to be seen.
pub fn start_single(
    context: &Context,
    mut command: Command,
    directory: TempDir,
    settings: &[&str],
) -> Result<Server> {
    command.env(WORKERS, "1");
    start_command(context, command, directory, settings)
}

/// Starts it by another command, to which its flags are added.
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
    let run = process.wait_for("run.json", START_LIMIT, || RunFile::read(&data).ok())?;
    Ok(Server {
        name: "Streamline".to_owned(),
        address: run.listen_addr,
        http: Some(run.http_addr),
        process,
        directory,
    })
}
