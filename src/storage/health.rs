//! Whether records can be written: a true probe of the data directory, and what went wrong lately.
//!
//! The probe writes, synchronises and removes a small file, at most every few seconds. A full disk is remembered from
//! the append that met it, since a small file may still fit, and forgotten when an append of its size succeeds or there
//! is room for one again. A partition whose synchronisation failed stays on the list until the server is restarted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::error::Error;
use crate::clock::Clock;
use crate::fs::Fs;

const PROBE_INTERVAL: Duration = Duration::from_secs(5);
const PROBE_FILE: &str = ".streamline-probe";

/// After a write met a full disk there has to be room for it and this much more.
const SPARE_BYTES: u64 = 1 << 20;

/// How many poisoned partitions a reason names.
const NAMED_MAX: usize = 3;

pub(super) struct Health {
    fs: Fs,
    data_dir: PathBuf,
    /// Partitions that take no more records, and why.
    poisoned: Mutex<BTreeMap<String, String>>,
    /// Room that an append did not find; 0 if the last one did.
    room_missed: AtomicU64,
    probed: Mutex<Option<(Duration, Result<(), String>)>>,
}

impl Health {
    pub fn new(fs: &Fs, data_dir: &Path) -> Self {
        Self {
            fs: fs.clone(),
            data_dir: data_dir.to_path_buf(),
            poisoned: Mutex::default(),
            room_missed: AtomicU64::new(0),
            probed: Mutex::new(None),
        }
    }

    pub fn note_poisoned(&self, partition: String, reason: &str) {
        self.poisoned.lock().insert(partition, reason.to_string());
    }

    /// The partition is gone, and its trouble with it.
    pub fn forget_poisoned(&self, partition: &str) {
        self.poisoned.lock().remove(partition);
    }

    pub fn note_write_failure(&self, failure: &Error, bytes: usize) {
        if matches!(failure, Error::DiskFull { .. }) {
            let room = bytes as u64 + SPARE_BYTES;
            self.room_missed.fetch_max(room, Ordering::Relaxed);
        }
    }

    /// A smaller append than the one that failed says nothing: it may have fitted beside it.
    pub fn note_write_success(&self, bytes: usize) {
        // The line is shared by all writers, so it is only written when there is something to say.
        let missed = self.room_missed.load(Ordering::Relaxed);
        if missed != 0 && bytes as u64 + SPARE_BYTES >= missed {
            self.room_missed.store(0, Ordering::Relaxed);
        }
    }

    pub fn check(&self, clock: &dyn Clock) -> Result<(), String> {
        {
            let poisoned = self.poisoned.lock();
            if !poisoned.is_empty() {
                let named: Vec<_> = poisoned
                    .iter()
                    .take(NAMED_MAX)
                    .map(|(partition, reason)| format!("{partition}: {reason}"))
                    .collect();
                return Err(format!(
                    "{} partitions take no more records: {}",
                    poisoned.len(),
                    named.join("; ")
                ));
            }
        }
        let mut probed = self.probed.lock();
        let now = clock.monotonic();
        match &*probed {
            Some((at, result)) if now.saturating_sub(*at) < PROBE_INTERVAL => {
                result.clone()?;
            }
            _ => {
                let result = self.probe();
                *probed = Some((now, result.clone()));
                result?;
            }
        }
        self.check_room()
    }

    fn probe(&self) -> Result<(), String> {
        let path = self.data_dir.join(PROBE_FILE);
        self.fs
            .create(&path)
            .and_then(|file| {
                file.write_all_at(&[0; 512], 0)?;
                file.sync_data()
            })
            .and_then(|()| self.fs.remove_file(&path))
            .map_err(|error| format!("cannot write to {}: {error}", self.data_dir.display()))
    }

    fn check_room(&self) -> Result<(), String> {
        let missed = self.room_missed.load(Ordering::Relaxed);
        if missed == 0 {
            return Ok(());
        }
        let available = self
            .fs
            .available_bytes(&self.data_dir)
            .map_err(|error| format!("cannot look at {}: {error}", self.data_dir.display()))?;
        if available < missed {
            return Err(format!(
                "the disk that holds {} is full: {available} bytes are free, {missed} are needed",
                self.data_dir.display()
            ));
        }
        self.room_missed.store(0, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::fs::{Fault, Faults, Op};
    use std::io::ErrorKind;

    #[test]
    fn the_probe_is_rate_limited_and_heals() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::new();
        let health = Health::new(&Fs::with_faults(faults.clone()), dir.path());
        let clock = ManualClock::at_ms(0);
        faults.plan(Op::SyncData, PROBE_FILE, Fault::Error(ErrorKind::Other), 1);
        let reason = health.check(clock.as_ref()).unwrap_err();
        assert!(reason.contains("cannot write to"), "{reason}");
        health.check(clock.as_ref()).unwrap_err();
        assert_eq!(faults.calls(Op::SyncData, PROBE_FILE), 1);
        clock.advance(PROBE_INTERVAL);
        health.check(clock.as_ref()).unwrap();
        health.check(clock.as_ref()).unwrap();
        assert_eq!(faults.calls(Op::SyncData, PROBE_FILE), 2);
        assert!(!dir.path().join(PROBE_FILE).exists());
    }

    #[test]
    fn a_full_disk_is_remembered_until_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::new();
        let health = Health::new(&Fs::with_faults(faults.clone()), dir.path());
        let clock = ManualClock::at_ms(0);
        let full = Error::DiskFull {
            action: "append to",
            path: dir.path().to_path_buf(),
        };
        faults.limit_space(10_000);
        health.note_write_failure(&full, 100_000);
        let reason = health.check(clock.as_ref()).unwrap_err();
        assert!(reason.contains("full"), "{reason}");
        health.note_write_success(100);
        health.check(clock.as_ref()).unwrap_err();
        faults.limit_space(100_000 + SPARE_BYTES);
        health.check(clock.as_ref()).unwrap();
        faults.limit_space(10_000);
        health.check(clock.as_ref()).unwrap();
        health.note_write_failure(&full, 100_000);
        health.note_write_success(100_000);
        health.check(clock.as_ref()).unwrap();
    }
}
