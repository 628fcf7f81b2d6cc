//! The classic group protocol as a state machine.
//!
//! A [`Group`] is told what happened and when, changes its state, and says what is to be done as [`Effect`]s: which
//! waiting requests to answer, what to store. It does no I/O, reads no clock, makes no ids and never waits, so that every
//! path through it can be tested. Waiting requests are known to it only by their [`Ticket`].
//!
//! ```text
//!   Empty ──join──▶ PreparingRebalance ──all joined, or time is up──▶ CompletingRebalance ──assignment stored──▶ Stable
//!     ▲                │        ▲                                        │                                      │
//!     └──nobody left───┘        └──────join, leave, expiry, no sync──────┴──────────────────────────────────────┘
//! ```
//!
//! Invariants: a group with members has a leader, who is one of them; an empty one has no members (it may have given ids
//! to members that have yet to join with them). Each ticket is answered exactly once. Generations only grow. An
//! assignment is handed out only after it is stored, so a restart never forgets one that a member works by.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use super::error::GroupError;
use super::member::Member;
use super::request::{
    GroupDescription, GroupState, JoinGroup, JoinedGroup, LeavingMember, MemberIdentity, SyncGroup,
    SyncedGroup,
};
use super::subscription::CONSUMER;
use crate::catalog::GroupRow;

mod expiry;
mod joining;
mod rebalance;
mod roster;

/// The moment at which something happens, on both clocks: deadlines are monotonic, what is stored is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) monotonic_ms: u64,
    pub(super) unix_ms: i64,
}

impl Now {
    /// The monotonic time after a timeout from the wire, of which a negative one counts as none.
    pub(super) fn after(self, timeout_ms: i32) -> u64 {
        self.monotonic_ms
            .saturating_add(u64::try_from(timeout_ms).unwrap_or(0))
    }
}

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ticket(pub(super) u64);

/// What the owner of the group has to do.
#[derive(Debug)]
pub(super) enum Effect {
    AnswerJoin(Ticket, Result<JoinedGroup, GroupError>),
    AnswerSync(Ticket, Result<SyncedGroup, GroupError>),
    /// Store the row and tell [`Group::stored`] how it went.
    Store(GroupRow, AfterStore),
}

/// What waits for a row to be stored.
#[derive(Debug)]
pub(super) enum AfterStore {
    /// Nothing: should a crash come first, the members of the generation before are found gone.
    Nothing,
    /// The generation's assignment, to be handed out.
    Assignment {
        generation: i32,
        assignments: HashMap<String, Bytes>,
    },
    /// The join of a static member that takes over its predecessor's assignment.
    StaticMember {
        member_id: String,
        ticket: Ticket,
        /// For clients that cannot be told to skip the assignment: the leader as of before, so that a client
        /// which takes over the leader's identity does not assign anew.
        leader_to_report: String,
        supports_skipping_assignment: bool,
    },
}

pub(super) type Effects = Vec<Effect>;

/// The limits that the machine itself enforces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) initial_rebalance_delay_ms: i32,
    pub(super) max_size: usize,
}

#[derive(Debug, Clone, Copy)]
enum JoinTimer {
    /// The first members of an empty group wait for more to come; each round that sees some is followed by another, for
    /// no longer than the rebalance timeout in all.
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
pub(super) struct Group {
    id: String,
    limits: Limits,
    state: GroupState,
    /// True in `PreparingRebalance` when the group was empty before it.
    initial: bool,
    state_since_ms: i64,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Members that were given an id and have yet to join with it, and until when they may.
    pending_joins: BTreeMap<String, u64>,
    /// Members of this generation that have not asked for their assignment.
    pending_syncs: BTreeSet<String>,
    new_member_added: bool,
    join_timer: Option<JoinTimer>,
    sync_expires_at_ms: Option<u64>,
    /// The topics of all members, when they are consumers and could be understood.
    subscribed: Option<BTreeSet<String>>,
    /// Generations that reached `Stable` since the start.
    completed_rebalances: u64,
}

impl Group {
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

    /// A group as it was stored. Its members' sessions start anew, so that clients which are still there go on
    /// without a rebalance.
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

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn state(&self) -> GroupState {
        self.state
    }

    pub(super) fn state_since_ms(&self) -> i64 {
        self.state_since_ms
    }

    pub(super) fn generation(&self) -> i32 {
        self.generation
    }

    pub(super) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    pub(super) fn completed_rebalances(&self) -> u64 {
        self.completed_rebalances
    }

    /// Nobody is in it or about to come.
    pub(super) fn is_abandoned(&self) -> bool {
        self.state == GroupState::Empty && self.pending_joins.is_empty()
    }

    /// Whether anything of the group was ever stored.
    pub(super) fn is_stored(&self) -> bool {
        self.generation > 0
    }

    /// Whether a consumer in the group reads the topic, or may: subscriptions that cannot be understood count.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_of_consumers(),
        }
    }

    /// Whether the group's subscriptions are those of consumers and understood.
    pub(super) fn knows_subscriptions(&self) -> bool {
        self.subscribed.is_some()
    }

    pub(super) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    pub(super) fn describe(&self) -> GroupDescription {
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

    /// The row that restores the group as it is.
    pub(super) fn row(&self) -> GroupRow {
        self.row_with(|member| member.assignment.clone())
    }

    /// The group is deleted; nothing happens to it any more.
    pub(super) fn kill(&mut self, now: Now) {
        self.transition(GroupState::Dead, now);
    }

    /// Takes a member in, or asks it to come back with `new_member_id`. The answer comes as an effect, at once or when
    /// the generation is complete.
    pub(super) fn join(
        &mut self,
        mut join: JoinGroup,
        new_member_id: String,
        ticket: Ticket,
        now: Now,
        effects: &mut Effects,
    ) {
        // Without this a group of such members would wait no time at all for them to join again.
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

    /// Hands out the assignment, or waits for the leader to bring it. The answer comes as an effect.
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

    /// Removes members, each with its own answer, and lets the rest rebalance once.
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

    /// Whether the member, or a consumer outside the group's management, may commit now. A member's commit counts as a
    /// heartbeat.
    pub(super) fn begin_commit(
        &mut self,
        member: &MemberIdentity,
        now: Now,
    ) -> Result<(), GroupError> {
        let anonymous = member.member_id.is_empty() && member.group_instance_id.is_none();
        if member.generation < 0 && (self.state == GroupState::Empty || anonymous) {
            return match self.state {
                GroupState::Empty => Ok(()),
                _ => Err(GroupError::UnknownMemberId),
            };
        }
        self.validate_generation(member)?;
        if self.state == GroupState::CompletingRebalance {
            // The member has its new generation but not yet its partitions: it may no longer own what it commits.
            return Err(GroupError::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(&member.member_id) {
            member.renew_session(now);
        }
        Ok(())
    }

    /// How storing went, and what waited for it.
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
                // Members may have come and gone meanwhile; then the next generation's assignment is what counts.
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
                // A rebalance that began meanwhile answers the join itself, with its own generation.
                if self.state == GroupState::Stable && waits {
                    // After a failure the client comes back as a new member of the same instance, and is stored again.
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
