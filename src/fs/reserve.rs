//! Disk space reserved for work that must succeed when the disk is full.
//!
//! The reserve is a file whose space is allocated, so that records cannot take it. Work that must succeed when the disk
//! is full (a commit of the catalog, a checkpoint, a deletion) runs in [`Reserve::spend`]: if it finds no space, the
//! file is removed and the work runs once more. From then on, until [`Reserve::restore`] has allocated the whole
//! reserve again, [`Reserve::is_released`] is true and new data is refused, so that records do not take the released
//! space. Other processes could take it: part of the free space is therefore held again meanwhile, and released when
//! work needs it.
//!
//! The file is kept when the process ends, even by a crash: the next start may need it. A failing disk never counts as
//! a full one: only errors of a full disk release the reserve. If the file system does not support a reserve, the
//! server runs without one; after any other failure to create the file, it tries again.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing::{debug, info, warn};

use super::{Fs, is_full};

/// The file's name in the data directory.
const FILE: &str = ".streamline-reserve";

/// The reserve takes at most 1/16 of the file system.
const FILE_SYSTEM_FRACTION: u64 = 16;

/// File systems allocate in blocks of this size, or multiples of it.
const BLOCK_BYTES: u64 = 4096;

/// Space in a data directory that is released when the disk is full.
pub struct Reserve {
    fs: Fs,
    dir: PathBuf,
    path: PathBuf,
    /// Configured size; 0 for no reserve.
    size_bytes: u64,
    /// Bytes allocated for the file.
    held_bytes: AtomicU64,
    /// Set while not all of it is held, for lack of disk space.
    released: AtomicBool,
    /// Set if the file system does not support a reserve.
    impossible: AtomicBool,
    /// Set if the last attempt to allocate the file failed for a reason other than space.
    failing: AtomicBool,
    /// Held while the file is allocated or removed.
    change: Mutex<()>,
}

/// One of two attempts at work that may take the space of a [`Reserve`].
pub struct Attempt<'a> {
    reserve: &'a Reserve,
    is_last: bool,
    /// Set once the reserve was seen to hold space during this attempt.
    can_help: Cell<bool>,
}

impl Attempt<'_> {
    /// Returns true if the work runs again should it fail now because the disk is full. Once true, it stays true for
    /// this attempt.
    pub fn can_run_again(&self) -> bool {
        // The reserve may have been held again since the attempt began, with the space that the attempt lacked.
        let can_help = self.can_help.get() || self.reserve.held_bytes() > 0;
        self.can_help.set(can_help);
        can_help && !self.is_last
    }
}

impl Reserve {
    /// Creates an empty reserve: work that finds no space fails.
    pub fn none() -> Arc<Self> {
        Arc::new(Self::new(&Fs::new(), Path::new(""), 0))
    }

    /// Allocates `size_bytes` in `dir`, or a sixteenth of the file system if that is less, reusing the file of an
    /// earlier process. If there is no space for all of it, it counts as released. Blocks.
    pub fn open(fs: &Fs, dir: &Path, size_bytes: u64) -> Arc<Self> {
        let limit = match fs.space(dir) {
            Ok(space) => space.total_bytes / FILE_SYSTEM_FRACTION,
            Err(_) => u64::MAX,
        };
        let size_bytes = size_bytes.min(limit) / BLOCK_BYTES * BLOCK_BYTES;
        let reserve = Self::new(fs, dir, size_bytes);
        match size_bytes {
            0 => {
                if let Err(error) = fs.remove_file(&reserve.path) {
                    warn!(path = %reserve.path.display(), %error, "disk reserve not removed");
                }
            }
            _ => reserve.take_over(),
        }
        Arc::new(reserve)
    }

    fn new(fs: &Fs, dir: &Path, size_bytes: u64) -> Self {
        Self {
            fs: fs.clone(),
            dir: dir.to_path_buf(),
            path: dir.join(FILE),
            size_bytes,
            held_bytes: AtomicU64::new(0),
            released: AtomicBool::new(false),
            impossible: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            change: Mutex::new(()),
        }
    }

