//! A partition's segments in order, and appending to the last of them.
//!
//! The list is published as a whole: a reader takes the current one and keeps it, whatever is rolled or deleted
//! meanwhile. Appends and changes to the list are made by the holder of the partition's only [`Writer`].
//!
//! A log knows nothing of producers, durability or readers. A failed append leaves it unchanged.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use smallvec::SmallVec;
use tracing::{error, warn};

use super::error::Error;
use super::index::{Entry, IndexedBatch, SparseIndex, TimeEntry};
use super::segment::{REBUILT_INTERVAL_BYTES, Segment};
use crate::config::TopicConfig;
use crate::fs::{File, Fs};
use crate::record::RecordBatch;

/// The largest distance between offsets of one segment: indexes hold 32 bits, of which Kafka uses 31.
pub(super) const RELATIVE_OFFSET_MAX: i64 = i32::MAX as i64;

/// The largest plausible offset; a file with a larger one is corrupt. Leaves room to add to offsets without overflow.
pub(super) const OFFSET_MAX: i64 = i64::MAX - 2 * (RELATIVE_OFFSET_MAX + 1);

/// The largest segment file, so that positions fit an index entry.
pub(super) const SEGMENT_BYTES_LIMIT: u64 = u32::MAX as u64;

/// Segments by base offset; never empty, and the last is the active one.
pub(super) type Segments = Arc<[Arc<Segment>]>;

pub(super) struct Log {
    pub dir: Arc<Path>,
    fs: Fs,
    segments: RwLock<Segments>,
}

/// The state that only the writer needs.
#[derive(Debug)]
pub(super) struct Writer {
    pub next_offset: i64,
    /// End of the active segment.
    position: u64,
    /// Set once the active segment was looked at: its index is in memory, or it is corrupt.
    ready: bool,
    /// Set when the active segment is found to be corrupt; only closed segments can be repaired.
    corrupt: bool,
    /// Timestamp of the active segment's first batch, from which its age counts.
    first_timestamp_ms: Option<i64>,
    /// Part of `segment.jitter.ms`, in 1/256, by which `segment.ms` is reduced for this segment.
    jitter: u8,
    /// Set when the file's end is unknown, or a stray empty segment could not be removed; refuses further writes.
    broken: bool,
}

/// The result of an append.
pub(super) struct Written {
    pub base_offset: i64,
    pub segment: Arc<Segment>,
    /// Positions at which the batches begin and end in the segment.
    pub start: u64,
    pub end: u64,
}

impl Log {
    pub fn new(fs: &Fs, dir: Arc<Path>, segments: Vec<Arc<Segment>>) -> Self {
        debug_assert!(!segments.is_empty());
        Self {
            dir,
            fs: fs.clone(),
            segments: RwLock::new(segments.into()),
        }
    }

    pub fn segments(&self) -> Segments {
        Arc::clone(&self.segments.read())
    }

    pub fn active(&self) -> Arc<Segment> {
        let segments = self.segments.read();
        Arc::clone(segments.last().expect("a log has at least one segment"))
    }

    pub fn writer(&self, next_offset: i64) -> Writer {
        let active = self.active();
        Writer {
            next_offset,
            position: active.size(),
            ready: false,
            corrupt: false,
            first_timestamp_ms: None,
            jitter: jitter_of(&self.dir, active.base_offset),
            broken: false,
        }
    }

    /// Returns true if the active segment is full, too old or corrupt, or cannot hold the batches.
    pub fn is_roll_due(
        &self,
        writer: &mut Writer,
        batches: &[RecordBatch],
        config: &TopicConfig,
    ) -> Result<bool, Error> {
        self.make_ready(writer)?;
        if writer.position == 0 {
            return Ok(false);
        }
        let active = self.active();
        let bytes: usize = batches.iter().map(RecordBatch::size_bytes).sum();
        let count: i64 = batches.iter().map(offsets_in).sum();
        let newest_ms = batches
            .iter()
            .map(|batch| batch.header().max_timestamp)
            .max()
            .unwrap_or(-1);
        let jitter_ms = config.segment_jitter_ms / 256 * i64::from(writer.jitter);
        let is_old = writer.first_timestamp_ms.is_some_and(|first_ms| {
            first_ms >= 0
                && newest_ms.saturating_sub(first_ms)
                    > config.segment_ms_max().saturating_sub(jitter_ms)
        });
        let end = writer.position + bytes as u64;
        let last_relative = writer.next_offset + count - 1 - active.base_offset;
        Ok(writer.corrupt
            || is_old
            || end > config.segment_bytes_max() as u64
            || end > SEGMENT_BYTES_LIMIT
            || last_relative > RELATIVE_OFFSET_MAX
            || active.index_bytes() + TimeEntry::LEN > config.segment_index_bytes as usize)
    }

