//! Servers under measurement, each in a process of its own on the loopback interface and in a directory of its own.

pub mod echo;
pub mod kafka;
pub mod streamline;

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tempfile::TempDir;

use crate::process::Process;
use kafka::Kafka;

/// How long a server may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// The peers, each fetched when it is first asked for and then kept in the cache.
#[derive(Debug)]
pub struct Peers {
    cache: PathBuf,
    kafka: OnceCell<Result<Kafka, String>>,
}

impl Peers {
    pub fn new(cache: &Path) -> Peers {
        Peers {
            cache: cache.to_owned(),
            kafka: OnceCell::new(),
        }
    }

    /// Apache Kafka, or why there is none. What failed once is not tried again in this run.
    pub fn kafka(&self) -> Result<&Kafka> {
        self.kafka
            .get_or_init(|| kafka::fetch(&self.cache).map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|why| anyhow!("Apache Kafka could not be had: {why}"))
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    pub name: String,
    /// Where it speaks Kafka's protocol.
    pub address: SocketAddr,
    /// Where it shows its metrics, if it does.
    pub http: Option<SocketAddr>,
    pub process: Process,
    directory: TempDir,
}

impl Server {
    /// Ends it in order and gives back its directory.
    pub fn stop(self) -> Result<TempDir> {
        self.process.stop(STOP_LIMIT)?;
        Ok(self.directory)
    }
}
