//! Which shard of an instrument a thread writes to.
//!
//! Every sharded instrument has [`count`] shards. Shard [`SHARED`] may be written by any thread and therefore needs
//! atomic read-modify-write. The others belong to one thread at a time: a thread claims one the first time it records
//! anything and gives it back when it ends. A shard with a single writer is updated by a plain load and store, which is
//! what makes a record cost a few nanoseconds, alone or with every core recording. Which shards are taken,
//! [`super::claims`] knows.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use super::claims::Claims;
pub(super) use super::claims::SHARED;

/// A thread that has not recorded anything yet.
const UNCLAIMED: usize = usize::MAX;

static CLAIMS: Claims = Claims(AtomicU64::new(Claims::NONE));

thread_local! {
    static SLOT: Cell<usize> = const { Cell::new(UNCLAIMED) };
    static CLAIM: Claim = const { Claim(Cell::new(SHARED)) };
}

/// Gives the thread's shard back when the thread ends.
struct Claim(Cell<usize>);

impl Drop for Claim {
    fn drop(&mut self) {
        let slot = self.0.get();
        if slot != SHARED {
            // Destructors of other thread-locals may still record: from here on, into the shared shard.
            SLOT.set(SHARED);
            CLAIMS.give_back(slot);
        }
    }
}

/// How many shards an instrument has: the shared one and two for each core, since besides the runtime's workers a few
/// blocking threads record as well.
pub(super) fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        1 + (2 * cores).min(63)
    })
}

/// The shard this thread writes to.
#[inline]
pub(super) fn current() -> usize {
    let slot = SLOT.get();
    if slot == UNCLAIMED { claim() } else { slot }
}

#[cold]
fn claim() -> usize {
    let slot = CLAIM
        .try_with(|claim| {
            let slot = CLAIMS.take(count()).unwrap_or(SHARED);
            claim.0.set(slot);
            slot
        })
        .unwrap_or(SHARED);
    SLOT.set(slot);
    slot
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::{Barrier, Mutex};

    #[test]
    fn threads_alive_together_never_share_an_owned_shard() {
        let threads = count() + 4;
        let barrier = Barrier::new(threads);
        let seen = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let slot = current();
                    assert_eq!(slot, current(), "a thread keeps its shard");
                    barrier.wait();
                    seen.lock().unwrap().push(slot);
                    barrier.wait();
                });
            }
        });
        let seen = seen.into_inner().unwrap();
        let owned: Vec<_> = seen.iter().filter(|slot| **slot != SHARED).collect();
        let distinct: HashSet<_> = owned.iter().collect();
        assert_eq!(owned.len(), distinct.len());
        assert!(seen.contains(&SHARED), "there are more threads than shards");
    }
}
