//! Ownership of shards by threads.
//!
//! Claiming is an acquire and releasing a release on the same word, so the next owner of a shard sees everything that
//! the previous owner wrote to it.

use crate::sync::atomic::{AtomicU64, Ordering};

/// The shard shared by all threads that own none: threads beyond the limit and threads that are ending.
pub(super) const SHARED: usize = 0;

/// The claimed shards, one bit each.
pub(super) struct Claims(pub(super) AtomicU64);

impl Claims {
    /// The initial value: only the shared shard is marked, so that no thread can claim it.
    pub(super) const NONE: u64 = 1 << SHARED;

    /// Claims a free shard below `count` until it is released. Returns `None` if all are claimed.
    pub(super) fn take(&self, count: usize) -> Option<usize> {
        let mut taken = self.0.load(Ordering::Relaxed);
        loop {
            let slot = (!taken).trailing_zeros() as usize;
            if slot >= count {
                return None;
            }
            match self.0.compare_exchange_weak(
                taken,
                taken | (1 << slot),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(slot),
                Err(now) => taken = now,
            }
        }
    }

    pub(super) fn release(&self, slot: usize) {
        self.0.fetch_and(!(1 << slot), Ordering::Release);
    }
}
