//! The table of committed offsets.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, params};

use super::topics;
use crate::catalog::{CommittedOffset, Error, GroupOffsets, OffsetCommit, TopicPartition};

/// Returns the offsets of all groups.
pub(super) fn load(db: &Connection) -> Result<HashMap<String, GroupOffsets>, Error> {
    let mut groups: HashMap<String, GroupOffsets> = HashMap::new();
    let mut statement = db.prepare(
        "SELECT group_id, topic, partition, log_offset, leader_epoch, metadata, commit_ms, expire_ms
         FROM committed_offsets",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let committed = CommittedOffset {
            offset: row.get(3)?,
            leader_epoch: row.get(4)?,
            metadata: row.get(5)?,
            commit_ms: row.get(6)?,
            expire_ms: row.get(7)?,
        };
        groups
            .entry(row.get(0)?)
            .or_default()
            .entry(row.get(1)?)
            .or_default()
            .insert(row.get(2)?, committed);
    }
    Ok(groups)
}

/// Stores the offsets of topics that exist and returns the names of those that do not.
pub(super) fn commit(
    db: &Connection,
    group: &str,
    commits: &[OffsetCommit],
) -> Result<HashSet<String>, Error> {
    let mut known: HashMap<&str, bool> = HashMap::new();
    let mut upsert = db.prepare_cached(
        "INSERT INTO committed_offsets
             (group_id, topic, partition, log_offset, leader_epoch, metadata, commit_ms, expire_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (group_id, topic, partition) DO UPDATE SET
             log_offset = excluded.log_offset, leader_epoch = excluded.leader_epoch,
             metadata = excluded.metadata, commit_ms = excluded.commit_ms, expire_ms = excluded.expire_ms",
    )?;
    for commit in commits {
        let exists = match known.get(commit.topic.as_str()) {
            Some(exists) => *exists,
            None => {
                let exists = topics::exists(db, &commit.topic)?;
                known.insert(&commit.topic, exists);
                exists
            }
        };
        if exists {
            let committed = &commit.committed;
            upsert.execute(params![
                group,
                commit.topic,
                commit.partition,
                committed.offset,
                committed.leader_epoch,
                committed.metadata,
                committed.commit_ms,
                committed.expire_ms,
            ])?;
        }
    }
    Ok(known
        .into_iter()
        .filter(|(_, exists)| !exists)
        .map(|(topic, _)| topic.to_owned())
        .collect())
}

pub(super) fn delete(
    db: &Connection,
    group: &str,
    partitions: &[TopicPartition],
) -> Result<(), Error> {
    let mut delete = db.prepare_cached(
        "DELETE FROM committed_offsets WHERE group_id = ?1 AND topic = ?2 AND partition = ?3",
    )?;
    for (topic, partition) in partitions {
        delete.execute(params![group, topic, partition])?;
    }
    Ok(())
}

/// Deletes those of the given offsets that were not committed again since `commit_ms`; returns the deleted ones.
pub(super) fn expire(
    db: &Connection,
    group: &str,
    expired: &[(TopicPartition, i64)],
) -> Result<Vec<TopicPartition>, Error> {
    let mut delete = db.prepare_cached(
        "DELETE FROM committed_offsets
         WHERE group_id = ?1 AND topic = ?2 AND partition = ?3 AND commit_ms = ?4",
    )?;
    let mut deleted = Vec::new();
    for ((topic, partition), commit_ms) in expired {
        if delete.execute(params![group, topic, partition, commit_ms])? > 0 {
            deleted.push((topic.clone(), *partition));
        }
    }
    Ok(deleted)
}

pub(super) fn delete_all_of_group(db: &Connection, group: &str) -> Result<(), Error> {
    db.prepare_cached("DELETE FROM committed_offsets WHERE group_id = ?1")?
        .execute([group])?;
    Ok(())
}