    /// Closes the active segment and starts an empty one at the log's end.
    pub fn roll(&self, writer: &mut Writer) -> Result<Arc<Segment>, Error> {
        self.make_ready(writer)?;
        let closed = self.active();
        check_unbroken(writer, &closed)?;
        closed.save_transactions()?;
        let opened = Arc::new(Segment::sound(
            &self.fs,
            &self.dir,
            writer.next_offset,
            0,
            SparseIndex::new(),
        ));
        opened.create_file()?;
        if let Err(failure) = closed.close_index() {
            let path = opened.log_path();
            // Removed durably before anything is appended to the old segment: if a power failure brought it back, the
            // log would seem to continue there.
            let removed = (self.fs.remove_file(path)).and_then(|()| self.fs.sync_dir(&self.dir));
            if let Err(error) = removed {
                error!(path = %path.display(), %error, "empty segment file not removed, no more appends to this log");
                writer.broken = true;
            }
            return Err(failure);
        }
        let mut list: Vec<_> = self.segments().to_vec();
        list.push(Arc::clone(&opened));
        *self.segments.write() = list.into();
        writer.position = 0;
        writer.corrupt = false;
        writer.first_timestamp_ms = None;
        writer.jitter = jitter_of(&self.dir, opened.base_offset);
        Ok(closed)
    }

    /// Writes batches at the end of the active segment, with their offsets and the leader epoch stamped in.
    pub fn append(
        &self,
        writer: &mut Writer,
        batches: &[RecordBatch],
        leader_epoch: i32,
        config: &TopicConfig,
    ) -> Result<Written, Error> {
        self.make_ready(writer)?;
        let segment = self.active();
        check_unbroken(writer, &segment)?;
        let base_offset = writer.next_offset;
        let mut next_offset = base_offset;
        let mut prefixes = SmallVec::<[_; 1]>::with_capacity(batches.len());
        for batch in batches {
            prefixes.push(batch.stamped_prefix(next_offset, leader_epoch));
            next_offset += offsets_in(batch);
        }
        let mut slices = SmallVec::<[_; 2]>::with_capacity(batches.len() * 2);
        for (batch, prefix) in batches.iter().zip(&prefixes) {
            slices.push(IoSlice::new(prefix));
            slices.push(IoSlice::new(batch.body()));
        }
        let start = writer.position;
        let file = segment.file()?;
        let path = segment.log_path();
        if let Err(failure) = file.write_all_vectored_at(&mut slices, start) {
            if let Err(error) = truncate_failed_append(&file, start) {
                error!(path = %path.display(), position = start, %error,
                    "failed append not truncated, no more appends to this log");
                writer.broken = true;
            }
            return Err(Error::io("append to", path, failure));
        }
        let end = self.publish(writer, &segment, batches, config);
        writer.next_offset = next_offset;
        Ok(Written {
            base_offset,
            segment,
            start,
            end,
        })
    }

    fn publish(
        &self,
        writer: &mut Writer,
        segment: &Segment,
        batches: &[RecordBatch],
        config: &TopicConfig,
    ) -> u64 {
        let mut position = writer.position;
        let mut next_offset = writer.next_offset;
        let bytes: usize = batches.iter().map(RecordBatch::size_bytes).sum();
        let end = position + bytes as u64;
        let indexed = batches.iter().map(|batch| {
            let size = batch.size_bytes();
            let entry = IndexedBatch {
                position: position as u32,
                size: size as u32,
                relative_offset: (next_offset + offsets_in(batch) - 1 - segment.base_offset) as u32,
                max_timestamp_ms: batch.header().max_timestamp,
            };
            position += size as u64;
            next_offset += offsets_in(batch);
            entry
        });
        segment.publish(end, indexed, config.index_interval_bytes as u64);
        if writer.first_timestamp_ms.is_none() {
            writer.first_timestamp_ms = batches.first().map(|batch| batch.header().max_timestamp);
        }
        writer.position = end;
        end
    }

