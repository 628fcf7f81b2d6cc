//! Files as a component, so that tests can make them fail.
//!
//! [`Fs`] opens, renames and removes; [`File`] reads and writes at positions. Both are the operating system's own calls
//! plus one branch: a test may hand in [`Faults`], a plan of which calls fail, fall short or run out of space. The plan
//! also remembers what was asked of the disk, so a test can tell that a failed call was not retried.
//!
//! A [`File`] has no cursor. Every read and write names its position, so one handle serves any number of readers.

use std::fmt;
use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// The most slices one vectored write may carry (`IOV_MAX` on Linux).
const SLICES_MAX: usize = 1024;

/// A way to the file system.
#[derive(Clone, Debug, Default)]
pub struct Fs {
    faults: Option<Arc<Faults>>,
}

impl Fs {
    /// The machine's file system.
    pub fn new() -> Self {
        Self::default()
    }

    /// The machine's file system as long as `faults` plans nothing else.
    pub fn with_faults(faults: Arc<Faults>) -> Self {
        Self {
            faults: Some(faults),
        }
    }

    /// Opens an existing file for reading and writing.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        self.check(Op::Open, path)?;
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(self.wrap(file, path))
    }

    /// Creates a file that must not exist yet.
    pub fn create_new(&self, path: &Path) -> io::Result<File> {
        self.check(Op::Create, path)?;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(self.wrap(file, path))
    }

    /// Creates a file, or empties the one that is there.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        self.check(Op::Create, path)?;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(self.wrap(file, path))
    }

    /// The whole content of a small file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.check(Op::Open, path)?;
        fs::read(path)
    }

    /// Replaces a small file's content so that after a crash either the old or the new content is there, whole.
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
        self.check(Op::Create, path)?;
        fs::create_dir_all(path)
    }

    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Op::Rename, from)?;
        fs::rename(from, to)
    }

    /// Removes a file. One that is not there counts as removed.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.check(Op::Remove, path)?;
        absent_is_fine(fs::remove_file(path))
    }

    /// Removes a directory and all in it. One that is not there counts as removed.
    pub fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.check(Op::Remove, path)?;
        absent_is_fine(fs::remove_dir_all(path))
    }

    /// Makes creations, renames and removals in `path` survive a loss of power.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.check(Op::SyncDir, path)?;
        fs::File::open(path)?.sync_all()
    }

    /// Bytes that an ordinary process may still write to the file system that holds `path`.
    pub fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        if let Some(left) = self.faults.as_ref().and_then(|faults| faults.space_left()) {
            return Ok(left);
        }
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn check(&self, op: Op, path: &Path) -> io::Result<()> {
        match &self.faults {
            None => Ok(()),
            Some(faults) => faults.check(op, path),
        }
    }

    fn wrap(&self, file: fs::File, path: &Path) -> File {
        File {
            file: Arc::new(file),
            faults: self
                .faults
                .as_ref()
                .map(|faults| (Arc::clone(faults), Arc::from(path))),
        }
    }
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
    faults: Option<(Arc<Faults>, Arc<Path>)>,
}

impl File {
    /// The operating system's handle, for calls that send from it.
    pub fn handle(&self) -> &Arc<fs::File> {
        &self.file
    }

    /// The file's length in bytes.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Fills `buffer` from `position`; a file that ends earlier is an error.
    pub fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.check(Op::Read)?;
        self.file.read_exact_at(buffer, position)
    }

    /// Reads from `position` until `buffer` is full or the file ends; returns how much was read.
    pub fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.check(Op::Read)?;
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], position + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Writes all of `content` at `position`.
    pub fn write_all_at(&self, content: &[u8], position: u64) -> io::Result<()> {
        self.write_all_vectored_at(&mut [IoSlice::new(content)], position)
    }

    /// Writes all slices one after the other, beginning at `position`, in as few calls as the system allows.
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
            let written = match &self.faults {
                None => rustix::io::pwritev(&*self.file, batch, position),
                Some((faults, path)) => match faults.clip_write(path, batch)? {
                    None => rustix::io::pwritev(&*self.file, batch, position),
                    Some(clipped) => rustix::io::pwrite(&*self.file, &clipped, position),
                },
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    position += count as u64;
                    IoSlice::advance_slices(&mut slices, count);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Cuts or extends the file to `size` bytes.
    pub fn set_size(&self, size: u64) -> io::Result<()> {
        self.check(Op::SetSize)?;
        self.file.set_len(size)
    }

    /// Waits until all written data would survive a loss of power.
    pub fn sync_data(&self) -> io::Result<()> {
        self.check(Op::SyncData)?;
        self.file.sync_data()
    }

    fn check(&self, op: Op) -> io::Result<()> {
        match &self.faults {
            None => Ok(()),
            Some((faults, path)) => faults.check(op, path),
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("File").field(&self.file).finish()
    }
}

/// A kind of call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Open,
    Create,
    Rename,
    Remove,
    Read,
    Write,
    SetSize,
    SyncData,
    SyncDir,
}

