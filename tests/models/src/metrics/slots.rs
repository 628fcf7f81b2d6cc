//! In place of `src/metrics/slots.rs`, whose statics and thread-locals loom cannot stand in for: as there, a thread
//! claims a shard when it first records and gives it back when it ends.

use std::cell::Cell;
use std::sync::Arc;

use super::claims::Claims;
pub(super) use super::claims::SHARED;
use crate::sync::atomic::AtomicU64;

std::thread_local! {
    /// Loom runs all threads of a model on the test's own, so this is known to them all.
    static COUNT: Cell<usize> = const { Cell::new(1) };
}

loom::lazy_static! {
    static ref CLAIMS: Arc<Claims> = Arc::new(Claims(AtomicU64::new(Claims::NONE)));
}

loom::thread_local! {
    static CLAIM: Claim = Claim::new();
}

struct Claim {
    claims: Arc<Claims>,
    slot: usize,
}

impl Claim {
    fn new() -> Self {
        let claims = Arc::clone(&CLAIMS);
        let slot = claims.take(count()).unwrap_or(SHARED);
        Self { claims, slot }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.slot != SHARED {
            self.claims.give_back(self.slot);
        }
    }
}

/// Has this test's models run with `owned` shards besides the shared one.
pub fn set_owned(owned: usize) {
    COUNT.set(1 + owned);
}

pub(super) fn count() -> usize {
    COUNT.get()
}

pub(super) fn current() -> usize {
    CLAIM.with(|claim| claim.slot)
}
