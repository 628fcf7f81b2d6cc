//! The data directory as a whole: created if absent, and locked against other servers.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::fs::{File, Fs, is_full};

/// Name of the lock file, the same as Kafka's.
const LOCK_FILE: &str = ".lock";

/// A data directory that this process holds the lock of until dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Releases the lock when it is closed, however the process ends.
    _lock: File,
}

/// Reasons for which a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("data_dir {path}: another server{} is using it", holder.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    InUse { path: PathBuf, holder: Option<u32> },
    #[error("data_dir {path}: {doing}: {source}")]
    Io {
        path: PathBuf,
        doing: &'static str,
        source: io::Error,
    },
}

impl DataDir {
    /// Creates the directory if it does not exist, and locks it.
    pub fn take(fs: &Fs, path: &Path) -> Result<DataDir, DataDirError> {
        let failed = |doing| {
            move |source| DataDirError::Io {
                path: path.to_path_buf(),
                doing,
                source,
            }
        };
        fs.create_dir_all(path)
            .map_err(failed("cannot be created"))?;
        // Log lines and run.json show the absolute path.
        let path = fs
            .canonicalize(path)
            .map_err(failed("cannot be resolved"))?;
        let lock = fs
            .open_or_create(&path.join(LOCK_FILE))
            .map_err(failed("cannot open its lock file"))?;
        match flock(&**lock.handle(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = Self::last_holder(fs, &path);
                return Err(DataDirError::InUse { path, holder });
            }
            Err(error) => return Err(failed("cannot be locked")(error.into())),
        }
        match name_holder(&lock) {
            // The id is not worth failing the start on a full disk.
            Err(error) if is_full(&error) => {
                tracing::warn!(path = %path.display(), "disk full, process id not written to the lock file");
            }
            other => other.map_err(failed("cannot be written to"))?,
        }
        Ok(DataDir { path, _lock: lock })
    }

    /// Returns the id of the process that locked the directory last, whether it still runs or not.
    pub fn last_holder(fs: &Fs, path: &Path) -> Option<u32> {
        let holder = fs.read(&path.join(LOCK_FILE)).ok()?;
        str::from_utf8(&holder).ok()?.trim().parse().ok()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes the process id over the last holder's, in the space that the file has: space freed by truncating first could be
/// taken by other files.
fn name_holder(lock: &File) -> io::Result<()> {
    let holder = format!("{}\n", std::process::id());
    let written = lock.write_all_at(holder.as_bytes(), 0);
    let len = match &written {
        Ok(()) => holder.len() as u64,
        // No id rather than the last holder's.
        Err(_) => 0,
    };
    lock.set_size(len)?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Fault, Faults, Op};

    #[test]
    fn a_directory_is_created_and_locked_by_one_holder_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let fs = Fs::new();
        assert_eq!(DataDir::last_holder(&fs, &path), None);
        let taken = DataDir::take(&fs, &path).unwrap();
        assert_eq!(DataDir::last_holder(&fs, &path), Some(std::process::id()));
        let error = DataDir::take(&fs, &path).unwrap_err();
        let pid = std::process::id();
        assert!(
            error
                .to_string()
                .contains(&format!("another server (pid {pid})")),
            "{error}"
        );
        drop(taken);
        assert!(DataDir::take(&fs, &path).is_ok());
    }

    #[test]
    fn a_failing_disk_is_an_error_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::new();
        let fs = Fs::with_faults(faults.clone());
        for (op, path_part, reason) in [
            (Op::Create, "", "cannot be created"),
            (Op::Stat, "", "cannot be resolved"),
            (Op::Create, LOCK_FILE, "cannot open its lock file"),
            (Op::Write, LOCK_FILE, "cannot be written to"),
        ] {
            faults.plan(op, path_part, Fault::Error(io::ErrorKind::Other), 1);
            let error = DataDir::take(&fs, dir.path()).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        DataDir::take(&fs, dir.path()).unwrap();
    }

    #[test]
    fn a_path_that_is_a_file_is_an_error_with_the_reason() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DataDir::take(&Fs::new(), file.path()).unwrap_err();
        assert!(error.to_string().contains("cannot be created"), "{error}");
    }
}
