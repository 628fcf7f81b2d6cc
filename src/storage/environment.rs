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
///
/// The file may say more than is known here: of deleted topics, when it could not be written. It must not when a topic
/// of the same name is created, whose records below the old start would be taken for deleted ones by the next start.
pub(super) struct LogStarts {
    path: PathBuf,
    noted: Mutex<Noted>,
}

struct Noted {
    offsets: Offsets,
    /// The file names partitions that are gone.
    file_is_stale: bool,
}

impl LogStarts {
    pub fn new(path: PathBuf, offsets: Offsets) -> Self {
        Self {
            path,
            noted: Mutex::new(Noted {
                offsets,
                file_is_stale: false,
            }),
        }
    }

    /// Notes where a log starts; after an error it starts where it did.
    pub fn set(&self, fs: &Fs, topic: &str, partition: i32, log_start: i64) -> Result<(), Error> {
        let mut noted = self.noted.lock();
        let mut changed = noted.offsets.clone();
        changed.insert((topic.to_string(), partition), log_start);
        checkpoint::write_offsets(fs, &self.path, &changed)?;
        noted.offsets = changed;
        noted.file_is_stale = false;
        Ok(())
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<i64> {
        let key = (topic.to_string(), partition);
        self.noted.lock().offsets.get(&key).copied()
    }

    pub fn topics(&self) -> BTreeSet<String> {
        let noted = self.noted.lock();
        noted.offsets.keys().map(|(name, _)| name.clone()).collect()
    }

    /// Drops what is noted of a topic's partitions from `first` on. The file follows with the next [`set`](Self::set) or
    /// [`write_if_stale`](Self::write_if_stale).
    pub fn forget(&self, topic: &str, first: i32) {
        let mut noted = self.noted.lock();
        let before = noted.offsets.len();
        noted
            .offsets
            .retain(|(name, number), _| name != topic || *number < first);
        noted.file_is_stale |= noted.offsets.len() < before;
    }

    /// Returns whether the file names partitions that are gone.
    pub fn is_file_stale(&self) -> bool {
        self.noted.lock().file_is_stale
    }

    /// Takes partitions that are gone out of the file.
    pub fn write_if_stale(&self, fs: &Fs) -> Result<(), Error> {
        let mut noted = self.noted.lock();
        if noted.file_is_stale {
            checkpoint::write_offsets(fs, &self.path, &noted.offsets)?;
            noted.file_is_stale = false;
        }
        Ok(())
    }
}
