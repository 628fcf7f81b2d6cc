//! The sparse indexes of one segment: from offset to position, and from timestamp to offset.
//!
//! Both are hints. An entry is trusted only after the batch it points to was read, so a stale or corrupt index costs a
//! longer scan and never a wrong answer. Layouts, big endian, as Kafka writes them:
//!
//! ```text
//! .index      relative offset u32 │ position u32             the last offset of the batch that begins at position
//! .timeindex  timestamp i64       │ relative offset u32      the largest timestamp so far, and its batch's last offset
//! ```
//!
//! The active segment's indexes are kept in memory ([`SparseIndex`]) and written when the segment is rolled or closed.
//! Those of a closed segment are searched in their files ([`IndexFile`]), so that old data takes no memory.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use super::error::{Error, IoContext};
use crate::fs::{File, Fs};

/// Length of the longest entry.
const ENTRY_LEN_MAX: usize = 34;

/// Entries read from a file at once.
const READ_ENTRIES: usize = 128;

/// States that the batch that ends at this offset begins at this position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffsetEntry {
    pub relative_offset: u32,
    pub position: u32,
}

/// States that no batch up to and including the one that ends at this offset has a larger timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeEntry {
    pub timestamp_ms: i64,
    pub relative_offset: u32,
}

/// A fixed-size entry of an index file.
pub(super) trait Entry: Copy {
    const LEN: usize;
    /// Extension of the file's name.
    const EXTENSION: &'static str;
    fn read(bytes: &[u8]) -> Option<Self>;
    fn write(self, out: &mut Vec<u8>);
    /// Returns true if `self` may follow `before` in a valid index.
    fn follows(&self, before: &Self) -> bool;
}

impl Entry for OffsetEntry {
    const LEN: usize = 8;
    const EXTENSION: &'static str = "index";

    fn read(bytes: &[u8]) -> Option<Self> {
        let (relative_offset, rest) = bytes.split_first_chunk()?;
        Some(Self {
            relative_offset: u32::from_be_bytes(*relative_offset),
            position: u32::from_be_bytes(*rest.first_chunk()?),
        })
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.relative_offset.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn follows(&self, before: &Self) -> bool {
        self.relative_offset > before.relative_offset && self.position > before.position
    }
}

impl Entry for TimeEntry {
    const LEN: usize = 12;
    const EXTENSION: &'static str = "timeindex";

    fn read(bytes: &[u8]) -> Option<Self> {
        let (timestamp_ms, rest) = bytes.split_first_chunk()?;
        Some(Self {
            timestamp_ms: i64::from_be_bytes(*timestamp_ms),
            relative_offset: u32::from_be_bytes(*rest.first_chunk()?),
        })
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp_ms.to_be_bytes());
        out.extend_from_slice(&self.relative_offset.to_be_bytes());
    }

    fn follows(&self, before: &Self) -> bool {
        self.timestamp_ms > before.timestamp_ms && self.relative_offset >= before.relative_offset
    }
}

/// The index data of an appended batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct IndexedBatch {
    pub position: u32,
    pub size: u32,
    /// The batch's last offset, relative to the segment's base offset.
    pub relative_offset: u32,
    pub max_timestamp_ms: i64,
}

/// The in-memory indexes of a segment that is being written, or that was just read completely.
#[derive(Debug)]
pub(super) struct SparseIndex {
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    offsets_written: usize,
    times_written: usize,
    bytes_since_entry: u64,
    /// The batch with the largest timestamp, if there are batches.
    max_time: Option<TimeEntry>,
}

impl SparseIndex {
    pub fn new() -> Self {
        Self {
            offsets: Vec::new(),
            times: Vec::new(),
            offsets_written: 0,
            times_written: 0,
            bytes_since_entry: 0,
            max_time: None,
        }
    }

    /// Reads the index files of a segment whose batches end at `size`; `None` if either is absent, invalid or extends
    /// past the segment. Batches from the last entry on are still to be noted.
    pub fn load(fs: &Fs, offsets: &Path, times: &Path, size: u64) -> Result<Option<Self>, Error> {
        let (Some(offsets), Some(times)) = (
            load_entries::<OffsetEntry>(fs, offsets)?,
            load_entries::<TimeEntry>(fs, times)?,
        ) else {
            return Ok(None);
        };
        if offsets
            .last()
            .is_some_and(|last| u64::from(last.position) >= size)
        {
            return Ok(None);
        }
        Ok(Some(Self {
            offsets_written: offsets.len(),
            times_written: times.len(),
            bytes_since_entry: 0,
            max_time: times.last().copied(),
            offsets,
            times,
        }))
    }

    /// Returns the entry of the last batch that has one.
    pub fn last_offset_entry(&self) -> Option<OffsetEntry> {
        self.offsets.last().copied()
    }

