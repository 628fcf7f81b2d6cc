//! Files as a component, so that tests can make them fail.
//!
//! [`Fs`] opens, renames and removes; [`File`] reads and writes at positions. Both are the operating system's own calls.
//! With the feature `simulation`, a test can add a plan of calls that fail, fall short or run out of space (`Faults`), and
//! a disk that tracks which changes would survive a power failure (`Disk`); other builds contain nothing of them.
//!
//! A [`File`] has no cursor. Every read and write names its position, so one handle serves any number of readers.

mod hooks;
mod reserve;
#[cfg(feature = "simulation")]
mod simulation;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{FallocateFlags, StatVfs};
use rustix::io::Errno;

pub use self::hooks::Op;
use self::hooks::{FileHooks, Hooks};
pub use self::reserve::{Attempt, Reserve};
#[cfg(feature = "simulation")]
pub use self::simulation::{Disk, Fault, Faults};

#[cfg(not(feature = "simulation"))]
type InstalledHooks = hooks::NoHooks;
#[cfg(feature = "simulation")]
type InstalledHooks = simulation::SimulationHooks;

/// The most slices one vectored write may carry (`IOV_MAX` on Linux).
const SLICES_MAX: usize = 1024;

/// With fewer inodes left than this, the disk counts as full.
const FILES_MIN: u64 = 16;

/// The unit of `st_blocks`, whatever the file system's own blocks are.
const STAT_BLOCK_BYTES: u64 = 512;

/// Bytes per write when a file is filled.
const FILL_BYTES: usize = 64 * 1024;

/// Returns true for the error of a full disk, as opposed to a failing one.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Size and free space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process can still write.
    pub available_bytes: u64,
    pub total_bytes: u64,
    /// Files that can still be created, if the file system has a fixed number of inodes.
    pub available_files: Option<u64>,
}

impl Space {
    /// Returns true if no more files can be created, which counts as a full disk, too.
    pub fn lacks_files(&self) -> bool {
        self.available_files.is_some_and(|files| files < FILES_MIN)
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    pub name: OsString,
    /// True for a directory, false for a link to one.
    pub is_dir: bool,
}

/// Access to the file system.
#[derive(Clone, Debug, Default)]
pub struct Fs {
    hooks: InstalledHooks,
}

impl Fs {
    /// Creates access to the machine's file system.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens an existing file for reading and writing.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        self.hooks.before(Op::Open, path)?;
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(File::new(file, self.hooks.opened(path)))
    }

    /// Creates a file, or empties an existing one.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        self.hooks.before(Op::Create, path)?;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(File::new(file, self.hooks.created(path)))
    }

    /// Opens a file for reading and writing, and creates it if it does not exist.
    pub fn open_or_create(&self, path: &Path) -> io::Result<File> {
        self.hooks.before(Op::Create, path)?;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        Ok(File::new(file, self.hooks.opened_or_created(path)))
    }

    /// Lists a directory, in no particular order.
    pub fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.hooks.before(Op::List, path)?;
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok(DirEntry {
                name: entry.file_name(),
                is_dir: entry.file_type()?.is_dir(),
            })
        };
        fs::read_dir(path)?.map(entry).collect()
    }

    /// Returns the length of the file at `path` in bytes.
    pub fn size(&self, path: &Path) -> io::Result<u64> {
        self.hooks.before(Op::Stat, path)?;
        Ok(fs::metadata(path)?.len())
    }

    pub fn exists(&self, path: &Path) -> io::Result<bool> {
        self.hooks.before(Op::Stat, path)?;
        fs::exists(path)
    }

    /// Returns the absolute path, without links.
    pub fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.hooks.before(Op::Stat, path)?;
        fs::canonicalize(path)
    }

    /// Reads a small file completely.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.hooks.before(Op::Open, path)?;
        fs::read(path)
    }

    /// Replaces a small file's content atomically: after a crash the file has either the old or the new content.
    pub fn write_atomically(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut staging = path.as_os_str().to_owned();
        staging.push(".tmp");
        let staging = PathBuf::from(staging);
        let file = self.create(&staging)?;
        file.write_all_at(content, 0)?;
        file.sync_data()?;
        self.rename(&staging, path)?;
        match path.parent() {
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }

    pub fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.hooks.before(Op::Create, path)?;
        fs::create_dir_all(path)?;
        self.hooks.created_dirs(path);
        Ok(())
    }

    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.hooks.before(Op::Rename, from)?;
        let replaced = self.hooks.bytes_to_free(to);
        fs::rename(from, to)?;
        self.hooks.renamed(from, to, replaced);
        Ok(())
    }

    /// Removes a file. A missing file is not an error.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.hooks.before(Op::Remove, path)?;
        let removed = self.hooks.bytes_to_free(path);
        absent_is_fine(fs::remove_file(path))?;
        self.hooks.removed(path, removed);
        Ok(())
    }

    /// Removes a directory and its content. A missing directory is not an error.
    pub fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.hooks.before(Op::Remove, path)?;
        let removed = self.hooks.bytes_to_free(path);
        absent_is_fine(fs::remove_dir_all(path))?;
        self.hooks.removed(path, removed);
        Ok(())
    }

    /// Syncs the directory `path`: makes creations, renames and removals in it durable.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.hooks.before(Op::SyncDir, path)?;
        self.hooks.sync_dir(path)
    }

    /// Returns an id of the machine's current boot; empty if the machine has none.
    pub fn boot_id(&self) -> Vec<u8> {
        self.hooks.boot_id()
    }

    /// Returns the size and free space of the file system that holds `path`.
    pub fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        let writable = writable_bytes(&stat, rustix::process::geteuid().is_root());
        Ok(Space {
            available_bytes: self.hooks.available_bytes(writable),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            available_files: (stat.f_files > 0).then_some(stat.f_favail),
        })
    }

    /// Returns the bytes allocated for a file, which may be fewer than its length; `None` if the file does not exist.
    pub fn allocated_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.blocks() * STAT_BLOCK_BYTES)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Returns the bytes that root, or an ordinary process, can still write: file systems such as ext4 reserve blocks for
