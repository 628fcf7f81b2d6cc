//! The state machine of a transactional id: pure functions from a row and a request to the next row.
//!
//! ```text
//! Empty ──▶ Ongoing ──▶ PrepareCommit ──▶ CompleteCommit ─┐
//!   │          └──────▶ PrepareAbort ───▶ CompleteAbort ──┤
//!   └─(abort, v2)─────────▲                               │
//!                Empty (InitProducerId), Ongoing ◀────────┘
//! ```
//!
//! A transaction is decided by the step to a Prepare state, complete once its markers are in every partition. With
//! version 2 of the protocol (KIP-890), and whenever the coordinator aborts by itself, the decision increments the epoch:
//! records of a decided transaction are older than the row's epoch, and its producer cannot append to it any more.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::TransactionError;
use crate::catalog::{TransactionRow, TransactionState};
use crate::storage::TransactionOutcome;

pub(super) const NO_PRODUCER_ID: i64 = -1;
pub(super) const NO_EPOCH: i16 = -1;
const NO_TIME: i64 = -1;

/// Last epoch that a producer gets. The next one is left for fencing it.
const LAST_EPOCH: i16 = i16::MAX - 1;

/// A producer as its requests identify it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    pub producer_id: i64,
    pub producer_epoch: i16,
}

/// An initialisation's next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Initialisation {
    Ready(TransactionRow),
    /// The ongoing transaction is to be aborted by this decision, and the initialisation repeated.
    AbortFirst(TransactionRow),
}

/// The answer to a request to end a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// The request repeats one that has been carried out.
    Repeated,
    Decided(TransactionRow),
}

/// The transaction to which open records of a producer belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belonging {
    /// The one that is ongoing, or begins with these records.
    Current,
    /// One that is decided.
    Decided(TransactionOutcome),
    /// None of those that the row knows.
    Unknown,
}

/// Creates the row of a new transactional id, which has to be initialised.
pub(super) fn new(id: &str, producer_id: i64, now_ms: i64) -> TransactionRow {
    TransactionRow {
        id: id.to_owned(),
        producer_id,
        producer_epoch: NO_EPOCH,
        previous_producer_id: NO_PRODUCER_ID,
        last_producer_epoch: NO_EPOCH,
        next_producer_id: NO_PRODUCER_ID,
        timeout_ms: 0,
        state: TransactionState::Empty,
        epoch_incremented: false,
        started_ms: NO_TIME,
        updated_ms: now_ms,
        partitions: BTreeSet::new(),
        groups: BTreeSet::new(),
    }
}

/// Returns whether the producer needs a new id before its next epoch.
pub(super) fn is_exhausted(row: &TransactionRow) -> bool {
    row.producer_epoch >= LAST_EPOCH
}

/// Returns the decision that was taken last, if the transaction is decided.
pub(super) fn decision(row: &TransactionRow) -> Option<TransactionOutcome> {
    match row.state {
        TransactionState::Empty | TransactionState::Ongoing => None,
        TransactionState::PrepareCommit | TransactionState::CompleteCommit => {
            Some(TransactionOutcome::Commit)
        }
        TransactionState::PrepareAbort | TransactionState::CompleteAbort => {
            Some(TransactionOutcome::Abort)
        }
    }
}

/// Returns whether the transaction is decided and its markers are not all written.
pub(super) fn is_completing(row: &TransactionRow) -> bool {
    matches!(
        row.state,
        TransactionState::PrepareCommit | TransactionState::PrepareAbort
    )
}

