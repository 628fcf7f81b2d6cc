//! The shared state of handlers, its start, and changes to the set of topics.
//!
//! A [`Broker`] owns no logic of its own beyond keeping catalog and storage consistent ([`topics`]); everything else is a
//! component that handlers access through it. It knows nothing of requests or error codes.

mod authorizer;
mod client_metrics;
mod dynamic_settings;
mod features;
mod fetch_sessions;
mod home;
mod log_throttle;
mod loggers;
mod principal;
mod produce_refusals;
mod quotas;
mod scrape;
mod topics;
mod waiting;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;

use crate::catalog::{self, Catalog};
use crate::clock::Clock;
use crate::config::{Config, Effective, Loaded};
use crate::coordinator::group::{GroupSettings, Groups};
use crate::coordinator::transaction::{TransactionSettings, Transactions};
use crate::fs::{Fs, Reserve};
use crate::metrics::Metrics;
use crate::storage::{self, Engine, Opening};

pub use authorizer::{Authorizer, Operation, Resource};
pub use client_metrics::{CLIENT_METRICS_CONFIGS, ClientMetrics};
pub use dynamic_settings::{DynamicSettings, SettingScope};
pub use features::{
    FeatureError, FeatureUpdate, Features, FinalizedFeatures, SUPPORTED as SUPPORTED_FEATURES,
    UpdateDirection,
};
pub use fetch_sessions::{
    Continued, FetchPosition, FetchSession, FetchSessionError, FetchSessions, SessionPartition,
    SessionSize, SessionTopic, SessionUpdate, Told, memory_bytes,
};
use home::{Home, OpenedHome};
pub use log_throttle::{LogThrottle, shortened};
pub use loggers::Loggers;
pub use principal::Principal;
pub use produce_refusals::{ProduceRefusals, RefusedBatches};
pub use quotas::{ClientQuotas, Quota, QuotaChange, QuotaError, Quotas};
use topics::TopicInventory;
pub use topics::{
    CONSUMER_OFFSETS, ConfigChange, ConfigEdit, ConfigOperation, NewTopic, TopicError, check_name,
    is_internal,
};
pub use waiting::WaitingFetches;

/// Id of the only node.
pub const NODE_ID: i32 = 1;

/// Signals to fetches that wait for records.
#[derive(Default)]
struct Waiting {
    /// The server is shutting down: fetches must not wait any more.
    is_over: bool,
    /// Number of times that all waiting fetches were asked to stop waiting.
    rounds: u64,
}

/// One server's components.
pub struct Broker {
    /// Settings as they were at the start.
    pub config: Config,
    /// Settings with those changed while the server runs.
    pub dynamic: DynamicSettings,
    /// The server's settings, each with its source.
    pub settings: Vec<Effective>,
    pub topics: Arc<dyn Engine>,
    pub catalog: Arc<dyn Catalog>,
    pub reserve: Arc<Reserve>,
    pub groups: Arc<Groups>,
    pub transactions: Arc<Transactions>,
    pub features: Arc<Features>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    /// Decides which operations clients may perform; `None` allows all of them.
    pub authorizer: Option<Box<dyn Authorizer>>,
    pub quotas: Arc<Quotas>,
    pub client_metrics: ClientMetrics,
    pub loggers: Loggers,
    pub waiting_fetches: Arc<WaitingFetches>,
    pub fetch_sessions: Arc<FetchSessions>,
    pub produce_refusals: ProduceRefusals,
    /// Throttles the log lines of refused SASL handshakes, by address.
    pub refused_authentications: LogThrottle<IpAddr>,
    /// Throttles the log lines of requests for internal topics of Kafka, by address and topic.
    pub missing_internal_topics: LogThrottle<(IpAddr, String)>,
    /// Throttles the audit lines of commits by consumers without group management, by group and address.
    pub logged_commits: LogThrottle<(String, IpAddr)>,
    /// Throttles the log lines of invalid client software names, by address.
    pub refused_software: LogThrottle<IpAddr>,
    /// Held during each change of the set of topics or a topic's configs, so that such changes happen one after another
    /// and catalog and storage see them in the same order.
    topic_changes: tokio::sync::Mutex<()>,
    /// Held during each change of quotas.
    quota_changes: tokio::sync::Mutex<()>,
    waiting: watch::Sender<Waiting>,
}

