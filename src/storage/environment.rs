//! What all partitions of a server share.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::checkpoint::{self, Offsets};
use super::error::Error;
use super::health::Health;
use super::partition::Partition;
use super::space::Space;
use super::stats::StorageCounters;
use crate::clock::Clock;
use crate::config::Durability;
use crate::fs::Fs;
use crate::metrics::Metrics;

pub(super) struct Environment {
    pub fs: Fs,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub durability: Durability,
    pub producer_id_expiration_ms: i64,
    pub log_starts: LogStarts,
    pub health: Health,
    pub space: Space,
    pub counters: StorageCounters,
    pub data_dir: PathBuf,
    /// Partitions with data that the disk may lack.
    pub unsynced: Mutex<Vec<Weak<Partition>>>,
    /// The disk has got further since the recovery points were written.
    pub points_stale: AtomicBool,
}

impl Environment {
    pub fn note_unsynced(&self, partition: &Arc<Partition>) {
        if partition.enqueue() {
            self.unsynced.lock().push(Arc::downgrade(partition));
        }
    }

    /// Runs work that has to go on when the disk is full: it may take the space of the reserve.
    pub fn spending<T>(&self, work: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        self.space.reserve().spend(Error::is_disk_full, work)
    }

    pub fn note_damage(&self, ranges: u64) {
        self.counters.damaged_ranges.add(ranges);
    }
}

/// Where logs start that start within a segment, and the file that remembers it.
pub(super) struct LogStarts {
    path: PathBuf,
    offsets: Mutex<Offsets>,
}

impl LogStarts {
    pub fn new(path: PathBuf, offsets: Offsets) -> Self {
        Self {
            path,
            offsets: Mutex::new(offsets),
        }
    }

    /// Notes where a log starts; after an error it starts where it did.
    pub fn set(&self, fs: &Fs, topic: &str, partition: i32, log_start: i64) -> Result<(), Error> {
        let mut offsets = self.offsets.lock();
        let mut changed = offsets.clone();
        changed.insert((topic.to_string(), partition), log_start);
        checkpoint::write_offsets(fs, &self.path, &changed)?;
        *offsets = changed;
        Ok(())
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<i64> {
        let key = (topic.to_string(), partition);
        self.offsets.lock().get(&key).copied()
    }

    pub fn topics(&self) -> BTreeSet<String> {
        let offsets = self.offsets.lock();
        offsets.keys().map(|(topic, _)| topic.clone()).collect()
    }

    /// Drops what is noted of a topic; after an error it is still noted.
    pub fn forget(&self, fs: &Fs, topic: &str) -> Result<(), Error> {
        let mut offsets = self.offsets.lock();
        let mut changed = offsets.clone();
        changed.retain(|(name, _), _| name != topic);
        if changed.len() < offsets.len() {
            checkpoint::write_offsets(fs, &self.path, &changed)?;
            *offsets = changed;
        }
        Ok(())
    }
}