/// Gives a producer its next epoch, or `spare_id` if its epochs are exhausted. A producer that names itself by `expected`
/// goes on (KIP-360); any other one fences those before it.
pub(super) fn initialise(
    row: &TransactionRow,
    timeout_ms: i32,
    expected: Option<ProducerIdentity>,
    spare_id: Option<i64>,
    now_ms: i64,
) -> Result<Initialisation, TransactionError> {
    if let Some(expected) = expected
        && !may_initialise(row, expected)
    {
        return Err(TransactionError::ProducerFenced);
    }
    if is_completing(row) {
        return Err(TransactionError::ConcurrentTransactions);
    }
    if row.state == TransactionState::Ongoing {
        let is_current = |expected: ProducerIdentity| expected.producer_epoch == row.producer_epoch;
        return match expected.is_none_or(is_current) {
            true => Ok(Initialisation::AbortFirst(fence(row, now_ms))),
            false => Err(TransactionError::ProducerFenced),
        };
    }
    let next = match is_exhausted(row) {
        true => with_new_id(row, expected, spare_id)?,
        false => with_next_epoch(row, expected)?,
    };
    Ok(Initialisation::Ready(TransactionRow {
        timeout_ms,
        state: TransactionState::Empty,
        epoch_incremented: false,
        started_ms: NO_TIME,
        updated_ms: now_ms,
        partitions: BTreeSet::new(),
        groups: BTreeSet::new(),
        ..next
    }))
}

/// Returns whether a producer that names itself may be the one of the row: it has the same id, or it repeats the request
/// that gave it a new one.
fn may_initialise(row: &TransactionRow, expected: ProducerIdentity) -> bool {
    row.producer_epoch == NO_EPOCH
        || expected.producer_id == row.producer_id
        || (expected.producer_id == row.previous_producer_id
            && expected.producer_epoch >= LAST_EPOCH)
}

fn with_new_id(
    row: &TransactionRow,
    expected: Option<ProducerIdentity>,
    spare_id: Option<i64>,
) -> Result<TransactionRow, TransactionError> {
    if expected.is_some_and(|expected| expected.producer_epoch != row.producer_epoch) {
        return Err(TransactionError::ProducerFenced);
    }
    Ok(TransactionRow {
        // Another request may have used up the epochs since the caller asked for an id: the client has to try again.
        producer_id: spare_id.ok_or(TransactionError::ConcurrentTransactions)?,
        producer_epoch: 0,
        previous_producer_id: row.producer_id,
        last_producer_epoch: expected.map_or(NO_EPOCH, |_| row.producer_epoch),
        ..row.clone()
    })
}

fn with_next_epoch(
    row: &TransactionRow,
    expected: Option<ProducerIdentity>,
) -> Result<TransactionRow, TransactionError> {
    let (producer_epoch, last_producer_epoch) = match expected {
        None => (row.producer_epoch + 1, NO_EPOCH),
        Some(expected)
            if row.producer_epoch == NO_EPOCH || expected.producer_epoch == row.producer_epoch =>
        {
            (row.producer_epoch + 1, row.producer_epoch)
        }
        // A repeated request: another producer would have reset the last epoch.
        Some(expected) if expected.producer_epoch == row.last_producer_epoch => {
            (row.producer_epoch, row.last_producer_epoch)
        }
        Some(_) => return Err(TransactionError::ProducerFenced),
    };
    Ok(TransactionRow {
        producer_epoch,
        last_producer_epoch,
        ..row.clone()
    })
}

fn check_producer(
    row: &TransactionRow,
    producer: ProducerIdentity,
) -> Result<(), TransactionError> {
    let is_next = is_completing(row) && row.next_producer_id == producer.producer_id;
    if is_next {
        Err(TransactionError::ConcurrentTransactions)
    } else if row.producer_id != producer.producer_id {
        Err(TransactionError::InvalidProducerIdMapping)
    } else if row.producer_epoch != producer.producer_epoch {
        Err(TransactionError::ProducerFenced)
    } else if is_completing(row) {
        Err(TransactionError::ConcurrentTransactions)
    } else {
        Ok(())
    }
}

/// Checks that the producer may append to a partition that was added to its transaction.
pub(super) fn check_partition(
    row: &TransactionRow,
    producer: ProducerIdentity,
    partition: (Uuid, i32),
) -> Result<(), TransactionError> {
    check_producer(row, producer)?;
    match row.partitions.contains(&partition) {
        true => Ok(()),
        false => Err(TransactionError::NotInTransaction),
    }
}

