//! One segment: a run of batches in one file, and how to find things in it.
//!
//! A segment's file holds whole batches from its base offset on. Bytes below the published size never change (a segment
//! that has to be rewritten becomes another segment), so they are read without a lock, and a deleted segment stays
//! readable for whoever holds it.
//!
//! Bytes that this process did not write are trusted once their CRCs have been seen to hold: a read of such bytes
//! checks them first, and what was checked is remembered. So damage that happened while the server was down, or under a
//! clean shutdown's marker, is found before it is served.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tracing::info;

use super::error::{Error, IoContext};
use super::index::{IndexFile, IndexedBatch, OffsetEntry, SparseIndex, TimeEntry};
use super::scan::{Found, Scanner, read_bytes};
use crate::fs::{File, Fs};
use crate::record::BatchHeader;

/// Distance of the entries of an index that is made anew: Kafka's default.
pub(super) const REBUILT_INTERVAL_BYTES: u64 = 4096;

/// A walk over more than this from a segment's beginning means that its index is missing or useless.
const UNINDEXED_BYTES_MAX: u64 = 64 * 1024;

/// How many places where a read ended are remembered per segment; sequential readers begin there.
const HINTS: usize = 4;

/// How many separate checked ranges are remembered per segment.
const CHECKED_RANGES_MAX: usize = 64;

/// The name of a segment's file, as Kafka gives it.
pub(super) fn file_path(dir: &Path, base_offset: i64, extension: &str) -> PathBuf {
    dir.join(format!("{base_offset:020}.{extension}"))
}

/// A batch and where it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Located {
    pub position: u64,
    pub header: BatchHeader,
}

impl Located {
    pub fn end(&self) -> u64 {
        self.position + self.header.size_bytes() as u64
    }
}

/// Where a run of whole batches ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub end: u64,
    /// The offset after the run, if it was come across.
    pub next_offset: Option<i64>,
}

pub(super) struct Segment {
    pub base_offset: i64,
    fs: Fs,
    /// Made once: every read and append has it at hand for its errors.
    log_path: Box<Path>,
    log: RwLock<Option<File>>,
    size: AtomicU64,
    /// In memory while the segment is written; `None` once it is closed and its index files hold all there is to know.
    index: RwLock<Option<SparseIndex>>,
    /// The largest timestamp and its batch, once it was looked up in a closed segment.
    max_time: Mutex<Option<TimeEntry>>,
    checked: Mutex<Checked>,
    hints: Mutex<Hints>,
    /// Held while the index files are made anew.
    mending: Mutex<()>,
    /// Its files were, or are about to be, removed: what is not on disk yet need not get there.
    removed: AtomicBool,
}

/// Which bytes are known to be sound.
#[derive(Debug)]
struct Checked {
    /// All bytes from here on were written or checked by this process.
    from: u64,
    /// So were these, sorted and apart from one another.
    ranges: Vec<(u64, u64)>,
}

impl Checked {
    fn covers(&self, start: u64, end: u64) -> bool {
        start >= self.from
            || self
                .ranges
                .iter()
                .any(|range| range.0 <= start && end.min(self.from) <= range.1)
    }

    fn add(&mut self, start: u64, end: u64) {
        let (mut start, mut end) = (start, end);
        self.ranges.retain(|range| {
            let touches = range.0 <= end && start <= range.1;
            if touches {
                start = start.min(range.0);
                end = end.max(range.1);
            }
            !touches
        });
        if end >= self.from {
            self.from = start;
            return;
        }
        let place = self.ranges.partition_point(|range| range.0 < start);
        self.ranges.insert(place, (start, end));
        if self.ranges.len() > CHECKED_RANGES_MAX {
            self.ranges.remove(0);
        }
    }
}

/// Where reads ended lately: "the batch with this offset begins there".
#[derive(Debug, Default)]
struct Hints {
    places: [(i64, u64); HINTS],
    next: usize,
}

impl Segment {
    /// A segment that this process creates, or has just read from end to end.
    pub fn sound(
        fs: &Fs,
        dir: &Arc<Path>,
        base_offset: i64,
        size: u64,
        index: SparseIndex,
    ) -> Self {
        Self::build(fs, dir, base_offset, size, Some(index), 0)
    }

    /// A segment found on disk, not yet looked into.
    pub fn found(fs: &Fs, dir: &Arc<Path>, base_offset: i64, size: u64) -> Self {
        Self::build(fs, dir, base_offset, size, None, size)
    }

