//! The memory that requests in flight share.
//!
//! Every request holds a share of one budget from before its bytes are kept until its handler is done. When the budget
//! is used up, connections wait with their bytes in the socket, and TCP slows the clients down. One connection at a
//! time may go beyond the budget, or connections that each hold half a request would wait for each other for ever; so
//! memory is bounded by the budget and one request more. Whether a client sends its other half at all is not known here:
//! while somebody waits, `connections.rs` ends those that take too long. Nor is it when a fetch waits for records: that
//! is answered early where others wait for its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget is counted in pieces of this many bytes, so that any budget fits a semaphore.
const PIECE_BYTES: usize = 1024;

/// The budget.
#[derive(Debug, Clone)]
pub struct RequestMemory {
    budget: Arc<Semaphore>,
    budget_pieces: usize,
    overdraft: Arc<Semaphore>,
    /// How many wait for a share.
    waiting: Arc<AtomicUsize>,
}

/// Somebody who waits for a share, for as long as this lives.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn among(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(all))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A share of the budget; given back when dropped.
#[derive(Debug, Default)]
pub struct Share {
    counted: Option<OwnedSemaphorePermit>,
    /// Held, the budget does not matter.
    overdraft: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Share {
    /// What remains to be said of a share that was given back: its size.
    pub fn given_back(bytes: usize) -> Self {
        Share {
            bytes,
            ..Share::default()
        }
    }

    /// How many bytes this stands for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds another share to this one.
    pub fn merge(&mut self, other: Share) {
        self.bytes += other.bytes;
        if let Some(more) = other.counted {
            match &mut self.counted {
                Some(counted) => counted.merge(more),
                None => self.counted = Some(more),
            }
        }
        if other.overdraft.is_some() {
            self.overdraft = other.overdraft;
        }
    }
}

impl RequestMemory {
    pub fn new(budget_bytes: usize) -> Self {
        let budget_pieces = (budget_bytes / PIECE_BYTES).clamp(1, u32::MAX as usize >> 1);
        RequestMemory {
            budget: Arc::new(Semaphore::new(budget_pieces)),
            budget_pieces,
            overdraft: Arc::new(Semaphore::new(1)),
            waiting: Arc::default(),
        }
    }

    /// The whole budget.
    pub fn budget_bytes(&self) -> usize {
        self.budget_pieces * PIECE_BYTES
    }

    /// Whether somebody waits for a share.
    pub fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// A share of `bytes` more for whoever holds `held`, if it can be had at once.
    pub fn try_take(&self, held: &Share, bytes: usize) -> Option<Share> {
        if held.overdraft.is_some() {
            return Some(Share::given_back(bytes));
        }
        let pieces = self.pieces(bytes)?;
        let counted = Arc::clone(&self.budget)
            .try_acquire_many_owned(pieces)
            .ok()?;
        Some(Share {
            counted: Some(counted),
            bytes,
            ..Share::default()
        })
    }

    /// A share of `bytes`, as soon as it can be had within the budget or beyond it.
    pub async fn take(self, bytes: usize) -> Share {
        let _waiting = Waiting::among(&self.waiting);
        let overdraft = Arc::clone(&self.overdraft).acquire_owned();
        let (counted, overdraft) = match self.pieces(bytes) {
            Some(pieces) => tokio::select! {
                biased;
                counted = Arc::clone(&self.budget).acquire_many_owned(pieces) => (counted.ok(), None),
                overdraft = overdraft => (None, overdraft.ok()),
            },
            None => (None, overdraft.await.ok()),
        };
        Share {
            counted,
            overdraft,
            bytes,
        }
    }

    /// `None` for more than the whole budget.
    fn pieces(&self, bytes: usize) -> Option<u32> {
        let pieces = bytes.div_ceil(PIECE_BYTES);
        (pieces <= self.budget_pieces).then_some(pieces as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const KIB: usize = 1024;

    #[test]
    fn a_share_is_given_back_when_dropped() {
        let memory = RequestMemory::new(10 * KIB);
        let nothing = Share::default();
        let mut share = memory
            .try_take(&nothing, 6 * KIB)
            .expect("within the budget");
        assert!(memory.try_take(&nothing, 6 * KIB).is_none());
        share.merge(memory.try_take(&share, 4 * KIB).expect("the rest"));
        assert_eq!(share.bytes(), 10 * KIB);
        drop(share);
        assert!(memory.try_take(&nothing, 10 * KIB).is_some());
    }

    #[test]
    fn one_holder_at_a_time_goes_beyond_the_budget() {
        let memory = RequestMemory::new(10 * KIB);
        let all = memory
            .try_take(&Share::default(), 10 * KIB)
            .expect("all of it");
        let mut first = memory
            .clone()
            .take(5 * KIB)
            .now_or_never()
            .expect("the overdraft");
        assert!(
            memory.try_take(&first, 100 * KIB).is_some(),
            "and as much as it needs"
        );
        let mut second = Box::pin(memory.clone().take(5 * KIB));
        assert!((&mut second).now_or_never().is_none());
        assert!(memory.is_awaited());
        first.merge(Share::default());
        drop(first);
        assert!((&mut second).now_or_never().is_some());
        assert!(!memory.is_awaited());
        drop(all);
    }

    #[test]
    fn a_request_larger_than_the_budget_is_still_served() {
        let memory = RequestMemory::new(KIB);
        assert!(memory.try_take(&Share::default(), 2 * KIB).is_none());
        assert!(memory.clone().take(2 * KIB).now_or_never().is_some());
    }
}
