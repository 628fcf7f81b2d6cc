//! The classic group protocol as a state machine.
//!
//! A [`StateMachine`] takes events with their time, changes its state, and returns [`Effect`]s for its owner to carry
//! out: waiting requests to answer, rows to store. It does no I/O, reads no clock, generates no ids and never waits, so
//! every path through it can be tested. It knows waiting requests only by their [`Ticket`].
//!
//! ```text
//!   Empty ──join──▶ PreparingRebalance ──all joined, or timed out───▶ CompletingRebalance ──assignment stored──▶ Stable
//!     ▲                │        ▲                                        │                                      │
//!     └──no members────┘        └──────join, leave, expiry, no sync──────┴──────────────────────────────────────┘
//! ```
//!
//! Invariants: a group with members has a leader, which is one of them. A group in `Empty` has no members, though it may
//! have assigned ids to members that have yet to join. Each ticket is answered exactly once. Generations only grow. An
//! assignment is handed out only after it is stored, so a restart never loses an assignment that a member uses.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use super::member::Member;
use super::request::{JoinGroup, JoinedGroup, LeavingMember, SyncGroup, SyncedGroup};
use crate::catalog::GroupRow;
use crate::coordinator::group::now::Now;
use crate::coordinator::group::{GroupError, GroupState, MemberIdentity};

mod common;
mod expiry;
mod joining;
mod rebalance;
mod roster;

/// Identifies a waiting request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ticket(pub(super) u64);

/// An action for the owner of the group to carry out.
#[derive(Debug)]
pub(super) enum Effect {
    AnswerJoin(Ticket, Result<JoinedGroup, GroupError>),
    AnswerSync(Ticket, Result<SyncedGroup, GroupError>),
    /// Store the row and pass the result to [`StateMachine::stored`].
    Store(GroupRow, AfterStore),
}

/// Continuation of a [`Effect::Store`], once the row is stored.
#[derive(Debug)]
pub(super) enum AfterStore {
    /// Nothing to do. If the server crashes before the write, it restores the previous generation, whose members then
    /// expire.
    Nothing,
    /// Hand out the generation's assignment.
    Assignment {
        generation: i32,
        assignments: HashMap<String, Bytes>,
    },
    /// Answer the join of a static member that takes over its predecessor's assignment.
    StaticMember {
        member_id: String,
        ticket: Ticket,
        /// The leader before the takeover, reported to clients that do not support `skip_assignment`, so that a client that
        /// takes over the leader's identity does not compute a new assignment.
        leader_to_report: String,
        supports_skipping_assignment: bool,
    },
}

pub(super) type Effects = Vec<Effect>;

/// Limits enforced by the state machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) initial_rebalance_delay_ms: i32,
    pub(super) max_size: usize,
}

#[derive(Debug, Clone, Copy)]
enum JoinTimer {
    /// Initial rebalance delay: the first members of an empty group wait for more to join. Each round in which one joins is
    /// followed by another, up to the rebalance timeout in total.
    Initial {
        at_ms: u64,
        delay_ms: i32,
        remaining_ms: i32,
    },
    Rebalance {
        at_ms: u64,
    },
}

impl JoinTimer {
    fn at_ms(self) -> u64 {
        match self {
            JoinTimer::Initial { at_ms, .. } | JoinTimer::Rebalance { at_ms } => at_ms,
        }
    }
}

#[derive(Debug)]
pub(super) struct StateMachine {
    id: String,
    limits: Limits,
    state: GroupState,
    /// True in `PreparingRebalance` if the group was empty before.
    initial: bool,
    state_since_ms: i64,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Ids assigned to members that have yet to join with them, and the monotonic times at which the ids expire.
    pending_joins: BTreeMap<String, u64>,
    /// Members of this generation that have not sent SyncGroup.
    pending_syncs: BTreeSet<String>,
    new_member_added: bool,
    join_timer: Option<JoinTimer>,
    sync_expires_at_ms: Option<u64>,
    /// The subscribed topics of all members. `None` unless the members are consumers and all subscriptions could be parsed.
    subscribed: Option<BTreeSet<String>>,
    /// Rebalances that reached `Stable` since the server started.
    completed_rebalances: u64,
}

impl StateMachine {
    pub(super) fn new(id: String, limits: Limits, now: Now) -> Self {
        Self {
            id,
            limits,
            state: GroupState::Empty,
            initial: false,
            state_since_ms: now.unix_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            pending_joins: BTreeMap::new(),
            pending_syncs: BTreeSet::new(),
            new_member_added: false,
            join_timer: None,
            sync_expires_at_ms: None,
            subscribed: None,
            completed_rebalances: 0,
        }
    }

    /// Restores a stored group. Its members' sessions start again, so that live clients continue without a rebalance.
    pub(super) fn restore(row: GroupRow, limits: Limits, now: Now, effects: &mut Effects) -> Self {
        let mut group = Self::new(row.id, limits, now);
        group.generation = row.generation;
        group.protocol_type = row.protocol_type;
        group.state_since_ms = row.state_since_ms;
        if let Some(protocol) = row.protocol {
            for stored in row.members {
                let member = Member::restore(stored, &protocol, now);
                group.members.insert(member.id.clone(), member);
            }
            if !group.members.is_empty() {
                group.protocol = Some(protocol);
                group.leader = row
                    .leader
                    .filter(|leader| group.members.contains_key(leader))
                    .or_else(|| group.members.keys().next().cloned());
                group.state = GroupState::Stable;
            }
        }
        group.subscribed = group.subscribed_topics();
        if group.members.len() > limits.max_size {
            group.prepare_rebalance(now, effects);
        }
        group
    }

