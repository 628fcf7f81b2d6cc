//! Replacement for `src/storage/partition.rs` in which the tail is just the high watermark. As there, it is changed under
//! its lock, and watchers are notified afterwards.

#[path = "../../../../src/storage/partition/fetch_waiters.rs"]
mod fetch_waiters;

use self::fetch_waiters::FetchWaiters;
use crate::sync::Mutex;

#[derive(Default)]
pub struct Partition {
    high_watermark: Mutex<i64>,
    watchers: FetchWaiters,
}

impl Partition {
    pub fn append(&self) {
        *self.high_watermark.lock() += 1;
        self.watchers.notify();
    }

    pub fn high_watermark(&self) -> i64 {
        *self.high_watermark.lock()
    }
}
