//! Committed offsets: committing, reading, deleting and expiring them.
//!
//! A commit is validated under the group's lock and queued to the catalog before the lock is released. An accepted commit
//! therefore precedes the group's next rebalance or its deletion.

use std::collections::{BTreeSet, HashSet};

use super::protocol::{OffsetRetention, Protocol};
use super::{
    CommitOffsets, GroupError, Groups, MemberIdentity, Now, OffsetToCommit, require_group_id,
};
use crate::catalog::{Change, CommittedOffset, GroupOffsets, OffsetCommit, TopicPartition};

/// A committed offset that has expired: its partition and the time of its last commit.
type Expired = (TopicPartition, i64);

impl Groups {
    /// Commits offsets and returns one result per offset, in the order of the request, once they are flushed to disk.
    pub async fn commit_offsets(
        &self,
        commit: CommitOffsets,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        self.commit_by(
            commit,
            |group, member, now| group.begin_commit(member, now),
            |group_id, accepted| Ok(self.catalog.commit_offsets(group_id, accepted)),
        )
        .await
    }

    /// Checks offsets that a transaction will commit, and has them stored by `add`, under the group's lock. Returns one
    /// result per offset, in the order of the request, once they are flushed to disk.
    pub async fn commit_in_transaction<E: From<GroupError>>(
        &self,
        commit: CommitOffsets,
        add: impl FnOnce(Vec<OffsetCommit>) -> Result<Change<HashSet<String>>, E>,
    ) -> Result<Vec<Result<(), GroupError>>, E> {
        self.commit_by(
            commit,
            |group, member, _| group.check_transactional_commit(member),
            |_, accepted| add(accepted),
        )
        .await
    }

    /// Has the valid offsets of a commit stored by `store`, if the group allows it by `check`.
    async fn commit_by<E: From<GroupError>>(
        &self,
        commit: CommitOffsets,
        check: impl FnOnce(&mut dyn Protocol, &MemberIdentity, Now) -> Result<(), GroupError>,
        store: impl FnOnce(&str, Vec<OffsetCommit>) -> Result<Change<HashSet<String>>, E>,
    ) -> Result<Vec<Result<(), GroupError>>, E> {
        let (mut answers, accepted) = self.accept(&commit);
        // A consumer that assigns its partitions itself creates its group by committing.
        let create = commit.member.generation < 0 && !accepted.is_empty();
        let stored = self
            .with_group(&commit.group_id, create, |group, now| {
                check(group.protocol_mut(), &commit.member, now)?;
                match accepted.is_empty() {
                    true => Ok(None),
                    false => store(&commit.group_id, accepted).map(Some),
                }
            })
            .unwrap_or(if commit.member.generation < 0 {
                Ok(None)
            } else {
                Err(GroupError::GroupIdNotFound.into())
            })?;
        if let Some(stored) = stored {
            let missing = stored.await.map_err(GroupError::from)?;
            // While the commit was being written, the group may have been removed as unused: create it again.
            if self.has_offsets(&commit.group_id) {
                self.with_group(&commit.group_id, true, |_, _| {});
            }
            // Topics deleted before the commit was written.
            for (offset, answer) in commit.offsets.iter().zip(&mut answers) {
                if missing.contains(&offset.topic) {
                    *answer = Err(GroupError::UnknownTopicOrPartition);
                }
            }
        }
        Ok(answers)
    }

