//! Calls in which a simulated disk can take part.
//!
//! The defaults are the operating system's own calls, and nothing before or after them. [`NoHooks`], which production
//! builds use, keeps all of them: it has no size, and the compiler removes the empty ones. With the feature
//! `simulation`, which only tests use, `simulation.rs` overrides them.

use std::fs;
use std::io::{self, IoSlice};
use std::path::Path;

/// A kind of call to the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Open,
    /// Listing a directory.
    List,
    /// Looking up a path: its size, existence or canonical form.
    Stat,
    Create,
    Rename,
    Remove,
    Read,
    Write,
    SetSize,
    Allocate,
    SyncData,
    SyncDir,
}

/// Hooks of calls on paths.
pub(super) trait Hooks {
    type File: FileHooks;

    /// Adds hooks to a file that was opened.
    fn opened(&self, path: &Path) -> Self::File;

    /// Adds hooks to a file that was created or emptied.
    fn created(&self, path: &Path) -> Self::File;

    /// Adds hooks to a file that was opened, and created if it did not exist.
    fn opened_or_created(&self, path: &Path) -> Self::File;

    /// Runs before a call; an error prevents the call.
    fn before(&self, _op: Op, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Returns the bytes that removing `path` would free, for `renamed` and `removed`.
    fn bytes_to_free(&self, _path: &Path) -> u64 {
        0
    }

    fn created_dirs(&self, _path: &Path) {}

    fn renamed(&self, _from: &Path, _to: &Path, _freed_bytes: u64) {}

    fn removed(&self, _path: &Path, _freed_bytes: u64) {}

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn boot_id(&self) -> Vec<u8> {
        fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default()
    }

    /// Returns the bytes that can still be written, given those that the file system reports.
    fn available_bytes(&self, reported: u64) -> u64 {
        reported
    }
}

/// Hooks of calls on one open file.
pub(super) trait FileHooks {
    /// Runs before a read; an error prevents it.
    fn before_read(&self) -> io::Result<()> {
        Ok(())
    }

    /// Writes as much of the slices as one call does, and returns its length in bytes.
    fn write(&self, file: &fs::File, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(file, slices, position)?)
    }

    /// Runs before space is allocated up to `size` bytes; an error prevents it.
    fn before_allocation(&self, _file: &fs::File, _size: u64) -> io::Result<()> {
        Ok(())
    }

    /// Runs before the file's size is set to `size` bytes; an error prevents it.
    fn before_resize(&self, _file: &fs::File, _size: u64) -> io::Result<()> {
        Ok(())
    }

    fn resized(&self, _size: u64) {}

    fn sync_data(&self, file: &fs::File) -> io::Result<()> {
        file.sync_data()
    }
}

/// The operating system's calls alone.
#[derive(Clone, Debug, Default)]
pub(super) struct NoHooks;

impl Hooks for NoHooks {
    type File = NoHooks;

    fn opened(&self, _path: &Path) -> NoHooks {
        NoHooks
    }

    fn created(&self, _path: &Path) -> NoHooks {
        NoHooks
    }

    fn opened_or_created(&self, _path: &Path) -> NoHooks {
        NoHooks
    }
}

impl FileHooks for NoHooks {}
