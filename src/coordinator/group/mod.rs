//! Consumer groups: membership, assignments and committed offsets.
//!
//! [`classic`] has the protocol by which members join and share partitions; its state machine decides and does nothing
//! else. Offsets, lag, retention, deletion, listings and timers are the same for every group: they see only its
//! [`Protocol`](protocol::Protocol). This module keeps each group behind a lock, passes it the time, and writes its rows to the catalog. No
//! lock is held across an await: a finished write is delivered to the group as another event.
//!
//! Committed offsets survive a restart, and so does each group as of its last completed rebalance.
//!
//! A group with neither members nor offsets is removed: at once if it was never stored, otherwise by the next retention
//! run.

mod admin;
mod classic;
mod collector;
mod commit;
mod description;
mod error;
mod lag;
mod now;
mod offsets;
mod protocol;
mod timers;
mod topic_view;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use crate::catalog::{self, Catalog};
use crate::clock::Clock;
use crate::config::Config;

pub use classic::{JoinGroup, JoinedGroup, LeavingMember, SyncGroup};
pub use commit::{CommitOffsets, MemberIdentity, OffsetToCommit};
pub use description::{GroupDescription, GroupListing, GroupState, GroupType, MemberDescription};
pub use error::GroupError;
pub use lag::Lag;
pub use topic_view::TopicView;

use classic::ClassicGroup;
use now::Now;
use protocol::Group;
use timers::Timers;

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
    topics: Arc<dyn TopicView>,
    clock: Arc<dyn Clock>,
    settings: GroupSettings,
    groups: RwLock<HashMap<String, Arc<Mutex<Group>>>>,
    timers: Timers,
}

impl Groups {
    /// Restores the groups stored in the catalog. Blocks while reading them. Sessions and rebalances time out only while
    /// [`Groups::run`] is running.
    pub fn open(
        catalog: Arc<dyn Catalog>,
        topics: Arc<dyn TopicView>,
        settings: GroupSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, catalog::Error> {
        let rows = catalog.groups()?;
        let groups = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            catalog,
            topics,
            clock,
            settings,
            groups: RwLock::default(),
            timers: Timers::default(),
        });
        for row in rows {
            groups.restore(row);
        }
        let pending = groups.catalog.transactions_with_offsets();
        let with_offsets = groups.catalog.groups_with_offsets().into_iter();
        for group_id in with_offsets.chain(pending.into_values().flatten()) {
            groups.with_group(&group_id, true, |_, _| {});
        }
        Ok(groups)
    }

    /// Fails every waiting request with [`GroupError::CoordinatorNotAvailable`], for shutdown. Clients retry after the
    /// restart.
    pub fn close(&self) {
        for group in self.all() {
            group.lock().close();
        }
    }

    fn restore(&self, row: catalog::GroupRow) {
        let now = self.now();
        let group_id = row.id.clone();
        let group = Group::Classic(ClassicGroup::restore(row, &self.settings, now));
        let group = Arc::new(Mutex::new(group));
        let mut locked = group.lock();
        self.groups.write().insert(group_id, Arc::clone(&group));
        self.settle(&mut locked, now);
    }

    /// Runs `event` under the group's lock and applies its effects before releasing the lock. Returns `None` if the group
    /// does not exist and `create` is false. A group that is created is a classic one, as in Kafka.
    fn with_group<T>(
        &self,
        group_id: &str,
        create: bool,
        event: impl FnOnce(&mut Group, Now) -> T,
    ) -> Option<T> {
        loop {
            let group = match self.find(group_id) {
                Some(group) => group,
                None if create => self.find_or_create(group_id),
                None => return None,
            };
            let mut group = group.lock();
            if group.protocol().state() == GroupState::Dead {
                // Deleted between look-up and lock: the next look-up finds nothing, or a new group of the same name.
                continue;
            }
            let now = self.now();
            let outcome = event(&mut group, now);
            self.settle(&mut group, now);
            return Some(outcome);
        }
    }

    /// Handles due deadlines, applies the effects of what happened, and schedules the next deadline.
    fn settle(&self, group: &mut Group, now: Now) {
        group.settle(now, self);
        let group = group.protocol();
        if let Some(at_ms) = group.next_deadline_ms() {
            self.timers.schedule(group.id(), at_ms);
        }
    }

    fn find(&self, group_id: &str) -> Option<Arc<Mutex<Group>>> {
        self.groups.read().get(group_id).cloned()
    }

    fn find_or_create(&self, group_id: &str) -> Arc<Mutex<Group>> {
        let mut groups = self.groups.write();
        let group = groups.entry(group_id.to_owned()).or_insert_with(|| {
            let group = ClassicGroup::new(group_id.to_owned(), &self.settings, self.now());
            Arc::new(Mutex::new(Group::Classic(group)))
        });
        Arc::clone(group)
    }

    /// Returns a copy, so that a scrape or listing does not block the creation of groups.
    fn all(&self) -> Vec<Arc<Mutex<Group>>> {
        self.groups.read().values().cloned().collect()
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

#[cfg(test)]
mod tests;
