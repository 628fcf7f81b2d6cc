//! The end of a transaction: decision, markers, completion.
//!
//! The decision is queued under the row's lock. All that follows runs in a task of its own, so that a client that
//! disconnects cannot stop it. A partition whose disk fails is tried again until its marker is written; the decision holds
//! across restarts. Partitions of deleted topics are skipped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::timeout;
use uuid::Uuid;

use super::state::{self, Ending};
use super::{ProducerIdentity, Slot, TransactionError, Transactions, require_id};
use crate::catalog::{self, Change, TransactionRow};
use crate::metrics::TransactionEnd;
use crate::storage::{
    self, Acks, AppendOptions, PartitionLog, Ticket, TransactionMarker, TransactionOutcome,
};

/// Epoch of the coordinator in markers. There is one coordinator, which cannot be superseded.
pub(super) const COORDINATOR_EPOCH: i32 = 0;

/// Time for which an answer waits for the markers of a transaction that is decided. Afterwards the producer is answered,
/// and told to retry should it begin its next transaction too early.
const COMPLETION_WAIT: Duration = Duration::from_secs(1);

/// Interval of attempts to write markers to partitions that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The cause of a transaction's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Requested,
    TimedOut,
    /// A new producer was initialised.
    Fenced,
}

/// A decision on its way: to the catalog, then to the markers.
pub(super) struct Decided {
    durable: oneshot::Receiver<Result<(), catalog::Error>>,
    complete: oneshot::Receiver<()>,
}

impl Transactions {
    /// Commits or aborts the producer's transaction. Returns the id and epoch of the producer's next transaction, as of
    /// version 2 of the protocol, for which `increments` is set.
    pub async fn end(
        &self,
        id: &str,
        producer: ProducerIdentity,
        outcome: TransactionOutcome,
        increments: bool,
    ) -> Result<ProducerIdentity, TransactionError> {
        require_id(id)?;
        let unknown = TransactionError::InvalidProducerIdMapping;
        let slot = self.find(id).ok_or(unknown.clone())?;
        let spare_id = self.spare_producer_id(&slot).await?;
        let now_ms = self.clock.now_ms();
        let (next, decided) = {
            let mut locked = slot.write();
            let row = locked.as_mut().ok_or(unknown)?;
            match state::end(row, producer, outcome, increments, spare_id, now_ms)? {
                Ending::Repeated => return Ok(identity(row)),
                Ending::Decided(decided) => {
                    let next = identity(&state::complete(&decided, now_ms));
                    let slot = Arc::clone(&slot);
                    (next, self.decide(slot, row, decided, Reason::Requested))
                }
            }
        };
        self.finish(decided).await?;
        Ok(next)
    }

    /// Changes the row to the decided one, and has the rest done in the background. To be called under the row's lock.
    pub(super) fn decide(
        &self,
        slot: Arc<Slot>,
        row: &mut TransactionRow,
        decided: TransactionRow,
        reason: Reason,
    ) -> Decided {
        let before = std::mem::replace(row, decided.clone());
        let commits = state::decision(&decided) == Some(TransactionOutcome::Commit);
        let stored = self.catalog.decide_transaction(decided.clone(), commits);
        let (durable, on_durable) = oneshot::channel();
        let (complete, on_complete) = oneshot::channel();
        if let Some(me) = self.me.upgrade() {
            let ending = InProgress {
                slot,
                before,
                decided,
                reason,
            };
            tokio::spawn(async move {
                let stored = me.settle_decision(&ending, stored).await;
                let is_stored = stored.is_ok();
                // A client that disconnected gave up the answer, not the decision.
                let _ = durable.send(stored);
                if is_stored {
                    me.complete(&ending.slot, &ending.decided).await;
                    let _ = complete.send(());
                }
            });
        }
        Decided {
            durable: on_durable,
            complete: on_complete,
        }
    }

    /// Waits until a decision is durable, and for a while until it is complete. Returns whether it is.
    pub(super) async fn finish(&self, decided: Decided) -> Result<bool, TransactionError> {
        match decided.durable.await {
            Ok(durable) => durable?,
            // The server is shutting down.
            Err(_) => return Err(TransactionError::CoordinatorNotAvailable),
        }
        Ok(matches!(
            timeout(COMPLETION_WAIT, decided.complete).await,
            Ok(Ok(()))
        ))
    }