/// root.
fn writable_bytes(stat: &StatVfs, is_root: bool) -> u64 {
    let blocks = match is_root {
        true => stat.f_bfree,
        false => stat.f_bavail,
    };
    blocks.saturating_mul(stat.f_frsize)
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// An open file, read and written at positions. Clones share the handle.
#[derive(Clone)]
pub struct File {
    file: Arc<fs::File>,
    hooks: <InstalledHooks as Hooks>::File,
}

impl File {
    fn new(file: fs::File, hooks: <InstalledHooks as Hooks>::File) -> Self {
        Self {
            file: Arc::new(file),
            hooks,
        }
    }

    /// Returns the operating system's handle, for calls that send from it.
    pub fn handle(&self) -> &Arc<fs::File> {
        &self.file
    }

    /// Returns the file's length in bytes.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Returns when the file was last written to.
    pub fn modified(&self) -> io::Result<SystemTime> {
        self.file.metadata()?.modified()
    }

    /// Sets the time at which the file was last written to.
    pub fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.file.set_modified(time)
    }

    /// Fills `buffer` from `position`; fails if the file ends earlier.
    pub fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.hooks.before_read()?;
        self.file.read_exact_at(buffer, position)
    }

    /// Writes all of `content` at `position`.
    pub fn write_all_at(&self, content: &[u8], position: u64) -> io::Result<()> {
        self.write_all_vectored_at(&mut [IoSlice::new(content)], position)
    }

    /// Writes all slices consecutively from `position` on, in as few calls as the system allows.
    ///
    /// After an error any part of the range may have been written.
    pub fn write_all_vectored_at(
        &self,
        mut slices: &mut [IoSlice<'_>],
        mut position: u64,
    ) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let batch = &slices[..slices.len().min(SLICES_MAX)];
            match self.hooks.write(&self.file, batch, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    position += count as u64;
                    IoSlice::advance_slices(&mut slices, count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Allocates space for `size` bytes and gives the file that size. If the file system does not support allocation,
    /// the space is taken by writing it.
    pub fn allocate(&self, size: u64) -> io::Result<()> {
        match self.set_aside(size) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.fill(size),
            other => other,
        }
    }

    fn set_aside(&self, size: u64) -> io::Result<()> {
        self.hooks.before_allocation(&self.file, size)?;
        loop {
            match rustix::fs::fallocate(&*self.file, FallocateFlags::empty(), 0, size) {
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    return Err(io::ErrorKind::Unsupported.into());
                }
                other => break other?,
            }
        }
        self.hooks.resized(size);
        Ok(())
    }

    /// Writes bytes that do not compress, so that compressing file systems allocate as much as was written.
    fn fill(&self, size: u64) -> io::Result<()> {
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut piece = vec![0; FILL_BYTES];
        let mut position = 0;
        while position < size {
            for word in piece.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            let len = (size - position).min(FILL_BYTES as u64) as usize;
            self.write_all_at(&piece[..len], position)?;
            position += len as u64;
        }
        // A file system with delayed allocation reports a lack of space only now.
        self.sync_data()
    }

    /// Truncates or extends the file to `size` bytes.
    pub fn set_size(&self, size: u64) -> io::Result<()> {
        self.hooks.before_resize(&self.file, size)?;
        self.file.set_len(size)?;
        self.hooks.resized(size);
        Ok(())
    }

    /// Flushes all written data (`fdatasync`).
    pub fn sync_data(&self) -> io::Result<()> {
        self.hooks.sync_data(&self.file)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("File").field(&self.file).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faulty() -> (tempfile::TempDir, Arc<Faults>, Fs) {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::new();
        let fs = Fs::with_faults(faults.clone());
        (dir, faults, fs)
    }

    #[test]
    fn short_writes_are_continued_until_complete() {
        let (dir, faults, fs) = faulty();
        let file = fs.create(&dir.path().join("log")).unwrap();
        faults.plan(Op::Write, "log", Fault::Short(3), 2);
        let mut slices = [
            IoSlice::new(b"ab"),
            IoSlice::new(b""),
            IoSlice::new(b"cdefgh"),
        ];
        file.write_all_vectored_at(&mut slices, 1).unwrap();
        let mut read = [0; 8];
        file.read_exact_at(&mut read, 1).unwrap();
        assert_eq!(&read, b"abcdefgh");
        assert_eq!(faults.calls(Op::Write, "log"), 3);
    }

    #[test]
    fn a_full_disk_writes_what_fits_and_then_fails_until_it_heals() {
        let (dir, faults, fs) = faulty();
        let file = fs.create(&dir.path().join("log")).unwrap();
        faults.limit_space(4);
        let error = file.write_all_at(b"abcdefgh", 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.size().unwrap(), 4);
        assert_eq!(fs.space(dir.path()).unwrap().available_bytes, 0);
        faults.heal();
        file.write_all_at(b"abcdefgh", 0).unwrap();
        assert_eq!(file.size().unwrap(), 8);
    }

    #[test]
    fn removal_truncation_and_replacement_free_space_on_a_limited_disk() {
        let (dir, faults, fs) = faulty();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        faults.limit_disk(10);
        let free = || fs.space(dir.path()).unwrap().available_bytes;
        fs.create(&a).unwrap().write_all_at(b"abcdef", 0).unwrap();
        fs.create(&b).unwrap().write_all_at(b"abcd", 0).unwrap();
        assert_eq!(free(), 0);
        fs.open(&a).unwrap().set_size(5).unwrap();
        assert_eq!(free(), 1);
        fs.rename(&b, &a).unwrap();
        assert_eq!(free(), 6);
        fs.remove_file(&a).unwrap();
        assert_eq!(free(), 10);
    }

    #[test]
    fn space_is_allocated_with_and_without_file_system_support() {
        let (dir, faults, fs) = faulty();
        let path = dir.path().join("aside");
        const SIZE: u64 = 100_000;
        let unsupported = Fault::Error(io::ErrorKind::Unsupported);
        for helps in [true, false] {
            if !helps {
                faults.plan(Op::Allocate, "aside", unsupported, 2);
            }
            let file = fs.create(&path).unwrap();
            file.allocate(SIZE).unwrap();
            assert_eq!(file.size().unwrap(), SIZE);
            assert!(fs.allocated_bytes(&path).unwrap().unwrap() >= SIZE);
            fs.remove_file(&path).unwrap();
            assert_eq!(fs.allocated_bytes(&path).unwrap(), None);
            faults.limit_disk(SIZE - 1);
            let error = fs.create(&path).unwrap().allocate(SIZE).unwrap_err();
            assert!(is_full(&error), "{error}");
            fs.remove_file(&path).unwrap();
            faults.heal();
        }
    }

    #[test]
    fn a_planned_error_affects_only_its_kind_path_and_count() {
        let (dir, faults, fs) = faulty();
        let file = fs.create(&dir.path().join("a.log")).unwrap();
        let other = fs.create(&dir.path().join("b.log")).unwrap();
        faults.plan(Op::SyncData, "a.log", Fault::Error(io::ErrorKind::Other), 1);
        other.sync_data().unwrap();
        file.write_all_at(b"x", 0).unwrap();
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
    }

    #[test]
    fn an_atomic_write_that_fails_leaves_the_old_content() {
        let (dir, faults, fs) = faulty();
        let path = dir.path().join("checkpoint");
        fs.write_atomically(&path, b"old").unwrap();
        faults.plan(
            Op::Rename,
            "checkpoint",
            Fault::Error(io::ErrorKind::Other),
            1,
        );
        fs.write_atomically(&path, b"new").unwrap_err();
        assert_eq!(fs.read(&path).unwrap(), b"old");
    }

    #[test]
    fn removing_a_missing_file_is_not_an_error() {
        let (dir, _, fs) = faulty();
        fs.remove_file(&dir.path().join("nothing")).unwrap();
        fs.remove_dir_all(&dir.path().join("nothing")).unwrap();
    }
    #[test]
    fn blocks_reserved_for_root_are_free_only_to_root() {
        let mut stat = rustix::fs::statvfs(".").unwrap();
        (stat.f_frsize, stat.f_bfree, stat.f_bavail) = (4096, 7, 5);
        assert_eq!(writable_bytes(&stat, true), 7 * 4096);
        assert_eq!(writable_bytes(&stat, false), 5 * 4096);
    }
}
