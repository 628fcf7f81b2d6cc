//! The partitions with unflushed data.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Partition;

/// The list of partitions with unflushed data, each at most once.
#[derive(Default)]
pub(in crate::storage::local) struct Unsynced {
    partitions: Mutex<Vec<Weak<Partition>>>,
}

impl Unsynced {
    /// Adds a partition, unless it is listed.
    pub fn note(&self, partition: &Partition) {
        if !partition.enqueued.swap(true, Ordering::AcqRel) {
            self.partitions.lock().push(Weak::clone(&partition.me));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.partitions.lock().is_empty()
    }

    /// Empties the list. A partition is listed again from the moment it is returned here, so an append made before it is
    /// checked is not missed.
    pub fn take(&self) -> impl Iterator<Item = Arc<Partition>> + use<> {
        let listed = std::mem::take(&mut *self.partitions.lock());
        listed.into_iter().filter_map(|weak| {
            let partition = weak.upgrade()?;
            partition.enqueued.store(false, Ordering::Release);
            Some(partition)
        })
    }
}
