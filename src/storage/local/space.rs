//! Disk space: refuses records when it is short, and reports it to metrics, the log and `/health`.
//!
//! Records are refused while the [`Reserve`] is released, so that they do not take the space that the catalog,
//! checkpoints and deletion need. An append that finds the disk full while the reserve is held is refused alone:
//! smaller ones may still fit. The disk counts as full until the reserve is held and there is room for the refused
//! append. [`Space::watch`], which runs about once a second, detects that, so that records are accepted again without a
//! restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::StatVfs;
use tracing::{error, info, warn};

use super::error::Error;
use crate::fs::{self, Fs, Reserve};
use crate::metrics::{Samples, catalog};
use crate::storage::Volume;

/// Room required beyond a refused append before the disk no longer counts as full.
const SPARE_BYTES: u64 = 1 << 20;

/// Interval of log lines about a full disk while records are refused, after the first one.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Space {
    fs: Fs,
    data_dir: PathBuf,
    reserve: Arc<Reserve>,
    /// Room that a refused append needs; 0 if there is none.
    room_needed: AtomicU64,
    /// As last measured, so that scrapes do not wait for a disk that hangs.
    available_bytes: AtomicU64,
    total_bytes: AtomicU64,
    full: Mutex<Option<Full>>,
    /// Set while `full` is, for scrapes, which must not wait while a log line is written under its lock.
    is_full: AtomicBool,
}

/// A disk that is full at the moment.
struct Full {
    since: Duration,
    logged_at: Duration,
    /// Refused appends and topics since the last log line.
    refused: u64,
    refused_total: u64,
}

impl Space {
    pub fn new(fs: &Fs, data_dir: &Path, reserve: Arc<Reserve>) -> Self {
        let space = Self {
            fs: fs.clone(),
            data_dir: data_dir.to_path_buf(),
            reserve,
            room_needed: AtomicU64::new(0),
            available_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
            full: Mutex::new(None),
            is_full: AtomicBool::new(false),
        };
        let _ = space.measure();
        space
    }

    pub fn reserve(&self) -> &Reserve {
        &self.reserve
    }

    /// Returns an error while records and new topics are refused, whatever their size.
    pub fn admit(&self) -> Result<(), Error> {
        match self.reserve.is_released() {
            false => Ok(()),
            true => Err(self.disk_full(None)),
        }
    }