/// What happens to a call that a plan catches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this error and does nothing.
    Error(io::ErrorKind),
    /// A write puts down at most this many bytes and reports so; other calls are left alone.
    Short(usize),
}

/// A plan of which calls fail. Shared by a test and the [`Fs`] it handed out.
#[derive(Debug, Default)]
pub struct Faults {
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    rules: Vec<Rule>,
    space_left: Option<u64>,
    calls: Vec<(Op, PathBuf)>,
}

#[derive(Debug)]
struct Rule {
    op: Op,
    path_part: String,
    fault: Fault,
    times_left: usize,
}

impl Faults {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The next `times` calls of kind `op` on paths that contain `path_part` meet `fault`. Earlier rules go first.
    pub fn plan(&self, op: Op, path_part: &str, fault: Fault, times: usize) {
        self.plan.lock().rules.push(Rule {
            op,
            path_part: path_part.to_string(),
            fault,
            times_left: times,
        });
    }

    /// From now on only `bytes` more fit; what exceeds them fails as on a full disk, after writing what fits.
    pub fn limit_space(&self, bytes: u64) {
        self.plan.lock().space_left = Some(bytes);
    }

    /// Drops every rule and limit.
    pub fn heal(&self) {
        let mut plan = self.plan.lock();
        plan.rules.clear();
        plan.space_left = None;
    }

    /// How many calls of kind `op` went to paths that contain `path_part`.
    pub fn calls(&self, op: Op, path_part: &str) -> usize {
        let plan = self.plan.lock();
        plan.calls
            .iter()
            .filter(|(called, path)| *called == op && contains(path, path_part))
            .count()
    }

    fn space_left(&self) -> Option<u64> {
        self.plan.lock().space_left
    }

    fn check(&self, op: Op, path: &Path) -> io::Result<()> {
        let mut plan = self.plan.lock();
        plan.calls.push((op, path.to_path_buf()));
        match plan.meet(op, path) {
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::Short(_)) | None => Ok(()),
        }
    }

    /// What a write may put down: `None` for all of it, or the bytes that fit.
    fn clip_write(&self, path: &Path, slices: &[IoSlice<'_>]) -> io::Result<Option<Vec<u8>>> {
        let mut plan = self.plan.lock();
        plan.calls.push((Op::Write, path.to_path_buf()));
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut allowed = match plan.meet(Op::Write, path) {
            Some(Fault::Error(kind)) => return Err(kind.into()),
            Some(Fault::Short(bytes)) => bytes.min(asked),
            None => asked,
        };
        if let Some(left) = &mut plan.space_left {
            if *left == 0 && asked > 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            allowed = allowed.min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= allowed as u64;
        }
        if allowed == asked {
            return Ok(None);
        }
        let mut clipped: Vec<u8> = Vec::with_capacity(allowed);
        for slice in slices {
            let room = allowed - clipped.len();
            clipped.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        Ok(Some(clipped))
    }
}

impl Plan {
    fn meet(&mut self, op: Op, path: &Path) -> Option<Fault> {
        let rule = self
            .rules
            .iter_mut()
            .find(|rule| rule.op == op && rule.times_left > 0 && contains(path, &rule.path_part))?;
        rule.times_left -= 1;
        Some(rule.fault)
    }
}

fn contains(path: &Path, part: &str) -> bool {
    path.to_string_lossy().contains(part)
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
    fn short_writes_are_continued_until_all_is_written() {
        let (dir, faults, fs) = faulty();
        let file = fs.create_new(&dir.path().join("log")).unwrap();
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
    fn a_full_disk_takes_what_fits_and_then_fails_until_it_heals() {
        let (dir, faults, fs) = faulty();
        let file = fs.create_new(&dir.path().join("log")).unwrap();
        faults.limit_space(4);
        let error = file.write_all_at(b"abcdefgh", 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.size().unwrap(), 4);
        assert_eq!(fs.available_bytes(dir.path()).unwrap(), 0);
        faults.heal();
        file.write_all_at(b"abcdefgh", 0).unwrap();
        assert_eq!(file.size().unwrap(), 8);
    }

    #[test]
    fn a_planned_error_hits_only_its_kind_its_path_and_its_count() {
        let (dir, faults, fs) = faulty();
        let file = fs.create_new(&dir.path().join("a.log")).unwrap();
        let other = fs.create_new(&dir.path().join("b.log")).unwrap();
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
    fn removing_what_is_absent_is_no_error() {
        let (dir, _, fs) = faulty();
        fs.remove_file(&dir.path().join("nothing")).unwrap();
        fs.remove_dir_all(&dir.path().join("nothing")).unwrap();
    }
}
