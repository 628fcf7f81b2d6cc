//! Test harness for the state machine: a group, a clock, and a record of the effects.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::coordinator::group::classic::request::JoinGroup;
use crate::coordinator::group::classic::subscription::{self, CONSUMER};
use crate::coordinator::group::protocol::Protocol;

pub(super) const SESSION_MS: i32 = 10_000;
pub(super) const REBALANCE_MS: i32 = 30_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Join(Result<JoinedGroup, GroupError>),
    Sync(Result<SyncedGroup, GroupError>),
}

pub(super) struct Harness {
    pub(super) group: StateMachine,
    pub(super) now: Now,
    pub(super) answers: BTreeMap<Ticket, Answer>,
    /// Rows waiting to be stored, oldest first.
    pub(super) stores: Vec<(GroupRow, AfterStore)>,
    /// Rows that were stored.
    pub(super) rows: Vec<GroupRow>,
    tickets: u64,
    ids: u64,
}

impl Harness {
    /// A group without an initial rebalance delay, and with room for 100 members.
    pub(super) fn new() -> Self {
        Self::with(Limits {
            initial_rebalance_delay_ms: 0,
            max_size: 100,
        })
    }

    pub(super) fn with(limits: Limits) -> Self {
        let now = Now {
            monotonic_ms: 1_000,
            unix_ms: 1_700_000_000_000,
        };
        Self {
            group: StateMachine::new("g".into(), limits, now),
            now,
            answers: BTreeMap::new(),
            stores: Vec::new(),
            rows: Vec::new(),
            tickets: 0,
            ids: 0,
        }
    }

    pub(super) fn join(&mut self, join: JoinGroup) -> Ticket {
        let ticket = self.ticket();
        self.ids += 1;
        let name = join.group_instance_id.as_deref().unwrap_or("member");
        let new_member_id = format!("{name}-{:03}", self.ids);
        let mut effects = Effects::new();
        self.group
            .join(join, new_member_id, ticket, self.now, &mut effects);
        self.settle(effects);
        ticket
    }

