//! The rebalance: collecting joins, choosing leader and protocol, handing out assignments.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::{AfterStore, Effect, Effects, JoinTimer, Now, StateMachine};
use crate::coordinator::group::classic::member::Member;
use crate::coordinator::group::classic::request::SyncedGroup;
use crate::coordinator::group::protocol::Protocol;
use crate::coordinator::group::{GroupError, GroupState};

impl StateMachine {
    pub(super) fn rebalance_or_complete_join(&mut self, now: Now, effects: &mut Effects) {
        match self.state {
            GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable => {
                self.prepare_rebalance(now, effects);
            }
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(now, effects),
            GroupState::Dead => {}
        }
    }

    pub(super) fn prepare_rebalance(&mut self, now: Now, effects: &mut Effects) {
        // The unfinished generation's assignment is void: waiting members must join again.
        if self.state == GroupState::CompletingRebalance {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            self.answer_syncs(now, effects, |_| Err(GroupError::RebalanceInProgress));
        }
        self.pending_syncs.clear();
        self.sync_expires_at_ms = None;
        self.initial = self.state == GroupState::Empty;
        self.new_member_added = false;
        self.transition(GroupState::PreparingRebalance, now);
        if self.initial {
            let delay_ms = self.limits.initial_rebalance_delay_ms;
            self.join_timer = Some(JoinTimer::Initial {
                at_ms: now.after(delay_ms),
                delay_ms,
                remaining_ms: (self.rebalance_timeout_ms() - delay_ms).max(0),
            });
        } else if self.all_joined() {
            self.complete_join(now, effects);
        } else {
            self.await_joins(now);
        }
    }

    fn await_joins(&mut self, now: Now) {
        self.join_timer = Some(JoinTimer::Rebalance {
            at_ms: now.after(self.rebalance_timeout_ms()),
        });
    }

    pub(super) fn complete_join_if_all_joined(&mut self, now: Now, effects: &mut Effects) {
        if self.state == GroupState::PreparingRebalance && !self.initial && self.all_joined() {
            self.complete_join(now, effects);
        }
    }

    fn all_joined(&self) -> bool {
        self.pending_joins.is_empty()
            && self
                .members
                .values()
                .all(|member| member.waiting_join.is_some())
    }

    /// Ends the join phase. Removes dynamic members that have not joined; static members are kept until their session
    /// expires.
    pub(super) fn complete_join(&mut self, now: Now, effects: &mut Effects) {
        self.join_timer = None;
        let missing: Vec<_> = self
            .members
            .values()
            .filter(|member| member.waiting_join.is_none() && !member.is_static())
            .map(|member| member.id.clone())
            .collect();
        for member_id in missing {
            self.remove(&member_id, effects);
        }
        if self.members.is_empty() {
            self.become_empty(now, effects);
        } else if self.elect_joined_leader() {
            self.begin_generation(now, effects);
        } else {
            // Only static members are left and none has joined: wait until one joins or their sessions expire.
            self.await_joins(now);
        }
    }

    /// Elects a new leader unless the current one has joined. Returns false if no member has joined.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |member: &&Member| member.waiting_join.is_some();
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        let elected = leader
            .filter(has_joined)
            .or_else(|| self.members.values().find(has_joined))
            .map(|member| member.id.clone());
        match elected {
            Some(elected) => {
                self.leader = Some(elected);
                true
            }
            None => false,
        }
    }

    fn begin_generation(&mut self, now: Now, effects: &mut Effects) {
        self.generation = next_generation(self.generation);
        self.protocol = self.select_protocol();
        self.subscribed = self.subscribed_topics();
        self.initial = false;
        self.transition(GroupState::CompletingRebalance, now);
        let member_ids: Vec<_> = self.members.keys().cloned().collect();
        for member_id in &member_ids {
            let joined = self.joined(member_id);
            self.answer_join(member_id, Ok(joined), now, effects);
        }
        self.pending_syncs = member_ids.into_iter().collect();
        self.sync_expires_at_ms = Some(now.after(self.rebalance_timeout_ms()));
    }

    fn become_empty(&mut self, now: Now, effects: &mut Effects) {
        self.generation = next_generation(self.generation);
        self.protocol = None;
        self.leader = None;
        self.subscribed = self.subscribed_topics();
        self.initial = false;
        self.transition(GroupState::Empty, now);
        effects.push(Effect::Store(self.row(), AfterStore::Nothing));
    }

    /// Returns the protocol that most members prefer among those that all members support.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        let candidates: Vec<&str> = self
            .members
            .values()
            .next()?
            .protocols
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| self.all_support(name))
            .collect();
        for member in self.members.values() {
            let vote = member
                .protocols
                .iter()
                .map(|(name, _)| name.as_str())
                .find(|name| candidates.contains(name));
            *votes.entry(vote?).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        // Ties go to the first member's preference, so that the choice does not depend on names.
        candidates
            .into_iter()
            .find(|name| votes.get(name) == Some(&most))
            .map(str::to_owned)
    }

    pub(super) fn store_assignments(
        &mut self,
        assignments: Vec<(String, Bytes)>,
        effects: &mut Effects,
    ) {
        let assignments: HashMap<_, _> = assignments.into_iter().collect();
        let row = self.row_with(|member| assignments.get(&member.id).cloned().unwrap_or_default());
        let then = AfterStore::Assignment {
            generation: self.generation,
            assignments,
        };
        effects.push(Effect::Store(row, then));
    }

    pub(super) fn hand_out(
        &mut self,
        mut assignments: HashMap<String, Bytes>,
        now: Now,
        effects: &mut Effects,
    ) {
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
        }
        let (protocol_type, protocol_name) = (self.protocol_type.clone(), self.protocol.clone());
        self.answer_syncs(now, effects, |member| {
            Ok(SyncedGroup {
                protocol_type: protocol_type.clone(),
                protocol_name: protocol_name.clone(),
                assignment: member.assignment.clone(),
            })
        });
        self.completed_rebalances += 1;
        self.transition(GroupState::Stable, now);
    }

    pub(super) fn received_sync(&mut self, member_id: &str) {
        self.pending_syncs.remove(member_id);
        if self.pending_syncs.is_empty() {
            self.sync_expires_at_ms = None;
        }
    }
}

fn next_generation(generation: i32) -> i32 {
    generation.checked_add(1).unwrap_or(1)
}
