//! Transactions: transactional ids, their producers, and the outcome of each transaction.
//!
//! [`state`] decides and does nothing else. This module keeps the row of each transactional id behind a lock, and queues
//! each change to the catalog before the lock is released: the catalog sees the changes in the order of the decisions.
//!
//! * **A transaction grows** by partitions and groups. Producers of protocol version 1 add them by requests of their own,
//!   which are stored; those of version 2 by appending, which changes the row in memory only ([`append`]). What the memory
//!   loses in a crash is found in the logs ([`recovery`]).
//! * **It ends** by one change of the catalog, which decides it and commits or drops its pending offsets; then a marker is
//!   appended to each partition; then it is complete ([`ending`]). A crash after the decision has the markers written at
//!   the next start.
//! * **Appends and the decision** exclude each other by the row's lock: a record is appended while the lock is held for
//!   reading, and once the decision is taken the producer may not append.
//!
//! A change that fails in the catalog may be ahead in memory; the client then repeats its request.

mod append;
mod collector;
mod description;
mod ending;
mod error;
mod expiry;
mod initialisation;
mod offsets;
mod recovery;
mod state;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;
use uuid::Uuid;

use crate::catalog::{self, Catalog, TransactionRow};
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::storage::Engine;

pub use crate::catalog::TransactionState;
pub use append::PartitionToAppend;
pub use description::{TransactionDescription, TransactionFilter};
pub use error::TransactionError;
pub use initialisation::InitProducer;
pub use offsets::OffsetsError;
pub use state::ProducerIdentity;

/// Highest level of Kafka's feature `transaction.version` that is supported, and the one in force.
pub const TRANSACTION_VERSION: i16 = 2;

/// Coordinator settings, under Kafka's names.
#[derive(Debug, Clone)]
pub struct TransactionSettings {
    pub transaction_max_timeout_ms: i32,
    pub transactional_id_expiration_ms: i64,
    pub transaction_abort_timed_out_transaction_cleanup_interval_ms: u64,
    pub transaction_remove_expired_transaction_cleanup_interval_ms: u64,
}

impl From<&Config> for TransactionSettings {
    fn from(config: &Config) -> Self {
        Self {
            transaction_max_timeout_ms: config.transaction_max_timeout_ms,
            transactional_id_expiration_ms: config.transactional_id_expiration_ms,
            transaction_abort_timed_out_transaction_cleanup_interval_ms: config
                .transaction_abort_timed_out_transaction_cleanup_interval_ms,
            transaction_remove_expired_transaction_cleanup_interval_ms: config
                .transaction_remove_expired_transaction_cleanup_interval_ms,
        }
    }
}

/// The row of a transactional id; `None` once it was removed.
type Slot = RwLock<Option<TransactionRow>>;

/// All transactional ids of the server.
pub struct Transactions {
    me: Weak<Transactions>,
    catalog: Arc<dyn Catalog>,
    topics: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    settings: TransactionSettings,
    slots: RwLock<HashMap<String, Arc<Slot>>>,
}

impl Transactions {
    /// Restores the transactional ids of the catalog. Blocks while reading them.
    pub fn open(
        catalog: Arc<dyn Catalog>,
        topics: Arc<dyn Engine>,
        settings: TransactionSettings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, catalog::Error> {
        let rows = catalog.transactions()?.into_iter();
        let slots = rows.map(|row| (row.id.clone(), Arc::new(RwLock::new(Some(row)))));
        let slots = RwLock::new(slots.collect());
        Ok(Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            catalog,
            topics,
            clock,
            metrics,
            settings,
            slots,
        }))
    }

    /// Adds partitions to the producer's transaction, which begins if there is none. Resolves once that is stored.
    pub async fn add_partitions(
        &self,
        id: &str,
        producer: ProducerIdentity,
        partitions: &[(Uuid, i32)],
    ) -> Result<(), TransactionError> {
        self.add(id, producer, partitions, None).await
    }

    /// Adds a group's offsets to the producer's transaction, which begins if there is none. Resolves once that is stored.
    pub async fn add_group(
        &self,
        id: &str,
        producer: ProducerIdentity,
        group: &str,
    ) -> Result<(), TransactionError> {
        self.add(id, producer, &[], Some(group)).await
    }

    async fn add(
        &self,
        id: &str,
        producer: ProducerIdentity,
        partitions: &[(Uuid, i32)],
        group: Option<&str>,
    ) -> Result<(), TransactionError> {
        require_id(id)?;
        let now_ms = self.clock.now_ms();
        // Stored again if nothing changes: the previous attempt to store it may have failed.
        let stored = self.with_row(id, |row| {
            state::add(row, producer, partitions, group, now_ms)?;
            Ok(self.catalog.store_transaction(row.clone()))
        })?;
        Ok(stored.await?)
    }

    /// Checks, for the broker that holds a partition, that it was added to the producer's transaction.
    pub fn verify(
        &self,
        id: &str,
        producer: ProducerIdentity,
        partition: (Uuid, i32),
    ) -> Result<(), TransactionError> {
        require_id(id)?;
        self.with_row(id, |row| state::check_partition(row, producer, partition))
    }

    /// Runs `event` under the lock of the transactional id.
    fn with_row<T>(
        &self,
        id: &str,
        event: impl FnOnce(&mut TransactionRow) -> Result<T, TransactionError>,
    ) -> Result<T, TransactionError> {
        let slot = self
            .find(id)
            .ok_or(TransactionError::InvalidProducerIdMapping)?;
        let mut slot = slot.write();
        let row = slot.as_mut();
        event(row.ok_or(TransactionError::InvalidProducerIdMapping)?)
    }

    fn find(&self, id: &str) -> Option<Arc<Slot>> {
        self.slots.read().get(id).cloned()
    }

    /// Returns a copy of the rows, so that listings and scrapes hold no lock for long.
    fn rows(&self) -> Vec<TransactionRow> {
        let slots: Vec<_> = self.slots.read().values().cloned().collect();
        let rows = slots.iter().filter_map(|slot| slot.read().clone());
        rows.collect()
    }
}

fn require_id(id: &str) -> Result<(), TransactionError> {
    match id.is_empty() {
        true => Err(TransactionError::EmptyId),
        false => Ok(()),
    }
}

impl std::fmt::Debug for Transactions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transactions")
            .field("ids", &self.slots.read().len())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
