//! A classic group: its state machine and the requests that wait for its answers.

use std::collections::HashMap;

use tokio::sync::oneshot;

use super::request::{JoinGroup, JoinedGroup, LeavingMember, SyncGroup, SyncedGroup};
use super::state::{AfterStore, Effect, Effects, Limits, StateMachine, Ticket};
use crate::catalog::GroupRow;
use crate::coordinator::group::now::Now;
use crate::coordinator::group::protocol::Protocol;
use crate::coordinator::group::{GroupError, GroupSettings, Groups, MemberIdentity};

type Answer<T> = oneshot::Sender<Result<T, GroupError>>;

enum Waiting {
    Join(Answer<JoinedGroup>),
    Sync(Answer<SyncedGroup>),
}

/// A classic group. Its events have no effect outside until [`ClassicGroup::settle`] is called.
pub(in crate::coordinator::group) struct ClassicGroup {
    state: StateMachine,
    waiting: HashMap<Ticket, Waiting>,
    last_ticket: u64,
    /// Effects of the events since the last call of [`ClassicGroup::settle`].
    effects: Effects,
}

impl ClassicGroup {
    pub(in crate::coordinator::group) fn new(
        id: String,
        settings: &GroupSettings,
        now: Now,
    ) -> Self {
        Self::with(StateMachine::new(id, limits(settings), now), Effects::new())
    }

    /// Restores a stored group. Its members' sessions start again, so that live clients continue without a rebalance.
    pub(in crate::coordinator::group) fn restore(
        row: GroupRow,
        settings: &GroupSettings,
        now: Now,
    ) -> Self {
        let mut effects = Effects::new();
        let state = StateMachine::restore(row, limits(settings), now, &mut effects);
        Self::with(state, effects)
    }

    fn with(state: StateMachine, effects: Effects) -> Self {
        Self {
            state,
            waiting: HashMap::new(),
            last_ticket: 0,
            effects,
        }
    }

    pub(in crate::coordinator::group) fn protocol(&self) -> &dyn Protocol {
        &self.state
    }

    pub(in crate::coordinator::group) fn protocol_mut(&mut self) -> &mut dyn Protocol {
        &mut self.state
    }

    pub(super) fn join(
        &mut self,
        join: JoinGroup,
        new_member_id: String,
        answer: Answer<JoinedGroup>,
        now: Now,
    ) {
        let ticket = self.wait(Waiting::Join(answer));
        let effects = &mut self.effects;
        self.state.join(join, new_member_id, ticket, now, effects);
    }

    pub(super) fn sync(&mut self, sync: SyncGroup, answer: Answer<SyncedGroup>, now: Now) {
        let ticket = self.wait(Waiting::Sync(answer));
        self.state.sync(sync, ticket, now, &mut self.effects);
    }

    pub(super) fn heartbeat(
        &mut self,
        member: &MemberIdentity,
        now: Now,
    ) -> Result<(), GroupError> {
        self.state.heartbeat(member, now)
    }

    pub(super) fn leave(
        &mut self,
        leaving: &[LeavingMember],
        now: Now,
    ) -> Vec<Result<(), GroupError>> {
        self.state.leave(leaving, now, &mut self.effects)
    }

    pub(super) fn stored(&mut self, then: AfterStore, outcome: Result<(), GroupError>, now: Now) {
        self.state.stored(then, outcome, now, &mut self.effects);
    }

    /// Handles the deadlines that have passed, and carries out the effects of this and of earlier events.
    pub(in crate::coordinator::group) fn settle(&mut self, now: Now, groups: &Groups) {
        let deadline_ms = self.state.next_deadline_ms();
        if deadline_ms.is_some_and(|at| at <= now.monotonic_ms) {
            self.state.tick(now, &mut self.effects);
        }
        for effect in std::mem::take(&mut self.effects) {
            self.carry_out(effect, groups);
        }
    }

    fn carry_out(&mut self, effect: Effect, groups: &Groups) {
        // If the receiver was dropped, the client has disconnected; its session expires by itself.
        match effect {
            Effect::AnswerJoin(ticket, answer) => {
                if let Some(Waiting::Join(waiting)) = self.waiting.remove(&ticket) {
                    let _ = waiting.send(answer);
                }
            }
            Effect::AnswerSync(ticket, answer) => {
                if let Some(Waiting::Sync(waiting)) = self.waiting.remove(&ticket) {
                    let _ = waiting.send(answer);
                }
            }
            Effect::Store(row, then) => groups.store(row, then),
        }
    }

    /// Fails every waiting request.
    pub(in crate::coordinator::group) fn close(&mut self) {
        self.waiting.clear();
    }

    fn wait(&mut self, waiting: Waiting) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.waiting.insert(ticket, waiting);
        ticket
    }
}

fn limits(settings: &GroupSettings) -> Limits {
    Limits {
        initial_rebalance_delay_ms: settings.group_initial_rebalance_delay_ms,
        max_size: settings.group_max_size,
    }
}