    /// Returns true if a failure left the log in a state that allows no more writes.
    pub fn is_broken(&self, writer: &Writer) -> bool {
        writer.broken
    }

    /// Loads the active segment's index, which is deferred until the first append. A corrupt segment remains without one,
    /// as it was closed: an index up to the first corrupt batch would hide the ones after it from lookups by timestamp.
    pub fn make_ready(&self, writer: &mut Writer) -> Result<(), Error> {
        if writer.ready {
            return Ok(());
        }
        match self.look_at_active(writer) {
            Err(Error::Corrupt {
                path,
                position,
                reason,
            }) => {
                warn!(path = %path.display(), position, reason, "active segment is corrupt, rolling it");
                writer.corrupt = true;
            }
            other => other?,
        }
        writer.ready = true;
        Ok(())
    }

    /// Loads the active segment's indexes and the timestamp of its first batch.
    fn look_at_active(&self, writer: &mut Writer) -> Result<(), Error> {
        let active = self.active();
        active.load_transactions()?;
        if writer.position > 0 {
            writer.first_timestamp_ms = active.first_header()?.map(|header| header.max_timestamp);
        }
        if !active.has_index() {
            active.set_index(self.load_index(&active)?);
        }
        Ok(())
    }

    /// Loads the active segment's index from its files, as far as they are valid, and from the batches after them.
    fn load_index(&self, segment: &Segment) -> Result<SparseIndex, Error> {
        let size = segment.size();
        let loaded = SparseIndex::load(
            &self.fs,
            &segment.path("index"),
            &segment.path("timeindex"),
            size,
        )?;
        let (mut index, first) = match loaded {
            Some(index) => {
                let first = segment.last_indexed(&index)?;
                (index, first)
            }
            None => (SparseIndex::new(), None),
        };
        let first = match first {
            Some(first) => Some(first),
            None => {
                index = SparseIndex::new();
                segment.locate(segment.base_offset, size)?
            }
        };
        if let Some(first) = first {
            segment.walk(first, size, |located| {
                index.note(segment.indexed(&located), REBUILT_INTERVAL_BYTES);
                true
            })?;
        }
        Ok(index)
    }

    /// Removes segments from the front of the list, never the last one. Returns them; their files still exist.
    pub fn drop_front(&self, count: usize) -> Vec<Arc<Segment>> {
        let list = self.segments();
        let count = count.min(list.len() - 1);
        let (dropped, kept) = list.split_at(count);
        *self.segments.write() = kept.to_vec().into();
        dropped.to_vec()
    }

    /// Replaces adjacent segments by the one they were rewritten to.
    pub fn replace(&self, old: &[Arc<Segment>], new: &Arc<Segment>) {
        let place_in_old = |segment| old.iter().position(|it| Arc::ptr_eq(it, segment));
        let list: Vec<_> = (self.segments().iter())
            .filter_map(|segment| match place_in_old(segment) {
                None => Some(Arc::clone(segment)),
                Some(0) => Some(Arc::clone(new)),
                Some(_) => None,
            })
            .collect();
        *self.segments.write() = list.into();
    }
}

/// Truncates the bytes of a failed append. The truncation is flushed before anything else is written there: of several
/// batches the first may be complete, and would reappear after a power failure.
fn truncate_failed_append(file: &File, start: u64) -> io::Result<()> {
    if file.size()? > start {
        file.set_size(start)?;
        file.sync_data()?;
    }
    Ok(())
}

/// Returns an error if the log allows no more writes.
fn check_unbroken(writer: &Writer, active: &Segment) -> Result<(), Error> {
    match writer.broken {
        true => Err(active.corrupt(
            writer.position,
            "an earlier failure left the end of the file unknown",
        )),
        false => Ok(()),
    }
}

fn offsets_in(batch: &RecordBatch) -> i64 {
    i64::from(batch.header().last_offset_delta) + 1
}

/// Returns a number that differs from segment to segment, to spread rolls over time.
fn jitter_of(dir: &Path, base_offset: i64) -> u8 {
    let mixed = crc32c::crc32c(dir.as_os_str().as_encoded_bytes());
    crc32c::crc32c_append(mixed, &base_offset.to_be_bytes()) as u8
}
