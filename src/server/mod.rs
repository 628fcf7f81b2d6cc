//! The composition root: build, run, drain.
//!
//! [`Server::start`] starts the components in the order in which they are useful: HTTP first, so that a server that is
//! still recovering its logs is visible; the Kafka port last, when everything behind it works. [`Running::stop`] reverses
//! that order: readiness first, then the port, then the requests in flight, and last the logs.

mod background;
mod connection;
mod data_dir;
mod delayed_closes;
mod foreign;
pub mod frame;
mod http;
mod incoming;
mod listener;
mod listeners;
pub(crate) mod logging;
mod memory;
mod outgoing;
mod refusals;
mod registry;
mod request;
mod run_file;
mod shutdown;
mod transport;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::broker::{Broker, NODE_ID, OpenError};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Loaded, StorageKind};
use crate::fs::{self, Fs};
use crate::handlers::{self, Session};
use crate::metrics::{PrometheusHandle, init_metrics_with};
use crate::storage::{self, Opening};

use background::Background;
use connection::{Accepted, Shared, StartSession};
pub use data_dir::DataDir;
use data_dir::DataDirError;
use http::health::Phase;
use http::info::{Addresses, Counts};
use http::{Facts, Health, HttpServer, HttpState};
use listeners::{BoundListeners, Listeners};
use logging::LogFilter;
use registry::ConnectionRegistry;
pub use run_file::RunFile;
use shutdown::Signals;

/// Time for HTTP responses in flight to finish once everything else has stopped.
const HTTP_GRACE: Duration = Duration::from_millis(500);
/// Interval at which `/health/ready` updates the progress of a recovery.
const RECOVERY_PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Reasons for which the server does not start or stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("{setting} {addr}: {source}")]
    Listen {
        setting: &'static str,
        addr: String,
        source: io::Error,
    },
    #[error("cannot open data directory {dir}: {source}")]
    Open { dir: String, source: OpenError },
    #[error("unclean shutdown: a log could not be closed: {0}")]
    Close(storage::Error),
    #[error("{doing}: {source}")]
    Io {
        doing: &'static str,
        source: io::Error,
    },
    #[error("closing the logs panicked; this is a bug")]
    Panicked,
}

/// Builds servers.
pub struct Server;

/// A server that accepts Kafka clients.
pub struct Running {
    /// Names and addresses of the listeners, at least one.
    pub kafka_addrs: Vec<(Arc<str>, SocketAddr)>,
    pub http_addr: SocketAddr,
    config: Config,
    /// `None` if everything is in memory.
    data_dir: Option<DataDir>,
    fs: Fs,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    http: HttpServer,
    connections: Arc<ConnectionRegistry>,
    broker: Arc<Broker>,
    listeners: Listeners,
    background: Background,
    /// Runs until the process exits: closing the logs may take longer than the silence that liveness tolerates.
    _heartbeat: JoinSet<()>,
    signals: Signals,
}

impl Server {
    /// Starts a server. It accepts Kafka clients when this returns.
    pub async fn start(loaded: Loaded, log_filter: LogFilter) -> Result<Running, StartError> {
        let clock: Arc<dyn Clock> = SystemClock::new();
        let (started, started_at_ms) = (clock.monotonic(), clock.now_ms());
        let mut signals = listen_for_signals()?;
        let fs = Fs::new();
        let data_dir = take_data_dir(&fs, &loaded.config)?;
        // Every log and connection needs descriptors, so before anything is opened.
        let descriptors = raise_descriptor_limit();
        let metrics = init_metrics_with(loaded.config.metrics);
        // Before recovery, which may take minutes and must not look like a stuck runtime.
        let (health, heartbeat) = start_health(&clock, &metrics);
        // HTTP shows the progress of recovery. All ports are bound before it, so that a port in use fails the start at once.
        let facts: Arc<Mutex<KnownFacts>> = Arc::default();
        let http = start_http(&loaded.config, &metrics, &health, &facts)?;
        let bound = BoundListeners::bind(&loaded.config)?;
        let (kafka_addrs, http_addr) = (bound.addrs(), http.local_addr());
        facts.lock().bound(&kafka_addrs, http_addr, &loaded.config);
        // Recovers the logs.
        let broker = open_broker(loaded, fs.clone(), &metrics, &clock, &health, &mut signals);
        let broker = broker.await.map_err(|source| StartError::Open {
            dir: data_dir.as_ref().map_or_else(
                || "in memory".to_owned(),
                |data_dir| data_dir.path().display().to_string(),
            ),
            source,
        })?;
        watch_broker(&broker, &metrics, &health);
        broker
            .loggers
            .apply_with(move |levels| log_filter.set(levels));
        // Subscribed to before clients can change them.
        let settings = broker.dynamic.subscribe();
        let config = Config::clone(&settings.borrow());
        let config = fit_connections(config, descriptors);
        let connections = ConnectionRegistry::new(&config);
        facts.lock().opened(&broker, &connections);
        let shared = share(&config, &broker, &connections, &metrics);
        // From here on clients can connect.
        let listeners = bound.start(&connections, &shared, &health)?;
        let background = Background::start(
            Arc::clone(&connections),
            shared.request_memory().clone(),
            Arc::clone(&broker),
            Arc::clone(&clock),
            settings,
            move |config| fit_connections(config, descriptors),
        );
        let running = Running {
            kafka_addrs,
            http_addr,
            config,
            data_dir,
            fs,
            clock,
            health,
            http,
            connections,
            broker,
            listeners,
            background,
            _heartbeat: heartbeat,
            signals,
        };
        running.announce(started, started_at_ms, descriptors)?;
        Ok(running)
    }
}