    /// Waits for the catalog. The transaction goes on if it could not be decided.
    async fn settle_decision(
        &self,
        ending: &InProgress,
        stored: Change,
    ) -> Result<(), catalog::Error> {
        let stored = stored.await;
        match &stored {
            Ok(()) => self.metrics.transactions_ended.get(ending.end()).inc(),
            Err(error) => {
                tracing::error!(transactional_id = ending.decided.id, %error, "cannot decide a transaction");
                let mut row = ending.slot.write();
                if row.as_ref() == Some(&ending.decided) {
                    *row = Some(ending.before.clone());
                }
            }
        }
        stored
    }

    /// Writes the markers, however long that takes, and completes the transaction.
    pub(super) async fn complete(&self, slot: &Slot, decided: &TransactionRow) {
        let mut missing = self.write_markers(decided, &decided.partitions).await;
        let mut is_logged = false;
        while let Some(failure) = missing.failure.take() {
            if matches!(failure, storage::Error::Closed) {
                // The next start writes them.
                return;
            }
            if !std::mem::replace(&mut is_logged, true) {
                tracing::error!(
                    transactional_id = decided.id,
                    partitions = missing.partitions.len(),
                    error = %failure,
                    "cannot write transaction markers, trying again"
                );
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
            missing = self.write_markers(decided, &missing.partitions).await;
        }
        let mut row = slot.write();
        if row.as_ref() == Some(decided) {
            let completed = state::complete(decided, self.clock.now_ms());
            // Not awaited: a crash before it is stored has the markers written again.
            drop(self.catalog.store_transaction(completed.clone()));
            *row = Some(completed);
        }
    }

    /// Appends the marker to each partition at once and waits for their durability. Returns the partitions that failed.
    pub(super) async fn write_markers(
        &self,
        decided: &TransactionRow,
        partitions: &BTreeSet<(Uuid, i32)>,
    ) -> Missing {
        let Some(outcome) = state::decision(decided) else {
            return Missing::default();
        };
        let marker = TransactionMarker {
            producer_id: decided.producer_id,
            producer_epoch: decided.producer_epoch,
            coordinator_epoch: COORDINATOR_EPOCH,
            outcome,
        };
        let logs = partitions.iter().filter_map(|partition| {
            let topic = self.topics.get_by_id(partition.0)?;
            Some((*partition, topic.partition(partition.1)?))
        });
        let writes: Vec<_> = logs
            .map(|(partition, log)| {
                let ticket = append_marker(&*log, marker);
                async move { (partition, written(&log, marker, ticket).await) }
            })
            .collect();
        let mut missing = Missing::default();
        for (partition, written) in join_all(writes).await {
            if let Err(failure) = written {
                missing.partitions.insert(partition);
                missing.failure = Some(failure);
            }
        }
        missing
    }
}

fn append_marker(log: &dyn PartitionLog, marker: TransactionMarker) -> Ticket<storage::Appended> {
    log.end_transaction(marker, AppendOptions { acks: Acks::All })
}

/// Waits for a marker, and treats as written one that has nothing to end.
async fn written(
    log: &Arc<dyn PartitionLog>,
    marker: TransactionMarker,
    ticket: Ticket<storage::Appended>,
) -> Result<(), storage::Error> {
    match ticket.await {
        Ok(_) | Err(storage::Error::Deleted) => Ok(()),
        // An operator has ended the transaction with a marker of a later coordinator epoch.
        Err(storage::Error::CoordinatorFenced { current, .. }) => {
            let marker = TransactionMarker {
                coordinator_epoch: current,
                ..marker
            };
            append_marker(&**log, marker).await.map(|_| ())
        }
        // The log has a later epoch of the producer already, and so no open record of this one.
        Err(error @ storage::Error::ProducerFenced { .. }) => {
            tracing::warn!(partition = %log, %error, "transaction marker refused");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Partitions without a marker, and the failure of one of them.
#[derive(Default)]
pub(super) struct Missing {
    pub(super) partitions: BTreeSet<(Uuid, i32)>,
    pub(super) failure: Option<storage::Error>,
}

struct InProgress {
    slot: Arc<Slot>,
    before: TransactionRow,
    decided: TransactionRow,
    reason: Reason,
}

impl InProgress {
    fn end(&self) -> TransactionEnd {
        match (self.reason, state::decision(&self.decided)) {
            (Reason::TimedOut, _) => TransactionEnd::TimedOut,
            (Reason::Fenced, _) => TransactionEnd::Fenced,
            (Reason::Requested, Some(TransactionOutcome::Commit)) => TransactionEnd::Committed,
            (Reason::Requested, _) => TransactionEnd::Aborted,
        }
    }
}

fn identity(row: &TransactionRow) -> ProducerIdentity {
    ProducerIdentity {
        producer_id: row.producer_id,
        producer_epoch: row.producer_epoch,
    }
}
