//! Queue of the groups' deadlines.
//!
//! Each group has at most one valid entry, at or before its earliest deadline. Heartbeats postpone deadlines all the time
//! without touching the queue: a group that is woken too early is queued again with its new deadline.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::Groups;

#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: Mutex<Queue>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    by_time: BinaryHeap<Reverse<(u64, String)>>,
    /// The valid entry of each group; all others in the heap are stale.
    of_group: HashMap<String, u64>,
}

impl Timers {
    /// Schedules the group at the given monotonic time, unless it is already scheduled earlier.
    pub(super) fn schedule(&self, group_id: &str, at_ms: u64) {
        let mut queue = self.queue.lock();
        if queue.of_group.get(group_id).is_some_and(|at| *at <= at_ms) {
            return;
        }
        queue.of_group.insert(group_id.to_owned(), at_ms);
        queue.by_time.push(Reverse((at_ms, group_id.to_owned())));
        let is_next = queue
            .by_time
            .peek()
            .is_some_and(|Reverse((first, _))| *first == at_ms);
        drop(queue);
        if is_next {
            self.earlier.notify_one();
        }
    }

    /// Removes the groups that are due from the queue and returns them.
    fn take_due(&self, now_ms: u64) -> Vec<String> {
        let mut queue = self.queue.lock();
        let mut due = Vec::new();
        while let Some(Reverse((at_ms, _))) = queue.by_time.peek()
            && *at_ms <= now_ms
        {
            let Some(Reverse((at_ms, group_id))) = queue.by_time.pop() else {
                break;
            };
            if queue.of_group.get(&group_id) == Some(&at_ms) {
                queue.of_group.remove(&group_id);
                due.push(group_id);
            }
        }
        due
    }

    fn next_ms(&self) -> Option<u64> {
        let queue = self.queue.lock();
        queue.by_time.peek().map(|Reverse((at_ms, _))| *at_ms)
    }
}

impl Groups {
    /// Expires sessions, join phases and committed offsets. Never returns: spawn it once and abort it at shutdown.
    pub async fn run(self: Arc<Self>) {
        let every = Duration::from_millis(self.settings.offsets_retention_check_interval_ms);
        let mut retention = tokio::time::interval(every);
        retention.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wait = self.tick();
            tokio::select! {
                () = sleep_or_forever(wait) => {}
                () = self.timers.earlier.notified() => {}
                _ = retention.tick() => self.expire_offsets().await,
            }
        }
    }

    /// Handles all due deadlines. Returns the time until the next one.
    pub fn tick(&self) -> Option<Duration> {
        for group_id in self.timers.take_due(self.now().monotonic_ms) {
            // An empty event is enough: every event handles the group's due deadlines.
            self.with_group(&group_id, false, |_, _| {});
            self.forget_if_unused(&group_id);
        }
        let next_ms = self.timers.next_ms()?;
        Some(Duration::from_millis(
            next_ms.saturating_sub(self.now().monotonic_ms),
        ))
    }
}

async fn sleep_or_forever(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_due_once_at_its_earliest_deadline() {
        let timers = Timers::default();
        timers.schedule("a", 10);
        timers.schedule("a", 20);
        timers.schedule("b", 15);
        timers.schedule("b", 5);
        assert_eq!(timers.next_ms(), Some(5));
        assert_eq!(timers.take_due(4), [] as [String; 0]);
        assert_eq!(timers.take_due(10), ["b", "a"]);
        assert_eq!(timers.take_due(100), [] as [String; 0]);
        timers.schedule("a", 20);
        assert_eq!(timers.take_due(100), ["a"]);
    }
}
