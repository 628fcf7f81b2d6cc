//! One fetch session: its partitions, their order, and what the client was last told of each.
//!
//! A fetch [resumes](FetchSession::resume) the session, reads all its partitions without holding its lock, and
//! [reports](FetchSession::report) the results, which selects those that the response contains. Each resumption has its own
//! epoch, so that the report of an outdated fetch changes nothing.

use std::collections::HashMap;
use std::ptr;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Continued, FetchSessionError, SessionSize};
use crate::broker::Principal;
use crate::storage::PartitionLog;

/// Epoch of a session that has ended.
const ENDED: i32 = -1;

/// Memory that a partition takes in a session, without its topic's name.
const PARTITION_BYTES: usize = 256;

/// Number of unused slots that a session keeps for partitions to come, besides one for each partition.
const UNUSED_SLOTS_MAX: usize = 100;

/// A topic as a client names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SessionTopic {
    Id(Uuid),
    Name(Arc<str>),
}

/// A client's position in a partition, and the limit of its fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPosition {
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    pub last_fetched_epoch: i32,
    pub max_bytes: i32,
}

/// A partition of a session.
pub struct SessionPartition {
    pub topic: SessionTopic,
    pub number: i32,
    pub position: FetchPosition,
    /// The log, unless it has to be looked up.
    pub log: Option<Arc<dyn PartitionLog>>,
}

/// The offsets of a partition that a client knows from responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub high_watermark: i64,
    pub last_stable: i64,
    pub log_start: i64,
}

impl Told {
    /// Equals no offsets, so that those that follow an error are sent.
    pub const NOTHING: Told = Told {
        high_watermark: -1,
        last_stable: -1,
        log_start: -1,
    };
}

/// The changes that a request makes to its session.
pub struct SessionUpdate {
    pub epoch: i32,
    /// Set if the request names topics by id.
    pub by_id: bool,
    /// New partitions, and known ones with new positions.
    pub wanted: Vec<SessionPartition>,
    pub forgotten: Vec<(SessionTopic, i32)>,
}

/// A session.
pub struct FetchSession {
    id: i32,
    principal: Principal,
    by_id: bool,
    contents: Mutex<Contents>,
    /// Notified when the epoch has changed.
    changed: Notify,
}

struct Contents {
    /// Epoch of the next request, or [`ENDED`].
    epoch: i32,
    /// The partitions in the order in which they are read: those that returned records are last.
    order: Vec<usize>,
    /// The partitions by slot. Slots do not change between a resumption and its report.
    slots: Vec<Slot>,
    free: Vec<usize>,
    slot_of: HashMap<(SessionTopic, i32), usize>,
    memory_bytes: usize,
}

struct Slot {
    topic: SessionTopic,
    number: i32,
    position: FetchPosition,
    /// The log as of the last response, so that it need not be looked up for each fetch. A session does not keep the log
    /// of a deleted topic in memory.
    log: Option<Weak<dyn PartitionLog>>,
    told: Told,
    /// Set while the partition is removed from the order.
    leaves_order: bool,
}

impl Slot {
    fn new(partition: SessionPartition, told: Told) -> Self {
        Self {
            topic: partition.topic,
            number: partition.number,
            position: partition.position,
            log: partition.log.as_ref().map(Arc::downgrade),
            told,
            leaves_order: false,
        }
    }

    fn is_log(&self, log: Option<&Arc<dyn PartitionLog>>) -> bool {
        match (&self.log, log) {
            (Some(known), Some(log)) => ptr::addr_eq(known.as_ptr(), Arc::as_ptr(log)),
            (known, log) => known.is_some() == log.is_some(),
        }
    }

    fn partition(&self) -> SessionPartition {
        SessionPartition {
            topic: self.topic.clone(),
            number: self.number,
            position: self.position,
            log: self.log.as_ref().and_then(Weak::upgrade),
        }
    }
}

/// Returns the memory that a partition of a topic takes in a session.
pub fn memory_bytes(topic: &SessionTopic) -> usize {
    match topic {
        SessionTopic::Id(_) => PARTITION_BYTES,
        // The name may be shared with other partitions, but is counted for each.
        SessionTopic::Name(name) => PARTITION_BYTES + name.len(),
    }
}

impl FetchSession {
    pub(super) fn new(
        id: i32,
        principal: Principal,
        by_id: bool,
        partitions: Vec<(SessionPartition, Told)>,
    ) -> Self {
        Self {
            id,
            principal,
            by_id,
            contents: Mutex::new(Contents::new(partitions)),
            changed: Notify::new(),
        }
    }

    pub fn id(&self) -> i32 {
        self.id
    }

    pub(super) fn belongs_to(&self, principal: &Principal) -> bool {
        self.principal == *principal
    }

    pub(super) fn size(&self) -> SessionSize {
        self.contents.lock().size()
    }

