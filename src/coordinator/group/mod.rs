//! Consumer groups under the classic protocol: membership, assignments and committed offsets.
//!
//! [`state`] holds the decisions and nothing else. This module keeps one such state machine per group behind a lock,
//! passes it the time, holds the requests that wait for its answers, and writes its rows to the catalog. No lock is held
//! across an await: a finished write is delivered to the state machine as another event.
//!
//! Committed offsets survive a restart, and so does each group as of its last completed rebalance, members included:
//! clients continue in the same generation without noticing. A rebalance in progress is lost; its members find their
//! generation unknown and join again, as with Kafka.
//!
//! A group with neither members nor offsets is removed: at once if it was never stored, otherwise by the next retention
//! run.

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

/// Limit on the client name inside a member id. The protocol allows the name itself to be as long as any string.
const MEMBER_NAME_BYTES_MAX: usize = 255;

/// The coordinator's view of the logs.
pub trait Logs: Send + Sync {
    /// Returns whether the partition exists.
    fn has_partition(&self, topic: &str, partition: i32) -> bool;
}

impl Logs for Topics {
    fn has_partition(&self, topic: &str, partition: i32) -> bool {
        self.get(topic)
            .is_some_and(|topic| topic.partition(partition).is_some())
    }
}

/// Coordinator settings, under Kafka's names.
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

/// All consumer groups of the server.
pub struct Groups {
    me: Weak<Groups>,
    catalog: Arc<dyn Catalog>,
    logs: Arc<dyn Logs>,
    clock: Arc<dyn Clock>,
    settings: GroupSettings,
    groups: RwLock<HashMap<String, Arc<Mutex<GroupSlot>>>>,
    timers: Timers,
}

/// A group's state machine and the requests that wait for its answers.
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
    /// Restores the groups stored in the catalog. Blocks while reading them. Sessions and rebalances time out only while
    /// [`Groups::run`] is running.
    pub fn open(
        catalog: Arc<dyn Catalog>,
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

    /// Joins the next generation of a group and waits until that generation is complete. Creates the group if it does not
    /// exist and the member has no id yet.
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
                "member joining"
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

    /// Submits the leader's assignment, or waits for it as a follower. Returns the member's own part.
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

    /// Renews a member's session. Fails with [`GroupError::RebalanceInProgress`] when the member must join again.
    pub fn heartbeat(&self, group_id: &str, member: &MemberIdentity) -> Result<(), GroupError> {
        require_group_id(group_id)?;
        let slot = self.find(group_id).ok_or(GroupError::UnknownMemberId)?;
        let mut slot = slot.lock();
        // A heartbeat can only postpone a deadline, so it has no effects and reschedules no timer.
        let now = self.now();
        slot.group.heartbeat(member, now)
    }

    /// Removes members from the group and returns one result per member.
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
                    "member leaving"
                );
            }
            slot.group.leave(leaving, now, effects)
        })
        .ok_or(GroupError::UnknownMemberId)
    }

    /// Fails every waiting request with [`GroupError::CoordinatorNotAvailable`], for shutdown. Clients retry after the
    /// restart.
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
        self.apply_effects(&group_id, &mut inner, now, effects);
    }

    /// Runs `event` under the group's lock and applies its effects before releasing the lock. Returns `None` if the group
    /// does not exist and `create` is false.
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
                // Deleted between look-up and lock: the next look-up finds nothing, or a new group of the same name.
                continue;
            }
            let now = self.now();
            let mut effects = Effects::new();
            let outcome = event(&mut slot, now, &mut effects);
            self.apply_effects(group_id, &mut slot, now, effects);
            return Some(outcome);
        }
    }

    fn apply_effects(&self, group_id: &str, slot: &mut GroupSlot, now: Now, mut effects: Effects) {
        if slot
            .group
            .next_deadline_ms()
            .is_some_and(|at| at <= now.monotonic_ms)
        {
            slot.group.tick(now, &mut effects);
        }
        for effect in effects {
            self.apply_effect(group_id, slot, effect);
        }
        if let Some(at_ms) = slot.group.next_deadline_ms() {
            self.timers.schedule(group_id, at_ms);
        }
    }

    fn apply_effect(&self, group_id: &str, slot: &mut GroupSlot, effect: Effect) {
        // If the receiver was dropped, the client has disconnected; its session expires by itself.
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

    /// Queues the row while the group's lock is held, so that rows are stored in the order of the events.
    fn store(&self, group_id: String, row: catalog::GroupRow, then: AfterStore) {
        let stored = self.catalog.store_group(row);
        let groups = Weak::clone(&self.me);
        tokio::spawn(async move {
            let outcome = stored.await.map_err(|error| {
                tracing::error!(group = group_id, %error, "failed to store group");
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

    /// Returns a copy, so that a scrape or listing does not block the creation of groups.
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

/// Returns a unique id that starts with the group instance id, or with the client id for dynamic members.
fn new_member_id(join: &JoinGroup) -> String {
    let name = join.group_instance_id.as_ref().unwrap_or(&join.client_id);
    let name = &name[..name.floor_char_boundary(MEMBER_NAME_BYTES_MAX)];
    format!("{name}-{}", Uuid::new_v4())
}

#[cfg(test)]
mod tests;
