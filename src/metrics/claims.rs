//! Which shards of an instrument have an owner.
//!
//! Claiming is an acquire and giving back a release on the same word, so a thread that inherits a shard sees everything
//! the thread before it wrote there.

use crate::sync::atomic::{AtomicU64, Ordering};

/// The shard of all threads that own none: those beyond the limit, and those that are just ending.
pub(super) const SHARED: usize = 0;

/// The shards that are taken, one bit each.
pub(super) struct Claims(pub(super) AtomicU64);

impl Claims {
    /// What it begins with: nobody can claim the shared shard.
    pub(super) const NONE: u64 = 1 << SHARED;

    /// A shard, below `count`, that nobody else has until it is given back.
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

    pub(super) fn give_back(&self, slot: usize) {
        self.0.fetch_and(!(1 << slot), Ordering::Release);
    }
}
