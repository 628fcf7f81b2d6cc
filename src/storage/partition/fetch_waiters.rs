//! Fetches that wait for more records.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Partition;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, Notify};

impl Partition {
    /// Notifies `waiter` whenever there may be more to read, or the partition is retired, until the guard is dropped.
    /// Check the partition again after this call and before waiting.
    pub fn watch(self: &Arc<Self>, waiter: &Arc<Notify>) -> FetchWaiter {
        FetchWaiter {
            ticket: self.watchers.add(waiter),
            partition: Arc::clone(self),
        }
    }
}

/// Fetches that wait for more records.
#[derive(Default)]
pub(super) struct FetchWaiters {
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
    /// Returns the ticket that [`FetchWaiters::remove`] takes back.
    fn add(&self, waiter: &Arc<Notify>) -> u64 {
        let mut waiting = self.waiting.lock();
        let ticket = waiting.next_ticket;
        waiting.next_ticket += 1;
        waiting.by_ticket.insert(ticket, Arc::clone(waiter));
        self.count.store(waiting.by_ticket.len(), Ordering::SeqCst);
        ticket
    }

    fn remove(&self, ticket: u64) {
        let mut waiting = self.waiting.lock();
        waiting.by_ticket.remove(&ticket);
        self.count.store(waiting.by_ticket.len(), Ordering::SeqCst);
    }

    /// Notifies all waiters. The offsets were changed under the log state's lock before this call. A waiter is added
    /// before it checks them under the same lock, so either it saw the change or it is counted here.
    pub(super) fn notify(&self) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for waiter in self.waiting.lock().by_ticket.values() {
            waiter.notify_one();
        }
    }
}

/// A registration made by [`Partition::watch`]; ends when it is dropped.
pub struct FetchWaiter {
    partition: Arc<Partition>,
    ticket: u64,
}

impl Drop for FetchWaiter {
    fn drop(&mut self) {
        self.partition.watchers.remove(self.ticket);
    }
}
