//! Recovery at the start, before clients are served: transactions of the catalog and open records of the logs, compared.
//!
//! Records of a transaction that is decided get their marker. Those of the ongoing transaction join it, since a producer
//! of version 2 adds partitions without storing them. Open records that belong to no known transaction are aborted: they
//! are of an expired transactional id, or another server wrote them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use uuid::Uuid;

use super::ending::COORDINATOR_EPOCH;
use super::state::{self, Belonging};
use super::{ProducerIdentity, Slot, Transactions};
use crate::catalog::{TransactionRow, TransactionState};
use crate::storage::{
    self, Acks, AppendOptions, Engine, PartitionLog, TransactionMarker, TransactionOutcome,
};

/// Time for which the start waits for markers. Usually they are written at once.
const RECOVERY_WAIT: Duration = Duration::from_secs(10);

/// A transactional id, and what is left of its transactions.
struct Found {
    row: TransactionRow,
    /// Partitions without the marker of the decided transaction.
    undecided: BTreeSet<(Uuid, i32)>,
    /// Partitions with records of the ongoing transaction.
    current: BTreeSet<(Uuid, i32)>,
    /// Groups with pending offsets.
    groups: BTreeSet<String>,
}

/// Open records of a producer in one partition.
#[derive(Debug, Clone, Copy)]
struct Open {
    partition: (Uuid, i32),
    producer: ProducerIdentity,
    coordinator_epoch: i32,
}

impl Transactions {
    /// Ends or restores what a crash interrupted. A partition that fails is left to attempts in the background.
    pub async fn recover(&self) -> Result<(), storage::Error> {
        let rows: HashMap<String, TransactionRow> = self
            .rows()
            .into_iter()
            .map(|row| (row.id.clone(), row))
            .collect();
        let id_of_producer: HashMap<i64, String> = rows
            .values()
            .flat_map(|row| {
                [row.previous_producer_id, row.producer_id].map(|it| (it, row.id.clone()))
            })
            .filter(|(producer_id, _)| *producer_id != state::NO_PRODUCER_ID)
            .collect();
        // The partitions that still need the marker of a decided transaction, by transactional id.
        let mut undecided: HashMap<String, BTreeSet<(Uuid, i32)>> = HashMap::new();
        let mut current: HashMap<String, BTreeSet<(Uuid, i32)>> = HashMap::new();
        for open in self.find_open_records().await? {
            let id = id_of_producer.get(&open.producer.producer_id);
            let row = id.and_then(|id| rows.get(id));
            let belonging = row.map_or(Belonging::Unknown, |row| {
                state::belonging(row, open.producer)
            });
            match (row, belonging) {
                (Some(row), Belonging::Current) => {
                    current
                        .entry(row.id.clone())
                        .or_default()
                        .insert(open.partition);
                }
                (Some(row), Belonging::Decided(_)) => {
                    undecided
                        .entry(row.id.clone())
                        .or_default()
                        .insert(open.partition);
                }
                _ => self.abort_unknown(open).await,
            }
        }
        let mut groups = self.catalog.transactions_with_offsets();
        let restored = rows.into_values().map(|row| Found {
            undecided: undecided.remove(&row.id).unwrap_or_default(),
            current: current.remove(&row.id).unwrap_or_default(),
            groups: groups.remove(&row.id).unwrap_or_default(),
            row,
        });
        self.restore_all(restored.collect()).await;
        Ok(())
    }

