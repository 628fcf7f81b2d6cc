//! The classic protocol: JoinGroup, SyncGroup, Heartbeat and LeaveGroup.
//!
//! [`state`] holds the decisions and nothing else. A [`ClassicGroup`] is such a state machine with the requests that wait
//! for its answers. Each completed rebalance is stored, members included, so that clients continue in the same generation
//! after a restart. A rebalance in progress is lost; its members find their generation unknown and join again, as with
//! Kafka.

mod group;
mod member;
mod request;
mod state;
mod subscription;

use std::sync::Weak;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::{GroupError, Groups, MemberIdentity, require_group_id};
use crate::catalog::GroupRow;

pub(super) use group::ClassicGroup;
pub use request::{JoinGroup, JoinedGroup, LeavingMember, SyncGroup, SyncedGroup};
use state::AfterStore;
#[cfg(test)]
pub(super) use subscription::encode as encode_subscription;

/// Limit on the client name inside a member id. The protocol allows the name itself to be as long as any string.
const MEMBER_NAME_BYTES_MAX: usize = 255;

impl Groups {
    /// Joins the next generation of a group and waits until that generation is complete. Creates the group if it does not
    /// exist and the member has no id yet.
    pub async fn join(&self, join: JoinGroup) -> Result<JoinedGroup, GroupError> {
        require_group_id(&join.group_id)?;
        let allowed =
            self.settings.group_min_session_timeout_ms..=self.settings.group_max_session_timeout_ms;
        if !allowed.contains(&join.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let group_id = join.group_id.clone();
        let create = join.member_id.is_empty();
        let (answer, answered) = oneshot::channel();
        self.with_group(&group_id, create, move |group, now| {
            tracing::debug!(
                group = join.group_id,
                member = join.member_id,
                instance = join.group_instance_id,
                client = join.client_id,
                reason = join.reason,
                "member joining"
            );
            let new_member_id = new_member_id(&join);
            group.as_classic().join(join, new_member_id, answer, now);
        })
        .ok_or(GroupError::UnknownMemberId)?;
        let answer = answered
            .await
            .unwrap_or(Err(GroupError::CoordinatorNotAvailable));
        if create && answer.is_err() {
            self.forget_if_unused(&group_id);
        }
        answer
    }

    /// Submits the leader's assignment, or waits for it as a follower. Returns the member's own part.
    pub async fn sync(&self, sync: SyncGroup) -> Result<SyncedGroup, GroupError> {
        require_group_id(&sync.group_id)?;
        let group_id = sync.group_id.clone();
        let (answer, answered) = oneshot::channel();
        self.with_group(&group_id, false, move |group, now| {
            group.as_classic().sync(sync, answer, now);
        })
        .ok_or(GroupError::UnknownMemberId)?;
        answered
            .await
            .unwrap_or(Err(GroupError::CoordinatorNotAvailable))
    }

    /// Renews a member's session. Fails with [`GroupError::RebalanceInProgress`] when the member must join again.
    pub fn heartbeat(&self, group_id: &str, member: &MemberIdentity) -> Result<(), GroupError> {
        require_group_id(group_id)?;
        let group = self.find(group_id).ok_or(GroupError::UnknownMemberId)?;
        let mut group = group.lock();
        // A heartbeat can only postpone a deadline, so it has no effects and reschedules no timer.
        let now = self.now();
        group.as_classic().heartbeat(member, now)
    }

    /// Removes members from the group and returns one result per member.
    pub fn leave(
        &self,
        group_id: &str,
        leaving: &[LeavingMember],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        require_group_id(group_id)?;
        self.with_group(group_id, false, |group, now| {
            for member in leaving {
                tracing::debug!(
                    group = group_id,
                    member = member.member_id,
                    instance = member.group_instance_id,
                    reason = member.reason,
                    "member leaving"
                );
            }
            group.as_classic().leave(leaving, now)
        })
        .ok_or(GroupError::UnknownMemberId)
    }

    /// Queues the row while the group's lock is held, so that rows are stored in the order of the events.
    fn store(&self, row: GroupRow, then: AfterStore) {
        let group_id = row.id.clone();
        let stored = self.catalog.store_group(row);
        let groups = Weak::clone(&self.me);
        tokio::spawn(async move {
            let outcome = stored.await.map_err(|error| {
                tracing::error!(group = group_id, %error, "failed to store group");
                GroupError::CoordinatorNotAvailable
            });
            if let Some(groups) = groups.upgrade() {
                groups.with_group(&group_id, false, |group, now| {
                    group.as_classic().stored(then, outcome, now);
                });
            }
        });
    }
}

/// Returns a unique id that starts with the group instance id, or with the client id for dynamic members.
fn new_member_id(join: &JoinGroup) -> String {
    let name = join.group_instance_id.as_ref().unwrap_or(&join.client_id);
    let name = &name[..name.floor_char_boundary(MEMBER_NAME_BYTES_MAX)];
    format!("{name}-{}", Uuid::new_v4())
}