/// Checks that the producer may commit offsets of a group that was added to its transaction.
pub(super) fn check_group(
    row: &TransactionRow,
    producer: ProducerIdentity,
    group: &str,
) -> Result<(), TransactionError> {
    check_producer(row, producer)?;
    match row.groups.contains(group) {
        true => Ok(()),
        false => Err(TransactionError::NotInTransaction),
    }
}

/// Adds partitions and groups to the producer's transaction, which begins if there is none.
pub(super) fn add(
    row: &mut TransactionRow,
    producer: ProducerIdentity,
    partitions: &[(Uuid, i32)],
    group: Option<&str>,
    now_ms: i64,
) -> Result<(), TransactionError> {
    check_producer(row, producer)?;
    if row.state != TransactionState::Ongoing {
        row.state = TransactionState::Ongoing;
        row.started_ms = now_ms;
    }
    row.updated_ms = now_ms;
    row.partitions.extend(partitions);
    row.groups.extend(group.map(str::to_owned));
    Ok(())
}

/// Decides the producer's transaction. `increments` is set for clients of version 2 of the protocol. `spare_id` is the
/// producer's next id, in case that its epochs are exhausted.
pub(super) fn end(
    row: &TransactionRow,
    producer: ProducerIdentity,
    outcome: TransactionOutcome,
    increments: bool,
    spare_id: Option<i64>,
    now_ms: i64,
) -> Result<Ending, TransactionError> {
    let is_last_of_previous = row.epoch_incremented
        && row.previous_producer_id == producer.producer_id
        && producer.producer_epoch == LAST_EPOCH
        && row.producer_epoch == 0;
    if row.producer_id != producer.producer_id && !is_last_of_previous {
        return Err(TransactionError::InvalidProducerIdMapping);
    }
    let is_before_increment = row.epoch_incremented
        && i32::from(row.producer_epoch) == i32::from(producer.producer_epoch) + 1;
    let is_repeated = is_before_increment || is_last_of_previous;
    let is_current = producer.producer_epoch == row.producer_epoch;
    let is_valid = match row.state {
        TransactionState::Empty | TransactionState::Ongoing => is_current,
        TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
            if row.epoch_incremented {
                is_before_increment
            } else {
                is_current
            }
        }
        TransactionState::CompleteCommit | TransactionState::CompleteAbort => {
            is_repeated || is_current
        }
    };
    if !is_valid {
        return Err(TransactionError::ProducerFenced);
    }
    let has_same_outcome = decision(row) == Some(outcome);
    match row.state {
        TransactionState::Ongoing => {}
        TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
            return Err(match has_same_outcome {
                true => TransactionError::ConcurrentTransactions,
                false => TransactionError::InvalidState,
            });
        }
        TransactionState::CompleteCommit | TransactionState::CompleteAbort
            if has_same_outcome && (is_repeated || !row.epoch_incremented) =>
        {
            // The epoch that fenced a timed-out producer may be the highest, which no producer may use.
            return match row.producer_epoch > LAST_EPOCH {
                true => Err(TransactionError::ProducerFenced),
                false => Ok(Ending::Repeated),
            };
        }
        // A producer of version 2 may abort before the server knows of its transaction, to get its next epoch.
        TransactionState::Empty
        | TransactionState::CompleteCommit
        | TransactionState::CompleteAbort
            if outcome == TransactionOutcome::Abort
                && !is_repeated
                && match row.state {
                    TransactionState::Empty => increments,
                    _ => row.epoch_incremented,
                } => {}
        _ => return Err(TransactionError::InvalidState),
    }
    decide(row, outcome, increments, spare_id, now_ms).map(Ending::Decided)
}

