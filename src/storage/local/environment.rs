//! The components shared by all partitions of a server.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use super::checkpoint::{self, Offsets};
use super::error::Error;
use super::health::Health;
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
    /// Start offsets of logs that start within a segment.
    pub log_starts: OffsetFile,
    /// Offsets below which logs are compacted.
    pub cleaner_offsets: OffsetFile,
    pub health: Health,
    pub space: Space,
    pub counters: StorageCounters,
    pub data_dir: PathBuf,
    /// Set when a flush completed after the recovery points were written.
    pub points_stale: AtomicBool,
}

impl Environment {
    /// Runs work that must succeed when the disk is full; it may take the reserve's space.
    pub fn spending<T>(&self, work: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        self.space.reserve().spend(Error::is_disk_full, work)
    }

    pub fn note_damage(&self, ranges: u64) {
        self.counters.damaged_ranges.add(ranges);
    }
}

/// Offsets of some of the logs, and their checkpoint file.
///
/// The file may still name deleted topics if it could not be written. It must be rewritten before a topic of the same
/// name is created, or the next start would treat the new topic's records below the old offset as deleted or compacted.
pub(super) struct OffsetFile {
    path: PathBuf,
    state: Mutex<OffsetFileState>,
}

struct OffsetFileState {
    offsets: Offsets,
    /// Set if the file names deleted partitions.
    file_is_stale: bool,
}

impl OffsetFile {
    pub fn new(path: PathBuf, offsets: Offsets) -> Self {
        Self {
            path,
            state: Mutex::new(OffsetFileState {
                offsets,
                file_is_stale: false,
            }),
        }
    }

    /// Sets the offset of a log and writes the file; after an error the old one stays.
    pub fn set(&self, fs: &Fs, topic: &str, partition: i32, offset: i64) -> Result<(), Error> {
        let mut state = self.state.lock();
        let mut changed = state.offsets.clone();
        changed.insert((topic.to_string(), partition), offset);
        checkpoint::write_offsets(fs, &self.path, &changed)?;
        state.offsets = changed;
        state.file_is_stale = false;
        Ok(())
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<i64> {
        let key = (topic.to_string(), partition);
        self.state.lock().offsets.get(&key).copied()
    }

    pub fn topics(&self) -> BTreeSet<String> {
        let state = self.state.lock();
        state.offsets.keys().map(|(name, _)| name.clone()).collect()
    }

    /// Removes the offsets of a topic's partitions from `first` on. The file is updated by the next
    /// [`set`](Self::set) or [`write_if_stale`](Self::write_if_stale).
    pub fn forget(&self, topic: &str, first: i32) {
        let mut state = self.state.lock();
        let before = state.offsets.len();
        state
            .offsets
            .retain(|(name, number), _| name != topic || *number < first);
        state.file_is_stale |= state.offsets.len() < before;
    }

    /// Returns true if the file names deleted partitions.
    pub fn is_file_stale(&self) -> bool {
        self.state.lock().file_is_stale
    }

    /// Removes deleted partitions from the file.
    pub fn write_if_stale(&self, fs: &Fs) -> Result<(), Error> {
        let mut state = self.state.lock();
        if state.file_is_stale {
            checkpoint::write_offsets(fs, &self.path, &state.offsets)?;
            state.file_is_stale = false;
        }
        Ok(())
    }
}
