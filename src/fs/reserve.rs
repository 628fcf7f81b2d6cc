//! Disk space kept for the time when the disk is full.
//!
//! The reserve is a file whose space is allocated, so that records cannot take it. Work that has to go on when the disk
//! is full (a commit of the catalog, a checkpoint, a deletion) runs in [`Reserve::spend`]: when it finds no space, the
//! file is removed and the work is tried once more. From then on, until [`Reserve::restore`] has been able to allocate
//! all of it again, [`Reserve::is_released`] tells whoever only adds data to stop, so that records do not take the
//! released space either. Other processes could: part of what is free is held again meanwhile, and released again when
//! somebody needs it.
//!
//! The file stays behind when the process ends, however it ends: the next start may need it. A disk that fails is never
//! taken for a full one: only errors that say so release the reserve. A file system that cannot have one is done without
//! it; after any other failure to make it, that is tried again.

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

/// The reserve takes at most one part in so many of the file system.
const SHARE_MIN: u64 = 16;

/// File systems allocate in blocks of this size, or multiples of it.
const BLOCK_BYTES: u64 = 4096;

/// Space in a data directory that is given up when the disk is full.
pub struct Reserve {
    fs: Fs,
    dir: PathBuf,
    path: PathBuf,
    /// 0 if there is to be none.
    size_bytes: u64,
    /// The space that the file has.
    held_bytes: AtomicU64,
    /// That is not all, because the disk has none for the rest.
    released: AtomicBool,
    /// The file system cannot have a reserve.
    impossible: AtomicBool,
    /// The last attempt to make the file failed for another reason than space.
    failing: AtomicBool,
    /// Held by whoever removes or makes the file.
    change: Mutex<()>,
}

/// One of two attempts at work that may take the space of a [`Reserve`].
pub struct Attempt<'a> {
    reserve: &'a Reserve,
    is_last: bool,
    /// The reserve was seen to hold something.
    can_help: Cell<bool>,
}

impl Attempt<'_> {
    /// Whether the work runs again if it fails now because the disk is full. Once true, it stays so for this attempt.
    pub fn can_run_again(&self) -> bool {
        // It may have been held again since the attempt began, with the space that the attempt lacked.
        let can_help = self.can_help.get() || self.reserve.held_bytes() > 0;
        self.can_help.set(can_help);
        can_help && !self.is_last
    }
}

impl Reserve {
    /// A reserve of nothing: work that finds no space fails.
    pub fn none() -> Arc<Self> {
        Arc::new(Self::new(&Fs::new(), Path::new(""), 0))
    }

    /// Allocates `size_bytes` in `dir`, or as much as is a sixteenth of the file system if that is less; takes over what
    /// an earlier process left. If there is no space for all of it, it counts as released. Blocks.
    pub fn open(fs: &Fs, dir: &Path, size_bytes: u64) -> Arc<Self> {
        let share = match fs.space(dir) {
            Ok(space) => space.total_bytes / SHARE_MIN,
            Err(_) => u64::MAX,
        };
        let size_bytes = size_bytes.min(share) / BLOCK_BYTES * BLOCK_BYTES;
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

    /// The size it has, or is to have again; 0 if there is none.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Bytes of it that are allocated now.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Acquire)
    }

    /// Whether the disk has no space for all of it, so that what only adds data has to wait. One relaxed load.
    pub fn is_released(&self) -> bool {
        self.released.load(Ordering::Relaxed)
    }

    /// Free bytes from which on all of it is held again: more than it lacks, or the next work would release it at once.
    pub fn restored_from_bytes(&self) -> u64 {
        self.size_bytes - self.held_bytes() + self.slack_bytes()
    }

    /// What is left free when it is held again, in part or as a whole.
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

