//! The harness's own servers, each in a separate process: this program, called with the name of the server.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::{Server, WORKERS};
use crate::context::Context;
use crate::process::Process;
use crate::{ceilings, sink};

const ECHO: &str = "serve-echo";
const SINK: &str = "serve-sink";

/// Starts a bare tokio echo that responds to every frame with a fixed number of bytes after a length prefix.
pub fn echo(context: &Context, answer_bytes: usize) -> Result<Server> {
    let command = command(ECHO, answer_bytes)?;
    start(context, "tokio echo", command)
}

/// Starts one with a single worker thread.
pub fn echo_single(context: &Context, answer_bytes: usize) -> Result<Server> {
    let mut command = command(ECHO, answer_bytes)?;
    command.env(WORKERS, "1");
    start(context, "tokio echo with one thread", command)
}

/// Starts a server that acknowledges records without storing them, and responds to Fetch with records of `record_bytes`.
pub fn sink(context: &Context, record_bytes: usize) -> Result<Server> {
    let command = command(SINK, record_bytes)?;
    start(context, "a server that does nothing", command)
}

/// Serves, if this program was called as a server.
pub fn serve(arguments: &[String]) -> Option<Result<()>> {
    let [call, bytes] = arguments else {
        return None;
    };
    let serve = match call.as_str() {
        ECHO => ceilings::serve_echo,
        SINK => sink::serve,
        _ => return None,
    };
    Some(bytes.parse().map_err(anyhow::Error::from).and_then(serve))
}

fn command(call: &str, bytes: usize) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(call).arg(bytes.to_string());
    Ok(command)
}

fn start(context: &Context, name: &str, mut command: Command) -> Result<Server> {
    let mut process = Process::start(name, command.stdout(Stdio::piped()))?;
    let output = process
        .child()
        .stdout
        .take()
        .context("standard output is not piped")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok(Server {
        name: name.to_owned(),
        address: line
            .trim()
            .parse()
            .context("invalid address on standard output")?,
        http: None,
        process,
        directory: context.directory()?,
    })
}