impl Running {
    /// Reports the start: in the health check, in `run.json` and in the log.
    fn announce(
        &self,
        started: Duration,
        started_at_ms: i64,
        descriptors: Option<u64>,
    ) -> Result<(), StartError> {
        self.health.set_phase(Phase::Serving);
        let data_dir = self.data_dir.as_ref().map(DataDir::path);
        // Tools wait for run.json, so it is written last, when clients can connect.
        if let Some(data_dir) = data_dir {
            self.write_run_file(data_dir, started_at_ms)?;
        }
        let startup = self.clock.monotonic() - started;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            cluster_id = self.broker.catalog.cluster_id(),
            storage = data_dir.is_none().then_some("memory"),
            data_dir = data_dir.map(|data_dir| display(data_dir.display())),
            durability = data_dir.map(|_| display(self.config.durability)),
            descriptors,
            "server started"
        );
        for (name, addr) in &self.kafka_addrs {
            let advertised = self.config.advertised.get(name);
            tracing::info!(
                listener = (self.kafka_addrs.len() > 1).then_some(&**name),
                listen_addr = %addr,
                advertised_addr = advertised.map(tracing::field::display),
                "listening for Kafka clients"
            );
        }
        tracing::info!(
            http_addr = %self.http_addr,
            startup_ms = startup.as_millis() as u64,
            "serving metrics, health and info over HTTP"
        );
        Ok(())
    }

    fn write_run_file(&self, data_dir: &Path, started_at_ms: i64) -> Result<(), StartError> {
        let run_file = RunFile {
            listen_addr: self.kafka_addrs[0].1,
            http_addr: self.http_addr,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            cluster_id: self.broker.catalog.cluster_id().to_string(),
            started_at_ms,
            data_dir: data_dir.to_path_buf(),
        };
        self.broker
            .reserve
            .spend(fs::is_full, || run_file.write(&self.fs, data_dir))
            .map_err(|source| StartError::Io {
                doing: "cannot write run.json",
                source,
            })
    }

    /// Serves until SIGINT or SIGTERM, then shuts down in order; a second signal exits the process immediately.
    pub async fn until_stopped(mut self) -> Result<(), StartError> {
        let first = self.signals.next().await;
        tracing::info!(
            signal = first.name(),
            "shutting down; a second signal exits immediately"
        );
        let mut signals = listen_for_signals()?;
        tokio::select! {
            stopped = self.stop() => stopped,
            second = signals.next() => {
                tracing::warn!(signal = second.name(), "second signal received, exiting immediately");
                std::process::exit(second.exit_code());
            }
        }
    }

    /// Stops accepting work, finishes the requests in flight, and flushes and closes the logs.
    pub async fn stop(self) -> Result<(), StartError> {
        let started = self.clock.monotonic();
        // Load balancers see the failing readiness during the grace period and stop sending clients.
        self.health.set_phase(Phase::Draining);
        tokio::time::sleep(Duration::from_millis(self.config.shutdown_grace_ms)).await;
        self.listeners.stop().await;
        // Answers waiting fetches and group members, which would otherwise delay the drain.
        self.broker.stop_waiting();
        let timeout = Duration::from_millis(self.config.shutdown_timeout_ms);
        let aborted = self.connections.drain(timeout).await;
        if aborted > 0 {
            tracing::warn!(
                connections = aborted,
                "requests still in flight after shutdown_timeout_ms, connections aborted"
            );
        }
        drop(self.background);
        let broker = Arc::clone(&self.broker);
        let closing = tokio::task::spawn_blocking(move || {
            let closed = broker.topics.close();
            broker.catalog.close();
            // Closing the catalog may have freed space: the reserve takes it for the next start.
            broker.reserve.leave();
            closed
        });
        let closed = closing.await.map_err(|_| StartError::Panicked)?;
        if let Some(data_dir) = &self.data_dir
            && let Err(error) = RunFile::remove(&self.fs, data_dir.path())
        {
            tracing::warn!(%error, "cannot remove run.json");
        }
        self.http.stop(HTTP_GRACE).await;
        let took_ms = (self.clock.monotonic() - started).as_millis() as u64;
        tracing::info!(took_ms, "server stopped");
        closed.map_err(StartError::Close)
    }
}

