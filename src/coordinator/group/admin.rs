//! Group administration: list, describe, delete.

use super::{
    Group, GroupDescription, GroupError, GroupListing, GroupState, Groups, require_group_id,
};

impl Groups {
    /// Lists all groups, ordered by id.
    pub fn list(&self) -> Vec<GroupListing> {
        let mut all: Vec<_> = self
            .slots()
            .into_iter()
            .filter_map(|slot| {
                let slot = slot.lock();
                let state = slot.group.state();
                (state != GroupState::Dead).then(|| GroupListing {
                    group_id: slot.group.id().to_owned(),
                    protocol_type: slot.group.protocol_type().unwrap_or_default().to_owned(),
                    state,
                })
            })
            .collect();
        all.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        all
    }

    /// Describes the group and its members. Returns `None` if the group does not exist.
    pub fn describe(&self, group_id: &str) -> Option<GroupDescription> {
        self.with_group(group_id, false, |slot, _, _| slot.group.describe())
    }

    /// Deletes a group that has no members, together with its committed offsets.
    pub async fn delete_group(&self, group_id: &str) -> Result<(), GroupError> {
        require_group_id(group_id)?;
        self.remove_group(group_id, |group| match group.state() {
            GroupState::Empty => Ok(()),
            _ => Err(GroupError::NonEmptyGroup),
        })
        .await
    }

    /// Removes a group that has neither members nor offsets, including its row in the catalog.
    pub(super) async fn remove_if_abandoned(&self, group_id: &str) {
        let is_unused =
            |group: &Group| group.is_abandoned() && self.catalog.offsets(group_id).is_none();
        let deleted = self.with_group(group_id, false, |slot, _, _| {
            // A commit may already be queued to the catalog; the catalog then keeps the group.
            let deleted = is_unused(&slot.group)
                .then(|| self.catalog.delete_group_without_offsets(group_id))?;
            Some((slot.group.generation(), deleted))
        });
        let Some(Some((generation, deleted))) = deleted else {
            return;
        };
        if let Err(error) = deleted.await {
            tracing::warn!(group = group_id, %error, "failed to remove group");
            return;
        }
        self.with_group(group_id, false, |slot, now, _| {
            if is_unused(&slot.group) && slot.group.generation() == generation {
                slot.group.kill(now);
                self.groups.write().remove(group_id);
            }
        });
    }

    /// Removes a group that was never stored and has no members, so that clients that request a member id and never join
    /// leave nothing behind.
    pub(super) fn forget_if_unused(&self, group_id: &str) {
        self.with_group(group_id, false, |slot, now, _| {
            if slot.group.is_abandoned()
                && !slot.group.is_stored()
                && self.catalog.offsets(group_id).is_none()
            {
                slot.group.kill(now);
                self.groups.write().remove(group_id);
            }
        });
    }

    async fn remove_group(
        &self,
        group_id: &str,
        allowed: impl FnOnce(&Group) -> Result<(), GroupError>,
    ) -> Result<(), GroupError> {
        let (row, deleted) = self
            .with_group(group_id, false, |slot, now, _| {
                allowed(&slot.group)?;
                let row = slot.group.row();
                // Queued before a new group of this name can be created, so that the new group's offsets survive.
                let deleted = self.catalog.delete_group(group_id);
                slot.group.kill(now);
                self.groups.write().remove(group_id);
                Ok::<_, GroupError>((row, deleted))
            })
            .ok_or(GroupError::GroupIdNotFound)??;
        let deleted = deleted.await;
        if deleted.is_err() && self.find(group_id).is_none() {
            self.restore(row);
        }
        Ok(deleted?)
    }
}
