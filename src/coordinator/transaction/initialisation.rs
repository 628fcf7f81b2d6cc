//! Initialisation of producers.

use std::sync::Arc;

use parking_lot::RwLock;

use super::ending::Reason;
use super::state::{self, Initialisation};
use super::{ProducerIdentity, Slot, TransactionError, Transactions, require_id};
use crate::catalog::Change;

/// A producer's request for an id and an epoch.
#[derive(Debug, Clone)]
pub struct InitProducer {
    pub timeout_ms: i32,
    /// The id and epoch of a producer that goes on after an error (KIP-360).
    pub expected: Option<ProducerIdentity>,
}

impl Transactions {
    /// Gives a producer its id and next epoch, which fences all before it. Their ongoing transaction is aborted first.
    pub async fn initialise(
        &self,
        id: &str,
        mut init: InitProducer,
    ) -> Result<ProducerIdentity, TransactionError> {
        require_id(id)?;
        if !(1..=self.settings.transaction_max_timeout_ms).contains(&init.timeout_ms) {
            return Err(TransactionError::InvalidTimeout);
        }
        let slot = self.find_or_create(id).await?;
        let next = self.next_initialisation(&slot, &init).await?;
        let aborted = match next {
            Next::Stored(producer, stored) => {
                stored.await?;
                return Ok(producer);
            }
            Next::Aborting(aborted) => aborted,
        };
        if let Some(expected) = &mut init.expected {
            expected.producer_epoch = aborted.fenced_epoch;
        }
        if !self.finish(aborted.decided).await? {
            return Err(TransactionError::ConcurrentTransactions);
        }
        match self.next_initialisation(&slot, &init).await? {
            Next::Stored(producer, stored) => {
                stored.await?;
                Ok(producer)
            }
            // Another producer has begun a transaction meanwhile: the client has to try again.
            Next::Aborting(aborted) => {
                self.finish(aborted.decided).await?;
                Err(TransactionError::ConcurrentTransactions)
            }
        }
    }

    /// Takes one step of an initialisation, and queues it to the catalog.
    async fn next_initialisation(
        &self,
        slot: &Arc<Slot>,
        init: &InitProducer,
    ) -> Result<Next, TransactionError> {
        let spare_id = self.spare_producer_id(slot).await?;
        let now_ms = self.clock.now_ms();
        let mut locked = slot.write();
        // An expired id, removed since it was looked up: the client has to try again.
        let row = locked
            .as_mut()
            .ok_or(TransactionError::ConcurrentTransactions)?;
        match state::initialise(row, init.timeout_ms, init.expected, spare_id, now_ms)? {
            Initialisation::Ready(next) => {
                *row = next;
                let producer = ProducerIdentity {
                    producer_id: row.producer_id,
                    producer_epoch: row.producer_epoch,
                };
                Ok(Next::Stored(
                    producer,
                    self.catalog.store_transaction(row.clone()),
                ))
            }
            Initialisation::AbortFirst(next) => {
                let fenced_epoch = next.producer_epoch;
                let decided = self.decide(Arc::clone(slot), row, next, Reason::Fenced);
                Ok(Next::Aborting(Aborting {
                    fenced_epoch,
                    decided,
                }))
            }
        }
    }

    /// Returns a new producer id if the epochs of the current one are exhausted.
    pub(super) async fn spare_producer_id(
        &self,
        slot: &Slot,
    ) -> Result<Option<i64>, TransactionError> {
        let is_exhausted = slot.read().as_ref().is_some_and(state::is_exhausted);
        match is_exhausted {
            true => Ok(Some(self.catalog.next_producer_id().await?)),
            false => Ok(None),
        }
    }

    async fn find_or_create(&self, id: &str) -> Result<Arc<Slot>, TransactionError> {
        if let Some(slot) = self.find(id) {
            return Ok(slot);
        }
        let producer_id = self.catalog.next_producer_id().await?;
        let row = state::new(id, producer_id, self.clock.now_ms());
        let mut slots = self.slots.write();
        let slot = slots
            .entry(id.to_owned())
            .or_insert_with(|| Arc::new(RwLock::new(Some(row))));
        Ok(Arc::clone(slot))
    }
}

/// A step of an initialisation that is queued to the catalog.
enum Next {
    Stored(ProducerIdentity, Change),
    Aborting(Aborting),
}

struct Aborting {
    fenced_epoch: i16,
    decided: super::ending::Decided,
}
