//! Membership: looking up, validating, answering and removing members, and values derived from all members.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Effect, Effects, Now, StateMachine};
use crate::catalog::GroupRow;
use crate::coordinator::group::classic::member::Member;
use crate::coordinator::group::classic::request::{
    JoinedGroup, LeavingMember, SyncGroup, SyncedGroup,
};
use crate::coordinator::group::classic::subscription::{self, CONSUMER};
use crate::coordinator::group::{GroupError, GroupState, MemberIdentity};

impl StateMachine {
    /// Fails unless the member exists and owns the group instance id, if one is given.
    pub(super) fn validate_member(
        &self,
        member_id: &str,
        group_instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        if let Some(instance) = group_instance_id {
            match self.member_of_instance(instance) {
                None => return Err(GroupError::UnknownMemberId),
                Some(owner) if owner != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(GroupError::UnknownMemberId)
        }
    }

    pub(super) fn validate_generation(&self, member: &MemberIdentity) -> Result<(), GroupError> {
        self.validate_member(&member.member_id, member.group_instance_id.as_deref())?;
        if member.generation == self.generation {
            Ok(())
        } else {
            Err(GroupError::IllegalGeneration)
        }
    }

    pub(super) fn validate_sync(&self, sync: &SyncGroup) -> Result<(), GroupError> {
        self.validate_generation(&sync.member)?;
        let differs = |asked: &Option<String>, chosen: &Option<String>| matches!((asked, chosen), (Some(asked), Some(chosen)) if asked != chosen);
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol_name, &self.protocol)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    pub(super) fn identify_leaving(&self, leaving: &LeavingMember) -> Result<String, GroupError> {
        let instance = leaving.group_instance_id.as_deref();
        if leaving.member_id.is_empty() {
            return instance
                .and_then(|instance| self.member_of_instance(instance))
                .map(str::to_owned)
                .ok_or(GroupError::UnknownMemberId);
        }
        if !self.pending_joins.contains_key(&leaving.member_id) {
            self.validate_member(&leaving.member_id, instance)?;
        }
        Ok(leaving.member_id.clone())
    }

    pub(super) fn member_of_instance(&self, group_instance_id: &str) -> Option<&str> {
        self.members
            .values()
            .find(|member| member.group_instance_id.as_deref() == Some(group_instance_id))
            .map(|member| member.id.as_str())
    }

    /// Removes the member, fails its waiting requests, and elects another leader if it was the leader.
    pub(super) fn remove(&mut self, member_id: &str, effects: &mut Effects) {
        self.pending_joins.remove(member_id);
        self.pending_syncs.remove(member_id);
        if let Some(mut member) = self.members.remove(member_id) {
            answer_removed(&mut member, &GroupError::UnknownMemberId, effects);
        }
        if self.leader.as_deref() == Some(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    pub(super) fn answer_join(
        &mut self,
        member_id: &str,
        answer: Result<JoinedGroup, GroupError>,
        now: Now,
        effects: &mut Effects,
    ) {
        if let Some(member) = self.members.get_mut(member_id) {
            if let Some(ticket) = member.waiting_join.take() {
                effects.push(Effect::AnswerJoin(ticket, answer));
            }
            member.is_new = false;
            member.renew_session(now);
        }
    }

    pub(super) fn answer_syncs(
        &mut self,
        now: Now,
        effects: &mut Effects,
        answer: impl Fn(&Member) -> Result<SyncedGroup, GroupError>,
    ) {
        for member in self.members.values_mut() {
            if let Some(ticket) = member.waiting_sync.take() {
                effects.push(Effect::AnswerSync(ticket, answer(member)));
                member.renew_session(now);
            }
        }
    }

    /// Returns the JoinGroup answer for a member of the current generation.
    pub(super) fn joined(&self, member_id: &str) -> JoinedGroup {
        let leader = self.leader.clone().unwrap_or_default();
        let members = if leader == member_id {
            self.members
                .values()
                .map(|member| member.as_joined(self.protocol.as_deref()))
                .collect()
        } else {
            Vec::new()
        };
        JoinedGroup {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader,
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members,
        }
    }

    pub(super) fn row_with(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupRow {
        let protocol = self.protocol.as_deref();
        GroupRow {
            id: self.id.clone(),
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.state_since_ms,
            members: self
                .members
                .values()
                .map(|member| member.as_row(protocol, assignment(member)))
                .collect(),
        }
    }

    pub(super) fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Returns the topics to which the members subscribe, unless they are no consumers or a subscription cannot be
    /// parsed.
    pub(super) fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.is_consumer_group() {
            return None;
        }
        let protocol = self.protocol.as_deref();
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            all.extend(subscription::topics(&member.metadata(protocol))?);
        }
        Some(all)
    }

    pub(super) fn rebalance_timeout_ms(&self) -> i32 {
        self.members
            .values()
            .map(|member| member.rebalance_timeout_ms)
            .max()
            .unwrap_or(0)
    }

    pub(super) fn transition(&mut self, state: GroupState, now: Now) {
        tracing::debug!(
            group = self.id,
            from = self.state.name(),
            to = state.name(),
            generation = self.generation,
            members = self.members.len(),
            "group state changed"
        );
        self.state = state;
        self.state_since_ms = now.unix_ms;
    }
}

pub(super) fn answer_removed(member: &mut Member, error: &GroupError, effects: &mut Effects) {
    if let Some(ticket) = member.waiting_join.take() {
        effects.push(Effect::AnswerJoin(ticket, Err(error.clone())));
    }
    if let Some(ticket) = member.waiting_sync.take() {
        effects.push(Effect::AnswerSync(ticket, Err(error.clone())));
    }
}
