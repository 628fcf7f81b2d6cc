//! Rewriting adjacent closed segments as one that holds part of their batches.
//!
//! A crash at any point leaves all of the old segments or the new one, never both and never neither. The protocol is that
//! of Kafka's `UnifiedLog.replaceSegments`, which `LogLoader` completes after a crash, except that the name of the swap
//! file states which segments it replaces: the batches in it do not show that if the last ones were dropped.
//!
//! 1. `BASE.log.cleaned` is written and flushed. Recovery removes such a file.
//! 2. It is renamed to `BASE.log.LAST.swap`, durably. `LAST` is the base offset of the last segment that it replaces.
//!    From here on recovery completes the swap.
//! 3. The caller puts the new segment into the list of segments; its file is open, whatever its name.
//! 4. The files of the old segments are removed, all but `BASE.log`, durably.
//! 5. The swap file is renamed to `BASE.log`, durably.
//!
//! Readers that have an old segment's file open go on reading it. Those that would open it now look up their offset again,
//! since its name may be the new segment's.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::error::{Error, IoContext};
use super::scan::read_bytes;
use super::segment::{Located, REBUILT_INTERVAL_BYTES, Segment, file_path};
use crate::fs::{File, Fs};
use crate::record::BatchHeader;

/// Size of the pieces in which bytes are copied.
const COPY_BYTES: usize = 1 << 20;

/// Whole batches of an old segment that the new one keeps.
pub(super) struct Kept<'a> {
    pub segment: &'a Segment,
    pub range: Range<u64>,
}

/// A segment that takes the place of others, and the files that are left to replace.
pub(super) struct Swap {
    pub replaced: Vec<Arc<Segment>>,
    pub segment: Arc<Segment>,
    file: SwapFile,
}

/// The name of a rewritten segment's file until the old files are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SwapFile {
    /// Base offsets of the first and the last segment that it replaces.
    pub base_offset: i64,
    pub last_base_offset: i64,
}

impl SwapFile {
    /// Parses the base offset and the extension of a file name.
    pub fn parse(base_offset: i64, extension: &str) -> Option<Self> {
        let last = extension.strip_prefix("log.")?.strip_suffix(".swap")?;
        let last_base_offset = last.parse().ok().filter(|last| *last >= base_offset)?;
        Some(Self {
            base_offset,
            last_base_offset,
        })
    }

    fn path(self, dir: &Path) -> PathBuf {
        let extension = format!("log.{:020}.swap", self.last_base_offset);
        file_path(dir, self.base_offset, &extension)
    }

    /// Removes the file if its rewrite was abandoned.
    pub fn remove(self, fs: &Fs, dir: &Path) -> Result<(), Error> {
        let path = self.path(dir);
        fs.remove_file(&path).during("remove", &path)
    }

    /// Gives the file its final name, once the files of the later segments are removed. Can be repeated.
    pub fn complete(self, fs: &Fs, dir: &Path) -> Result<(), Error> {
        for extension in ["index", "timeindex", "txnindex"] {
            let path = file_path(dir, self.base_offset, extension);
            fs.remove_file(&path).during("remove", &path)?;
        }
        // Without the name of the swap file nothing tells which segments it replaced.
        fs.sync_dir(dir).during("sync", dir)?;
        let path = file_path(dir, self.base_offset, "log");
        match fs.rename(&self.path(dir), &path) {
            // An earlier call renamed it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.during("replace", &path)?,
        }
        fs.sync_dir(dir).during("sync", dir)
    }
}

