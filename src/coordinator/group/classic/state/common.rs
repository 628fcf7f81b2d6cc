//! The state machine as the parts common to all groups see it.

use super::{JoinTimer, Now, StateMachine};
use crate::catalog::GroupRow;
use crate::coordinator::group::protocol::{OffsetRetention, Protocol};
use crate::coordinator::group::{
    GroupDescription, GroupError, GroupListing, GroupState, GroupType, MemberIdentity,
};

impl Protocol for StateMachine {
    fn id(&self) -> &str {
        &self.id
    }

    fn state(&self) -> GroupState {
        self.state
    }

    fn generation(&self) -> i32 {
        self.generation
    }

    fn member_count(&self) -> usize {
        self.members.len()
    }

    fn completed_rebalances(&self) -> u64 {
        self.completed_rebalances
    }

    fn is_abandoned(&self) -> bool {
        self.state == GroupState::Empty && self.pending_joins.is_empty()
    }

    fn is_stored(&self) -> bool {
        self.generation > 0
    }

    fn row(&self) -> GroupRow {
        self.row_with(|member| member.assignment.clone())
    }

    fn listing(&self) -> GroupListing {
        GroupListing {
            group_id: self.id.clone(),
            group_type: GroupType::Classic,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.state,
        }
    }

    fn describe(&self) -> GroupDescription {
        let protocol = match self.state {
            GroupState::Stable => self.protocol.as_deref(),
            _ => None,
        };
        GroupDescription {
            group_id: self.id.clone(),
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default().to_owned(),
            members: self
                .members
                .values()
                .map(|member| member.describe(protocol))
                .collect(),
        }
    }

    fn begin_commit(&mut self, member: &MemberIdentity, now: Now) -> Result<(), GroupError> {
        let anonymous = member.member_id.is_empty() && member.group_instance_id.is_none();
        if member.generation < 0 && (self.state == GroupState::Empty || anonymous) {
            return match self.state {
                GroupState::Empty => Ok(()),
                _ => Err(GroupError::UnknownMemberId),
            };
        }
        self.validate_generation(member)?;
        if self.state == GroupState::CompletingRebalance {
            // The member has joined the new generation but has no assignment yet: it may no longer own the partition.
            return Err(GroupError::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(&member.member_id) {
            member.renew_session(now);
        }
        Ok(())
    }

    fn check_transactional_commit(&self, member: &MemberIdentity) -> Result<(), GroupError> {
        let anonymous = member.member_id.is_empty() && member.group_instance_id.is_none();
        if member.generation < 0 && (self.state == GroupState::Empty || anonymous) {
            return Ok(());
        }
        self.validate_generation(member)
    }

    fn check_offset_deletion(&self) -> Result<(), GroupError> {
        if self.members.is_empty() || self.is_consumer_group() {
            Ok(())
        } else {
            // Which topics other kinds of members use is not known.
            Err(GroupError::NonEmptyGroup)
        }
    }

    fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            // A subscription that cannot be parsed counts as one to every topic.
            None => self.is_consumer_group(),
        }
    }

    fn offset_retention(&self) -> OffsetRetention {
        match (&self.protocol_type, self.state) {
            (Some(_), GroupState::Empty) => OffsetRetention::SinceEmpty(self.state_since_ms),
            (Some(_), GroupState::Stable) if self.subscribed.is_some() => {
                OffsetRetention::SinceCommit
            }
            (None, _) => OffsetRetention::SinceCommit,
            _ => OffsetRetention::Suspended,
        }
    }

    fn next_deadline_ms(&self) -> Option<u64> {
        self.members
            .values()
            .filter_map(|member| member.expires_at_ms)
            .chain(self.pending_joins.values().copied())
            .chain(self.join_timer.map(JoinTimer::at_ms))
            .chain(self.sync_expires_at_ms)
            .min()
    }

    fn kill(&mut self, now: Now) {
        self.transition(GroupState::Dead, now);
    }
}
