//! Servers under measurement, each in a separate process and directory, on the loopback interface.

pub mod jmx_exporter;
pub mod kafka;
mod maven;
pub mod nisshi;
pub mod own;
pub mod streamline;

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::streamline::protocol::messages::metadata::MetadataRequest;
use anyhow::{Result, anyhow};
use tempfile::TempDir;

use crate::loads::lean::Connection;
use crate::process::Process;
use kafka::Kafka;

/// Variable that sets the number of tokio's worker threads.
const WORKERS: &str = "TOKIO_WORKER_THREADS";

/// Maximum time for a server to exit.
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// The peers, each fetched on first use and kept in the cache.
#[derive(Debug)]
pub struct Peers {
    cache: PathBuf,
    kafka: OnceCell<Result<Kafka, String>>,
    jmx_exporter: OnceCell<Result<PathBuf, String>>,
    /// Set by the user; otherwise the one in the cache.
    nisshi: Result<PathBuf, String>,
}

impl Peers {
    pub fn new(cache: &Path, nisshi: Option<PathBuf>) -> Peers {
        Peers {
            cache: cache.to_owned(),
            kafka: OnceCell::new(),
            jmx_exporter: OnceCell::new(),
            nisshi: nisshi.map_or_else(
                || nisshi::find(cache).map_err(|error| format!("{error:#}")),
                Ok,
            ),
        }
    }

    /// Returns Apache Kafka, or why it is not available. A failure is not retried in this run.
    pub fn kafka(&self) -> Result<&Kafka> {
        self.kafka
            .get_or_init(|| kafka::fetch(&self.cache).map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|why| anyhow!("Apache Kafka is not available: {why}"))
    }

    /// Returns the agent that exposes Kafka's metrics, or why it is not available.
    pub fn jmx_exporter(&self) -> Result<&Path> {
        self.jmx_exporter
            .get_or_init(|| jmx_exporter::fetch(&self.cache).map_err(|error| format!("{error:#}")))
            .as_deref()
            .map_err(|why| anyhow!("the JMX exporter is not available: {why}"))
    }

    /// Returns Nisshi, or why it is not available.
    pub fn nisshi(&self) -> Result<&Path> {
        match &self.nisshi {
            Ok(program) => Ok(program),
            Err(why) => Err(anyhow!("Nisshi is not available: {why}")),
        }
    }

    /// Fetches or builds all peers. Reports failures and continues with the others.
    pub fn fetch_all(&self) {
        let outcomes = [
            (
                "Apache Kafka",
                self.kafka().map(|kafka| kafka.version.clone()),
            ),
            (
                "JMX exporter",
                self.jmx_exporter().map(|jar| jar.display().to_string()),
            ),
            (
                "Nisshi",
                nisshi::install(&self.cache).map(|program| program.display().to_string()),
            ),
        ];
        for (name, outcome) in outcomes {
            match outcome {
                Ok(what) => println!("{name}: {what}"),
                Err(error) => println!("{name}: not available: {error:#}"),
            }
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    pub name: String,
    /// Address of the Kafka protocol.
    pub address: SocketAddr,
    /// Address of its metrics, if it has them.
    pub http: Option<SocketAddr>,
    pub process: Process,
    directory: TempDir,
}

impl Server {
    /// Returns the directory of its logs.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Shuts it down cleanly and returns its directory.
    pub fn stop(self) -> Result<TempDir> {
        self.process.stop(STOP_LIMIT)?;
        Ok(self.directory)
    }
}

/// Returns true if a broker responds and is a live member of its cluster.
fn serves(address: SocketAddr) -> Option<()> {
    let request = MetadataRequest {
        topics: Some(Vec::new()),
        ..Default::default()
    };
    let metadata = Connection::open(address).ok()?.call(4, &request).ok()?;
    (!metadata.brokers.is_empty()).then_some(())
}