    fn build(
        fs: &Fs,
        dir: &Arc<Path>,
        base_offset: i64,
        size: u64,
        index: Option<SparseIndex>,
        checked_from: u64,
    ) -> Self {
        Self {
            base_offset,
            fs: fs.clone(),
            log_path: file_path(dir, base_offset, "log").into(),
            log: RwLock::new(None),
            size: AtomicU64::new(size),
            index: RwLock::new(index),
            max_time: Mutex::new(None),
            checked: Mutex::new(Checked {
                from: checked_from,
                ranges: Vec::new(),
            }),
            hints: Mutex::default(),
            mending: Mutex::default(),
            removed: AtomicBool::new(false),
        }
    }

    /// The segment's file with this extension.
    pub fn path(&self, extension: &str) -> PathBuf {
        self.log_path.with_extension(extension)
    }

    pub fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// Bytes of whole batches.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The open file. Files are opened when they are first needed, so that idle partitions cost no descriptors.
    pub fn file(&self) -> Result<File, Error> {
        if let Some(file) = &*self.log.read() {
            return Ok(file.clone());
        }
        let path = self.log_path();
        let file = self.fs.open(path).during("open", path)?;
        Ok(self.log.write().get_or_insert(file).clone())
    }

    /// Looks at the segment without leaving its file open if it was not before.
    pub fn peek<T>(&self, look: impl FnOnce(&Self) -> T) -> T {
        let was_open = self.log.read().is_some();
        let seen = look(self);
        if !was_open {
            *self.log.write() = None;
        }
        seen
    }

    /// Creates the segment's file. What a crash may have left under its name lies beyond the log's end, and goes.
    pub fn create_file(&self) -> Result<(), Error> {
        let path = self.log_path();
        self.fs.create(path).during("create", path)?;
        Ok(())
    }

    /// Makes bytes up to `size`, whose batches are `batches`, part of the segment.
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

    /// Waits until the file's data would survive a loss of power. Nothing is left to do for a segment that was removed.
    pub fn sync(&self) -> Result<(), Error> {
        let path = self.log_path();
        let synced = self
            .file()
            .and_then(|file| file.sync_data().during("synchronise", path));
        self.unless_removed(synced)
    }

    /// The same for the index files of a closed segment.
    pub fn sync_index(&self) -> Result<(), Error> {
        for extension in ["index", "timeindex"] {
            let path = self.path(extension);
            let synced = self
                .fs
                .open(&path)
                .and_then(|file| file.sync_data())
                .during("synchronise", &path);
            match synced {
                // An empty segment has no index.
                Err(error) if error.is_absent() => {}
                other => self.unless_removed(other)?,
            }
        }
        Ok(())
    }

    fn unless_removed(&self, result: Result<(), Error>) -> Result<(), Error> {
        match self.removed.load(Ordering::Acquire) {
            true => Ok(()),
            false => result,
        }
    }

    /// Removes the segment's files. What holds the open file can go on reading.
    pub fn remove_files(&self) -> Result<(), Error> {
        self.removed.store(true, Ordering::Release);
        for extension in ["log", "index", "timeindex", "txnindex", "snapshot"] {
            let path = self.path(extension);
            self.fs.remove_file(&path).during("remove", &path)?;
        }
        Ok(())
    }

    /// Whether reading these bytes needs a look at their CRCs first.
    pub fn needs_check(&self, start: u64, end: u64) -> bool {
        !self.checked.lock().covers(start, end)
    }

    /// Takes all bytes as checked.
    pub fn mark_checked(&self) {
        self.checked.lock().from = 0;
    }

    /// The first batch that ends at or after `offset`, among those that begin before `limit`.
    pub fn locate(&self, offset: i64, limit: u64) -> Result<Option<Located>, Error> {
        if limit == 0 {
            return Ok(None);
        }
        let start = self.start_near(offset)?;
        if let Some(start) = start
            && let Some(found) = self.walk_to(offset, start.0, start.1, limit)?
        {
            return Ok(found);
        }
        match self.walk_to(offset, 0, self.base_offset, limit)? {
            Some(found) => {
                let far = found.is_none_or(|found| found.position > UNINDEXED_BYTES_MAX);
                if start.is_some() || (far && limit > UNINDEXED_BYTES_MAX) {
                    self.mend_index()?;
                }
                Ok(found)
            }
            None => Err(self.corrupt(0, "its first batch has another offset than its name")),
        }
    }

