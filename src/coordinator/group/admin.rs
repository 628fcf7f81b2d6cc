//! What operators and tools do with groups: list, describe, delete.

use super::{
    Group, GroupDescription, GroupError, GroupListing, GroupState, Groups, require_group_id,
};

impl Groups {
    /// Every group, by id.
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

    /// The group with its members; `None` when it does not exist.
    pub fn describe(&self, group_id: &str) -> Option<GroupDescription> {
        self.with_group(group_id, false, |slot, _, _| slot.group.describe())
    }

    /// Deletes a group without members, and its offsets with it.
    pub async fn delete_group(&self, group_id: &str) -> Result<(), GroupError> {
        require_group_id(group_id)?;
        self.remove_group(group_id, |group| match group.state() {
            GroupState::Empty => Ok(()),
            _ => Err(GroupError::NonEmptyGroup),
        })
        .await
    }

    /// Removes a group that has neither members nor offsets, from the catalog too.
    pub(super) async fn remove_if_abandoned(&self, group_id: &str) {
        let is_unused =
            |group: &Group| group.is_abandoned() && self.catalog.offsets(group_id).is_none();
        let deleted = self.with_group(group_id, false, |slot, _, _| {
            // A commit may be on its way to the catalog; then the catalog keeps the group.
            let deleted = is_unused(&slot.group)
                .then(|| self.catalog.delete_group_without_offsets(group_id))?;
            Some((slot.group.generation(), deleted))
        });
        let Some(Some((generation, deleted))) = deleted else {
            return;
        };
        if let Err(error) = deleted.await {
            tracing::warn!(group = group_id, %error, "cannot remove the group");
            return;
        }
        self.with_group(group_id, false, |slot, now, _| {
            if is_unused(&slot.group) && slot.group.generation() == generation {
                slot.group.kill(now);
                self.groups.write().remove(group_id);
            }
        });
    }

    /// Removes a group of which nothing was ever stored and in which nobody is, so that clients which ask for member ids
    /// and never come back leave nothing behind.
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
                // Queued before anyone can make a new group of this name, so that its offsets are not deleted too.
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
