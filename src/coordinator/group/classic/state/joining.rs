//! JoinGroup: new members, members that join again, and static members that replace a predecessor.

use bytes::Bytes;

use super::roster::answer_removed;
use super::{AfterStore, Effect, Effects, Now, StateMachine, Ticket};
use crate::coordinator::group::classic::member::Member;
use crate::coordinator::group::classic::request::JoinGroup;
use crate::coordinator::group::protocol::Protocol;
use crate::coordinator::group::{GroupError, GroupState};

/// Time that a new member's first join may wait before the member is removed.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 5 * 60 * 1_000;

impl StateMachine {
    pub(super) fn accepts(&self, member_id: &str) -> bool {
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            // Members that have yet to join again hold no slot: the first to join are accepted.
            GroupState::PreparingRebalance => {
                let waits = |member: &Member| member.waiting_join.is_some();
                self.members.get(member_id).is_some_and(waits)
                    || self.members.values().filter(|member| waits(member)).count()
                        < self.limits.max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.members.contains_key(member_id) || self.members.len() < self.limits.max_size
            }
        }
    }

    pub(super) fn supports_protocols(
        &self,
        protocol_type: &str,
        protocols: &[(String, Bytes)],
    ) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|(name, _)| self.all_support(name))
    }

    pub(super) fn all_support(&self, protocol: &str) -> bool {
        self.members
            .values()
            .all(|member| member.supports(protocol))
    }

    pub(super) fn join_new(
        &mut self,
        join: JoinGroup,
        new_member_id: String,
        ticket: Ticket,
        now: Now,
        effects: &mut Effects,
    ) {
        let predecessor = join
            .group_instance_id
            .as_deref()
            .and_then(|instance| self.member_of_instance(instance))
            .map(str::to_owned);
        if let Some(predecessor) = predecessor {
            self.replace_static(&predecessor, new_member_id, join, ticket, now, effects);
        } else if join.group_instance_id.is_none() && join.requires_member_id {
            let expires_at_ms = now.after(join.session_timeout_ms);
            self.pending_joins
                .insert(new_member_id.clone(), expires_at_ms);
            let refused = GroupError::MemberIdRequired {
                member_id: new_member_id,
            };
            effects.push(Effect::AnswerJoin(ticket, Err(refused)));
        } else {
            self.add(new_member_id, join, ticket, now, effects);
        }
    }

    pub(super) fn join_known(
        &mut self,
        join: JoinGroup,
        ticket: Ticket,
        now: Now,
        effects: &mut Effects,
    ) {
        let member_id = join.member_id.clone();
        if self.pending_joins.contains_key(&member_id) && join.group_instance_id.is_none() {
            self.add(member_id, join, ticket, now, effects);
            return;
        }
        if let Err(refused) = self.validate_member(&member_id, join.group_instance_id.as_deref()) {
            effects.push(Effect::AnswerJoin(ticket, Err(refused)));
            return;
        }
        let unchanged = self
            .members
            .get(&member_id)
            .is_some_and(|member| member.protocols == join.protocols);
        // A leader that joins a stable group again asks for a rebalance. Any other member that joins with unchanged metadata
        // has lost the answer to an earlier join.
        let lost_the_answer = match self.state {
            GroupState::CompletingRebalance => unchanged,
            GroupState::Stable => unchanged && self.leader.as_ref() != Some(&member_id),
            _ => false,
        };
        if lost_the_answer {
            let joined = self.joined(&member_id);
            effects.push(Effect::AnswerJoin(ticket, Ok(joined)));
        } else {
            self.update(&member_id, join, ticket, effects);
            self.rebalance_or_complete_join(now, effects);
        }
    }

    fn add(
        &mut self,
        member_id: String,
        join: JoinGroup,
        ticket: Ticket,
        now: Now,
        effects: &mut Effects,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if self.initial {
            self.new_member_added = true;
        }
        self.pending_joins.remove(&member_id);
        let mut member = Member::new(member_id.clone(), join);
        member.waiting_join = Some(ticket);
        member.expire_after(now, NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.leader.get_or_insert_with(|| member_id.clone());
        self.members.insert(member_id, member);
        self.rebalance_or_complete_join(now, effects);
    }

    /// Updates a member from its join.
    fn update(&mut self, member_id: &str, join: JoinGroup, ticket: Ticket, effects: &mut Effects) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.protocols = join.protocols;
            member.session_timeout_ms = join.session_timeout_ms;
            member.rebalance_timeout_ms = join.rebalance_timeout_ms;
            member.client_id = join.client_id;
            member.client_host = join.client_host;
            if let Some(before) = member.waiting_join.replace(ticket) {
                let superseded = Err(GroupError::RebalanceInProgress);
                effects.push(Effect::AnswerJoin(before, superseded));
            }
        }
    }

    /// Replaces a static member that has restarted under a new member id. Fences its predecessor (KIP-345).
    fn replace_static(
        &mut self,
        predecessor: &str,
        member_id: String,
        join: JoinGroup,
        ticket: Ticket,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(mut member) = self.members.remove(predecessor) else {
            return;
        };
        // Fail the predecessor's waiting requests, then move its state to the new id.
        answer_removed(&mut member, &GroupError::FencedInstanceId, effects);
        let leader_before = self.leader.clone().unwrap_or_default();
        if leader_before == predecessor {
            self.leader = Some(member_id.clone());
        }
        if self.pending_syncs.remove(predecessor) {
            self.pending_syncs.insert(member_id.clone());
        }
        member.id.clone_from(&member_id);
        member.is_new = false;
        member.renew_session(now);
        self.members.insert(member_id.clone(), member);
        let supports_skipping_assignment = join.supports_skipping_assignment;
        let topics_before = self.subscribed.clone();
        self.update(&member_id, join, ticket, effects);
        match self.state {
            GroupState::Stable => {
                let topics = self.subscribed_topics();
                if self.protocol == self.select_protocol() && topics == topics_before {
                    // The subscription is unchanged, so the member keeps its predecessor's assignment.
                    let then = AfterStore::StaticMember {
                        member_id,
                        ticket,
                        leader_to_report: leader_before,
                        supports_skipping_assignment,
                    };
                    effects.push(Effect::Store(self.row(), then));
                } else {
                    self.prepare_rebalance(now, effects);
                }
            }
            // The leader may already be assigning partitions to the predecessor.
            GroupState::CompletingRebalance => self.prepare_rebalance(now, effects),
            _ => self.complete_join_if_all_joined(now, effects),
        }
    }
}
