//! Expiry of pending joins, sessions, sync deadlines and join phases.

use super::{Effects, JoinTimer, Now, StateMachine};

impl StateMachine {
    /// Handles all deadlines that have passed.
    pub(in crate::coordinator::group::classic) fn tick(&mut self, now: Now, effects: &mut Effects) {
        self.expire_pending_joins(now, effects);
        self.expire_members(now, effects);
        self.expire_syncs(now, effects);
        self.expire_join_phase(now, effects);
    }

    fn expire_pending_joins(&mut self, now: Now, effects: &mut Effects) {
        let before = self.pending_joins.len();
        self.pending_joins
            .retain(|_, expires_at_ms| *expires_at_ms > now.monotonic_ms);
        if self.pending_joins.len() < before {
            self.complete_join_if_all_joined(now, effects);
        }
    }

    fn expire_members(&mut self, now: Now, effects: &mut Effects) {
        let due: Vec<_> = self
            .members
            .values()
            .filter(|member| {
                member
                    .expires_at_ms
                    .is_some_and(|at| at <= now.monotonic_ms)
            })
            .map(|member| member.id.clone())
            .collect();
        for member_id in due {
            let Some(member) = self.members.get_mut(&member_id) else {
                continue;
            };
            // Removing an earlier member may have completed a generation and renewed this session.
            if member.expires_at_ms.is_none_or(|at| at > now.monotonic_ms) {
                continue;
            }
            if member.is_waiting() && !member.is_new {
                member.expires_at_ms = None;
            } else {
                self.remove(&member_id, effects);
                self.rebalance_or_complete_join(now, effects);
            }
        }
    }

    fn expire_syncs(&mut self, now: Now, effects: &mut Effects) {
        if self
            .sync_expires_at_ms
            .is_some_and(|at| at <= now.monotonic_ms)
        {
            self.sync_expires_at_ms = None;
            for member_id in std::mem::take(&mut self.pending_syncs) {
                self.remove(&member_id, effects);
            }
            self.rebalance_or_complete_join(now, effects);
        }
    }

    fn expire_join_phase(&mut self, now: Now, effects: &mut Effects) {
        match self.join_timer {
            Some(timer) if timer.at_ms() > now.monotonic_ms => {}
            Some(JoinTimer::Initial {
                delay_ms,
                remaining_ms,
                ..
            }) if self.new_member_added && remaining_ms > 0 => {
                self.new_member_added = false;
                let next_delay_ms = self.limits.initial_rebalance_delay_ms.min(remaining_ms);
                self.join_timer = Some(JoinTimer::Initial {
                    at_ms: now.after(next_delay_ms),
                    delay_ms: next_delay_ms,
                    remaining_ms: (remaining_ms - delay_ms).max(0),
                });
            }
            Some(_) => self.complete_join(now, effects),
            None => {}
        }
    }
}
