//! Nisshi (formerly Tansu), a Kafka-compatible broker on other storage: memory or SQLite.
//!
//! Building it takes a quarter of an hour, so [`install`] runs only on request.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Server, serves};
use crate::context::Context;
use crate::machine::first_line;
use crate::process::Process;

const START_LIMIT: Duration = Duration::from_secs(60);

/// Storage of records.
#[derive(Debug, Clone, Copy)]
pub enum Engine {
    Memory,
    Sqlite,
}

impl Engine {
    pub fn name(self) -> &'static str {
        match self {
            Engine::Memory => "Nisshi in memory",
            Engine::Sqlite => "Nisshi on SQLite",
        }
    }

    /// Returns the value of its flag. A file is relative to the server's working directory.
    fn url(self) -> &'static str {
        match self {
            Engine::Memory => "memory://nisshi/",
            Engine::Sqlite => "sqlite://nisshi.db",
        }
    }
}

fn folder(cache: &Path) -> PathBuf {
    cache.join("nisshi")
}

/// Returns the installed program, if there is one.
pub fn find(cache: &Path) -> Result<PathBuf> {
    let program = folder(cache).join("bin/nisshi");
    ensure!(
        program.is_file(),
        "not installed; build it with `fetch-peers` in a quarter of an hour, or set --nisshi"
    );
    Ok(program)
}

/// Builds it with the nightly toolchain, which it requires.
pub fn install(cache: &Path) -> Result<PathBuf> {
    if let Ok(program) = find(cache) {
        return Ok(program);
    }
    eprintln!("building Nisshi, which takes a quarter of an hour");
    fs::create_dir_all(folder(cache))?;
    let mut command = Command::new("cargo");
    command
        .args(["+nightly", "install", "nisshi", "--locked", "--root"])
        .arg(folder(cache));
    let status = Process::start("cargo install nisshi", &mut command)?.wait()?;
    ensure!(
        status.success(),
        "cargo install nisshi exited with {status}"
    );
    find(cache)
}

/// Starts it with empty storage.
pub fn start(context: &Context, engine: Engine) -> Result<Server> {
    let program = context.peers.nisshi()?;
    let directory = context.directory()?;
    let address = free_port()?;
    let url = format!("tcp://{address}");
    let mut command = Command::new(program);
    command
        .args(["broker", "--kafka-listener-url", &url])
        .args(["--kafka-advertised-listener-url", &url])
        .args(["--storage-engine", engine.url()])
        .current_dir(directory.path());
    let version = first_line(Command::new(program).arg("--version"));
    context.note_command(&format!("{} ({version})", engine.name()), &command);
    let log = directory.path().join("server.log");
    let mut process = Process::start_logged("Nisshi", &mut command, &log)?;
    process.wait_for("broker that serves", START_LIMIT, || serves(address))?;
    Ok(Server {
        name: engine.name().to_owned(),
        address,
        http: None,
        process,
        directory,
    })
}

/// Returns a free port, since it does not choose its own.
fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
