//! Those who wait for more records.

use std::sync::Arc;

use super::Partition;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, Notify};

impl Partition {
    /// Has `waiter` notified whenever there may be more to read, or the partition's life ends, until the guard is
    /// dropped. Look at the partition after this, before waiting.
    pub fn watch(self: &Arc<Self>, waiter: &Arc<Notify>) -> Watch {
        self.watchers.add(waiter);
        Watch {
            partition: Arc::clone(self),
            waiter: Arc::clone(waiter),
        }
    }
}

/// Who waits for more records.
#[derive(Default)]
pub(super) struct Watchers {
    count: AtomicUsize,
    waiters: Mutex<Vec<Arc<Notify>>>,
}

impl Watchers {
    fn add(&self, waiter: &Arc<Notify>) {
        let mut waiters = self.waiters.lock();
        waiters.push(Arc::clone(waiter));
        self.count.store(waiters.len(), Ordering::SeqCst);
    }

    fn remove(&self, waiter: &Arc<Notify>) {
        let mut waiters = self.waiters.lock();
        if let Some(place) = waiters.iter().position(|each| Arc::ptr_eq(each, waiter)) {
            waiters.swap_remove(place);
        }
        self.count.store(waiters.len(), Ordering::SeqCst);
    }

    /// The offsets were changed under the tail's lock before this. A watcher is added before it looks at them under the
    /// same lock; so either it saw the change, or it is counted here.
    pub(super) fn notify(&self) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for waiter in &*self.waiters.lock() {
            waiter.notify_one();
        }
    }
}

/// A registration made by [`Partition::watch`]; ends when it is dropped.
pub struct Watch {
    partition: Arc<Partition>,
    waiter: Arc<Notify>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.partition.watchers.remove(&self.waiter);
    }
}