    /// Makes a closed segment's index files anew from its headers: they turned out to be of no use.
    fn mend_index(&self) -> Result<(), Error> {
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
        info!(path = %self.log_path().display(), "rebuilding an index");
        let size = self.size();
        let mut index = SparseIndex::new();
        let path = self.log_path();
        let file = self.file()?;
        let mut scanner = Scanner::new(&file, path, size);
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

    /// What an index needs to know about a batch of this segment.
    pub fn indexed(&self, located: &Located) -> IndexedBatch {
        IndexedBatch {
            position: located.position as u32,
            size: located.header.size_bytes() as u32,
            relative_offset: (located.header.last_offset() - self.base_offset) as u32,
            max_timestamp_ms: located.header.max_timestamp,
        }
    }

    /// A position at or before the batch sought, and an offset that batch there begins at or after.
    fn start_near(&self, offset: i64) -> Result<Option<(u64, i64)>, Error> {
        if let Some(hint) = self.hint(offset) {
            return Ok(Some((hint, offset)));
        }
        let Ok(relative) = u32::try_from(offset - self.base_offset) else {
            return Ok(None);
        };
        let entry = match &*self.index.read() {
            Some(index) => index.floor_offset(relative),
            None => self.floor_in_file(|entry: &OffsetEntry| entry.relative_offset <= relative)?,
        };
        Ok(entry.map(|entry| (u64::from(entry.position), self.base_offset)))
    }

    /// Steps over headers from `start` on. `None` if `start` turns out to be no place to begin; an error if what comes
    /// after a good beginning is damaged.
    fn walk_to(
        &self,
        offset: i64,
        start: u64,
        offset_min: i64,
        limit: u64,
    ) -> Result<Option<Option<Located>>, Error> {
        if start > limit {
            return Ok(None);
        }
        let path = self.log_path();
        let file = self.file()?;
        let mut scanner = Scanner::for_headers(&file, path, limit);
        let strict = self.needs_check(start, limit);
        let mut position = start;
        let mut offset_min = offset_min;
        loop {
            let header = match scanner.header(position, offset_min)? {
                Found::Batch(header) => header,
                Found::End => return Ok(Some(None)),
                Found::Damage(_) if position == start => return Ok(None),
                Found::Damage(reason) => return Err(self.corrupt(position, reason)),
            };
            if position == start && start > 0 && header.base_offset > offset {
                return Ok(None);
            }
            if strict && position > start && header.base_offset != offset_min {
                return Err(self.corrupt(
                    position,
                    format!("offset {} follows {}", header.base_offset, offset_min - 1),
                ));
            }
            if header.last_offset() >= offset {
                return Ok(Some(Some(Located { position, header })));
            }
            offset_min = header.next_offset();
            position += header.size_bytes() as u64;
        }
    }

    /// The end of the longest run of whole batches that starts with `first`, ends by `limit` and is no longer than
    /// `max_bytes`. The first batch counts whether it fits or not.
    pub fn run_end(&self, first: &Located, limit: u64, max_bytes: u64) -> Result<Run, Error> {
        let target = first.position.saturating_add(max_bytes);
        if target >= limit {
            return Ok(Run {
                end: limit,
                next_offset: None,
            });
        }
        let near = match u32::try_from(target) {
            Err(_) => None,
            Ok(target) => match &*self.index.read() {
                Some(index) => index.floor_position(target),
                None => self.floor_in_file(|entry: &OffsetEntry| entry.position <= target)?,
            },
        };
        if let Some(entry) = near
            && u64::from(entry.position) >= first.end()
            && self.begins_batch(entry, first.header.next_offset(), limit)?
        {
            let position = u64::from(entry.position);
            return self.run_end_from(position, first.header.next_offset(), limit, target);
        }
        self.run_end_from(first.end(), first.header.next_offset(), limit, target)
    }

    /// Whether an index entry points at the batch it speaks of.
    fn begins_batch(&self, entry: OffsetEntry, offset_min: i64, limit: u64) -> Result<bool, Error> {
        let path = self.log_path();
        let file = self.file()?;
        let mut scanner = Scanner::for_headers(&file, path, limit);
        let found = scanner.header(u64::from(entry.position), offset_min)?;
        let last_offset = self.base_offset + i64::from(entry.relative_offset);
        // Old servers give the last offset of all that was appended together.
        Ok(matches!(found, Found::Batch(header)
            if header.base_offset <= last_offset && header.last_offset() <= last_offset))
    }

    fn run_end_from(
        &self,
        start: u64,
        offset_min: i64,
        limit: u64,
        target: u64,
    ) -> Result<Run, Error> {
        let path = self.log_path();
        let file = self.file()?;
        let mut scanner = Scanner::for_headers(&file, path, limit);
        let (mut position, mut offset_min) = (start, offset_min);
        let mut next_offset = None;
        while position < target {
            match scanner.header(position, offset_min)? {
                Found::Batch(header) => {
                    let end = position + header.size_bytes() as u64;
                    if end > target {
                        break;
                    }
                    position = end;
                    offset_min = header.next_offset();
                    next_offset = Some(offset_min);
                }
                Found::End => break,
                Found::Damage(reason) => return Err(self.corrupt(position, reason)),
            }
        }
        Ok(Run {
            end: position,
            next_offset,
        })
    }

    /// Checks the batches of a run, CRCs and all, and that the offsets go on without a gap: to `offset_after` if the
    /// run ends the segment's readable part, to the next batch otherwise. Returns the offset after the run.
    pub fn check(
        &self,
        start: u64,
        end: u64,
        limit: u64,
        offset_after: i64,
        epoch_at: impl Fn(i64) -> i32,
    ) -> Result<(), Error> {
        let path = self.log_path();
        let file = self.file()?;
        let mut scanner = Scanner::new(&file, path, limit);
        let (mut position, mut offset_min) = (start, self.base_offset);
        while position < end {
            match scanner.batch(position, offset_min)? {
                Found::Batch(header) if position > start && header.base_offset != offset_min => {
                    return Err(self.corrupt(
                        position,
                        format!("offset {} follows {}", header.base_offset, offset_min - 1),
                    ));
                }
                Found::Batch(header)
                    if header.partition_leader_epoch != epoch_at(header.base_offset) =>
                {
                    return Err(self.corrupt(
                        position,
                        format!("leader epoch {}", header.partition_leader_epoch),
                    ));
                }
                Found::Batch(header) => {
                    offset_min = header.next_offset();
                    position += header.size_bytes() as u64;
                }
                Found::End => break,
                Found::Damage(reason) => return Err(self.corrupt(position, reason)),
            }
        }
        if position != end {
            return Err(self.corrupt(end, "no batch begins where the index says"));
        }
        let offset_next = if position < limit {
            match scanner.header(position, offset_min)? {
                Found::Batch(header) => header.base_offset,
                Found::End => offset_after,
                Found::Damage(reason) => return Err(self.corrupt(position, reason)),
            }
        } else {
            offset_after
        };
        if offset_next != offset_min {
            return Err(self.corrupt(
                position,
                format!("offset {offset_next} follows {}", offset_min - 1),
            ));
        }
        self.checked.lock().add(start, end);
        Ok(())
    }

    /// The first batch that begins before `limit` and has a timestamp at or after the one sought. Batches that end
    /// before `offset_start` do not count.
    pub fn locate_time(
        &self,
        timestamp_ms: i64,
        offset_start: i64,
        limit: u64,
    ) -> Result<Option<Located>, Error> {
        let entry = match &*self.index.read() {
            Some(index) => index.floor_time(timestamp_ms),
            None => self.floor_in_file(|entry: &TimeEntry| entry.timestamp_ms < timestamp_ms)?,
        };
        let mut offset = offset_start.max(self.base_offset);
        if let Some(entry) = entry
            && self.confirmed(entry, limit)?.is_some()
        {
            offset = offset.max(self.base_offset + i64::from(entry.relative_offset) + 1);
        }
        let Some(first) = self.locate(offset, limit)? else {
            return Ok(None);
        };
        let mut found = None;
        self.walk(first, limit, |located| {
            if located.header.max_timestamp >= timestamp_ms {
                found = Some(located);
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// The largest timestamp of the batches that begin before `limit`, and the batch that has it.
    pub fn max_time(&self, limit: u64) -> Result<Option<Located>, Error> {
        let is_closed = !self.has_index();
        let settled = match &*self.index.read() {
            Some(index) if limit >= self.size() => index.max_time(),
            Some(_) => None,
            None => *self.max_time.lock(),
        };
        if let Some(entry) = settled
            && let Some(located) = self.confirmed(entry, limit)?
        {
            return Ok(Some(located));
        }
        // The last entry of a closed segment's index speaks for the batches before it, if it is sound; those behind it
        // are few unless timestamps go back, or the file was cut short.
        let last = match (is_closed, self.index_file::<TimeEntry>("timeindex")?) {
            (true, Some(file)) => file.last::<TimeEntry>(&self.path("timeindex"))?,
            _ => None,
        };
        let from = match last {
            Some(entry) => self.confirmed(entry, limit)?,
            None => None,
        };
        let first = match from {
            Some(located) => Some(located),
            None => self.locate(self.base_offset, limit)?,
        };
        let Some(first) = first else {
            return Ok(None);
        };
        let mut newest = first;
        self.walk(first, limit, |located| {
            if located.header.max_timestamp > newest.header.max_timestamp {
                newest = located;
            }
            true
        })?;
        if is_closed {
            let entry = self.indexed(&newest);
            *self.max_time.lock() = Some(TimeEntry {
                timestamp_ms: entry.max_timestamp_ms,
                relative_offset: entry.relative_offset,
            });
        }
        Ok(Some(newest))
    }

    /// The header of the segment's first batch, if it has one.
    pub fn first_header(&self) -> Result<Option<BatchHeader>, Error> {
        let located = self.locate(self.base_offset, self.size())?;
        Ok(located.map(|located| located.header))
    }

    /// Hands batches from `first` on to `step`, which says whether to go on.
    pub fn walk(
        &self,
        first: Located,
        limit: u64,
        mut step: impl FnMut(Located) -> bool,
    ) -> Result<(), Error> {
        let path = self.log_path();
        let file = self.file()?;
        let mut scanner = Scanner::for_headers(&file, path, limit);
        let mut located = first;
        while step(located) {
            let position = located.end();
            match scanner.header(position, located.header.next_offset())? {
                Found::Batch(header) => located = Located { position, header },
                Found::End => break,
                Found::Damage(reason) => return Err(self.corrupt(position, reason)),
            }
        }
        Ok(())
    }

    pub fn read(&self, position: u64, len: usize) -> Result<Vec<u8>, Error> {
        read_bytes(&self.file()?, self.log_path(), position, len)
    }

    /// Remembers that the batch with `offset` begins at `position`.
    pub fn remember(&self, offset: i64, position: u64) {
        let mut hints = self.hints.lock();
        let next = hints.next;
        hints.places[next] = (offset, position);
        hints.next = (next + 1) % HINTS;
    }

    fn hint(&self, offset: i64) -> Option<u64> {
        let hints = self.hints.lock();
        let found = hints
            .places
            .iter()
            .find(|place| place.0 == offset && place.1 > 0);
        found.map(|place| place.1)
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

    /// The batch that a time entry speaks of, if that has the timestamp the entry gives it.
    fn confirmed(&self, entry: TimeEntry, limit: u64) -> Result<Option<Located>, Error> {
        let offset = self.base_offset + i64::from(entry.relative_offset);
        let located = self.locate(offset, limit)?;
        Ok(located.filter(|located| located.header.max_timestamp == entry.timestamp_ms))
    }

    fn floor_in_file<E: super::index::Entry + NamedIndex>(
        &self,
        is_before: impl Fn(&E) -> bool,
    ) -> Result<Option<E>, Error> {
        match self.index_file::<E>(E::EXTENSION)? {
            Some(file) => file.floor(&self.path(E::EXTENSION), is_before),
            None => Ok(None),
        }
    }

    fn index_file<E: super::index::Entry>(
        &self,
        extension: &str,
    ) -> Result<Option<IndexFile>, Error> {
        IndexFile::open::<E>(&self.fs, &self.path(extension))
    }

    pub fn corrupt(&self, position: u64, reason: impl Into<String>) -> Error {
        Error::corrupt(self.log_path(), position, reason)
    }
}

/// An index entry and the file it lives in.
trait NamedIndex {
    const EXTENSION: &'static str;
}

impl NamedIndex for OffsetEntry {
    const EXTENSION: &'static str = "index";
}

impl NamedIndex for TimeEntry {
    const EXTENSION: &'static str = "timeindex";
}