    /// Adds a member, or asks it to join again with `new_member_id`. The answer is an effect: at once, or when the
    /// generation is complete.
    pub(super) fn join(
        &mut self,
        mut join: JoinGroup,
        new_member_id: String,
        ticket: Ticket,
        now: Now,
        effects: &mut Effects,
    ) {
        // With a timeout of 0 or less the group would not wait for its members to join again at all.
        join.rebalance_timeout_ms = join.rebalance_timeout_ms.max(1);
        if !self.accepts(&join.member_id) {
            effects.push(Effect::AnswerJoin(
                ticket,
                Err(GroupError::GroupMaxSizeReached),
            ));
            self.remove(&join.member_id, effects);
            self.complete_join_if_all_joined(now, effects);
        } else if !self.supports_protocols(&join.protocol_type, &join.protocols) {
            let refused = Err(GroupError::InconsistentGroupProtocol);
            effects.push(Effect::AnswerJoin(ticket, refused));
        } else if join.member_id.is_empty() {
            self.join_new(join, new_member_id, ticket, now, effects);
        } else {
            self.join_known(join, ticket, now, effects);
        }
    }

    /// Returns the assignment, or waits for the leader's SyncGroup. The answer is an effect.
    pub(super) fn sync(
        &mut self,
        sync: SyncGroup,
        ticket: Ticket,
        now: Now,
        effects: &mut Effects,
    ) {
        if let Err(refused) = self.validate_sync(&sync) {
            effects.push(Effect::AnswerSync(ticket, Err(refused)));
            return;
        }
        let member_id = sync.member.member_id;
        match self.state {
            GroupState::CompletingRebalance => {
                self.received_sync(&member_id);
                if let Some(member) = self.members.get_mut(&member_id) {
                    let before = member.waiting_sync.replace(ticket);
                    answer_superseded_sync(before, effects);
                }
                if self.leader.as_ref() == Some(&member_id) {
                    self.store_assignments(sync.assignments, effects);
                }
            }
            GroupState::Stable => {
                self.received_sync(&member_id);
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.renew_session(now);
                    let synced = SyncedGroup {
                        protocol_type: self.protocol_type.clone(),
                        protocol_name: self.protocol.clone(),
                        assignment: member.assignment.clone(),
                    };
                    effects.push(Effect::AnswerSync(ticket, Ok(synced)));
                }
            }
            GroupState::PreparingRebalance | GroupState::Empty | GroupState::Dead => {
                let refused = Err(GroupError::RebalanceInProgress);
                effects.push(Effect::AnswerSync(ticket, refused));
            }
        }
    }

    /// Renews a member's session.
    pub(super) fn heartbeat(
        &mut self,
        member: &MemberIdentity,
        now: Now,
    ) -> Result<(), GroupError> {
        self.validate_generation(member)?;
        if let Some(member) = self.members.get_mut(&member.member_id) {
            member.renew_session(now);
        }
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Removes members, returns one result per member, and starts at most one rebalance for the remaining members.
    pub(super) fn leave(
        &mut self,
        leaving: &[LeavingMember],
        now: Now,
        effects: &mut Effects,
    ) -> Vec<Result<(), GroupError>> {
        let before = self.members.len();
        let answers = leaving
            .iter()
            .map(|leaving| {
                let member_id = self.identify_leaving(leaving)?;
                self.remove(&member_id, effects);
                Ok(())
            })
            .collect();
        if self.members.len() < before {
            self.rebalance_or_complete_join(now, effects);
        } else {
            self.complete_join_if_all_joined(now, effects);
        }
        answers
    }

    /// Handles the result of an [`Effect::Store`].
    pub(super) fn stored(
        &mut self,
        then: AfterStore,
        outcome: Result<(), GroupError>,
        now: Now,
        effects: &mut Effects,
    ) {
        match then {
            AfterStore::Nothing => {}
            AfterStore::Assignment {
                generation,
                assignments,
            } => {
                // If a rebalance began meanwhile, this assignment is obsolete and the next generation's is handed out.
                if self.state == GroupState::CompletingRebalance && self.generation == generation {
                    match outcome {
                        Ok(()) => self.hand_out(assignments, now, effects),
                        Err(error) => {
                            self.answer_syncs(now, effects, |_| Err(error.clone()));
                            self.prepare_rebalance(now, effects);
                        }
                    }
                }
            }
            AfterStore::StaticMember {
                member_id,
                ticket,
                leader_to_report,
                supports_skipping_assignment,
            } => {
                let waits = self
                    .members
                    .get(&member_id)
                    .is_some_and(|member| member.waiting_join == Some(ticket));
                // If a rebalance began meanwhile, it answers the join with its own generation.
                if self.state == GroupState::Stable && waits {
                    // After a failure the client joins again as a new member of the same instance, and the row is
                    // stored again.
                    let answer = outcome.map(|()| {
                        let mut joined = self.joined(&member_id);
                        if supports_skipping_assignment {
                            joined.skip_assignment = !joined.members.is_empty();
                        } else {
                            joined.members.clear();
                            joined.leader = leader_to_report;
                        }
                        joined
                    });
                    self.answer_join(&member_id, answer, now, effects);
                }
            }
        }
    }
}

fn answer_superseded_sync(before: Option<Ticket>, effects: &mut Effects) {
    if let Some(before) = before {
        let superseded = Err(GroupError::RebalanceInProgress);
        effects.push(Effect::AnswerSync(before, superseded));
    }
}

#[cfg(test)]
mod harness;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
