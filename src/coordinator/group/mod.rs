//! Consumer groups by the classic protocol: who is a member, who reads which partition, and how far it has read.
//!
//! [`state`] decides and does nothing else. This module keeps one such machine per group behind its own lock, gives it
//! the time, keeps the requests that wait for its answers, and stores what it wants stored. No lock is held while
//! anything is awaited: storing ends with another event to the machine.
//!
//! What survives a restart: committed offsets, and each group as of its last completed rebalance with its members, so
//! that clients go on in the same generation as if nothing had happened. A rebalance that was under way is forgotten;
//! its members find their generation unknown and join again, as they do with Kafka.
//!
//! A group that has neither members nor offsets is removed: at once when nothing of it was ever stored, otherwise when
//! retention next looks at it.

mod admin;
mod collector;
mod error;
mod lag;
mod member;
mod offsets;
mod request;
mod state;
mod subscription;
mod timers;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::catalog::{self, Catalog};
use crate::clock::Clock;
use crate::config::Config;
use crate::storage::Topics;

pub use error::GroupError;
pub use lag::Lag;
pub use request::{
    CommitOffsets, GroupDescription, GroupListing, GroupState, JoinGroup, JoinedGroup,
    LeavingMember, MemberIdentity, OffsetToCommit, SyncGroup, SyncedGroup,
};

use state::{AfterStore, Effect, Effects, Group, Limits, Now, Ticket};
use timers::Timers;

/// What a member's id repeats of its name. The name alone may be as long as the protocol allows any text to be.
const MEMBER_NAME_BYTES_MAX: usize = 255;

/// What the coordinator needs to know of the logs.
pub trait Logs: Send + Sync {
    /// Returns whether there is such a partition.
    fn has_partition(&self, topic: &str, partition: i32) -> bool;
}

impl Logs for Topics {
    fn has_partition(&self, topic: &str, partition: i32) -> bool {
        self.get(topic)
            .is_some_and(|topic| topic.partition(partition).is_some())
    }
}

/// The settings of the coordinator, by Kafka's names.
#[derive(Debug, Clone)]
pub struct GroupSettings {
    pub group_min_session_timeout_ms: i32,
    pub group_max_session_timeout_ms: i32,
    pub group_initial_rebalance_delay_ms: i32,
    pub group_max_size: usize,
    pub offset_metadata_max_bytes: usize,
    pub offsets_retention_ms: i64,
    pub offsets_retention_check_interval_ms: u64,
}

impl From<&Config> for GroupSettings {
    fn from(config: &Config) -> Self {
        Self {
            group_min_session_timeout_ms: config.group_min_session_timeout_ms,
            group_max_session_timeout_ms: config.group_max_session_timeout_ms,
            group_initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
            group_max_size: usize::try_from(config.group_max_size).unwrap_or(0),
            offset_metadata_max_bytes: usize::try_from(config.offset_metadata_max_bytes)
                .unwrap_or(0),
            offsets_retention_ms: i64::from(config.offsets_retention_minutes) * 60_000,
            offsets_retention_check_interval_ms: config.offsets_retention_check_interval_ms,
        }
    }
}

/// Every group of the server.
pub struct Groups {
    me: Weak<Groups>,
    catalog: Arc<Catalog>,
    logs: Arc<dyn Logs>,
    clock: Arc<dyn Clock>,
    settings: GroupSettings,
    groups: RwLock<HashMap<String, Arc<Mutex<GroupSlot>>>>,
    timers: Timers,
}

/// A group's machine with the requests that wait for it.
struct GroupSlot {
    group: Group,
    waiting: HashMap<Ticket, Waiting>,
    last_ticket: u64,
}

enum Waiting {
    Join(oneshot::Sender<Result<JoinedGroup, GroupError>>),
    Sync(oneshot::Sender<Result<SyncedGroup, GroupError>>),
}

impl GroupSlot {
    fn new(group: Group) -> Self {
        Self {
            group,
            waiting: HashMap::new(),
            last_ticket: 0,
        }
    }

    fn wait(&mut self, waiting: Waiting) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.waiting.insert(ticket, waiting);
        ticket
    }
}

