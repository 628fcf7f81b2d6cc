//! Servers under measurement, each in a process of its own on the loopback interface and in a directory of its own.

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

/// The variable by which tokio is told how many worker threads to start.
const WORKERS: &str = "TOKIO_WORKER_THREADS";

/// How long a server may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// The peers, each fetched when it is first asked for and then kept in the cache.
#[derive(Debug)]
pub struct Peers {
    cache: PathBuf,
    kafka: OnceCell<Result<Kafka, String>>,
    jmx_exporter: OnceCell<Result<PathBuf, String>>,
    /// Named by the user, or else sought in the cache.
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

    /// Apache Kafka, or why there is none. What failed once is not tried again in this run.
    pub fn kafka(&self) -> Result<&Kafka> {
        self.kafka
            .get_or_init(|| kafka::fetch(&self.cache).map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|why| anyhow!("Apache Kafka could not be had: {why}"))
    }

    /// The agent that shows Kafka's metrics, or why there is none.
    pub fn jmx_exporter(&self) -> Result<&Path> {
        self.jmx_exporter
            .get_or_init(|| jmx_exporter::fetch(&self.cache).map_err(|error| format!("{error:#}")))
            .as_deref()
            .map_err(|why| anyhow!("the JMX exporter could not be had: {why}"))
    }

    /// Nisshi, or why there is none.
    pub fn nisshi(&self) -> Result<&Path> {
        match &self.nisshi {
            Ok(program) => Ok(program),
            Err(why) => Err(anyhow!("Nisshi could not be had: {why}")),
        }
    }

    /// Fetches or builds everything, however long it takes. What fails is named, and the rest goes on.
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
                Err(error) => println!("{name}: not to be had: {error:#}"),
            }
        }
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

/// Whether a broker answers and is a live member of its own cluster.
fn serves(address: SocketAddr) -> Option<()> {
    let request = MetadataRequest {
        topics: Some(Vec::new()),
        ..Default::default()
    };
    let metadata = Connection::open(address).ok()?.call(4, &request).ok()?;
    (!metadata.brokers.is_empty()).then_some(())
}
