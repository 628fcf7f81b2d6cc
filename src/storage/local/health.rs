//! Health of the storage: a probe of the data directory, and the partitions that failed.
//!
//! The probe writes, flushes and removes a small file, at most every few seconds; it may not take the reserve's space.
//! [`Space`] tells if the disk is too full for records, since a small file may still fit. A partition whose flush
//! failed stays on the list until the server is restarted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use super::space::Space;
use crate::clock::Clock;
use crate::fs::{Fs, is_full};

const PROBE_INTERVAL: Duration = Duration::from_secs(5);
const PROBE_FILE: &str = ".streamline-probe";

/// Limit of failed partitions named in one reason.
const NAMED_MAX: usize = 3;

pub(super) struct Health {
    fs: Fs,
    data_dir: PathBuf,
    /// Partitions that refuse records, and why.
    poisoned: Mutex<BTreeMap<String, String>>,
    probed: Mutex<Option<(Duration, Result<(), String>)>>,
}

impl Health {
    pub fn new(fs: &Fs, data_dir: &Path) -> Self {
        Self {
            fs: fs.clone(),
            data_dir: data_dir.to_path_buf(),
            poisoned: Mutex::default(),
            probed: Mutex::new(None),
        }
    }

    pub fn note_poisoned(&self, partition: String, reason: &str) {
        self.poisoned.lock().insert(partition, reason.to_string());
    }

    /// Removes a deleted partition from the list.
    pub fn forget_poisoned(&self, partition: &str) {
        self.poisoned.lock().remove(partition);
    }

    pub fn check(&self, clock: &dyn Clock, space: &Space) -> Result<(), String> {
        {
            let poisoned = self.poisoned.lock();
            if !poisoned.is_empty() {
                let named: Vec<_> = poisoned
                    .iter()
                    .take(NAMED_MAX)
                    .map(|(partition, reason)| format!("{partition}: {reason}"))
                    .collect();
                return Err(format!(
                    "{} partitions refuse records until the server is restarted: {}",
                    poisoned.len(),
                    named.join("; ")
                ));
            }
        }
        space.check().map_err(|full| full.to_string())?;
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
        Ok(())
    }

    fn probe(&self) -> Result<(), String> {
        let path = self.data_dir.join(PROBE_FILE);
        let written = self.fs.create(&path).and_then(|file| {
            file.write_all_at(&[0; 512], 0)?;
            file.sync_data()
        });
        let removed = self.fs.remove_file(&path);
        let dir = self.data_dir.display();
        written.and(removed).map_err(|error| match is_full(&error) {
            true => format!(
                "the disk that holds {dir} is full: {error}; delete topics or records, or add space"
            ),
            false => format!("cannot write to {dir}: {error}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::fs::{Fault, Faults, Op, Reserve};
    use std::io::ErrorKind;

    #[test]
    fn the_probe_is_rate_limited_and_heals() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::new();
        let fs = Fs::with_faults(faults.clone());
        let health = Health::new(&fs, dir.path());
        let space = Space::new(&fs, dir.path(), Reserve::none());
        let clock = ManualClock::at_ms(0);
        faults.plan(Op::SyncData, PROBE_FILE, Fault::Error(ErrorKind::Other), 1);
        let reason = health.check(clock.as_ref(), &space).unwrap_err();
        assert!(reason.contains("cannot write to"), "{reason}");
        health.check(clock.as_ref(), &space).unwrap_err();
        assert_eq!(faults.calls(Op::SyncData, PROBE_FILE), 1);
        clock.advance(PROBE_INTERVAL);
        health.check(clock.as_ref(), &space).unwrap();
        health.check(clock.as_ref(), &space).unwrap();
        assert_eq!(faults.calls(Op::SyncData, PROBE_FILE), 2);
        assert!(!dir.path().join(PROBE_FILE).exists());
    }
}