    pub(super) fn sync(
        &mut self,
        member: &MemberIdentity,
        assignments: &[(&str, &'static str)],
    ) -> Ticket {
        self.sync_with(SyncGroup {
            group_id: "g".into(),
            member: member.clone(),
            protocol_type: None,
            protocol_name: None,
            assignments: assignments
                .iter()
                .map(|(member, assignment)| {
                    (
                        (*member).to_owned(),
                        Bytes::from_static(assignment.as_bytes()),
                    )
                })
                .collect(),
        })
    }

    pub(super) fn sync_with(&mut self, sync: SyncGroup) -> Ticket {
        let ticket = self.ticket();
        let mut effects = Effects::new();
        self.group.sync(sync, ticket, self.now, &mut effects);
        self.settle(effects);
        ticket
    }

    pub(super) fn heartbeat(&mut self, member: &MemberIdentity) -> Result<(), GroupError> {
        self.group.heartbeat(member, self.now)
    }

    pub(super) fn leave(&mut self, leaving: &[LeavingMember]) -> Vec<Result<(), GroupError>> {
        let mut effects = Effects::new();
        let answers = self.group.leave(leaving, self.now, &mut effects);
        self.settle(effects);
        answers
    }

    /// Passes the group the result of storing the oldest row.
    pub(super) fn stored(&mut self, outcome: Result<(), GroupError>) {
        let (row, then) = self.stores.remove(0);
        if outcome.is_ok() {
            self.rows.push(row);
        }
        let mut effects = Effects::new();
        self.group.stored(then, outcome, self.now, &mut effects);
        self.settle(effects);
    }

    pub(super) fn store_all(&mut self) {
        while !self.stores.is_empty() {
            self.stored(Ok(()));
        }
    }

    pub(super) fn advance(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.unix_ms += ms as i64;
        let mut effects = Effects::new();
        self.group.tick(self.now, &mut effects);
        self.settle(effects);
    }

    pub(super) fn joined(&mut self, ticket: Ticket) -> JoinedGroup {
        match self.answers.remove(&ticket) {
            Some(Answer::Join(Ok(joined))) => joined,
            other => panic!("{ticket:?} has {other:?}"),
        }
    }

    pub(super) fn join_error(&mut self, ticket: Ticket) -> GroupError {
        match self.answers.remove(&ticket) {
            Some(Answer::Join(Err(error))) => error,
            other => panic!("{ticket:?} has {other:?}"),
        }
    }

    pub(super) fn assignment(&mut self, ticket: Ticket) -> Bytes {
        match self.answers.remove(&ticket) {
            Some(Answer::Sync(Ok(synced))) => synced.assignment,
            other => panic!("{ticket:?} has {other:?}"),
        }
    }

    pub(super) fn sync_error(&mut self, ticket: Ticket) -> GroupError {
        match self.answers.remove(&ticket) {
            Some(Answer::Sync(Err(error))) => error,
            other => panic!("{ticket:?} has {other:?}"),
        }
    }

    pub(super) fn waits(&self, ticket: Ticket) -> bool {
        !self.answers.contains_key(&ticket)
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn settle(&mut self, mut effects: Effects) {
        if self
            .group
            .next_deadline_ms()
            .is_some_and(|at| at <= self.now.monotonic_ms)
        {
            self.group.tick(self.now, &mut effects);
        }
        for effect in effects {
            let (ticket, answer) = match effect {
                Effect::AnswerJoin(ticket, answer) => (ticket, Answer::Join(answer)),
                Effect::AnswerSync(ticket, answer) => (ticket, Answer::Sync(answer)),
                Effect::Store(row, then) => {
                    self.stores.push((row, then));
                    continue;
                }
            };
            let before = self.answers.insert(ticket, answer);
            assert_eq!(before, None, "{ticket:?} is answered twice");
        }
    }

    // ---- groups in each state ----

    /// Joins members until the generation is complete. Returns them, the leader first.
    pub(super) fn completing(&mut self, members: usize) -> Vec<MemberIdentity> {
        let first = self.join(dynamic(""));
        let mut members_by_id = vec![self.joined(first)];
        for _ in 1..members {
            let new = self.join(dynamic(""));
            let again: Vec<_> = members_by_id
                .iter()
                .map(|member| member.member_id.clone())
                .collect();
            let tickets: Vec<_> = again.iter().map(|id| self.join(dynamic(id))).collect();
            members_by_id = tickets
                .into_iter()
                .chain([new])
                .map(|ticket| self.joined(ticket))
                .collect();
        }
        assert_eq!(self.group.state(), GroupState::CompletingRebalance);
        members_by_id.iter().map(identity).collect()
    }

    /// Makes the group stable. The first member is the leader; each assignment is the member's id.
    pub(super) fn stable(&mut self, members: usize) -> Vec<MemberIdentity> {
        let members = self.completing(members);
        self.assign(&members);
        members
    }

    pub(super) fn assign(&mut self, members: &[MemberIdentity]) {
        let followers: Vec<_> = members[1..]
            .iter()
            .map(|member| self.sync(member, &[]))
            .collect();
        let assignments = members
            .iter()
            .map(|member| (member.member_id.clone(), member.member_id.clone().into()))
            .collect();
        let leader = self.sync_with(SyncGroup {
            group_id: "g".into(),
            member: members[0].clone(),
            protocol_type: None,
            protocol_name: None,
            assignments,
        });
        self.store_all();
        for (ticket, member) in [leader].into_iter().chain(followers).zip(members) {
            assert_eq!(self.assignment(ticket), member.member_id);
        }
        assert_eq!(self.group.state(), GroupState::Stable);
    }

    /// Makes the group stable and then joins another member, so that it waits for the others to join again. Returns the
    /// members and the new member's ticket.
    pub(super) fn preparing(&mut self, members: usize) -> (Vec<MemberIdentity>, Ticket) {
        let members = self.stable(members);
        let new = self.join(dynamic(""));
        assert_eq!(self.group.state(), GroupState::PreparingRebalance);
        (members, new)
    }
}

pub(super) fn dynamic(member_id: &str) -> JoinGroup {
    JoinGroup {
        group_id: "g".into(),
        member_id: member_id.into(),
        group_instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: CONSUMER.into(),
        protocols: protocols(&["range"], &["t"]),
        requires_member_id: false,
        supports_skipping_assignment: true,
        reason: None,
    }
}

pub(super) fn fixed(instance: &str, member_id: &str) -> JoinGroup {
    JoinGroup {
        group_instance_id: Some(instance.into()),
        ..dynamic(member_id)
    }
}

pub(super) fn protocols(names: &[&str], topics: &[&str]) -> Vec<(String, Bytes)> {
    names
        .iter()
        .map(|name| ((*name).to_owned(), subscription::encode(topics)))
        .collect()
}

pub(super) fn identity(joined: &JoinedGroup) -> MemberIdentity {
    MemberIdentity {
        member_id: joined.member_id.clone(),
        group_instance_id: None,
        generation: joined.generation,
    }
}

pub(super) fn leaving(member_id: &str) -> LeavingMember {
    LeavingMember {
        member_id: member_id.into(),
        group_instance_id: None,
        reason: None,
    }
}
