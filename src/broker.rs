//! The shared state a handler may touch, how it is brought up, and the changes to the set of topics.
//!
//! A [`Broker`] owns no logic of its own beyond keeping catalog and storage in step ([`topics`]); everything else is a
//! component that handlers reach through it. It knows nothing of requests or error codes.

mod log_throttle;
mod produce_refusals;
mod scrape;
mod topics;
mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::catalog::{self, Catalog};
use crate::clock::Clock;
use crate::config::{Config, Effective, Loaded};
use crate::coordinator::group::{GroupSettings, Groups, Logs};
use crate::fs::{Fs, Reserve};
use crate::metrics::Metrics;
use crate::storage::{self, Opening, StorageOptions, Topics};

pub use log_throttle::{LogThrottle, shortened};
pub use produce_refusals::{ProduceRefusals, RefusedBatches};
use topics::TopicInventory;
pub use topics::{
    CONSUMER_OFFSETS, ConfigChange, ConfigEdit, ConfigOperation, NewTopic, TopicError, check_name,
    is_internal,
};
pub use waiting::WaitingFetches;

/// The catalog's file in the data directory.
const CATALOG_FILE: &str = "catalog.sqlite";

/// The only node there is.
pub const NODE_ID: i32 = 1;

/// What was set for each topic, by its name: the overrides over the server's defaults.
type Overrides = HashMap<String, Arc<BTreeMap<String, String>>>;

/// What is said to fetches that wait for records.
#[derive(Default)]
struct Waiting {
    /// The server stops: there is no waiting any more.
    is_over: bool,
    /// How often all that waited were told to end it.
    rounds: u64,
}

/// One server's components.
pub struct Broker {
    pub config: Config,
    /// The server's settings and where each came from.
    pub settings: Vec<Effective>,
    pub topics: Arc<Topics>,
    pub catalog: Arc<Catalog>,
    pub reserve: Arc<Reserve>,
    pub groups: Arc<Groups>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub waiting_fetches: Arc<WaitingFetches>,
    pub produce_refusals: ProduceRefusals,
    /// Who was lately told that there are no transactions, by address.
    pub refused_transactions: LogThrottle<IpAddr>,
    /// Who was lately told that there is no SASL, by address.
    pub refused_authentications: LogThrottle<IpAddr>,
    /// Internal topics of Kafka that clients lately asked for in vain, by address and name.
    pub missing_internal_topics: LogThrottle<(IpAddr, String)>,
    /// Consumers without group management whose commits were lately logged, by group and address.
    pub logged_commits: LogThrottle<(String, IpAddr)>,
    /// Whose software was lately refused for its name, by address.
    pub refused_software: LogThrottle<IpAddr>,
    overrides: RwLock<Overrides>,
    /// Held by whoever changes the set of topics or a topic's configs, so that such changes happen one after another
    /// and catalog and storage see them in the same order.
    topic_changes: tokio::sync::Mutex<()>,
    waiting: watch::Sender<Waiting>,
}

impl Broker {
    /// Opens what is in the data directory: the catalog, the logs, the groups.
    pub async fn open(
        settings: Loaded,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        opening: Arc<Opening>,
    ) -> Result<Arc<Broker>, OpenError> {
        let Loaded {
            config,
            effective: settings,
        } = settings;
        let data_dir = config.data_dir.clone();
        let reserve_bytes = config.disk_reserve_bytes;
        let (reserve, catalog, inventory) = blocking(move || {
            let reserve = Reserve::open(&Fs::new(), &data_dir, reserve_bytes);
            let catalog = Catalog::open(data_dir.join(CATALOG_FILE), Arc::clone(&reserve))?;
            let inventory = TopicInventory::take(&catalog, &data_dir)?;
            Ok((reserve, catalog, inventory))
        })
        .await?;
        let (overrides, specs) = inventory.topics(&config.topic_defaults)?;
        let storage = StorageOptions {
            producer_id_expiration_ms: config.producer_id_expiration_ms,
            reserve: Arc::clone(&reserve),
            opening,
            adopted: inventory.adopted(),
            ..StorageOptions::new(&config.data_dir, config.durability)
        };
        let produce_refusals = ProduceRefusals::new(Arc::clone(&metrics), Arc::clone(&clock));
        let metrics_of_logs = Arc::clone(&metrics);
        let clock_of_logs = Arc::clone(&clock);
        let (topics, inventory, largest_producer_id) = blocking(move || {
            let topics = Topics::open(storage, specs, clock_of_logs, metrics_of_logs)?;
            let largest = inventory.largest_adopted_producer_id(&topics)?;
            Ok((topics, inventory, largest))
        })
        .await?;
        inventory.settle(&catalog, largest_producer_id).await?;
        blocking(move || {
            let groups = Groups::open(
                Arc::clone(&catalog),
                Arc::clone(&topics) as Arc<dyn Logs>,
                GroupSettings::from(&config),
                Arc::clone(&clock),
            )?;
            Ok(Arc::new(Broker {
                config,
                settings,
                topics,
                catalog,
                reserve,
                groups,
                clock,
                metrics,
                waiting_fetches: Arc::default(),
                produce_refusals,
                refused_transactions: LogThrottle::default(),
                refused_authentications: LogThrottle::default(),
                missing_internal_topics: LogThrottle::default(),
                logged_commits: LogThrottle::default(),
                refused_software: LogThrottle::default(),
                overrides: RwLock::new(overrides),
                topic_changes: tokio::sync::Mutex::default(),
                waiting: watch::Sender::default(),
            }))
        })
        .await
    }

    /// Host and port under which a client that reached the server at `local` is told to find it.
    pub fn advertised(&self, local: SocketAddr) -> (String, u16) {
        match &self.config.advertised_addr {
            Some(endpoint) => (endpoint.host.clone(), endpoint.port),
            None => (local.ip().to_canonical().to_string(), local.port()),
        }
    }

    /// Ends all waiting for something to happen, because the server stops: what waits is answered with what there is.
    pub fn stop_waiting(&self) {
        self.waiting.send_modify(|waiting| waiting.is_over = true);
        self.groups.close();
    }

    /// Has all fetches that wait now answered with what there is, so that the memory of their requests is free for
    /// others. Their clients ask again.
    pub fn answer_waiting_fetches(&self) {
        self.waiting.send_modify(|waiting| waiting.rounds += 1);
    }

    /// Resolves once a fetch that has begun to wait shall do so no longer.
    pub async fn ends_waiting(&self) {
        let mut waiting = self.waiting.subscribe();
        let rounds = waiting.borrow().rounds;
        let ends = |waiting: &Waiting| waiting.is_over || waiting.rounds != rounds;
        // The sender is part of this broker, so waiting cannot fail.
        let _ = waiting.wait_for(ends).await;
    }

    /// What was set for a topic; empty for a topic that does not exist.
    pub fn topic_overrides(&self, name: &str) -> Arc<BTreeMap<String, String>> {
        self.overrides.read().get(name).cloned().unwrap_or_default()
    }
}

/// Why the data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Storage(#[from] storage::Error),
    #[error("topic {topic:?} has a config that this release does not accept: {reason}")]
    Config { topic: String, reason: String },
    #[error("opening the data directory panicked; this is a bug")]
    Panicked,
}

/// Runs slow work off the runtime's threads.
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