fn listen_for_signals() -> Result<Signals, StartError> {
    Signals::listen().map_err(|source| StartError::Io {
        doing: "cannot install signal handlers",
        source,
    })
}

/// Locks the data directory, and removes what a crashed server has left for its tools. Returns `None` if everything is in
/// memory.
fn take_data_dir(fs: &Fs, config: &Config) -> Result<Option<DataDir>, StartError> {
    if config.storage == StorageKind::Memory {
        return Ok(None);
    }
    let data_dir = DataDir::take(fs, &config.data_dir)?;
    RunFile::remove(fs, data_dir.path()).map_err(|source| StartError::Io {
        doing: "cannot remove a stale run.json",
        source,
    })?;
    Ok(Some(data_dir))
}

fn start_health(clock: &Arc<dyn Clock>, metrics: &PrometheusHandle) -> (Arc<Health>, JoinSet<()>) {
    let health = Health::new(Arc::clone(clock));
    health.register(&metrics.metrics());
    let mut heartbeat = JoinSet::new();
    heartbeat.spawn(Arc::clone(&health).beat_forever());
    (health, heartbeat)
}

/// Creates the state that connections share, and registers its metrics.
fn share(
    config: &Config,
    broker: &Arc<Broker>,
    connections: &Arc<ConnectionRegistry>,
    metrics: &PrometheusHandle,
) -> Arc<Shared> {
    let start_session = start_session(Arc::clone(broker));
    let clock = Arc::clone(&broker.clock);
    let metrics = metrics.metrics();
    let shared = Shared::new(
        config,
        start_session,
        Arc::clone(&broker.quotas),
        Arc::clone(&metrics),
        clock,
    );
    metrics.register(Arc::clone(connections) as _);
    metrics.register(Arc::new(shared.request_memory().clone()));
    shared
}

/// Reports the progress of recovery in `/health/ready`, for as long as it is polled.
async fn report_progress(opening: &Opening, health: &Health) -> Infallible {
    loop {
        tokio::time::sleep(RECOVERY_PROGRESS_INTERVAL).await;
        health.set_phase(Phase::Recovering(opening.to_string()));
    }
}

/// Opens the catalog, logs and groups of the data directory and reports the progress. A signal exits the process.
async fn open_broker(
    loaded: Loaded,
    fs: Fs,
    metrics: &PrometheusHandle,
    clock: &Arc<dyn Clock>,
    health: &Health,
    signals: &mut Signals,
) -> Result<Arc<Broker>, OpenError> {
    let opening: Arc<Opening> = Arc::default();
    let broker = Broker::open(
        loaded,
        fs,
        metrics.metrics(),
        Arc::clone(clock),
        Arc::clone(&opening),
    );
    tokio::select! {
        opened = broker => opened,
        signal = signals.next() => {
            tracing::info!(signal = signal.name(), "server stopped during recovery");
            // Nothing was acknowledged yet. The lock on the data directory has to outlive the threads that read there.
            std::process::exit(0);
        }
        never = report_progress(&opening, health) => match never {},
    }
}

/// Returns how the connections of a broker start their sessions.
fn start_session(broker: Arc<Broker>) -> StartSession {
    Box::new(move |accepted| {
        let Accepted {
            listener,
            peer,
            local,
        } = accepted;
        let session = Session::new(Arc::clone(&broker), listener, peer, local);
        Box::new(move |header, body| handlers::dispatch(&session, header, body))
    })
}