    /// Rejects unknown partitions and oversized metadata one by one, and accepts the rest.
    fn accept(&self, commit: &CommitOffsets) -> (Vec<Result<(), GroupError>>, Vec<OffsetCommit>) {
        let now_ms = self.clock.now_ms();
        let expire_ms = commit
            .retention_ms
            .map(|retention_ms| now_ms.saturating_add(retention_ms));
        let answers: Vec<_> = commit
            .offsets
            .iter()
            .map(|offset| self.check_commit(offset))
            .collect();
        let accepted = commit
            .offsets
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| answer.is_ok())
            .map(|(offset, _)| OffsetCommit {
                topic: offset.topic.clone(),
                partition: offset.partition,
                committed: CommittedOffset {
                    offset: offset.offset,
                    leader_epoch: offset.leader_epoch,
                    metadata: offset.metadata.clone(),
                    commit_ms: now_ms,
                    expire_ms,
                },
            })
            .collect();
        (answers, accepted)
    }

    /// Returns whether the group has offsets, committed or pending.
    pub(super) fn has_offsets(&self, group_id: &str) -> bool {
        let has_committed = self.catalog.offsets(group_id).is_some();
        has_committed || !self.catalog.pending_offsets(group_id).is_empty()
    }

    /// Returns the partitions in which open transactions will commit offsets of the group.
    pub fn pending_offsets(&self, group_id: &str) -> BTreeSet<TopicPartition> {
        self.catalog.pending_offsets(group_id)
    }

    /// Returns the group's committed offset for one partition.
    pub fn committed_offset(
        &self,
        group_id: &str,
        topic: &str,
        partition: i32,
    ) -> Option<CommittedOffset> {
        let offsets = self.catalog.offsets(group_id)?;
        let offsets = offsets.read();
        offsets.get(topic)?.get(&partition).cloned()
    }

    /// Returns all committed offsets of the group.
    pub fn committed_offsets(&self, group_id: &str) -> GroupOffsets {
        self.catalog
            .offsets(group_id)
            .map(|offsets| offsets.read().clone())
            .unwrap_or_default()
    }

    /// Deletes offsets and returns one result per partition. Offsets of topics that the group's consumers subscribe to
    /// are kept.
    pub async fn delete_offsets(
        &self,
        group_id: &str,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        require_group_id(group_id)?;
        let (answers, deleted) = self
            .with_group(group_id, false, |group, _| {
                let group = group.protocol();
                group.check_offset_deletion()?;
                let answers: Vec<_> = partitions
                    .iter()
                    .map(|(topic, partition)| {
                        if !self.topics.has_partition(topic, *partition) {
                            Err(GroupError::UnknownTopicOrPartition)
                        } else if group.is_subscribed_to(topic) {
                            Err(GroupError::GroupSubscribedToTopic)
                        } else {
                            Ok(())
                        }
                    })
                    .collect();
                let allowed = partitions
                    .into_iter()
                    .zip(&answers)
                    .filter(|(_, answer)| answer.is_ok())
                    .map(|(partition, _)| partition)
                    .collect();
                Ok::<_, GroupError>((answers, self.catalog.delete_offsets(group_id, allowed)))
            })
            .ok_or(GroupError::GroupIdNotFound)??;
        deleted.await?;
        Ok(answers)
    }

    /// Deletes expired offsets, and then groups with neither members nor offsets.
    ///
    /// Retention counts from the time at which the group became empty, or from the last commit if that is later. It counts
    /// from the last commit alone for groups that never had members, and for topics that no consumer of a stable group
    /// subscribes to any more.
    pub async fn expire_offsets(&self) {
        let mut group_ids: BTreeSet<_> = self.groups.read().keys().cloned().collect();
        group_ids.extend(self.catalog.groups_with_offsets());
        for group_id in group_ids {
            let expired = self.with_group(&group_id, true, |group, now| {
                let expired = self.expired(group.protocol(), now.unix_ms);
                (!expired.is_empty()).then(|| self.catalog.expire_offsets(&group_id, expired))
            });
            if let Some(Some(expired)) = expired {
                match expired.await {
                    Ok(expired) => tracing::info!(
                        group = group_id,
                        offsets = expired.len(),
                        "committed offsets expired"
                    ),
                    Err(error) => {
                        tracing::warn!(group = group_id, %error, "failed to expire committed offsets");
                        return;
                    }
                }
            }
            self.remove_if_abandoned(&group_id).await;
        }
    }

    fn expired(&self, group: &dyn Protocol, now_ms: i64) -> Vec<Expired> {
        let since_ms = match group.offset_retention() {
            OffsetRetention::Suspended => return Vec::new(),
            OffsetRetention::SinceCommit => i64::MIN,
            OffsetRetention::SinceEmpty(since_ms) => since_ms,
        };
        let Some(offsets) = self.catalog.offsets(group.id()) else {
            return Vec::new();
        };
        let offsets = offsets.read();
        let pending = self.catalog.pending_offsets(group.id());
        offsets
            .iter()
            .filter(|(topic, _)| !group.is_subscribed_to(topic))
            .flat_map(|(topic, partitions)| {
                partitions
                    .iter()
                    .map(move |(partition, committed)| ((topic.clone(), *partition), committed))
            })
            .filter(|(_, committed)| {
                let ends_ms = committed.expire_ms.unwrap_or_else(|| {
                    committed
                        .commit_ms
                        .max(since_ms)
                        .saturating_add(self.settings.offsets_retention_ms)
                });
                now_ms >= ends_ms
            })
            .map(|(partition, committed)| (partition, committed.commit_ms))
            .filter(|(partition, _)| !pending.contains(partition))
            .collect()
    }

    fn check_commit(&self, offset: &OffsetToCommit) -> Result<(), GroupError> {
        if !self.topics.has_partition(&offset.topic, offset.partition) {
            Err(GroupError::UnknownTopicOrPartition)
        } else if offset.metadata.len() > self.settings.offset_metadata_max_bytes {
            Err(GroupError::OffsetMetadataTooLarge)
        } else {
            Ok(())
        }
    }
}
