//! The table of pending offsets: those that an open transaction will commit.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, params};

use super::{offsets, topics};
use crate::catalog::{CommittedOffset, Error, OffsetCommit, PendingOffset, TopicPartition};

pub(super) fn load(db: &Connection) -> Result<Vec<PendingOffset>, Error> {
    let mut statement =
        db.prepare("SELECT transaction_id, group_id, topic, partition FROM pending_offsets")?;
    let rows = statement.query_map([], |row| {
        Ok(PendingOffset {
            transaction_id: row.get(0)?,
            group: row.get(1)?,
            topic: row.get(2)?,
            partition: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Stores pending offsets of topics that exist and returns the names of those that do not.
pub(super) fn add(
    db: &Connection,
    transaction_id: &str,
    group: &str,
    commits: &[OffsetCommit],
) -> Result<HashSet<String>, Error> {
    let mut missing = HashSet::new();
    let mut upsert = db.prepare_cached(
        "INSERT INTO pending_offsets
             (transaction_id, group_id, topic, partition, log_offset, leader_epoch, metadata, commit_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (transaction_id, group_id, topic, partition) DO UPDATE SET
             log_offset = excluded.log_offset, leader_epoch = excluded.leader_epoch,
             metadata = excluded.metadata, commit_ms = excluded.commit_ms",
    )?;
    for commit in commits {
        if missing.contains(&commit.topic) || !topics::exists(db, &commit.topic)? {
            missing.insert(commit.topic.clone());
            continue;
        }
        let committed = &commit.committed;
        upsert.execute(params![
            transaction_id,
            group,
            commit.topic,
            commit.partition,
            committed.offset,
            committed.leader_epoch,
            committed.metadata,
            committed.commit_ms,
        ])?;
    }
    Ok(missing)
}

/// Commits the pending offsets of a transaction and returns them, by group.
pub(super) fn commit(
    db: &Connection,
    transaction_id: &str,
) -> Result<HashMap<String, Vec<OffsetCommit>>, Error> {
    let groups = of_transaction(db, transaction_id)?;
    for (group, commits) in &groups {
        offsets::commit(db, group, commits)?;
    }
    if !groups.is_empty() {
        drop_of_transaction(db, transaction_id)?;
    }
    Ok(groups)
}

fn of_transaction(
    db: &Connection,
    transaction_id: &str,
) -> Result<HashMap<String, Vec<OffsetCommit>>, Error> {
    let mut groups: HashMap<String, Vec<OffsetCommit>> = HashMap::new();
    let mut statement = db.prepare_cached(
        "SELECT group_id, topic, partition, log_offset, leader_epoch, metadata, commit_ms
         FROM pending_offsets WHERE transaction_id = ?1",
    )?;
    let mut rows = statement.query([transaction_id])?;
    while let Some(row) = rows.next()? {
        groups.entry(row.get(0)?).or_default().push(OffsetCommit {
            topic: row.get(1)?,
            partition: row.get(2)?,
            committed: CommittedOffset {
                offset: row.get(3)?,
                leader_epoch: row.get(4)?,
                metadata: row.get(5)?,
                commit_ms: row.get(6)?,
                expire_ms: None,
            },
        });
    }
    Ok(groups)
}

pub(super) fn drop_of_transaction(db: &Connection, transaction_id: &str) -> Result<(), Error> {
    db.prepare_cached("DELETE FROM pending_offsets WHERE transaction_id = ?1")?
        .execute([transaction_id])?;
    Ok(())
}

pub(super) fn drop_of_group(db: &Connection, group: &str) -> Result<(), Error> {
    db.prepare_cached("DELETE FROM pending_offsets WHERE group_id = ?1")?
        .execute([group])?;
    Ok(())
}

pub(super) fn drop_some(
    db: &Connection,
    group: &str,
    partitions: &[TopicPartition],
) -> Result<(), Error> {
    let mut delete = db.prepare_cached(
        "DELETE FROM pending_offsets WHERE group_id = ?1 AND topic = ?2 AND partition = ?3",
    )?;
    for (topic, partition) in partitions {
        delete.execute(params![group, topic, partition])?;
    }
    Ok(())
}
