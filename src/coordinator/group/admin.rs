//! Group administration: list, describe, delete.

use super::protocol::Protocol;
use super::{Group, GroupDescription, GroupError, GroupListing, GroupState, Groups, Now};

impl Groups {
    /// Lists all groups, ordered by id.
    pub fn list(&self) -> Vec<GroupListing> {
        let groups = self.all().into_iter();
        let mut all: Vec<_> = groups
            .map(|group| group.lock().protocol().listing())
            .filter(|listing| listing.state != GroupState::Dead)
            .collect();
        all.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        all
    }

    /// Describes the group and its members. Returns `None` if the group does not exist.
    pub fn describe(&self, group_id: &str) -> Option<GroupDescription> {
        self.with_group(group_id, false, |group, _| group.protocol().describe())
    }

    /// Deletes a group that has no members, together with its committed offsets.
    pub async fn delete_group(&self, group_id: &str) -> Result<(), GroupError> {
        let (row, deleted) = self
            .with_group(group_id, false, |group, now| {
                if group.protocol().state() != GroupState::Empty {
                    return Err(GroupError::NonEmptyGroup);
                }
                let row = group.protocol().row();
                // Queued before a new group of this name can be created, so that the new group's offsets survive.
                let deleted = self.catalog.delete_group(group_id);
                self.remove(group, now);
                Ok((row, deleted))
            })
            .ok_or(GroupError::GroupIdNotFound)??;
        let deleted = deleted.await;
        if deleted.is_err() && self.find(group_id).is_none() {
            self.restore(row);
        }
        Ok(deleted?)
    }

    /// Removes a group that has neither members nor offsets, including its row in the catalog.
    pub(super) async fn remove_if_abandoned(&self, group_id: &str) {
        let deleted = self.with_group(group_id, false, |group, _| {
            // A commit may already be queued to the catalog; the catalog then keeps the group.
            let group = group.protocol();
            self.is_unused(group).then(|| {
                let deleted = self.catalog.delete_group_without_offsets(group_id);
                (group.generation(), deleted)
            })
        });
        let Some(Some((generation, deleted))) = deleted else {
            return;
        };
        if let Err(error) = deleted.await {
            tracing::warn!(group = group_id, %error, "failed to remove group");
            return;
        }
        self.with_group(group_id, false, |group, now| {
            let is_same = group.protocol().generation() == generation;
            if is_same && self.is_unused(group.protocol()) {
                self.remove(group, now);
            }
        });
    }

    /// Removes a group that was never stored and has no members, so that clients that request a member id and never join
    /// leave nothing behind.
    pub(super) fn forget_if_unused(&self, group_id: &str) {
        self.with_group(group_id, false, |group, now| {
            if !group.protocol().is_stored() && self.is_unused(group.protocol()) {
                self.remove(group, now);
            }
        });
    }

    fn is_unused(&self, group: &dyn Protocol) -> bool {
        group.is_abandoned() && !self.has_offsets(group.id())
    }

    fn remove(&self, group: &mut Group, now: Now) {
        let group = group.protocol_mut();
        group.kill(now);
        self.groups.write().remove(group.id());
    }
}
