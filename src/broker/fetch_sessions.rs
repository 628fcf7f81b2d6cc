//! Incremental fetch sessions (KIP-227): which partitions a consumer fetches, and what it was told of them.
//!
//! The cache has a limited number of slots, and its sessions take a limited amount of memory. When either is exhausted, a new
//! session may evict, as in Kafka, one that was not used for two minutes, or else a smaller one that is older than that.
//! Clients that get no session, or lose theirs, name all their partitions in each fetch.
//!
//! A session belongs to the principal that created it; for all others it does not exist.

mod session;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use super::Principal;
use crate::clock::Clock;
use crate::metrics::{Collector, Samples, catalog};

pub use session::{
    FetchPosition, FetchSession, SessionPartition, SessionTopic, SessionUpdate, Told, memory_bytes,
};

/// Time for which an unused session is kept and a new one cannot be evicted.
const EVICTION_AFTER: Duration = Duration::from_secs(120);

/// Precision of the time of a session's last use.
const USE_PRECISION: Duration = Duration::from_secs(1);

/// Memory of all sessions together, in bytes.
const MEMORY_BYTES_MAX: usize = 128 << 20;

/// The sessions of all clients.
pub struct FetchSessions {
    slots: usize,
    clock: Arc<dyn Clock>,
    cache: Mutex<Cache>,
    evictions: AtomicU64,
}

#[derive(Default)]
struct Cache {
    sessions: HashMap<i32, Cached>,
    /// The sessions by the time of their last use.
    by_use: BTreeSet<(Duration, i32)>,
    /// The sessions that larger ones may evict, by their size.
    evictable: BTreeSet<(usize, i32)>,
    partitions: usize,
    memory_bytes: usize,
}

struct Cached {
    session: Arc<FetchSession>,
    created: Duration,
    used: Duration,
    size: SessionSize,
}

/// The size of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionSize {
    pub partitions: usize,
    pub memory_bytes: usize,
}

/// A fetch that continues a session.
pub struct Continued {
    pub session: Arc<FetchSession>,
    /// Epoch of the session's next request, by which the response notices that it is outdated.
    pub next_epoch: i32,
    /// All partitions of the session, in its order.
    pub partitions: Vec<SessionPartition>,
}

/// Reason for which a session cannot be continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchSessionError {
    NotFound,
    InvalidEpoch,
    /// The session names topics by id and the request by name, or the reverse.
    TopicIds,
}

impl FetchSessions {
    pub(super) fn new(slots: i32, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            slots: slots.max(0) as usize,
            clock,
            cache: Mutex::default(),
            evictions: AtomicU64::new(0),
        })
    }

    /// Creates a session of partitions that a client has just been told about, unless there is no room for it. `size` is
    /// the size of what `partitions` returns.
    pub fn create(
        &self,
        principal: &Principal,
        by_id: bool,
        size: SessionSize,
        partitions: impl FnOnce() -> Vec<(SessionPartition, Told)>,
    ) -> Option<i32> {
        let now = self.clock.monotonic();
        let mut cache = self.cache.lock();
        while cache.sessions.len() >= self.slots
            || cache.memory_bytes + size.memory_bytes > MEMORY_BYTES_MAX
        {
            cache.evict(size.partitions, now)?;
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
        let id = cache.unused_id();
        let session = FetchSession::new(id, principal.clone(), by_id, partitions());
        cache.insert(Arc::new(session), now);
        Some(id)
    }

    /// Begins the next fetch of a session, whose partitions the request changes. `Ok(None)` if it removes the last one,
    /// which ends the session.
    pub fn resume(
        &self,
        id: i32,
        principal: &Principal,
        update: SessionUpdate,
    ) -> Result<Option<Continued>, FetchSessionError> {
        let session = self
            .used(id, principal)
            .ok_or(FetchSessionError::NotFound)?;
        let (continued, size) = session.resume(update)?;
        let is_kept = self.resize(id, size);
        match continued {
            Some(_) if !is_kept => Err(FetchSessionError::NotFound),
            continued => Ok(continued),
        }
    }

    /// Ends a session, if it exists and belongs to the principal.
    pub fn close(&self, id: i32, principal: &Principal) {
        let mut cache = self.cache.lock();
        let cached = cache.sessions.get(&id);
        if cached.is_some_and(|cached| cached.session.belongs_to(principal)) {
            cache.remove(id);
        }
    }

    /// Returns a session of the principal, and notes that it is used.
    fn used(&self, id: i32, principal: &Principal) -> Option<Arc<FetchSession>> {
        let now = self.clock.monotonic();
        let mut cache = self.cache.lock();
        let cached = cache.sessions.get(&id)?;
        if !cached.session.belongs_to(principal) {
            return None;
        }
        let session = Arc::clone(&cached.session);
        if now >= cached.used + USE_PRECISION {
            cache.note_use(id, now);
        }
        Some(session)
    }

    /// Notes the new size of a session. Ends it if that is 0 or too large, and returns whether it was kept.
    fn resize(&self, id: i32, size: SessionSize) -> bool {
        let mut cache = self.cache.lock();
        let Some(cached) = cache.sessions.get(&id) else {
            // It was evicted meanwhile: this fetch is its last.
            return true;
        };
        let old = cached.size;
        if size == old {
            return true;
        }
        let memory_bytes = cache.memory_bytes - old.memory_bytes + size.memory_bytes;
        if size.partitions == 0
            || (size.partitions > old.partitions && memory_bytes > MEMORY_BYTES_MAX)
        {
            cache.remove(id);
            return false;
        }
        cache.resize(id, size);
        true
    }
}

