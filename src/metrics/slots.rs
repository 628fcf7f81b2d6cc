//! Assignment of threads to the shards of an instrument.
//!
//! Every sharded instrument has [`count`] shards. Shard [`SHARED`] may be written by any thread and therefore needs
//! atomic read-modify-write. Each of the others belongs to one thread at a time: a thread claims one when it first records
//! a value and releases it when it ends. A shard with a single writer is updated by a plain load and store, so that
//! recording takes a few nanoseconds even with every core recording. [`super::claims`] tracks the claimed shards.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use super::claims::Claims;
pub(super) use super::claims::SHARED;

/// The slot of a thread that has not recorded anything yet.
const UNCLAIMED: usize = usize::MAX;

static CLAIMS: Claims = Claims(AtomicU64::new(Claims::NONE));

thread_local! {
    static SLOT: Cell<usize> = const { Cell::new(UNCLAIMED) };
    static CLAIM: Claim = const { Claim(Cell::new(SHARED)) };
}

/// Releases the thread's shard when the thread ends.
struct Claim(Cell<usize>);

impl Drop for Claim {
    fn drop(&mut self) {
        let slot = self.0.get();
        if slot != SHARED {
            // Destructors of other thread-locals may still record; from here on they use the shared shard.
            SLOT.set(SHARED);
            CLAIMS.release(slot);
        }
    }
}

/// Returns the number of shards of an instrument: the shared one and two per core, at most 64 in all. Two, because
/// blocking threads record besides the runtime's workers.
pub(super) fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        1 + (2 * cores).min(63)
    })
}

/// Returns the shard of the current thread.
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
    fn concurrent_threads_never_share_an_owned_shard() {
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