    /// Notes a batch, with index entries if about `interval_bytes` were written since the last entries.
    pub fn note(&mut self, batch: IndexedBatch, interval_bytes: u64) {
        if self
            .max_time
            .is_none_or(|max| batch.max_timestamp_ms > max.timestamp_ms)
        {
            self.max_time = Some(TimeEntry {
                timestamp_ms: batch.max_timestamp_ms,
                relative_offset: batch.relative_offset,
            });
        }
        if self.bytes_since_entry > interval_bytes {
            push_following(
                &mut self.offsets,
                OffsetEntry {
                    relative_offset: batch.relative_offset,
                    position: batch.position,
                },
            );
            self.note_max_time();
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += u64::from(batch.size);
    }

    /// Adds the largest timestamp to the time index, as required when the segment closes.
    pub fn note_max_time(&mut self) {
        if let Some(max) = self.max_time.filter(|max| max.timestamp_ms >= 0) {
            push_following(&mut self.times, max);
        }
    }

    pub fn max_time(&self) -> Option<TimeEntry> {
        self.max_time
    }

    /// Returns the size in bytes of the larger of the two index files.
    pub fn bytes(&self) -> usize {
        (self.offsets.len() * OffsetEntry::LEN).max(self.times.len() * TimeEntry::LEN)
    }

    /// Returns the last indexed batch that ends at or before the offset.
    pub fn floor_offset(&self, relative_offset: u32) -> Option<OffsetEntry> {
        floor(&self.offsets, |entry| {
            entry.relative_offset <= relative_offset
        })
    }

    /// Returns the last indexed batch that begins at or before the position.
    pub fn floor_position(&self, position: u32) -> Option<OffsetEntry> {
        floor(&self.offsets, |entry| entry.position <= position)
    }

    /// Returns the last indexed batch up to which all timestamps are smaller.
    pub fn floor_time(&self, timestamp_ms: i64) -> Option<TimeEntry> {
        floor(&self.times, |entry| entry.timestamp_ms < timestamp_ms)
    }

    /// Appends new entries to the files. Files with other content are rewritten.
    pub fn write_to(&mut self, fs: &Fs, offsets: &Path, times: &Path) -> Result<(), Error> {
        append_entries(fs, offsets, &self.offsets, &mut self.offsets_written)?;
        append_entries(fs, times, &self.times, &mut self.times_written)
    }
}

fn push_following<E: Entry>(entries: &mut Vec<E>, entry: E) {
    if entries.last().is_none_or(|last| entry.follows(last)) {
        entries.push(entry);
    }
}

fn floor<E: Entry>(entries: &[E], is_before: impl Fn(&E) -> bool) -> Option<E> {
    let after = entries.partition_point(is_before);
    after.checked_sub(1).map(|last| entries[last])
}

/// Reads all entries of a file; `None` if it is absent or invalid.
pub(super) fn load_entries<E: Entry>(fs: &Fs, path: &Path) -> Result<Option<Vec<E>>, Error> {
    let bytes = match fs.read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.during("read", path)?,
    };
    if !bytes.len().is_multiple_of(E::LEN) {
        return Ok(None);
    }
    let entries: Option<Vec<E>> = bytes.chunks_exact(E::LEN).map(E::read).collect();
    Ok(entries.filter(|entries| entries.is_sorted_by(|a, b| b.follows(a))))
}

fn append_entries<E: Entry>(
    fs: &Fs,
    path: &Path,
    entries: &[E],
    written: &mut usize,
) -> Result<(), Error> {
    let file = if *written == 0 {
        fs.create(path).during("create", path)?
    } else if *written < entries.len() {
        fs.open(path).during("open", path)?
    } else {
        return Ok(());
    };
    let mut bytes = Vec::with_capacity((entries.len() - *written) * E::LEN);
    for entry in &entries[*written..] {
        entry.write(&mut bytes);
    }
    file.write_all_at(&bytes, (*written * E::LEN) as u64)
        .during("write", path)?;
    *written = entries.len();
    Ok(())
}

/// A closed segment's index, searched in its file.
pub(super) struct IndexFile<E> {
    file: File,
    path: PathBuf,
    entries: u64,
    entry: PhantomData<E>,
}

