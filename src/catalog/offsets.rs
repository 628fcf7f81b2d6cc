//! Committed offsets: the rows, and their copy in memory, which readers and scrapes use.
//!
//! An implementation changes the copy only after each commit and in commit order. So it never shows an offset that a
//! crash could lose, and deleting a topic or a group cannot race with an offset commit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

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
#[derive(Debug)]
pub(super) struct OffsetsInMemory {
    groups: RwLock<HashMap<String, Arc<RwLock<GroupOffsets>>>>,
}

impl OffsetsInMemory {
    pub(super) fn new(groups: HashMap<String, GroupOffsets>) -> Self {
        let groups = groups
            .into_iter()
            .map(|(id, offsets)| (id, Arc::new(RwLock::new(offsets))))
            .collect();
        Self {
            groups: RwLock::new(groups),
        }
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
