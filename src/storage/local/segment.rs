//! One segment: a run of batches in one file. `lookup` finds batches in it, `indexing` maintains its index, `transactions`
//! its transaction index, `checking` tracks which of its bytes have been verified.
//!
//! A segment's file holds whole batches from its base offset on. Bytes below the published size never change (a segment
//! that has to be rewritten becomes a new segment), so they are read without a lock, and a deleted segment stays
//! readable through a file that was opened before. The segment itself closes its file on deletion, because an open file
//! keeps its space on the disk.

mod checking;
mod indexing;
mod lookup;
mod transactions;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};

use self::checking::Checked;
pub(super) use self::indexing::REBUILT_INTERVAL_BYTES;
use self::lookup::Hints;
use super::error::{Error, IoContext};
use super::index::{IndexedBatch, SparseIndex, TimeEntry};
use super::scan::read_bytes;
use super::transaction_index::TransactionIndex;
use crate::fs::{File, Fs};
use crate::record::BatchHeader;

/// Returns the path of a segment's file, named as Kafka does.
pub(super) fn file_path(dir: &Path, base_offset: i64, extension: &str) -> PathBuf {
    dir.join(format!("{base_offset:020}.{extension}"))
}

/// A batch header and the position of its batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Located {
    pub position: u64,
    pub header: BatchHeader,
}

impl Located {
    pub fn end(&self) -> u64 {
        self.position + self.header.size_bytes() as u64
    }

    /// Returns the largest timestamp of the batch's records, −1 if there is none. The header of a batch that compaction
    /// left without records still has the one that they had.
    pub fn newest_ms(&self) -> i64 {
        match self.header.record_count {
            0 => -1,
            _ => self.header.max_timestamp,
        }
    }
}

/// The end of a run of whole batches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub end: u64,
    /// The offset after the run; `None` if it ends at the limit.
    pub next_offset: Option<i64>,
}

pub(super) struct Segment {
    pub base_offset: i64,
    fs: Fs,
    /// Built once; every read and append needs it for its errors.
    log_path: Box<Path>,
    log: RwLock<Option<File>>,
    size: AtomicU64,
    /// In memory while the segment is written; `None` once it is closed and its index files are complete.
    index: RwLock<Option<SparseIndex>>,
    transactions: TransactionIndex,
    /// The largest timestamp and its batch, cached after the first lookup in a closed segment.
    max_time: Mutex<Option<TimeEntry>>,
    checked: Mutex<Checked>,
    /// Offsets may be missing between batches.
    has_gaps: bool,
    hints: Mutex<Hints>,
    /// Held while the index files are rebuilt.
    index_repair: Mutex<()>,
    /// Set when its files were, or are about to be, removed: unflushed data need not be flushed any more.
    removed: AtomicBool,
}

impl Segment {
    /// Creates a segment that is new, or that this process has just verified completely.
    pub fn sound(
        fs: &Fs,
        dir: &Arc<Path>,
        base_offset: i64,
        size: u64,
        index: SparseIndex,
    ) -> Self {
        let transactions = TransactionIndex::in_memory();
        Self::build(fs, dir, base_offset, size, Some(index), transactions, 0)
    }

    /// Creates a segment that was found on disk and not read yet.
    pub fn found(fs: &Fs, dir: &Arc<Path>, base_offset: i64, size: u64) -> Self {
        let transactions = TransactionIndex::absent();
        Self::build(fs, dir, base_offset, size, None, transactions, size)
    }

    /// Creates an empty segment whose file does not have its final name yet. What is written to it counts as not checked.
    pub fn staged(fs: &Fs, dir: &Arc<Path>, base_offset: i64, log: File) -> Self {
        let index = Some(SparseIndex::new());
        let transactions = TransactionIndex::in_memory();
        let segment = Self::build(fs, dir, base_offset, 0, index, transactions, u64::MAX);
        *segment.log.write() = Some(log);
        segment
    }

    /// States that offsets may be missing between the segment's batches: it was compacted.
    pub fn with_gaps(mut self) -> Self {
        self.has_gaps = true;
        self
    }

