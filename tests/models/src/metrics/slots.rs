//! Replacement for `src/metrics/slots.rs`, whose statics and thread-locals loom cannot replace. As there, a thread claims
//! a shard when it first records a value and releases it when it ends.

use std::cell::Cell;
use std::sync::Arc;

use super::claims::Claims;
pub(super) use super::claims::SHARED;
use crate::sync::atomic::AtomicU64;

std::thread_local! {
    /// Loom runs all threads of a model on the test's thread, so they all share this value.
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
            self.claims.release(self.slot);
        }
    }
}

/// Sets the number of owned shards, besides the shared one, for this test's models.
pub fn set_owned(owned: usize) {
    COUNT.set(1 + owned);
}

pub(super) fn count() -> usize {
    COUNT.get()
}

pub(super) fn current() -> usize {
    CLAIM.with(|claim| claim.slot)
}