fn decide(
    row: &TransactionRow,
    outcome: TransactionOutcome,
    increments: bool,
    spare_id: Option<i64>,
    now_ms: i64,
) -> Result<TransactionRow, TransactionError> {
    let (producer_epoch, last_producer_epoch) = match increments {
        true => {
            let next = row.producer_epoch.checked_add(1);
            (
                next.ok_or(TransactionError::ProducerFenced)?,
                row.producer_epoch,
            )
        }
        false => (row.producer_epoch, row.last_producer_epoch),
    };
    let next_producer_id = match increments && is_exhausted(row) {
        true => spare_id.ok_or(TransactionError::ConcurrentTransactions)?,
        false => NO_PRODUCER_ID,
    };
    Ok(TransactionRow {
        producer_epoch,
        last_producer_epoch,
        next_producer_id,
        state: match outcome {
            TransactionOutcome::Commit => TransactionState::PrepareCommit,
            TransactionOutcome::Abort => TransactionState::PrepareAbort,
        },
        epoch_incremented: increments,
        started_ms: match row.state {
            TransactionState::Ongoing => row.started_ms,
            _ => now_ms,
        },
        updated_ms: now_ms,
        ..row.clone()
    })
}

/// Aborts an ongoing transaction in the coordinator's own name: after its timeout, or for a new producer. The epoch is not
/// returned to any producer.
pub(super) fn fence(row: &TransactionRow, now_ms: i64) -> TransactionRow {
    TransactionRow {
        // In use are epochs up to the one before the largest.
        producer_epoch: row.producer_epoch.saturating_add(1),
        last_producer_epoch: NO_EPOCH,
        next_producer_id: NO_PRODUCER_ID,
        state: TransactionState::PrepareAbort,
        epoch_incremented: true,
        updated_ms: now_ms,
        ..row.clone()
    }
}

/// Completes a decided transaction, whose markers are written.
pub(super) fn complete(row: &TransactionRow, now_ms: i64) -> TransactionRow {
    let completed = TransactionRow {
        state: match row.state {
            TransactionState::PrepareCommit => TransactionState::CompleteCommit,
            _ => TransactionState::CompleteAbort,
        },
        next_producer_id: NO_PRODUCER_ID,
        updated_ms: now_ms,
        partitions: BTreeSet::new(),
        groups: BTreeSet::new(),
        ..row.clone()
    };
    if row.next_producer_id == NO_PRODUCER_ID {
        return completed;
    }
    TransactionRow {
        producer_id: row.next_producer_id,
        producer_epoch: 0,
        previous_producer_id: row.producer_id,
        ..completed
    }
}

/// Returns whether the ongoing transaction has exceeded its timeout.
pub(super) fn is_timed_out(row: &TransactionRow, now_ms: i64) -> bool {
    row.state == TransactionState::Ongoing
        && row.started_ms.saturating_add(i64::from(row.timeout_ms)) < now_ms
}

/// Returns whether the transactional id is unused for `expiration_ms`.
pub(super) fn is_expired(row: &TransactionRow, expiration_ms: i64, now_ms: i64) -> bool {
    let is_idle = row.state != TransactionState::Ongoing && !is_completing(row);
    is_idle && row.updated_ms.saturating_add(expiration_ms) <= now_ms
}

/// Determines the transaction of open records that a log holds of a producer, at the start of the server. A producer of
/// version 2 begins a transaction without the catalog's knowledge, and Complete states are written without waiting for
/// them.
pub(super) fn belonging(row: &TransactionRow, open: ProducerIdentity) -> Belonging {
    if open.producer_id != row.producer_id {
        let is_decided =
            open.producer_id == row.previous_producer_id && open.producer_epoch == LAST_EPOCH;
        return match decision(row) {
            Some(outcome) if is_decided && row.epoch_incremented => Belonging::Decided(outcome),
            _ => Belonging::Unknown,
        };
    }
    let (open, current) = (
        i32::from(open.producer_epoch),
        i32::from(row.producer_epoch),
    );
    let decided = current - i32::from(row.epoch_incremented);
    match decision(row) {
        Some(outcome) if open == decided => Belonging::Decided(outcome),
        _ if open == current => Belonging::Current,
        _ => Belonging::Unknown,
    }
}

#[cfg(test)]
mod tests;