    /// Returns the size of the whole reserve; 0 if there is none.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns the bytes allocated now.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Acquire)
    }

    /// Returns true while the disk has no space for the whole reserve, so that new data must be refused. One relaxed
    /// load.
    pub fn is_released(&self) -> bool {
        self.released.load(Ordering::Relaxed)
    }

    /// Returns the free bytes from which on the whole reserve is held again: more than it lacks, or the next work would
    /// release it at once.
    pub fn restored_from_bytes(&self) -> u64 {
        self.size_bytes - self.held_bytes() + self.slack_bytes()
    }

    /// Returns the bytes left free when the reserve is held again, in part or as a whole.
    fn slack_bytes(&self) -> u64 {
        self.size_bytes / 4
    }

    /// Runs `work`, and once more with the reserve released if it fails because the disk is full. Blocks.
    pub fn spend<T, E>(
        &self,
        is_full: impl Fn(&E) -> bool,
        mut work: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        self.spend_knowing(is_full, |_| work())
    }

    /// Runs `work` like [`spend`](Self::spend), for work that fails differently if it can run again.
    pub fn spend_knowing<T, E>(
        &self,
        is_full: impl Fn(&E) -> bool,
        mut work: impl FnMut(&Attempt<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let first = Attempt {
            reserve: self,
            is_last: false,
            // If the reserve is released meanwhile for other work, there is more space than this attempt found.
            can_help: Cell::new(self.held_bytes() > 0),
        };
        match work(&first) {
            Err(error) if is_full(&error) && first.can_run_again() => {
                self.release();
                work(&Attempt {
                    is_last: true,
                    ..first
                })
            }
            outcome => outcome,
        }
    }

    /// Returns true if the file system has almost no space left, for errors that do not name their cause.
    pub fn is_disk_exhausted(&self) -> bool {
        let space = self.fs.space(&self.dir);
        space.is_ok_and(|space| space.available_bytes < 16 * BLOCK_BYTES || space.lacks_files())
    }

    fn release(&self) {
        let _change = self.change.lock();
        let held = self.held_bytes();
        if held == 0 {
            return;
        }
        // Before the space is freed, or records could take it.
        self.released.store(true, Ordering::Release);
        let freed = self.fs.remove_file(&self.path).or_else(|_| {
            // A copy-on-write file system may have room for a truncation but not for a removal.
            self.fs.open(&self.path)?.set_size(0)
        });
        self.held_bytes.store(0, Ordering::Release);
        // Some file systems free the space only once the removal is durable.
        let _ = self.fs.sync_dir(&self.dir);
        match freed {
            Err(error) => {
                warn!(path = %self.path.display(), %error, "disk full, reserve not released");
            }
            Ok(()) if held == self.size_bytes => warn!(
                path = %self.path.display(),
                bytes = held,
                "disk full, reserve released for the catalog, checkpoints and deletion"
            ),
            // The part that was held again since an earlier release.
            Ok(()) => debug!(path = %self.path.display(), bytes = held, "disk reserve released"),
        }
    }

    /// Holds as much of the reserve as leaves the slack free: all of it, once there is enough space. Blocks.
    pub fn restore(&self) {
        let _change = self.change.lock();
        self.hold_free_space();
    }

    /// Holds as much as possible for the next start, without slack, since this process needs no more space. Blocks.
    pub fn leave(&self) {
        let _change = self.change.lock();
        if self.can_hold_more() {
            self.hold(self.size_bytes);
            self.hold_free_space();
        }
    }

    fn can_hold_more(&self) -> bool {
        self.held_bytes() < self.size_bytes && !self.impossible.load(Ordering::Relaxed)
    }

    fn hold_free_space(&self) {
        if self.size_bytes == 0 {
            return;
        }
        if self.held_bytes() > 0 && matches!(self.fs.allocated_bytes(&self.path), Ok(None)) {
            warn!(path = %self.path.display(), "disk reserve removed by another process");
            self.released.store(true, Ordering::Release);
            self.held_bytes.store(0, Ordering::Release);
        }
        if !self.can_hold_more() {
            return;
        }
        let held = self.held_bytes();
        let Ok(space) = self.fs.space(&self.dir) else {
            return;
        };
        if space.lacks_files() {
            return;
        }
        let room = held + space.available_bytes.saturating_sub(self.slack_bytes());
        let bytes = room.min(self.size_bytes) / BLOCK_BYTES * BLOCK_BYTES;
        if bytes > held {
            self.hold(bytes);
        }
    }

    /// Holds the whole reserve if possible, or else what an earlier process left.
    fn take_over(&self) {
        let _change = self.change.lock();
        let left = match self.fs.allocated_bytes(&self.path) {
            Ok(left) => left.unwrap_or(0).min(self.size_bytes),
            Err(_) => 0,
        };
        self.held_bytes.store(left, Ordering::Release);
        self.hold(self.size_bytes);
    }

    /// Resizes the file to `bytes`; on a full disk it keeps its size.
    fn hold(&self, bytes: u64) {
        let held = self.held_bytes();
        match self.allocate(held, bytes) {
            Ok(()) => {
                self.failing.store(false, Ordering::Relaxed);
                self.held_bytes.store(bytes, Ordering::Release);
                let is_all = bytes == self.size_bytes;
                self.released.store(!is_all, Ordering::Release);
                if is_all {
                    info!(path = %self.path.display(), bytes, "disk reserve held");
                }
            }
            Err(error) if is_full(&error) => {
                if !self.released.swap(true, Ordering::AcqRel) {
                    warn!(
                        path = %self.path.display(),
                        bytes,
                        held_bytes = held,
                        "disk full, no space for the reserve"
                    );
                }
            }
            Err(error) if is_final(&error) => {
                self.impossible.store(true, Ordering::Relaxed);
                self.released.store(false, Ordering::Release);
                warn!(path = %self.path.display(), %error, "running without a disk reserve");
            }
            // A released reserve stays released, so that records do not take its space.
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    warn!(path = %self.path.display(), %error, "disk reserve not held, retrying");
                }
            }
        }
    }

    /// Resizes the file from `held` to `bytes`.
    fn allocate(&self, held: u64, bytes: u64) -> io::Result<()> {
        let file = match held {
            0 => self.fs.create(&self.path)?,
            _ => self.fs.open(&self.path)?,
        };
        if held < bytes
            && let Err(error) = file.allocate(bytes)
        {
            // Part of it may have been allocated.
            let _ = match held {
                0 => self.fs.remove_file(&self.path),
                _ => file.set_size(held),
            };
            return Err(error);
        }
        match file.size()? > bytes {
            true => file.set_size(bytes),
            false => Ok(()),
        }
    }
}

