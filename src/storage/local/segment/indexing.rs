//! A segment's index: in memory while it is written, in files once it is closed, rebuilt when those are unusable.

use tracing::info;

use super::{Located, Segment};
use crate::storage::local::error::{Error, IoContext};
use crate::storage::local::index::{Entry, IndexFile, IndexedBatch, SparseIndex};
use crate::storage::local::scan::{Found, Scanner};

/// Distance between entries of a rebuilt index: Kafka's default.
pub(in crate::storage) const REBUILT_INTERVAL_BYTES: u64 = 4096;

impl Segment {
    /// Returns true if the index is in memory, as appends require.
    pub fn has_index(&self) -> bool {
        self.index.read().is_some()
    }

    pub fn set_index(&self, index: SparseIndex) {
        *self.index.write() = Some(index);
    }

    /// Returns the size in bytes of the largest of the index files.
    pub fn index_bytes(&self) -> usize {
        let index_bytes = self.index.read().as_ref().map_or(0, SparseIndex::bytes);
        index_bytes.max(self.transactions.bytes())
    }

    /// Completes the index files and drops the indexes from memory.
    pub fn close_index(&self) -> Result<(), Error> {
        self.close_transactions()?;
        if let Some(index) = &mut *self.index.write() {
            index.note_max_time();
            index.write_to(&self.fs, &self.path("index"), &self.path("timeindex"))?;
            *self.max_time.lock() = index.max_time();
        }
        *self.index.write() = None;
        Ok(())
    }

    /// Flushes the files of a closed segment's sparse indexes.
    pub fn sync_index(&self) -> Result<(), Error> {
        for extension in ["index", "timeindex"] {
            let path = self.path(extension);
            let synced = self
                .fs
                .open(&path)
                .and_then(|file| file.sync_data())
                .during("sync", &path);
            match synced {
                // An empty segment has no index.
                Err(error) if error.is_absent() => {}
                other => self.unless_removed(other)?,
            }
        }
        Ok(())
    }

    /// Rebuilds a closed segment's index files after a lookup found them unusable.
    pub(super) fn repair_index(&self) -> Result<(), Error> {
        if self.has_index() {
            return Ok(());
        }
        // A second reader goes on without an index instead of waiting.
        let Some(_repairing) = self.index_repair.try_lock() else {
            return Ok(());
        };
        self.rebuild_index()
    }

    /// Rebuilds the index files from the batch headers, up to the first invalid one.
    pub fn rebuild_index(&self) -> Result<(), Error> {
        info!(path = %self.log_path().display(), "rebuilding index");
        self.build_index()?;
        self.close_index()?;
        self.sync_index()
    }

    /// Builds the index in memory from the batch headers, up to the first invalid one.
    pub fn build_index(&self) -> Result<(), Error> {
        let size = self.size();
        let mut index = SparseIndex::new();
        let path = self.log_path();
        let file = self.file()?;
        let mut scanner = Scanner::new(&file, path, self.base_offset, size);
        let (mut position, mut offset_min) = (0, self.base_offset);
        while let Found::Batch(header) = scanner.header(position, offset_min)? {
            let located = Located { position, header };
            index.note(self.indexed(&located), REBUILT_INTERVAL_BYTES);
            offset_min = header.next_offset();
            position = located.end();
        }
        self.set_index(index);
        Ok(())
    }

    /// Returns the batch up to which an index read from its files is complete; `None` if the index is unusable.
    pub fn last_indexed(&self, index: &SparseIndex) -> Result<Option<Located>, Error> {
        let (Some(time), Some(offset)) = (index.max_time(), index.last_offset_entry()) else {
            return Ok(None);
        };
        let newest = self.confirmed(time, self.size())?;
        let last = self.base_offset + i64::from(offset.relative_offset);
        match newest {
            Some(newest) if newest.header.last_offset() > last => self.locate(last, self.size()),
            other => Ok(other),
        }
    }

    /// Returns the index data of a batch of this segment.
    pub fn indexed(&self, located: &Located) -> IndexedBatch {
        IndexedBatch {
            position: located.position as u32,
            size: located.header.size_bytes() as u32,
            relative_offset: (located.header.last_offset() - self.base_offset) as u32,
            max_timestamp_ms: located.newest_ms(),
        }
    }

    pub(super) fn floor_in_file<E: Entry>(
        &self,
        is_before: impl Fn(&E) -> bool,
    ) -> Result<Option<E>, Error> {
        match self.index_file()? {
            Some(file) => file.floor(is_before),
            None => Ok(None),
        }
    }

    pub fn index_file<E: Entry>(&self) -> Result<Option<IndexFile<E>>, Error> {
        IndexFile::open(&self.fs, self.path(E::EXTENSION))
    }
}