impl<E: Entry> IndexFile<E> {
    /// Opens an index for searching; `None` if it is absent or has an invalid length.
    pub fn open(fs: &Fs, path: PathBuf) -> Result<Option<Self>, Error> {
        let file = match fs.open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.during("open", &path)?,
        };
        let size = file.size().during("read", &path)?;
        if !size.is_multiple_of(E::LEN as u64) {
            return Ok(None);
        }
        Ok(Some(Self {
            file,
            path,
            entries: size / E::LEN as u64,
            entry: PhantomData,
        }))
    }

    /// Returns the last entry for which `is_before` holds, by binary search.
    pub fn floor(&self, is_before: impl Fn(&E) -> bool) -> Result<Option<E>, Error> {
        Ok(self.search(is_before)?.0)
    }

    /// Returns the number of the first entry for which `is_before` does not hold, by binary search.
    pub fn partition_point(&self, is_before: impl Fn(&E) -> bool) -> Result<u64, Error> {
        Ok(self.search(is_before)?.1)
    }

    /// Returns the last entry for which `is_before` holds, and the number of the next one.
    fn search(&self, is_before: impl Fn(&E) -> bool) -> Result<(Option<E>, u64), Error> {
        let (mut low, mut high) = (0, self.entries);
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle)? {
                Some(entry) if is_before(&entry) => {
                    found = Some(entry);
                    low = middle + 1;
                }
                _ => high = middle,
            }
        }
        Ok((found, low))
    }

    pub fn len(&self) -> u64 {
        self.entries
    }

    /// Returns some entries from this number on; none at the end, or where an entry is invalid.
    pub fn read(&self, number: u64) -> Result<Vec<E>, Error> {
        let count = self.entries.saturating_sub(number).min(READ_ENTRIES as u64);
        let mut bytes = vec![0; count as usize * E::LEN];
        self.file
            .read_exact_at(&mut bytes, number * E::LEN as u64)
            .during("read", &self.path)?;
        Ok(bytes.chunks_exact(E::LEN).map_while(E::read).collect())
    }

    pub fn last(&self) -> Result<Option<E>, Error> {
        match self.entries.checked_sub(1) {
            Some(last) => self.entry(last),
            None => Ok(None),
        }
    }

    fn entry(&self, number: u64) -> Result<Option<E>, Error> {
        let mut bytes = [0; ENTRY_LEN_MAX];
        let bytes = &mut bytes[..E::LEN];
        self.file
            .read_exact_at(bytes, number * E::LEN as u64)
            .during("read", &self.path)?;
        Ok(E::read(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> SparseIndex {
        let mut index = SparseIndex::new();
        for number in 0..10_u32 {
            index.note(
                IndexedBatch {
                    position: number * 100,
                    size: 100,
                    relative_offset: number * 5 + 4,
                    max_timestamp_ms: [10, 30, 20, 40, 35, 50, 60, 60, 70, 65][number as usize],
                },
                150,
            );
        }
        index
    }

    #[test]
    fn entries_are_sparse_and_point_at_the_batch_before_or_at_the_offset() {
        let index = filled();
        assert_eq!(index.floor_offset(13), None);
        let entry = index.floor_offset(14).unwrap();
        assert_eq!((entry.relative_offset, entry.position), (14, 200));
        assert_eq!(index.floor_offset(23).unwrap(), entry);
        assert_eq!(index.floor_offset(1_000).unwrap().position, 800);
        assert_eq!(index.floor_position(399).unwrap().position, 200);
    }

    #[test]
    fn time_entries_hold_the_largest_timestamp_so_far() {
        let mut index = filled();
        assert_eq!(index.floor_time(30), None);
        let entry = index.floor_time(31).unwrap();
        assert_eq!((entry.timestamp_ms, entry.relative_offset), (30, 9));
        index.note_max_time();
        assert_eq!(index.floor_time(i64::MAX).unwrap().timestamp_ms, 70);
    }

    #[test]
    fn a_written_index_is_searched_in_its_file_and_extended_by_new_entries() {
        let dir = tempfile::tempdir().unwrap();
        let (offsets, times) = (dir.path().join("0.index"), dir.path().join("0.timeindex"));
        let fs = Fs::new();
        let mut index = filled();
        index.write_to(&fs, &offsets, &times).unwrap();
        index.note(
            IndexedBatch {
                position: 1_000,
                size: 100,
                relative_offset: 60,
                max_timestamp_ms: 99,
            },
            0,
        );
        index.write_to(&fs, &offsets, &times).unwrap();
        let file = IndexFile::<OffsetEntry>::open(&fs, offsets)
            .unwrap()
            .unwrap();
        for relative in [0, 14, 15, 59, 60, 61] {
            assert_eq!(
                file.floor(|entry| entry.relative_offset <= relative)
                    .unwrap(),
                index.floor_offset(relative)
            );
        }
        let file = IndexFile::<TimeEntry>::open(&fs, times).unwrap().unwrap();
        assert_eq!(file.last().unwrap().unwrap().timestamp_ms, 99);
    }

    #[test]
    fn an_absent_or_invalid_index_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.index");
        let fs = Fs::new();
        let open = || IndexFile::<OffsetEntry>::open(&fs, path.clone()).unwrap();
        assert!(open().is_none());
        std::fs::write(&path, [0; 7]).unwrap();
        assert!(open().is_none());
    }
}