impl Broker {
    /// Opens the catalog, the logs, the transactions and the groups.
    pub async fn open(
        settings: Loaded,
        fs: Fs,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        opening: Arc<Opening>,
    ) -> Result<Arc<Broker>, OpenError> {
        let Loaded {
            config,
            effective: settings,
        } = settings;
        let home = Home {
            config: config.clone(),
            fs,
            opening,
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
        };
        let (opened, inventory, server_configs) = blocking(move || {
            let opened = home.open()?;
            let inventory = TopicInventory::take(&*opened.catalog, &*opened.storage)?;
            let server_configs = opened.catalog.server_configs()?;
            Ok((opened, inventory, server_configs))
        })
        .await?;
        let OpenedHome {
            reserve,
            catalog,
            storage,
        } = opened;
        let features = Features::open(Arc::clone(&catalog)).await?;
        let dynamic = DynamicSettings::new(config.clone(), &server_configs);
        let specs = inventory.topics(&dynamic.config().topic_defaults)?;
        let produce_refusals = ProduceRefusals::new(Arc::clone(&metrics), Arc::clone(&clock));
        let (topics, inventory, largest_producer_id) = blocking(move || {
            let topics = storage.open(specs, inventory.adopted())?;
            let largest = inventory.largest_adopted_producer_id(&*topics)?;
            Ok((topics, inventory, largest))
        })
        .await?;
        // Adopted topics are recorded only once their logs are open.
        inventory.settle(&*catalog, largest_producer_id).await?;
        let transactions = {
            let (catalog, topics) = (Arc::clone(&catalog), Arc::clone(&topics));
            let settings = TransactionSettings::from(&config);
            let (clock, metrics) = (Arc::clone(&clock), Arc::clone(&metrics));
            blocking(move || {
                Ok(Transactions::open(
                    catalog, topics, settings, clock, metrics,
                )?)
            })
            .await?
        };
        // Decides about records that a crash left open, before any client can read them.
        transactions.recover().await?;
        blocking(move || {
            let loggers = Loggers::new(&config.log_level);
            let quotas = Arc::new(Quotas::new(&config, catalog.client_quotas()?));
            let groups = Groups::open(
                Arc::clone(&catalog),
                Arc::new(Arc::clone(&topics)),
                GroupSettings::from(&config),
                Arc::clone(&clock),
            )?;
            let slots = config.max_incremental_fetch_session_cache_slots;
            Ok(Arc::new(Broker {
                config,
                dynamic,
                settings,
                topics,
                catalog,
                reserve,
                groups,
                transactions,
                fetch_sessions: FetchSessions::new(slots, Arc::clone(&clock)),
                features,
                clock,
                metrics,
                authorizer: None,
                quotas,
                client_metrics: ClientMetrics::new(server_configs),
                loggers,
                waiting_fetches: Arc::default(),
                produce_refusals,
                refused_authentications: LogThrottle::default(),
                missing_internal_topics: LogThrottle::default(),
                logged_commits: LogThrottle::default(),
                refused_software: LogThrottle::default(),
                topic_changes: tokio::sync::Mutex::default(),
                quota_changes: tokio::sync::Mutex::default(),
                waiting: watch::Sender::default(),
            }))
        })
        .await
    }

    /// Returns the host and port that Metadata returns to a client connected to the address `local` of a listener.
    pub fn advertised(&self, listener: &str, local: SocketAddr) -> (String, u16) {
        match self.config.advertised.get(listener) {
            Some(endpoint) => (endpoint.host.clone(), endpoint.port),
            None => (local.ip().to_canonical().to_string(), local.port()),
        }
    }

    /// Ends all waiting, because the server is shutting down: waiting requests are answered with what there is.
    pub fn stop_waiting(&self) {
        self.waiting.send_modify(|waiting| waiting.is_over = true);
        self.groups.close();
    }

    /// Has all waiting fetches answered with what there is, so that the memory of their requests is freed for others. Their
    /// clients fetch again.
    pub fn answer_waiting_fetches(&self) {
        self.waiting.send_modify(|waiting| waiting.rounds += 1);
    }

    /// Resolves once a fetch that waits since this call has to stop waiting.
    pub async fn ends_waiting(&self) {
        let mut waiting = self.waiting.subscribe();
        let rounds = waiting.borrow().rounds;
        let ends = |waiting: &Waiting| waiting.is_over || waiting.rounds != rounds;
        // The sender is part of this broker, so waiting cannot fail.
        let _ = waiting.wait_for(ends).await;
    }
}

/// Reasons for which the data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Storage(#[from] storage::Error),
    #[error("topic {topic:?} has a config that this release does not accept: {reason}")]
    Config { topic: String, reason: String },
    #[error(
        "feature {name} has level {level}, which this release does not support; start the release that set it"
    )]
    Feature { name: &'static str, level: i16 },
    #[error("opening the data directory panicked; this is a bug")]
    Panicked,
}

/// Runs slow work on a blocking thread.
async fn blocking<T, F>(work: F) -> Result<T, OpenError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, OpenError> + Send + 'static,
{
    let working = tokio::task::spawn_blocking(work);
    working.await.unwrap_or(Err(OpenError::Panicked))
}

#[cfg(test)]
mod tests;