    /// Restores the transactional ids at once. Those that wait for a failing disk go on in the background.
    async fn restore_all(&self, found: Vec<Found>) {
        let mut tasks = JoinSet::new();
        for found in found {
            if let Some(me) = self.me.upgrade() {
                tasks.spawn(async move { me.restore(found).await });
            }
        }
        let restored = async { while tasks.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(RECOVERY_WAIT, restored).await.is_ok();
        if !in_time {
            tracing::warn!("transactions are still being completed, going on in the background");
        }
        tasks.detach_all();
    }

    async fn restore(&self, found: Found) {
        let Found {
            row,
            undecided,
            current,
            groups,
        } = found;
        let Some(slot) = self.find(&row.id) else {
            return;
        };
        if !undecided.is_empty() || state::is_completing(&row) {
            tracing::info!(
                transactional_id = row.id,
                state = row.state.name(),
                partitions = undecided.len(),
                "completing a decided transaction"
            );
        }
        if state::is_completing(&row) {
            let decided = TransactionRow {
                partitions: undecided,
                ..row
            };
            *slot.write() = Some(decided.clone());
            self.complete(&slot, &decided).await;
        } else if !undecided.is_empty() {
            // The log lost the markers of a completed transaction with the power.
            self.write_markers(&decided_again(&row), &undecided).await;
        }
        if !current.is_empty() || !groups.is_empty() {
            self.restore_current(&slot, current, groups);
        }
    }

    async fn find_open_records(&self) -> Result<Vec<Open>, storage::Error> {
        let topics = Arc::clone(&self.topics);
        let found = tokio::task::spawn_blocking(move || open_records(&*topics)).await;
        found.unwrap_or(Err(storage::Error::Interrupted))
    }

    /// Restores the ongoing transaction, with what the logs and the pending offsets show of it.
    fn restore_current(
        &self,
        slot: &Slot,
        partitions: BTreeSet<(Uuid, i32)>,
        groups: BTreeSet<String>,
    ) {
        let mut slot = slot.write();
        let Some(row) = slot.as_mut().filter(|row| !state::is_completing(row)) else {
            return;
        };
        if row.state != TransactionState::Ongoing {
            row.state = TransactionState::Ongoing;
            row.started_ms = self.clock.now_ms();
        }
        row.partitions.extend(partitions);
        row.groups.extend(groups);
    }

    async fn abort_unknown(&self, open: Open) {
        let Some(topic) = self.topics.get_by_id(open.partition.0) else {
            return;
        };
        let Some(log) = topic.partition(open.partition.1) else {
            return;
        };
        let marker = TransactionMarker {
            producer_id: open.producer.producer_id,
            producer_epoch: open.producer.producer_epoch,
            coordinator_epoch: open.coordinator_epoch.max(COORDINATOR_EPOCH),
            outcome: TransactionOutcome::Abort,
        };
        let log: &dyn PartitionLog = &*log;
        tracing::warn!(
            partition = %log,
            producer_id = marker.producer_id,
            producer_epoch = marker.producer_epoch,
            "aborting an open transaction of an unknown producer"
        );
        if let Err(error) = log
            .end_transaction(marker, AppendOptions { acks: Acks::All })
            .await
        {
            tracing::error!(partition = %log, %error, "cannot abort an open transaction");
        }
    }
}

/// Finds the producers with open records in all logs. Blocks.
fn open_records(topics: &dyn Engine) -> Result<Vec<Open>, storage::Error> {
    let mut found = Vec::new();
    for topic in topics.list() {
        for log in topic.partitions().iter() {
            let producers = log.producers()?.into_iter();
            let open = producers.filter(|it| it.transaction_start_offset.is_some());
            found.extend(open.map(|producer| Open {
                partition: (topic.id(), log.number()),
                producer: ProducerIdentity {
                    producer_id: producer.producer_id,
                    producer_epoch: producer.producer_epoch,
                },
                coordinator_epoch: producer.coordinator_epoch,
            }));
        }
    }
    Ok(found)
}

/// Returns the row as it was when its last transaction was decided, for the markers.
fn decided_again(row: &TransactionRow) -> TransactionRow {
    let got_new_id = row.epoch_incremented && row.producer_epoch == 0;
    if !got_new_id {
        return row.clone();
    }
    TransactionRow {
        producer_id: row.previous_producer_id,
        producer_epoch: i16::MAX,
        ..row.clone()
    }
}