/// Returns true if the error means that the file system will never support a reserve.
fn is_final(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
    )
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve")
            .field("path", &self.path)
            .field("size_bytes", &self.size_bytes)
            .field("held_bytes", &self.held_bytes)
            .field("released", &self.released)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fault, Faults, Op};
    use super::*;

    const SIZE: u64 = 65_536;

    struct Fixture {
        dir: tempfile::TempDir,
        faults: Arc<Faults>,
        fs: Fs,
    }

    impl Fixture {
        fn new() -> Self {
            let faults = Faults::new();
            Self {
                dir: tempfile::tempdir().unwrap(),
                fs: Fs::with_faults(faults.clone()),
                faults,
            }
        }

        fn open(&self) -> Arc<Reserve> {
            self.open_with(SIZE)
        }

        fn open_with(&self, bytes: u64) -> Arc<Reserve> {
            Reserve::open(&self.fs, self.dir.path(), bytes)
        }

        fn file_bytes(&self) -> Option<u64> {
            self.fs
                .allocated_bytes(&self.dir.path().join(FILE))
                .unwrap()
        }

        fn free(&self) -> u64 {
            self.fs.space(self.dir.path()).unwrap().available_bytes
        }

        /// Writes this many bytes over those written before.
        fn write(&self, reserve: &Reserve, bytes: usize) -> io::Result<()> {
            let path = self.dir.path().join("work");
            reserve.spend(is_full, || {
                self.fs.remove_file(&path)?;
                self.fs.create(&path)?.write_all_at(&vec![0; bytes], 0)
            })
        }
    }

    #[test]
    fn work_without_space_gets_the_reserves_until_there_is_enough_again() {
        let fixture = Fixture::new();
        let reserve = fixture.open();
        assert_eq!(reserve.held_bytes(), SIZE);
        assert_eq!(fixture.file_bytes(), Some(SIZE));
        fixture.faults.limit_disk(100);
        fixture.write(&reserve, 100).unwrap();
        assert!(!reserve.is_released(), "there was space");
        fixture.write(&reserve, 1_000).unwrap();
        assert!(reserve.is_released());
        assert_eq!((reserve.held_bytes(), fixture.file_bytes()), (0, None));
        fixture.write(&reserve, 2_000).unwrap();
        let error = fixture.write(&reserve, 2 * SIZE as usize).unwrap_err();
        assert!(is_full(&error), "{error}");
        std::fs::remove_file(fixture.dir.path().join("work")).unwrap();

        // Exactly its size is too little: the next work would release it at once. Part of it is held meanwhile.
        assert_eq!(reserve.restored_from_bytes(), SIZE / 4 * 5);
        fixture.faults.limit_disk(SIZE);
        reserve.restore();
        assert_eq!(reserve.held_bytes(), SIZE / 4 * 3);
        assert_eq!(fixture.free(), SIZE / 4);
        assert!(reserve.is_released());
        fixture.write(&reserve, SIZE as usize).unwrap();
        assert_eq!((reserve.held_bytes(), fixture.free()), (0, 0));

        std::fs::remove_file(fixture.dir.path().join("work")).unwrap();
        fixture.faults.limit_disk(SIZE);
        reserve.restore();
        fixture.faults.limit_disk(reserve.restored_from_bytes() - 1);
        reserve.restore();
        assert!(reserve.is_released());
        fixture.faults.limit_disk(reserve.restored_from_bytes());
        reserve.restore();
        assert!(!reserve.is_released());
        assert_eq!(reserve.held_bytes(), SIZE);
        assert_eq!(fixture.file_bytes(), Some(SIZE));
        assert_eq!(fixture.free(), SIZE / 4);
    }

    #[test]
    fn a_process_leaves_all_free_space_to_the_next_one() {
        let fixture = Fixture::new();
        let reserve = fixture.open();
        for (free, left) in [(SIZE, SIZE), (SIZE / 2, SIZE / 4)] {
            fixture.faults.limit_disk(0);
            reserve.release();
            fixture.faults.limit_disk(free);
            reserve.leave();
            assert_eq!(fixture.file_bytes(), Some(left));
        }
        fixture.faults.limit_disk(0);
        assert_eq!(fixture.open().held_bytes(), SIZE / 4);
    }

    #[test]
    fn an_error_unrelated_to_space_does_not_release_the_reserve() {
        let fixture = Fixture::new();
        let reserve = fixture.open();
        let failing = Fault::Error(io::ErrorKind::Other);
        fixture.faults.plan(Op::Create, "work", failing, 1);
        fixture.write(&reserve, 1).unwrap_err();
        assert_eq!(reserve.held_bytes(), SIZE);
        assert_eq!(fixture.faults.calls(Op::Create, "work"), 1);
    }

    #[test]
    fn an_earlier_reserve_is_reused_even_on_a_full_disk_and_resized_to_the_setting() {
        let fixture = Fixture::new();
        drop(fixture.open());
        fixture.faults.limit_disk(0);
        assert_eq!(fixture.open().held_bytes(), SIZE);
        let smaller = fixture.open_with(SIZE / 2);
        assert_eq!(smaller.held_bytes(), SIZE / 2);
        assert_eq!(fixture.file_bytes(), Some(SIZE / 2));
        fixture.faults.limit_disk(0);
        let larger = fixture.open();
        assert_eq!(larger.held_bytes(), SIZE / 2);
        assert!(larger.is_released());
        fixture.faults.heal();
        assert_eq!(fixture.open().held_bytes(), SIZE);
        assert_eq!(fixture.file_bytes(), Some(SIZE));
        assert_eq!(fixture.open_with(0).size_bytes(), 0);
        assert_eq!(fixture.file_bytes(), None);
    }

    #[test]
    fn a_reserve_without_space_counts_as_released_and_is_allocated_later() {
        let fixture = Fixture::new();
        fixture.faults.limit_disk(SIZE - 1);
        let reserve = fixture.open();
        assert!(reserve.is_released());
        assert_eq!(fixture.file_bytes(), None);
        fixture.faults.heal();
        reserve.restore();
        assert!(!reserve.is_released());
        assert_eq!(reserve.held_bytes(), SIZE);
    }

    #[test]
    fn a_failing_disk_is_not_taken_for_a_full_one() {
        let fixture = Fixture::new();
        let failing = Fault::Error(io::ErrorKind::PermissionDenied);
        fixture.faults.plan(Op::Create, FILE, failing, 1);
        let reserve = fixture.open();
        assert_eq!(reserve.held_bytes(), 0);
        assert!(!reserve.is_released());
        let error = io::Error::from(io::ErrorKind::StorageFull);
        let outcome = reserve.spend(is_full, || Err::<(), _>(io::Error::from(error.kind())));
        assert!(is_full(&outcome.unwrap_err()));
        assert!(!reserve.is_released());
    }

    #[test]
    fn a_removed_reserve_file_is_created_again() {
        let fixture = Fixture::new();
        let reserve = fixture.open();
        std::fs::remove_file(fixture.dir.path().join(FILE)).unwrap();
        fixture.faults.limit_disk(0);
        reserve.restore();
        assert!(reserve.is_released(), "its space may be gone");
        fixture.faults.heal();
        reserve.restore();
        assert_eq!(reserve.held_bytes(), SIZE);
        assert_eq!(fixture.file_bytes(), Some(SIZE));
    }

    #[test]
    fn the_reserve_takes_at_most_a_sixteenth_of_the_file_system() {
        let fixture = Fixture::new();
        let failing = Fault::Error(io::ErrorKind::Unsupported);
        fixture.faults.plan(Op::Create, FILE, failing, 1);
        let total = fixture.fs.space(fixture.dir.path()).unwrap().total_bytes;
        let reserve = fixture.open_with(u64::MAX);
        assert_eq!(reserve.size_bytes(), total / 16 / BLOCK_BYTES * BLOCK_BYTES);
    }
    #[test]
    fn a_temporary_failure_is_retried() {
        let fixture = Fixture::new();
        let failing = Fault::Error(io::ErrorKind::Other);
        fixture.faults.plan(Op::Create, FILE, failing, 1);
        let reserve = fixture.open();
        assert!(!reserve.is_released(), "nothing says that space is short");
        assert_eq!(reserve.held_bytes(), 0);
        reserve.restore();
        assert_eq!(reserve.held_bytes(), SIZE);

        fixture.faults.limit_disk(0);
        reserve.release();
        fixture.faults.heal();
        fixture.faults.plan(Op::Create, FILE, failing, 1);
        reserve.restore();
        assert!(reserve.is_released(), "records may not take its space");
        reserve.restore();
        assert!(!reserve.is_released());
        assert_eq!(reserve.held_bytes(), SIZE);
    }

    #[test]
    fn an_unsupported_reserve_is_not_retried() {
        for kind in [
            io::ErrorKind::Unsupported,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem,
        ] {
            let fixture = Fixture::new();
            fixture.faults.plan(Op::Create, FILE, Fault::Error(kind), 1);
            let reserve = fixture.open();
            reserve.restore();
            assert_eq!(reserve.held_bytes(), 0, "{kind}");
            assert!(!reserve.is_released());
            assert_eq!(fixture.faults.calls(Op::Create, FILE), 1);
        }
    }
    #[test]
    fn work_gets_space_that_was_held_again_while_it_ran() {
        let fixture = Fixture::new();
        let reserve = fixture.open();
        fixture.faults.limit_disk(0);
        reserve.release();
        let path = fixture.dir.path().join("work");
        let mut runs = 0;
        let done = reserve.spend(is_full, || {
            runs += 1;
            if runs == 1 {
                reserve.restore();
            }
            fixture.fs.remove_file(&path)?;
            let file = fixture.fs.create(&path)?;
            file.write_all_at(&[0; SIZE as usize], 0)
        });
        done.unwrap();
        assert_eq!(runs, 2);
    }
}