impl Cache {
    /// Returns a random id, so that no client guesses that of another.
    fn unused_id(&self) -> i32 {
        loop {
            let id = Uuid::new_v4().as_u128() as i32 & i32::MAX;
            if id != 0 && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }

    fn insert(&mut self, session: Arc<FetchSession>, now: Duration) {
        let (id, size) = (session.id(), session.size());
        self.by_use.insert((now, id));
        self.partitions += size.partitions;
        self.memory_bytes += size.memory_bytes;
        let cached = Cached {
            session,
            created: now,
            used: now,
            size,
        };
        self.sessions.insert(id, cached);
    }

    fn remove(&mut self, id: i32) {
        if let Some(cached) = self.sessions.remove(&id) {
            cached.session.end();
            self.by_use.remove(&(cached.used, id));
            self.evictable.remove(&(cached.size.partitions, id));
            self.partitions -= cached.size.partitions;
            self.memory_bytes -= cached.size.memory_bytes;
        }
    }

    fn note_use(&mut self, id: i32, now: Duration) {
        if let Some(cached) = self.sessions.get_mut(&id) {
            self.by_use.remove(&(cached.used, id));
            self.by_use.insert((now, id));
            cached.used = now;
            if now > cached.created + EVICTION_AFTER {
                self.evictable.insert((cached.size.partitions, id));
            }
        }
    }

    fn resize(&mut self, id: i32, size: SessionSize) {
        if let Some(cached) = self.sessions.get_mut(&id) {
            let old = std::mem::replace(&mut cached.size, size);
            self.partitions = self.partitions - old.partitions + size.partitions;
            self.memory_bytes = self.memory_bytes - old.memory_bytes + size.memory_bytes;
            if self.evictable.remove(&(old.partitions, id)) {
                self.evictable.insert((size.partitions, id));
            }
        }
    }

    /// Evicts a session for a new one with this number of partitions; `None` if all are worth more.
    fn evict(&mut self, partitions: usize, now: Duration) -> Option<()> {
        let (used, oldest) = *self.by_use.first()?;
        let evicted = if now > used + EVICTION_AFTER {
            oldest
        } else {
            let (size, smallest) = *self.evictable.first()?;
            (size < partitions).then_some(smallest)?
        };
        self.remove(evicted);
        Some(())
    }
}

impl Collector for FetchSessions {
    fn collect(&self, out: &mut Samples) {
        let (sessions, partitions) = {
            let cache = self.cache.lock();
            (cache.sessions.len() as u64, cache.partitions as u64)
        };
        out.family(&catalog::FETCH_SESSIONS).sample(&[], sessions);
        out.family(&catalog::FETCH_SESSION_PARTITIONS)
            .sample(&[], partitions);
        out.family(&catalog::FETCH_SESSION_EVICTIONS_TOTAL)
            .sample(&[], self.evictions.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests;