    fn build(
        fs: &Fs,
        dir: &Arc<Path>,
        base_offset: i64,
        size: u64,
        index: Option<SparseIndex>,
        transactions: TransactionIndex,
        checked_from: u64,
    ) -> Self {
        Self {
            base_offset,
            fs: fs.clone(),
            log_path: file_path(dir, base_offset, "log").into(),
            log: RwLock::new(None),
            size: AtomicU64::new(size),
            index: RwLock::new(index),
            transactions,
            max_time: Mutex::new(None),
            checked: Mutex::new(Checked::from(checked_from)),
            has_gaps: false,
            hints: Mutex::default(),
            index_repair: Mutex::default(),
            removed: AtomicBool::new(false),
        }
    }

    /// Returns the path of the segment's file with this extension.
    pub fn path(&self, extension: &str) -> PathBuf {
        self.log_path.with_extension(extension)
    }

    pub fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// Returns the size of the segment in bytes, all of them whole batches.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Returns the open file. Files are opened on first use, so that idle partitions take no descriptors.
    pub fn file(&self) -> Result<File, Error> {
        if let Some(file) = &*self.log.read() {
            return Ok(file.clone());
        }
        let path = self.log_path();
        let file = self.fs.open(path).during("open", path)?;
        let mut log = self.log.write();
        match self.removed.load(Ordering::Acquire) {
            // Keeping it open would keep its space in use, and the name may be that of the segment that replaced this one.
            true => Err(std::io::ErrorKind::NotFound.into()).during("open", path),
            false => Ok(log.get_or_insert(file).clone()),
        }
    }

    /// Returns when the file was last written to, in milliseconds since the Unix epoch.
    pub fn modified_ms(&self) -> Result<i64, Error> {
        let since_epoch = self
            .modified()?
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Ok(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    /// Returns when the file was last written to.
    pub fn modified(&self) -> Result<SystemTime, Error> {
        let path = self.log_path();
        let modified = self.file()?.modified();
        modified.during("read the modification time of", path)
    }

    /// Runs `look` and then closes the segment's file, unless it was open before.
    pub fn peek<T>(&self, look: impl FnOnce(&Self) -> T) -> T {
        let was_open = self.log.read().is_some();
        let seen = look(self);
        if !was_open {
            *self.log.write() = None;
        }
        seen
    }

    /// Creates the segment's file. A file that a crash left under its name is past the log's end and is emptied.
    pub fn create_file(&self) -> Result<(), Error> {
        let path = self.log_path();
        self.fs.create(path).during("create", path)?;
        Ok(())
    }

    /// Makes the segment readable up to `size` and indexes `batches`, the batches added.
    pub fn publish(
        &self,
        size: u64,
        batches: impl Iterator<Item = IndexedBatch>,
        interval_bytes: u64,
    ) {
        if let Some(index) = &mut *self.index.write() {
            for batch in batches {
                index.note(batch, interval_bytes);
            }
        }
        self.size.store(size, Ordering::Release);
    }

    /// Flushes the file's data. Does nothing for a segment that was removed.
    pub fn sync(&self) -> Result<(), Error> {
        let path = self.log_path();
        let synced = self
            .file()
            .and_then(|file| file.sync_data().during("sync", path));
        self.unless_removed(synced)
    }

    fn unless_removed(&self, result: Result<(), Error>) -> Result<(), Error> {
        match self.removed.load(Ordering::Acquire) {
            true => Ok(()),
            false => result,
        }
    }

    /// Notes that the segment's files are about to be removed, and closes the log file, since an open file keeps its
    /// space. Readers that hold the open file can go on reading.
    pub fn note_removal(&self) {
        let mut log = self.log.write();
        self.removed.store(true, Ordering::Release);
        *log = None;
    }

    /// Prepares for another segment to take over the names of the files: from here on they are neither opened nor written.
    pub fn retire(&self) {
        self.note_removal();
        drop(self.index_repair.lock());
    }

    /// Removes the segment's files. Readers that hold the open file can go on reading.
    pub fn remove_files(&self) -> Result<(), Error> {
        self.note_removal();
        for extension in ["log", "index", "timeindex", "txnindex", "snapshot"] {
            let path = self.path(extension);
            self.fs.remove_file(&path).during("remove", &path)?;
        }
        Ok(())
    }

    pub fn read(&self, position: u64, len: usize) -> Result<Vec<u8>, Error> {
        read_bytes(&self.file()?, self.log_path(), position, len)
    }

    pub fn corrupt(&self, position: u64, reason: impl Into<String>) -> Error {
        Error::corrupt(self.log_path(), position, reason)
    }
}