impl Swap {
    /// Writes the batches kept of `old` as one segment, so that a crash from here on leaves that one.
    ///
    /// Batches and segments are in the order of their offsets, together fit into one segment, and lie below the high
    /// watermark, whose position would otherwise change. If the last batches are dropped, the segments also lie below the
    /// recovery point in its checkpoint, or `offset_gap` explains the gap: recovery would take it for the effect of a
    /// power failure.
    ///
    /// The caller replaces the segments in the list and then calls [`complete`](Self::complete).
    pub fn commit<'a>(
        fs: &Fs,
        dir: &Arc<Path>,
        old: &[Arc<Segment>],
        kept: impl IntoIterator<Item = Kept<'a>>,
    ) -> Result<Self, Error> {
        let staged = Staged::copy(fs, dir, old[0].base_offset, kept)?;
        Self::commit_staged(fs, dir, old, staged)
    }

    /// Makes a segment that was written replace `old`, like [`commit`](Self::commit).
    pub fn commit_staged(
        fs: &Fs,
        dir: &Arc<Path>,
        old: &[Arc<Segment>],
        mut staged: Staged,
    ) -> Result<Self, Error> {
        let (Some(first), Some(last)) = (old.first(), old.last()) else {
            unreachable!("a rewrite replaces at least one segment");
        };
        let file = SwapFile {
            base_offset: first.base_offset,
            last_base_offset: last.base_offset,
        };
        staged.segment.inherit_aborted(old)?;
        let path = file.path(dir);
        let from = &staged.path;
        fs.rename(from, &path).during("rename", from)?;
        staged.is_committed = true;
        if let Err(failure) = fs.sync_dir(dir).during("sync", dir) {
            // Recovery copes with the file, but it takes space until then.
            let _ = file.remove(fs, dir);
            return Err(failure);
        }
        Ok(Self {
            replaced: old.to_vec(),
            segment: Arc::clone(&staged.segment),
            file,
        })
    }

    /// Removes the old segments' files and gives the new one its final name. Can be repeated after an error; until it
    /// succeeds, none of these segments may be deleted or rewritten.
    pub fn complete(&self, fs: &Fs, dir: &Path) -> Result<(), Error> {
        for segment in &self.replaced {
            segment.retire();
        }
        for segment in &self.replaced[1..] {
            segment.remove_files()?;
        }
        self.file.complete(fs, dir)
    }
}

/// A segment that is being written under a temporary name. Its file is removed unless it is committed.
pub(super) struct Staged {
    fs: Fs,
    path: PathBuf,
    file: File,
    segment: Arc<Segment>,
    is_committed: bool,
}

impl Staged {
    /// Creates the file `BASE.EXTENSION.cleaned`.
    pub fn create(
        fs: &Fs,
        dir: &Arc<Path>,
        base_offset: i64,
        extension: &str,
    ) -> Result<Self, Error> {
        let path = file_path(dir, base_offset, &format!("{extension}.cleaned"));
        let file = fs.create(&path).during("create", &path)?;
        let segment = Segment::staged(fs, dir, base_offset, file.clone());
        Ok(Self {
            fs: fs.clone(),
            path,
            file,
            segment: Arc::new(segment),
            is_committed: false,
        })
    }

    /// Writes and flushes the batches kept of other segments.
    fn copy<'a>(
        fs: &Fs,
        dir: &Arc<Path>,
        base_offset: i64,
        kept: impl IntoIterator<Item = Kept<'a>>,
    ) -> Result<Self, Error> {
        let staged = Self::create(fs, dir, base_offset, "log")?;
        let mut size = 0;
        for Kept { segment, range } in kept {
            size += copy(segment, range, &staged.file, &staged.path, size)?;
        }
        staged.flush()?;
        staged.segment.publish(size, [].into_iter(), 0);
        staged.segment.build_index()?;
        Ok(staged)
    }

    /// Appends whole batches; `batches` has the header and the size of each.
    pub fn append(&self, bytes: &[u8], batches: &[BatchHeader]) -> Result<(), Error> {
        let mut position = self.segment.size();
        self.file
            .write_all_at(bytes, position)
            .during("write", &self.path)?;
        let end = position + bytes.len() as u64;
        let indexed = batches.iter().map(|header| {
            let located = Located {
                position,
                header: *header,
            };
            position = located.end();
            self.segment.indexed(&located)
        });
        self.segment.publish(end, indexed, REBUILT_INTERVAL_BYTES);
        Ok(())
    }

    /// Makes the file durable.
    pub fn flush(&self) -> Result<(), Error> {
        self.file.sync_data().during("sync", &self.path)
    }

    /// Sets the time at which the file was last written to.
    pub fn set_modified(&self, time: SystemTime) -> Result<(), Error> {
        let set = self.file.set_modified(time);
        set.during("set the modification time of", &self.path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_committed {
            // Recovery removes it, too, but it takes space until then.
            let _ = self.fs.remove_file(&self.path);
        }
    }
}

/// Copies a range of a segment to a position of a file. Returns its length.
pub(super) fn copy(
    segment: &Segment,
    range: Range<u64>,
    to: &File,
    to_path: &Path,
    mut to_position: u64,
) -> Result<u64, Error> {
    let file = segment.file()?;
    let mut position = range.start;
    while position < range.end {
        let len = (range.end - position).min(COPY_BYTES as u64) as usize;
        let piece = read_bytes(&file, segment.log_path(), position, len)?;
        to.write_all_at(&piece, to_position)
            .during("write", to_path)?;
        position += len as u64;
        to_position += len as u64;
    }
    Ok(range.end.saturating_sub(range.start))
}
