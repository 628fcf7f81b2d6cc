//! Pending offsets: those that open transactions will commit, and their copy in memory.
//!
//! The copy says only which partitions of a group have pending offsets. It changes like that of the committed offsets:
//! after each commit and in commit order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use parking_lot::RwLock;

use super::TopicPartition;

/// A pending offset's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingOffset {
    pub transaction_id: String,
    pub group: String,
    pub topic: String,
    pub partition: i32,
}

/// Transactional ids that have a pending offset, by partition.
type OfGroup = BTreeMap<TopicPartition, BTreeSet<String>>;

/// All pending offsets. Groups without any are absent.
#[derive(Debug)]
pub(super) struct PendingInMemory {
    groups: RwLock<HashMap<String, OfGroup>>,
}

impl PendingInMemory {
    pub(super) fn new(pending: Vec<PendingOffset>) -> Self {
        let mut groups: HashMap<String, OfGroup> = HashMap::new();
        for offset in pending {
            let partition = (offset.topic, offset.partition);
            let of_group = groups.entry(offset.group).or_default();
            let transactions = of_group.entry(partition).or_default();
            transactions.insert(offset.transaction_id);
        }
        Self {
            groups: RwLock::new(groups),
        }
    }

    /// Returns the group's partitions with pending offsets.
    pub(super) fn of_group(&self, group: &str) -> BTreeSet<TopicPartition> {
        let groups = self.groups.read();
        let of_group = groups.get(group);
        of_group.map_or_else(BTreeSet::new, |of_group| of_group.keys().cloned().collect())
    }

    /// Returns the transactional ids with pending offsets.
    pub(super) fn transaction_ids(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (group, of_group) in &*self.groups.read() {
            for id in of_group.values().flatten() {
                ids.entry(id.clone()).or_default().insert(group.clone());
            }
        }
        ids
    }

    pub(super) fn apply_addition(
        &self,
        transaction_id: &str,
        group: &str,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) {
        let mut partitions = partitions.into_iter().peekable();
        if partitions.peek().is_none() {
            return;
        }
        let mut groups = self.groups.write();
        let of_group = groups.entry(group.to_owned()).or_default();
        for partition in partitions {
            let transactions = of_group.entry(partition).or_default();
            transactions.insert(transaction_id.to_owned());
        }
    }

    /// Removes the pending offsets of a transaction that ended, of which `groups` are known to have some.
    pub(super) fn apply_end<'a>(
        &self,
        transaction_id: &str,
        groups: impl IntoIterator<Item = &'a String>,
    ) {
        for group in groups {
            self.retain_in_group(group, |_, transactions| {
                transactions.remove(transaction_id);
                !transactions.is_empty()
            });
        }
    }

    pub(super) fn apply_removal(&self, group: &str, partitions: &[TopicPartition]) {
        self.retain_in_group(group, |partition, _| !partitions.contains(partition));
    }

    pub(super) fn apply_topic_deletion(&self, topic: &str) {
        let mut groups = self.groups.write();
        groups.retain(|_, of_group| {
            of_group.retain(|(name, _), _| name != topic);
            !of_group.is_empty()
        });
    }

    pub(super) fn apply_group_deletion(&self, group: &str) {
        self.groups.write().remove(group);
    }

    fn retain_in_group(
        &self,
        group: &str,
        keep: impl FnMut(&TopicPartition, &mut BTreeSet<String>) -> bool,
    ) {
        let mut groups = self.groups.write();
        let Some(of_group) = groups.get_mut(group) else {
            return;
        };
        of_group.retain(keep);
        if of_group.is_empty() {
            groups.remove(group);
        }
    }
}
