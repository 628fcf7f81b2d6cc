//! A bare echo on tokio in a process of its own: this program, called with [`CALL`].

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::Server;
use crate::context::Context;
use crate::process::Process;

/// The first argument that makes this program an echo; the second is how many bytes it answers.
pub const CALL: &str = "serve-echo";

/// Starts an echo that answers every frame with so many bytes behind a length prefix.
pub fn start(context: &Context, answer_bytes: usize) -> Result<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(CALL)
        .arg(answer_bytes.to_string())
        .stdout(Stdio::piped());
    let mut process = Process::start("echo", &mut command)?;
    let output = process
        .child()
        .stdout
        .take()
        .context("its output is piped")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok(Server {
        name: "tokio echo".to_owned(),
        address: line.trim().parse().context("the echo's address")?,
        http: None,
        process,
        directory: context.directory()?,
    })
}
