//! Committed offsets: the rows, and their copy in memory, which readers and scrapes use.
//!
//! Only the catalog's writer thread changes the copy, after each commit and in commit order. So it never shows an
//! offset that a crash could lose, and deleting a topic or a group cannot race with an offset commit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;
use rusqlite::{Connection, params};

use super::error::Error;
use super::topics;

/// A group's committed offset of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Offset of the next record that the group will read.
    pub offset: i64,
    /// Leader epoch of the last consumed record, −1 if the client did not send it.
    pub leader_epoch: i32,
    pub metadata: String,
    pub commit_ms: i64,
    /// Expiration time, if the client requested a retention time (OffsetCommit v2–4).
    pub expire_ms: Option<i64>,
}

/// An offset commit for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    pub topic: String,
    pub partition: i32,
    pub committed: CommittedOffset,
}

/// Topic name and partition index.
pub type TopicPartition = (String, i32);

/// The offsets of one group: topic, then partition.
pub type GroupOffsets = BTreeMap<String, BTreeMap<i32, CommittedOffset>>;

/// All committed offsets, in memory. Groups without offsets are absent.
#[derive(Debug, Default)]
pub(super) struct OffsetsInMemory {
    groups: RwLock<HashMap<String, Arc<RwLock<GroupOffsets>>>>,
}

impl OffsetsInMemory {
    pub(super) fn load(db: &Connection) -> Result<Self, Error> {
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
        let groups = groups
            .into_iter()
            .map(|(id, offsets)| (id, Arc::new(RwLock::new(offsets))))
            .collect();
        Ok(Self {
            groups: RwLock::new(groups),
        })
    }

    pub(super) fn group(&self, group: &str) -> Option<Arc<RwLock<GroupOffsets>>> {
        self.groups.read().get(group).cloned()
    }

    pub(super) fn group_ids(&self) -> Vec<String> {
        self.groups.read().keys().cloned().collect()
    }

    pub(super) fn apply_commit(&self, group: &str, commits: Vec<OffsetCommit>) {
        if commits.is_empty() {
            return;
        }
        let offsets = self.group(group).unwrap_or_else(|| {
            let mut groups = self.groups.write();
            Arc::clone(groups.entry(group.to_owned()).or_default())
        });
        let mut offsets = offsets.write();
        for commit in commits {
            offsets
                .entry(commit.topic)
                .or_default()
                .insert(commit.partition, commit.committed);
        }
    }

    pub(super) fn apply_removal<'a>(
        &self,
        group: &str,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) {
        let Some(offsets) = self.group(group) else {
            return;
        };
        let mut offsets = offsets.write();
        for (topic, partition) in partitions {
            if let Some(of_topic) = offsets.get_mut(topic) {
                of_topic.remove(partition);
                if of_topic.is_empty() {
                    offsets.remove(topic);
                }
            }
        }
        if offsets.is_empty() {
            self.groups.write().remove(group);
        }
    }

    pub(super) fn apply_topic_deletion(&self, topic: &str) {
        let groups: Vec<_> = self
            .groups
            .read()
            .iter()
            .map(|(id, offsets)| (id.clone(), Arc::clone(offsets)))
            .collect();
        for (id, offsets) in groups {
            let mut offsets = offsets.write();
            if offsets.remove(topic).is_some() && offsets.is_empty() {
                self.groups.write().remove(&id);
            }
        }
    }

    pub(super) fn apply_group_deletion(&self, group: &str) {
        self.groups.write().remove(group);
    }
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
