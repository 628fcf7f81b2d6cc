//! Fetches that wait for more records.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, Notify};

/// Fetches that wait for more records of one partition.
#[derive(Default)]
pub(in crate::storage) struct FetchWaiters {
    count: AtomicUsize,
    waiting: Mutex<Waiting>,
}

/// Waiters by ticket: there may be any number of them, and each unregisters after every append.
#[derive(Default)]
struct Waiting {
    by_ticket: BTreeMap<u64, Arc<Notify>>,
    next_ticket: u64,
}

impl FetchWaiters {
    /// Notifies `waiter` with all others until the returned registration is dropped.
    pub fn add(self: &Arc<Self>, waiter: &Arc<Notify>) -> FetchWaiter {
        let mut waiting = self.waiting.lock();
        let ticket = waiting.next_ticket;
        waiting.next_ticket += 1;
        waiting.by_ticket.insert(ticket, Arc::clone(waiter));
        self.count.store(waiting.by_ticket.len(), Ordering::SeqCst);
        FetchWaiter {
            waiters: Arc::clone(self),
            ticket,
        }
    }

    fn remove(&self, ticket: u64) {
        let mut waiting = self.waiting.lock();
        waiting.by_ticket.remove(&ticket);
        self.count.store(waiting.by_ticket.len(), Ordering::SeqCst);
    }

    /// Notifies all waiters. The offsets were changed under the log state's lock before this call. A waiter is added
    /// before it checks them under the same lock, so either it saw the change or it is counted here.
    pub fn notify(&self) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for waiter in self.waiting.lock().by_ticket.values() {
            waiter.notify_one();
        }
    }
}

/// A registered waiter; ends when it is dropped.
pub struct FetchWaiter {
    waiters: Arc<FetchWaiters>,
    ticket: u64,
}

impl Drop for FetchWaiter {
    fn drop(&mut self) {
        self.waiters.remove(self.ticket);
    }
}
