//! The tables of transactional ids and their transactions.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::pending_offsets;
use crate::catalog::{Error, OffsetCommit, TransactionRow, TransactionState};

pub(super) fn load(db: &Connection) -> Result<Vec<TransactionRow>, Error> {
    let mut partitions = load_partitions(db)?;
    let mut groups = load_groups(db)?;
    let mut statement = db.prepare(
        "SELECT id, producer_id, producer_epoch, previous_producer_id, last_producer_epoch, next_producer_id,
                timeout_ms, state, epoch_incremented, started_ms, updated_ms
         FROM transactions ORDER BY id",
    )?;
    let mut rows = statement.query([])?;
    let mut transactions = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        transactions.push(TransactionRow {
            producer_id: row.get(1)?,
            producer_epoch: row.get(2)?,
            previous_producer_id: row.get(3)?,
            last_producer_epoch: row.get(4)?,
            next_producer_id: row.get(5)?,
            timeout_ms: row.get(6)?,
            state: state_of(&id, row.get(7)?)?,
            epoch_incremented: row.get(8)?,
            started_ms: row.get(9)?,
            updated_ms: row.get(10)?,
            partitions: partitions.remove(&id).unwrap_or_default(),
            groups: groups.remove(&id).unwrap_or_default(),
            id,
        });
    }
    Ok(transactions)
}

fn load_partitions(db: &Connection) -> Result<HashMap<String, BTreeSet<(Uuid, i32)>>, Error> {
    let mut partitions: HashMap<String, BTreeSet<(Uuid, i32)>> = HashMap::new();
    let mut statement =
        db.prepare("SELECT transaction_id, topic_id, partition FROM transaction_partitions")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let topic: String = row.get(1)?;
        let topic = Uuid::parse_str(&topic)
            .map_err(|error| Error::Corrupt(format!("topic id of a transaction: {error}")))?;
        let of_transaction = partitions.entry(row.get(0)?).or_default();
        of_transaction.insert((topic, row.get(2)?));
    }
    Ok(partitions)
}

fn load_groups(db: &Connection) -> Result<HashMap<String, BTreeSet<String>>, Error> {
    let mut groups: HashMap<String, BTreeSet<String>> = HashMap::new();
    let mut statement = db.prepare("SELECT transaction_id, group_id FROM transaction_groups")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        groups.entry(row.get(0)?).or_default().insert(row.get(1)?);
    }
    Ok(groups)
}

fn state_of(id: &str, number: i64) -> Result<TransactionState, Error> {
    let mut states = TransactionState::ALL.into_iter();
    let state = states.find(|state| *state as i64 == number);
    state.ok_or_else(|| Error::Corrupt(format!("state of transactional id {id:?} is {number}")))
}

/// Stores a transactional id with the partitions and groups of its transaction, replacing its previous state.
pub(super) fn store(db: &Connection, row: &TransactionRow) -> Result<(), Error> {
    db.prepare_cached(
        "INSERT INTO transactions
             (id, producer_id, producer_epoch, previous_producer_id, last_producer_epoch, next_producer_id,
              timeout_ms, state, epoch_incremented, started_ms, updated_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (id) DO UPDATE SET
             producer_id = excluded.producer_id, producer_epoch = excluded.producer_epoch,
             previous_producer_id = excluded.previous_producer_id,
             last_producer_epoch = excluded.last_producer_epoch, next_producer_id = excluded.next_producer_id,
             timeout_ms = excluded.timeout_ms, state = excluded.state,
             epoch_incremented = excluded.epoch_incremented, started_ms = excluded.started_ms,
             updated_ms = excluded.updated_ms",
    )?
    .execute(params![
        row.id,
        row.producer_id,
        row.producer_epoch,
        row.previous_producer_id,
        row.last_producer_epoch,
        row.next_producer_id,
        row.timeout_ms,
        row.state as i64,
        row.epoch_incremented,
        row.started_ms,
        row.updated_ms,
    ])?;
    db.prepare_cached("DELETE FROM transaction_partitions WHERE transaction_id = ?1")?
        .execute([&row.id])?;
    db.prepare_cached("DELETE FROM transaction_groups WHERE transaction_id = ?1")?
        .execute([&row.id])?;
    let mut partition = db.prepare_cached(
        "INSERT INTO transaction_partitions (transaction_id, topic_id, partition) VALUES (?1, ?2, ?3)",
    )?;
    for (topic, number) in &row.partitions {
        partition.execute(params![row.id, topic.to_string(), number])?;
    }
    let mut group = db.prepare_cached(
        "INSERT INTO transaction_groups (transaction_id, group_id) VALUES (?1, ?2)",
    )?;
    for id in &row.groups {
        group.execute([&row.id, id])?;
    }
    Ok(())
}

/// Stores the decision on a transaction, and commits or drops its pending offsets. Returns the committed ones, by group.
pub(super) fn decide(
    db: &Connection,
    row: &TransactionRow,
    commits: bool,
) -> Result<HashMap<String, Vec<OffsetCommit>>, Error> {
    store(db, row)?;
    match commits {
        true => pending_offsets::commit(db, &row.id),
        false => pending_offsets::drop_of_transaction(db, &row.id).map(|()| HashMap::new()),
    }
}

/// Deletes a transactional id with all that belongs to it.
pub(super) fn delete(db: &Connection, id: &str) -> Result<(), Error> {
    db.prepare_cached("DELETE FROM transactions WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}