    /// Returns the number of slots, used or not.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.contents.lock().slots.len()
    }

    /// Applies an update, and returns the fetch that it begins, unless no partition is left, and the new size.
    pub(super) fn resume(
        self: &Arc<Self>,
        update: SessionUpdate,
    ) -> Result<(Option<Continued>, SessionSize), FetchSessionError> {
        let mut contents = self.contents.lock();
        if contents.epoch == ENDED {
            return Err(FetchSessionError::NotFound);
        }
        if contents.epoch != update.epoch {
            return Err(FetchSessionError::InvalidEpoch);
        }
        if self.by_id != update.by_id {
            return Err(FetchSessionError::TopicIds);
        }
        for wanted in update.wanted {
            contents.put(wanted, Told::NOTHING);
        }
        contents.forget(update.forgotten);
        let size = contents.size();
        if size.partitions == 0 {
            return Ok((None, size));
        }
        contents.epoch = after(contents.epoch);
        self.changed.notify_waiters();
        let continued = Continued {
            session: Arc::clone(self),
            next_epoch: contents.epoch,
            partitions: contents.in_order().map(Slot::partition).collect(),
        };
        Ok((Some(continued), size))
    }

    /// Ends the session, and the wait of its fetch.
    pub(super) fn end(&self) {
        self.contents.lock().epoch = ENDED;
        self.changed.notify_waiters();
    }

    /// Resolves once the session has ended or another fetch than the one with this next epoch has begun. Without it, any
    /// number of waiting fetches could hold the partitions of one session.
    pub async fn is_overtaken(&self, next_epoch: i32) {
        let changed = self.changed.notified();
        tokio::pin!(changed);
        // Registered before the epoch is read, so that no change is missed.
        changed.as_mut().enable();
        if self.contents.lock().epoch == next_epoch {
            changed.await;
        }
    }

    /// Begins the report on the fetch with this next epoch; `None` if the session has ended or another one has begun.
    pub fn report(&self, next_epoch: i32) -> Option<Report<'_>> {
        let contents = self.contents.lock();
        (contents.epoch == next_epoch).then(|| Report {
            contents,
            index: 0,
            moves: Vec::new(),
        })
    }
}

/// Returns the epoch that follows one.
fn after(epoch: i32) -> i32 {
    match epoch {
        i32::MAX => 1,
        epoch => epoch + 1,
    }
}

impl Contents {
    fn new(partitions: Vec<(SessionPartition, Told)>) -> Self {
        let mut contents = Self {
            epoch: 1,
            order: Vec::with_capacity(partitions.len()),
            slots: Vec::with_capacity(partitions.len()),
            free: Vec::new(),
            slot_of: HashMap::with_capacity(partitions.len()),
            memory_bytes: 0,
        };
        for (partition, told) in partitions {
            contents.put(partition, told);
        }
        contents
    }

    fn size(&self) -> SessionSize {
        SessionSize {
            partitions: self.order.len(),
            memory_bytes: self.memory_bytes,
        }
    }

    fn in_order(&self) -> impl ExactSizeIterator<Item = &Slot> {
        self.order.iter().map(|slot| &self.slots[*slot])
    }

    /// Adds a partition at the end, or sets the position of a known one.
    fn put(&mut self, partition: SessionPartition, told: Told) {
        let key = (partition.topic.clone(), partition.number);
        if let Some(slot) = self.slot_of.get(&key) {
            self.slots[*slot].position = partition.position;
            return;
        }
        self.memory_bytes += memory_bytes(&partition.topic);
        let added = Slot::new(partition, told);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = added;
                slot
            }
            None => {
                self.slots.push(added);
                self.slots.len() - 1
            }
        };
        self.slot_of.insert(key, slot);
        self.order.push(slot);
    }

    fn forget(&mut self, forgotten: Vec<(SessionTopic, i32)>) {
        let mut is_changed = false;
        for key in forgotten {
            if let Some(slot) = self.slot_of.remove(&key) {
                self.memory_bytes -= memory_bytes(&key.0);
                self.slots[slot].leaves_order = true;
                self.free.push(slot);
                is_changed = true;
            }
        }
        if is_changed {
            self.remove_leaving();
            self.shrink();
        }
    }

    /// Removes the marked partitions from the order.
    fn remove_leaving(&mut self) {
        let slots = &mut self.slots;
        self.order
            .retain(|slot| !std::mem::take(&mut slots[*slot].leaves_order));
    }

    /// Frees the memory of slots if most are unused.
    fn shrink(&mut self) {
        if self.free.len() <= self.order.len() + UNUSED_SLOTS_MAX {
            return;
        }
        let kept: Vec<_> = self
            .in_order()
            .map(|slot| (slot.partition(), slot.told))
            .collect();
        let epoch = self.epoch;
        *self = Contents::new(kept);
        self.epoch = epoch;
    }
}

/// The report on a fetch. Takes the results of all its partitions, in its order.
pub struct Report<'a> {
    contents: MutexGuard<'a, Contents>,
    index: usize,
    /// Slots of the partitions that returned records.
    moves: Vec<usize>,
}

impl Report<'_> {
    /// Notes the result of the next partition, and returns true if it differs from what the client was told. An error is
    /// reported as [`Told::NOTHING`], and without a log if that has to be looked up again.
    pub fn note(
        &mut self,
        log: Option<&Arc<dyn PartitionLog>>,
        told: Told,
        has_records: bool,
    ) -> bool {
        let contents = &mut *self.contents;
        let place = contents.order[self.index];
        self.index += 1;
        let slot = &mut contents.slots[place];
        if !slot.is_log(log) {
            slot.log = log.map(Arc::downgrade);
        }
        if has_records {
            slot.leaves_order = true;
            self.moves.push(place);
        }
        std::mem::replace(&mut slot.told, told) != told
    }

    /// Ends the report: the partitions that returned records are read last next time, so that all get their turn.
    pub fn end(mut self) {
        if !self.moves.is_empty() {
            self.contents.remove_leaving();
            self.contents.order.append(&mut self.moves);
        }
    }
}