    /// Returns an error if writing `bytes` would leave no room for records, whose disk space matters more.
    pub fn admit_compaction(&self, bytes: usize) -> Result<(), Error> {
        self.admit()?;
        let needed = bytes as u64 + SPARE_BYTES;
        match self.measure() {
            Ok(space) if space.available_bytes < needed || space.lacks_files() => {
                Err(Error::DiskFull {
                    data_dir: self.data_dir.clone(),
                    shortage: format!(
                        "{} bytes are free, {needed} are needed",
                        space.available_bytes
                    ),
                })
            }
            // The write itself reports what is wrong.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Builds the error that says what is short; `failure` is the failed operation, if known.
    fn disk_full(&self, failure: Option<&Error>) -> Error {
        let needed = self.needed_bytes();
        let shortage = match self.measure() {
            Ok(space) if space.lacks_files() => "no more files can be created".to_string(),
            Ok(space) => match failure {
                // Another resource was short, or space was freed since.
                Some(failure) if space.available_bytes >= needed => failure.to_string(),
                _ => format!(
                    "{} bytes are free, {needed} are needed",
                    space.available_bytes
                ),
            },
            Err(error) => error.to_string(),
        };
        Error::DiskFull {
            data_dir: self.data_dir.clone(),
            shortage,
        }
    }

    /// Returns the free bytes from which on the disk does not count as full.
    fn needed_bytes(&self) -> u64 {
        let missed = self.room_needed.load(Ordering::Relaxed);
        match self.reserve.is_released() {
            true => self.reserve.restored_from_bytes().max(missed),
            false => missed,
        }
    }

    /// Converts the failure of an append of `bytes`, or of a new topic, to the error that refuses it, and logs a full
    /// disk.
    pub fn refuse(&self, failure: Error, bytes: usize, now: Duration) -> Error {
        let refusal = match failure {
            Error::NoSpace { .. } => {
                let room = bytes as u64 + SPARE_BYTES;
                self.room_needed.fetch_max(room, Ordering::Relaxed);
                self.disk_full(Some(&failure))
            }
            Error::DiskFull { .. } => failure,
            other => return other,
        };
        self.log_refusal(now);
        refusal
    }

    /// Notes a successful append. Only one at least as large as the refused one shows that there is room again.
    pub fn note_written(&self, bytes: usize) {
        // All writers share the cache line, so it is written only on a change.
        let missed = self.room_needed.load(Ordering::Relaxed);
        if missed != 0 && bytes as u64 + SPARE_BYTES >= missed {
            self.room_needed.store(0, Ordering::Relaxed);
        }
    }

    fn log_refusal(&self, now: Duration) {
        let mut full = self.full.lock();
        match &mut *full {
            None => {
                let begun = self.begin(now);
                *full = Some(Full {
                    refused_total: 1,
                    ..begun
                });
            }
            Some(full) => {
                full.refused += 1;
                full.refused_total += 1;
                if now.saturating_sub(full.logged_at) >= LOG_INTERVAL {
                    warn!(
                        data_dir = %self.data_dir.display(),
                        available_bytes = self.available_bytes.load(Ordering::Relaxed),
                        reserve_held_bytes = self.reserve.held_bytes(),
                        refused = full.refused,
                        "disk full, still refusing records and new topics"
                    );
                    full.logged_at = now;
                    full.refused = 0;
                }
            }
        }
    }

    fn begin(&self, now: Duration) -> Full {
        self.is_full.store(true, Ordering::Relaxed);
        error!(
            data_dir = %self.data_dir.display(),
            available_bytes = self.available_bytes.load(Ordering::Relaxed),
            reserve_held_bytes = self.reserve.held_bytes(),
            "disk full, refusing records and new topics until topics or records are deleted or space is added"
        );
        Full {
            since: now,
            logged_at: now,
            refused: 0,
            refused_total: 0,
        }
    }

    /// Measures the free space, restores the reserve when there is enough, and logs when the disk becomes full or no
    /// longer is. Blocks.
    pub fn watch(&self, now: Duration) {
        self.reserve.restore();
        // A failed measurement is repeated in a second.
        let _ = self.measure();
        let mut full = self.full.lock();
        if full.is_none() && self.reserve.is_released() {
            *full = Some(self.begin(now));
        }
        if let Some(ended) = full.take_if(|_| self.check().is_ok()) {
            self.is_full.store(false, Ordering::Relaxed);
            info!(
                data_dir = %self.data_dir.display(),
                available_bytes = self.available_bytes.load(Ordering::Relaxed),
                refused = ended.refused_total,
                full_ms = now.saturating_sub(ended.since).as_millis() as u64,
                "disk has space again, accepting records and new topics"
            );
        }
    }

    /// Returns an error that says why records are refused, if they are.
    pub fn check(&self) -> Result<(), Error> {
        self.admit()?;
        let missed = self.room_needed.load(Ordering::Relaxed);
        if missed == 0 {
            return Ok(());
        }
        let has_room = |space: fs::Space| space.available_bytes >= missed && !space.lacks_files();
        if !self.measure().is_ok_and(has_room) {
            return Err(self.disk_full(None));
        }
        self.room_needed.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Measures the free space and stores it for scrapes.
    fn measure(&self) -> io::Result<fs::Space> {
        let space = self.fs.space(&self.data_dir)?;
        self.available_bytes
            .store(space.available_bytes, Ordering::Relaxed);
        self.total_bytes.store(space.total_bytes, Ordering::Relaxed);
        Ok(space)
    }

    /// Returns the volume of the data directory, as any user sees it.
    pub fn volume(&self) -> Volume {
        let volume = rustix::fs::statvfs(&self.data_dir).ok();
        let bytes = |blocks: fn(&StatVfs) -> u64| {
            let volume = volume.as_ref()?;
            Some(blocks(volume).saturating_mul(volume.f_frsize))
        };
        let data_dir = std::path::absolute(&self.data_dir);
        Volume {
            name: data_dir
                .unwrap_or_else(|_| self.data_dir.clone())
                .display()
                .to_string(),
            total_bytes: bytes(|volume| volume.f_blocks),
            usable_bytes: bytes(|volume| volume.f_bavail),
        }
    }

    pub fn collect(&self, out: &mut Samples) {
        out.family(&catalog::DISK_AVAILABLE_BYTES)
            .sample(&[], self.available_bytes.load(Ordering::Relaxed));
        out.family(&catalog::DISK_SIZE_BYTES)
            .sample(&[], self.total_bytes.load(Ordering::Relaxed));
        out.family(&catalog::DISK_FULL)
            .sample(&[], self.is_full.load(Ordering::Relaxed));
        if self.reserve.size_bytes() > 0 {
            out.family(&catalog::DISK_RESERVE_BYTES)
                .sample(&[], self.reserve.held_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Faults;

    const RESERVE_BYTES: u64 = 65_536;

    struct Fixture {
        dir: tempfile::TempDir,
        faults: Arc<Faults>,
        space: Space,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let faults = Faults::new();
            let fs = Fs::with_faults(faults.clone());
            let reserve = Reserve::open(&fs, dir.path(), RESERVE_BYTES);
            Self {
                space: Space::new(&fs, dir.path(), reserve),
                dir,
                faults,
            }
        }

        fn refuse(&self, bytes: usize, at_s: u64) -> Error {
            let failure = Error::NoSpace {
                action: "append to",
                path: self.dir.path().join("00.log"),
            };
            let now = Duration::from_secs(at_s);
            self.space.refuse(failure, bytes, now)
        }

        /// Makes work that may use the reserve run into the full disk.
        fn release_reserve(&self) {
            let full = || {
                Err::<(), _>(Error::NoSpace {
                    action: "write",
                    path: self.dir.path().to_path_buf(),
                })
            };
            let reserve = self.space.reserve();
            reserve.spend(Error::is_disk_full, full).unwrap_err();
        }

        /// Returns since when the disk counts as full, and the refusals not logged yet.
        fn full(&self) -> Option<(u64, u64)> {
            let full = self.space.full.lock();
            full.as_ref()
                .map(|full| (full.since.as_secs(), full.refused))
        }
    }

    #[test]
    fn a_full_disk_is_remembered_until_there_is_room() {
        let fixture = Fixture::new();
        let space = &fixture.space;
        fixture.faults.limit_space(10_000);
        fixture.refuse(100_000, 0);
        let reason = space.check().unwrap_err().to_string();
        assert!(reason.contains("full"), "{reason}");
        space.note_written(100);
        space.check().unwrap_err();
        fixture.faults.limit_space(100_000 + SPARE_BYTES);
        space.check().unwrap();
        fixture.faults.limit_space(10_000);
        space.check().unwrap();
        fixture.refuse(100_000, 0);
        space.note_written(100_000);
        space.check().unwrap();
    }

    #[test]
    fn a_refusal_names_the_full_disk_and_the_remedy() {
        let fixture = Fixture::new();
        fixture.faults.limit_space(77);
        let dir = fixture.dir.path().display();
        assert_eq!(
            fixture.refuse(100, 0).to_string(),
            format!(
                "the disk that holds {dir} is full: 77 bytes are free, {} are needed; \
                 delete topics or records, or add space",
                100 + SPARE_BYTES
            )
        );
    }

    #[test]
    fn a_shortage_of_another_resource_is_reported_with_the_original_error() {
        let fixture = Fixture::new();
        let refusal = fixture.refuse(100, 0).to_string();
        assert!(
            refusal.contains("no space left on the disk to append to"),
            "{refusal}"
        );
    }

    #[test]
    fn new_data_is_refused_while_the_reserve_is_released() {
        let fixture = Fixture::new();
        let space = &fixture.space;
        fixture.faults.limit_disk(0);
        space.admit().unwrap();
        fixture.release_reserve();
        assert!(matches!(space.admit(), Err(Error::DiskFull { .. })));
        let reason = space.check().unwrap_err().to_string();
        assert!(
            reason.contains("65536 bytes are free, 81920 are needed"),
            "{reason}"
        );
        space.watch(Duration::ZERO);
        space.admit().unwrap_err();
        fixture.faults.heal();
        space.watch(Duration::ZERO);
        space.admit().unwrap();
        space.check().unwrap();
    }

    #[test]
    fn a_full_disk_is_logged_at_its_start_once_a_minute_and_at_its_end() {
        let fixture = Fixture::new();
        fixture.faults.limit_disk(0);
        fixture.space.watch(Duration::from_secs(1));
        assert_eq!(fixture.full(), None, "no append was refused yet");
        fixture.refuse(10, 7);
        assert_eq!(fixture.full(), Some((7, 0)));
        fixture.refuse(10, 8);
        fixture.refuse(10, 66);
        assert_eq!(fixture.full(), Some((7, 2)));
        fixture.refuse(10, 67);
        assert_eq!(fixture.full(), Some((7, 0)));
        fixture.space.watch(Duration::from_secs(68));
        assert_eq!(fixture.full(), Some((7, 0)));
        fixture.faults.heal();
        fixture.space.watch(Duration::from_secs(69));
        assert_eq!(fixture.full(), None);

        // A full disk is detected without appends, too.
        fixture.release_reserve();
        fixture.faults.limit_disk(0);
        fixture.space.watch(Duration::from_secs(70));
        assert_eq!(fixture.full(), Some((70, 0)));
    }
}