/// Registers the broker's components with the metrics and the storage check.
fn watch_broker(broker: &Arc<Broker>, metrics: &PrometheusHandle, health: &Health) {
    let metrics = metrics.metrics();
    metrics.register(Arc::new(Arc::downgrade(broker)));
    metrics.register(Arc::clone(&broker.waiting_fetches) as _);
    metrics.register(Arc::clone(&broker.fetch_sessions) as _);
    metrics.register(Arc::clone(&broker.quotas) as _);
    let broker = Arc::clone(broker);
    health.watch_storage(move || {
        broker.topics.health()?;
        broker.catalog.health().map_err(|error| error.to_string())
    });
}

/// Sources of `/info` that exist so far; filled in during the start.
#[derive(Default)]
struct KnownFacts {
    addresses: Addresses,
    broker: Option<Arc<Broker>>,
    connections: Option<Arc<ConnectionRegistry>>,
}

impl KnownFacts {
    /// Sets the addresses, of which `/info` shows the first listener's.
    fn bound(&mut self, kafka: &[(Arc<str>, SocketAddr)], http: SocketAddr, config: &Config) {
        let first = kafka.first();
        let advertised = first.and_then(|(name, _)| config.advertised.get(name));
        self.addresses = Addresses {
            kafka: first.map(|(_, addr)| *addr),
            advertised: advertised.map(ToString::to_string),
            http: Some(http),
        };
    }

    fn opened(&mut self, broker: &Arc<Broker>, connections: &Arc<ConnectionRegistry>) {
        self.broker = Some(Arc::clone(broker));
        self.connections = Some(Arc::clone(connections));
    }

    fn facts(&self) -> Facts {
        let counts =
            self.broker
                .as_ref()
                .zip(self.connections.as_ref())
                .map(|(broker, connections)| {
                    let topics = broker.topics.list();
                    Counts {
                        topics: topics.len(),
                        partitions: topics.iter().map(|topic| topic.partitions().len()).sum(),
                        consumer_groups: broker.groups.list().len(),
                        connections: connections.open_count(),
                    }
                });
        Facts {
            cluster_id: self
                .broker
                .as_ref()
                .map(|broker| broker.catalog.cluster_id().to_string()),
            node_id: self.broker.as_ref().map(|_| NODE_ID),
            addresses: self.addresses.clone(),
            counts,
        }
    }
}

fn start_http(
    config: &Config,
    metrics: &PrometheusHandle,
    health: &Arc<Health>,
    facts: &Arc<Mutex<KnownFacts>>,
) -> Result<HttpServer, StartError> {
    let facts = Arc::clone(facts);
    let state = HttpState {
        handle: metrics.clone(),
        health: Arc::clone(health),
        facts: Arc::new(move || facts.lock().facts()),
    };
    let limits = http::Limits {
        connections_max: config.http_max_connections,
        header_timeout: Duration::from_millis(config.http_header_timeout_ms),
        request_timeout: Duration::from_millis(config.http_request_timeout_ms),
        response_timeout: Duration::from_millis(config.http_request_timeout_ms),
        expositions_bytes_max: config.queued_max_response_bytes,
        ..http::Limits::default()
    };
    listener::candidates(&config.http_addr)
        .and_then(|candidates| {
            listener::first_that_binds(&candidates, |addr| {
                HttpServer::start(addr, state.clone(), limits)
            })
        })
        .map_err(|source| StartError::Listen {
            setting: "http_addr",
            addr: config.http_addr.to_string(),
            source,
        })
}

/// Lowers `max_connections` to what the file descriptors allow. A quarter of them is kept for segments and HTTP: a crowd of
/// clients must not keep the log from opening its files, nor a health check from being answered.
fn fit_connections(mut config: Config, descriptors: Option<u64>) -> Config {
    let Some(descriptors) = descriptors else {
        return config;
    };
    let for_clients = usize::try_from(descriptors / 4 * 3).unwrap_or(usize::MAX);
    let max_connections = for_clients.max(1);
    if max_connections < config.max_connections {
        tracing::warn!(
            descriptors,
            max_connections,
            configured = config.max_connections,
            "open file limit too low for max_connections, using a lower limit"
        );
        config.max_connections = max_connections;
    }
    config
}

/// Raises the limit of file descriptors to the hard limit: every connection and segment needs some. Returns the limit in
/// force, `None` if there is none.
fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the open file limit");
        }
    }
    getrlimit(Resource::Nofile).current
}