impl Groups {
    /// Restores the groups that the catalog knows. Blocks on reading them. [`Groups::run`] must run for sessions and
    /// rebalances to time out.
    pub fn open(
        catalog: Arc<Catalog>,
        logs: Arc<dyn Logs>,
        settings: GroupSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, catalog::Error> {
        let rows = catalog.groups()?;
        let groups = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            catalog,
            logs,
            clock,
            settings,
            groups: RwLock::default(),
            timers: Timers::default(),
        });
        for row in rows {
            groups.restore(row);
        }
        for group_id in groups.catalog.groups_with_offsets() {
            groups.with_group(&group_id, true, |_, _, _| {});
        }
        Ok(groups)
    }

    /// Takes part in the next generation of a group, which is made when it does not exist and the member has no id yet.
    /// Waits until the generation is complete.
    pub async fn join(&self, join: JoinGroup) -> Result<JoinedGroup, GroupError> {
        require_group_id(&join.group_id)?;
        let allowed =
            self.settings.group_min_session_timeout_ms..=self.settings.group_max_session_timeout_ms;
        if !allowed.contains(&join.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let group_id = join.group_id.clone();
        let create = join.member_id.is_empty();
        let (answer, answered) = oneshot::channel();
        self.with_group(&group_id, create, move |slot, now, effects| {
            tracing::debug!(
                group = join.group_id,
                member = join.member_id,
                instance = join.group_instance_id,
                client = join.client_id,
                reason = join.reason,
                "member joins"
            );
            let ticket = slot.wait(Waiting::Join(answer));
            let new_member_id = new_member_id(&join);
            slot.group.join(join, new_member_id, ticket, now, effects);
        })
        .ok_or(GroupError::UnknownMemberId)?;
        let answer = answered
            .await
            .unwrap_or(Err(GroupError::CoordinatorNotAvailable));
        if create && answer.is_err() {
            self.forget_if_unused(&group_id);
        }
        answer
    }

    /// Brings the leader's assignment, or waits for it.
    pub async fn sync(&self, sync: SyncGroup) -> Result<SyncedGroup, GroupError> {
        require_group_id(&sync.group_id)?;
        let group_id = sync.group_id.clone();
        let (answer, answered) = oneshot::channel();
        self.with_group(&group_id, false, move |slot, now, effects| {
            let ticket = slot.wait(Waiting::Sync(answer));
            slot.group.sync(sync, ticket, now, effects);
        })
        .ok_or(GroupError::UnknownMemberId)?;
        answered
            .await
            .unwrap_or(Err(GroupError::CoordinatorNotAvailable))
    }

    /// Keeps a member's session alive and tells it when to join again.
    pub fn heartbeat(&self, group_id: &str, member: &MemberIdentity) -> Result<(), GroupError> {
        require_group_id(group_id)?;
        let slot = self.find(group_id).ok_or(GroupError::UnknownMemberId)?;
        let mut slot = slot.lock();
        // A heartbeat only ever moves a deadline away, so neither effects nor timers can follow from it.
        let now = self.now();
        slot.group.heartbeat(member, now)
    }

    /// Removes members from the group; each has its own answer.
    pub fn leave(
        &self,
        group_id: &str,
        leaving: &[LeavingMember],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        require_group_id(group_id)?;
        self.with_group(group_id, false, |slot, now, effects| {
            for member in leaving {
                tracing::debug!(
                    group = group_id,
                    member = member.member_id,
                    instance = member.group_instance_id,
                    reason = member.reason,
                    "member leaves"
                );
            }
            slot.group.leave(leaving, now, effects)
        })
        .ok_or(GroupError::UnknownMemberId)
    }

    /// Answers every request that still waits, for the server to end. Clients come back to whoever serves then.
    pub fn close(&self) {
        for slot in self.slots() {
            slot.lock().waiting.clear();
        }
    }

    fn restore(&self, row: catalog::GroupRow) {
        let now = self.now();
        let mut effects = Effects::new();
        let group_id = row.id.clone();
        let group = Group::restore(row, self.limits(), now, &mut effects);
        let slot = Arc::new(Mutex::new(GroupSlot::new(group)));
        let mut inner = slot.lock();
        self.groups
            .write()
            .insert(group_id.clone(), Arc::clone(&slot));
        self.settle(&group_id, &mut inner, now, effects);
    }

    /// Gives the group an event: `event` runs under the group's lock, and what follows from it is done before the lock is
    /// let go. `None` when the group does not exist and shall not be made.
    fn with_group<T>(
        &self,
        group_id: &str,
        create: bool,
        event: impl FnOnce(&mut GroupSlot, Now, &mut Effects) -> T,
    ) -> Option<T> {
        loop {
            let slot = match self.find(group_id) {
                Some(slot) => slot,
                None if create => self.find_or_create(group_id),
                None => return None,
            };
            let mut slot = slot.lock();
            if slot.group.state() == GroupState::Dead {
                // Deleted between look-up and lock; it is no longer to be found, or there is a new one.
                continue;
            }
            let now = self.now();
            let mut effects = Effects::new();
            let outcome = event(&mut slot, now, &mut effects);
            self.settle(group_id, &mut slot, now, effects);
            return Some(outcome);
        }
    }

    fn settle(&self, group_id: &str, slot: &mut GroupSlot, now: Now, mut effects: Effects) {
        if slot
            .group
            .next_deadline_ms()
            .is_some_and(|at| at <= now.monotonic_ms)
        {
            slot.group.tick(now, &mut effects);
        }
        for effect in effects {
            self.carry_out(group_id, slot, effect);
        }
        if let Some(at_ms) = slot.group.next_deadline_ms() {
            self.timers.schedule(group_id, at_ms);
        }
    }

    fn carry_out(&self, group_id: &str, slot: &mut GroupSlot, effect: Effect) {
        // A receiver that is gone belongs to a client that is gone; its session will end by itself.
        match effect {
            Effect::AnswerJoin(ticket, answer) => {
                if let Some(Waiting::Join(waiting)) = slot.waiting.remove(&ticket) {
                    let _ = waiting.send(answer);
                }
            }
            Effect::AnswerSync(ticket, answer) => {
                if let Some(Waiting::Sync(waiting)) = slot.waiting.remove(&ticket) {
                    let _ = waiting.send(answer);
                }
            }
            Effect::Store(row, then) => self.store(group_id.to_owned(), row, then),
        }
    }

    /// Queues the row at once, under the group's lock, so that rows are stored in the order of the events.
    fn store(&self, group_id: String, row: catalog::GroupRow, then: AfterStore) {
        let stored = self.catalog.store_group(row);
        let groups = Weak::clone(&self.me);
        tokio::spawn(async move {
            let outcome = stored.await.map_err(|error| {
                tracing::error!(group = group_id, %error, "cannot store the group");
                GroupError::CoordinatorNotAvailable
            });
            if let Some(groups) = groups.upgrade() {
                groups.with_group(&group_id, false, |slot, now, effects| {
                    slot.group.stored(then, outcome, now, effects);
                });
            }
        });
    }

    fn find(&self, group_id: &str) -> Option<Arc<Mutex<GroupSlot>>> {
        self.groups.read().get(group_id).cloned()
    }

    fn find_or_create(&self, group_id: &str) -> Arc<Mutex<GroupSlot>> {
        let mut groups = self.groups.write();
        let slot = groups.entry(group_id.to_owned()).or_insert_with(|| {
            let group = Group::new(group_id.to_owned(), self.limits(), self.now());
            Arc::new(Mutex::new(GroupSlot::new(group)))
        });
        Arc::clone(slot)
    }

    /// Copied, so that no scrape or listing keeps a new group from being made.
    fn slots(&self) -> Vec<Arc<Mutex<GroupSlot>>> {
        self.groups.read().values().cloned().collect()
    }

    fn limits(&self) -> Limits {
        Limits {
            initial_rebalance_delay_ms: self.settings.group_initial_rebalance_delay_ms,
            max_size: self.settings.group_max_size,
        }
    }

    fn now(&self) -> Now {
        Now {
            monotonic_ms: self.clock.monotonic().as_millis() as u64,
            unix_ms: self.clock.now_ms(),
        }
    }
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Groups")
            .field("groups", &self.groups.read().len())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn require_group_id(group_id: &str) -> Result<(), GroupError> {
    if group_id.is_empty() {
        Err(GroupError::InvalidGroupId)
    } else {
        Ok(())
    }
}

/// An id by which people recognise the client, or the instance when it has a name of its own.
fn new_member_id(join: &JoinGroup) -> String {
    let name = join.group_instance_id.as_ref().unwrap_or(&join.client_id);
    let name = &name[..name.floor_char_boundary(MEMBER_NAME_BYTES_MAX)];
    format!("{name}-{}", Uuid::new_v4())
}

#[cfg(test)]
mod tests;
