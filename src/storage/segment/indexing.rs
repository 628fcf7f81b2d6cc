//! A segment's index: in memory while it is written, in files once it is closed, made anew when those are of no use.

use tracing::info;

use super::{Located, Segment};
use crate::storage::error::{Error, IoContext};
use crate::storage::index::{Entry, IndexFile, IndexedBatch, SparseIndex};
use crate::storage::scan::{Found, Scanner};

/// Distance of the entries of an index that is made anew: Kafka's default.
pub(in crate::storage) const REBUILT_INTERVAL_BYTES: u64 = 4096;

impl Segment {
    /// Whether the index is in memory, as it must be for appending.
    pub fn has_index(&self) -> bool {
        self.index.read().is_some()
    }

    pub fn set_index(&self, index: SparseIndex) {
        *self.index.write() = Some(index);
    }

    pub fn index_bytes(&self) -> usize {
        self.index.read().as_ref().map_or(0, SparseIndex::bytes)
    }

    /// Writes the index files for good and drops the index from memory.
    pub fn close_index(&self) -> Result<(), Error> {
        if let Some(index) = &mut *self.index.write() {
            index.note_max_time();
            index.write_to(&self.fs, &self.path("index"), &self.path("timeindex"))?;
            *self.max_time.lock() = index.max_time();
        }
        *self.index.write() = None;
        Ok(())
    }

    /// Waits until a closed segment's index files would survive a loss of power.
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

    /// Makes a closed segment's index files anew from its headers: they turned out to be of no use.
    pub(super) fn repair_index(&self) -> Result<(), Error> {
        if self.has_index() {
            return Ok(());
        }
        // Whoever comes second goes without, rather than wait.
        let Some(_mending) = self.mending.try_lock() else {
            return Ok(());
        };
        self.rebuild_index()
    }

    /// Writes the index files anew from the batches' headers, as far as those go.
    pub fn rebuild_index(&self) -> Result<(), Error> {
        info!(path = %self.log_path().display(), "rebuilding index");
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
        self.close_index()?;
        self.sync_index()
    }

    /// The batch up to which an index that was read from its files says all there is to say; `None` if it is of no use.
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

    /// What an index needs to know about a batch of this segment.
    pub fn indexed(&self, located: &Located) -> IndexedBatch {
        IndexedBatch {
            position: located.position as u32,
            size: located.header.size_bytes() as u32,
            relative_offset: (located.header.last_offset() - self.base_offset) as u32,
            max_timestamp_ms: located.header.max_timestamp,
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
