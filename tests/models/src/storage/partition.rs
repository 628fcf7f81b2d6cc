//! Replacement for a partition in which the log is just the high watermark. As there, it is changed under its lock, and
//! waiters are notified afterwards.

#[path = "../../../../src/storage/common/fetch_waiters.rs"]
mod fetch_waiters;

use std::sync::Arc;

use self::fetch_waiters::{FetchWaiter, FetchWaiters};
use crate::sync::{Mutex, Notify};

#[derive(Default)]
pub struct Partition {
    high_watermark: Mutex<i64>,
    watchers: Arc<FetchWaiters>,
}

impl Partition {
    pub fn watch(&self, waiter: &Arc<Notify>) -> FetchWaiter {
        self.watchers.add(waiter)
    }

    pub fn append(&self) {
        *self.high_watermark.lock() += 1;
        self.watchers.notify();
    }

    pub fn high_watermark(&self) -> i64 {
        *self.high_watermark.lock()
    }
}