    /// The same, for work that fails in another way if it will run again.
    pub fn spend_knowing<T, E>(
        &self,
        is_full: impl Fn(&E) -> bool,
        mut work: impl FnMut(&Attempt<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let first = Attempt {
            reserve: self,
            is_last: false,
            // If it is released meanwhile for somebody else, there is more space than this attempt found.
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

    /// Whether the file system that holds it has next to nothing left, for errors that do not say why they happened.
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
        // First, or records could take the space.
        self.released.store(true, Ordering::Release);
        let freed = self.fs.remove_file(&self.path).or_else(|_| {
            // File systems that never write in place may have room for this and not for that.
            self.fs.open(&self.path)?.set_size(0)
        });
        self.held_bytes.store(0, Ordering::Release);
        // Where space is free only once the removal is on disk.
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
            // What was held again of a reserve that was released before.
            Ok(()) => debug!(path = %self.path.display(), bytes = held, "disk reserve released"),
        }
    }

    /// Holds as much of what is lacking as leaves something free: all of it, once there is enough space. Blocks.
    pub fn restore(&self) {
        let _change = self.change.lock();
        self.hold_what_is_free();
    }

    /// Holds as much as it can for the next start, whatever is left free, since this process needs no more. Blocks.
    pub fn leave(&self) {
        let _change = self.change.lock();
        if self.can_hold_more() {
            self.hold(self.size_bytes);
            self.hold_what_is_free();
        }
    }

    fn can_hold_more(&self) -> bool {
        self.held_bytes() < self.size_bytes && !self.impossible.load(Ordering::Relaxed)
    }

    fn hold_what_is_free(&self) {
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

    /// Holds all of it, if it can, or what there was before.
    fn take_over(&self) {
        let _change = self.change.lock();
        let left = match self.fs.allocated_bytes(&self.path) {
            Ok(left) => left.unwrap_or(0).min(self.size_bytes),
            Err(_) => 0,
        };
        self.held_bytes.store(left, Ordering::Release);
        self.hold(self.size_bytes);
    }

    /// Gives the file so many bytes; on a full disk it keeps what it has.
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
            // If it is released, it stays so, lest records take its space.
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    warn!(path = %self.path.display(), %error, "disk reserve not held, trying again");
                }
            }
        }
    }

    /// Makes a file that has `held` bytes one of so many.
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

/// Whether a failure to make the file says that there never can be one.
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

        /// Writes so many bytes, in the place of what was written before.
        fn write(&self, reserve: &Reserve, bytes: usize) -> io::Result<()> {
            let path = self.dir.path().join("work");
            reserve.spend(is_full, || {
                self.fs.remove_file(&path)?;
                self.fs.create(&path)?.write_all_at(&vec![0; bytes], 0)
            })
        }
    }

    #[test]
    fn work_that_finds_no_space_gets_that_of_the_reserve_until_there_is_enough_again() {
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

        // Exactly its size is too little, or the next work would release it at once. Part of that is held meanwhile.
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
    fn the_end_of_a_process_leaves_all_there_is_to_the_next() {
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
    fn an_error_that_says_nothing_of_space_releases_nothing() {
        let fixture = Fixture::new();
        let reserve = fixture.open();
        let failing = Fault::Error(io::ErrorKind::Other);
        fixture.faults.plan(Op::Create, "work", failing, 1);
        fixture.write(&reserve, 1).unwrap_err();
        assert_eq!(reserve.held_bytes(), SIZE);
        assert_eq!(fixture.faults.calls(Op::Create, "work"), 1);
    }

    #[test]
    fn what_a_process_left_is_taken_over_even_on_a_full_disk_and_fitted_to_the_setting() {
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
    fn a_reserve_for_which_there_is_no_space_counts_as_released_and_is_made_later() {
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
    fn a_disk_that_fails_is_not_taken_for_a_full_one() {
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
    fn a_file_that_somebody_removed_is_made_again() {
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
    fn it_takes_no_more_than_a_sixteenth_of_the_file_system() {
        let fixture = Fixture::new();
        let failing = Fault::Error(io::ErrorKind::Unsupported);
        fixture.faults.plan(Op::Create, FILE, failing, 1);
        let total = fixture.fs.space(fixture.dir.path()).unwrap().total_bytes;
        let reserve = fixture.open_with(u64::MAX);
        assert_eq!(reserve.size_bytes(), total / 16 / BLOCK_BYTES * BLOCK_BYTES);
    }
    #[test]
    fn a_failure_that_may_pass_is_tried_again() {
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
    fn a_file_system_that_cannot_have_one_is_not_asked_again() {
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
    fn work_gets_what_was_held_again_while_it_ran() {
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
