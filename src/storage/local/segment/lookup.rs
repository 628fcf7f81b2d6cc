//! Finding batches in a segment: by offset, by timestamp, and the run of batches that fits a read.
//!
//! Indexes and hints give a start position, which is trusted only once a matching batch was found there.

use super::{Located, Run, Segment};
use crate::record::BatchHeader;
use crate::storage::local::error::Error;
use crate::storage::local::index::{OffsetEntry, TimeEntry};
use crate::storage::local::scan::{Found, Scanner};

/// A walk over more than this from a segment's beginning means that its index is missing or unusable.
const UNINDEXED_BYTES_MAX: u64 = 64 * 1024;

/// Number of read ends remembered per segment; sequential readers continue there.
const HINTS: usize = 4;

/// Recent read ends: the offset of the next batch and its position.
#[derive(Debug, Default)]
pub(super) struct Hints {
    positions: [(i64, u64); HINTS],
    next: usize,
}

impl Segment {
    /// Returns the first batch that ends at or after `offset`, among those that begin before `limit`.
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
                    self.repair_index()?;
                }
                Ok(found)
            }
            None => Err(self.corrupt(
                0,
                "the base offset of the first batch differs from the file name",
            )),
        }
    }

    /// Returns a position at or before the batch sought, and a lower bound of the base offset of the batch there.
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

    /// Steps over headers from `start` on. Returns `None` if no batch begins at `start`; an error if a batch after it
    /// is corrupt.
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
        let mut scanner = Scanner::for_headers(&file, path, self.base_offset, limit);
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
            if strict
                && position > start
                && let Some(gap) = self.gap(offset_min, header.base_offset)
            {
                return Err(self.corrupt(position, gap));
            }
            if header.last_offset() >= offset {
                return Ok(Some(Some(Located { position, header })));
            }
            offset_min = header.next_offset();
            position += header.size_bytes() as u64;
        }
    }

    /// Returns the end of the longest run of whole batches that starts with `first`, ends by `limit` and is no longer
    /// than `max_bytes`. The first batch is included even if it does not fit.
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
        let next_offset = first.header.next_offset();
        if let Some(entry) = near
            && u64::from(entry.position) >= first.end()
            && let Some(base_offset) = self.base_offset_at(entry, next_offset, limit)?
        {
            return self.run_end_from(u64::from(entry.position), base_offset, limit, target);
        }
        self.run_end_from(first.end(), next_offset, limit, target)
    }

    /// Returns the base offset of the batch that an index entry points at; `None` if it does not have the entry's offset.
    fn base_offset_at(
        &self,
        entry: OffsetEntry,
        offset_min: i64,
        limit: u64,
    ) -> Result<Option<i64>, Error> {
        let path = self.log_path();
        let file = self.file()?;
        let mut scanner = Scanner::for_headers(&file, path, self.base_offset, limit);
        let found = scanner.header(u64::from(entry.position), offset_min)?;
        let last_offset = self.base_offset + i64::from(entry.relative_offset);
        // Old servers store the last offset of all batches that were appended together.
        Ok(match found {
            Found::Batch(header)
                if header.base_offset <= last_offset && header.last_offset() <= last_offset =>
            {
                Some(header.base_offset)
            }
            _ => None,
        })
    }

    /// Returns the end of the run from `start` on, where a batch with an offset of at least `next_offset` begins.
    fn run_end_from(
        &self,
        start: u64,
        next_offset: i64,
        limit: u64,
        target: u64,
    ) -> Result<Run, Error> {
        let path = self.log_path();
        let file = self.file()?;
        let mut scanner = Scanner::for_headers(&file, path, self.base_offset, limit);
        let (mut position, mut next_offset) = (start, next_offset);
        while position < target {
            match scanner.header(position, next_offset)? {
                Found::Batch(header) => {
                    let end = position + header.size_bytes() as u64;
                    if end > target {
                        break;
                    }
                    position = end;
                    next_offset = header.next_offset();
                }
                Found::End => break,
                Found::Damage(reason) => return Err(self.corrupt(position, reason)),
            }
        }
        Ok(Run {
            end: position,
            next_offset: Some(next_offset),
        })
    }

    /// Returns the first batch that begins before `limit` and has a timestamp at or after `timestamp_ms`. Skips batches
    /// that end before `offset_start`.
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

    /// Returns the batch with the largest timestamp among those that begin before `limit`.
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
        // The last entry of a closed segment's index covers the batches before it, if it is valid; those after it are
        // few unless timestamps decrease, or the index file was truncated.
        let last = match (is_closed, self.index_file::<TimeEntry>()?) {
            (true, Some(file)) => file.last()?,
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
        let newest = self.newest_from(first, limit)?;
        let mut known = self.max_time.lock();
        // Batches past the limit, or appended meanwhile, may have larger timestamps.
        if is_closed && limit >= self.size() {
            let entry = self.indexed(&newest);
            *known = Some(TimeEntry {
                timestamp_ms: entry.max_timestamp_ms,
                relative_offset: entry.relative_offset,
            });
        }
        Ok(Some(newest))
    }

    /// Returns the batch with the largest timestamp from `first` on, among those that begin before `limit`.
    pub fn newest_from(&self, first: Located, limit: u64) -> Result<Located, Error> {
        let mut newest = first;
        self.walk(first, limit, |located| {
            if located.newest_ms() > newest.newest_ms() {
                newest = located;
            }
            true
        })?;
        Ok(newest)
    }

    /// Returns the batch that a time entry refers to, if it has the entry's timestamp.
    pub(super) fn confirmed(&self, entry: TimeEntry, limit: u64) -> Result<Option<Located>, Error> {
        let offset = self.base_offset + i64::from(entry.relative_offset);
        let located = self.locate(offset, limit)?;
        Ok(located.filter(|located| located.header.max_timestamp == entry.timestamp_ms))
    }

    /// Returns the header of the segment's first batch, if there is one.
    pub fn first_header(&self) -> Result<Option<BatchHeader>, Error> {
        let located = self.locate(self.base_offset, self.size())?;
        Ok(located.map(|located| located.header))
    }

    /// Calls `step` for batches from `first` on until it returns false.
    pub fn walk(
        &self,
        first: Located,
        limit: u64,
        mut step: impl FnMut(Located) -> bool,
    ) -> Result<(), Error> {
        let path = self.log_path();
        let file = self.file()?;
        let mut scanner = Scanner::for_headers(&file, path, self.base_offset, limit);
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

    /// Remembers that the batch with `offset` begins at `position`.
    pub fn remember(&self, offset: i64, position: u64) {
        let mut hints = self.hints.lock();
        let next = hints.next;
        hints.positions[next] = (offset, position);
        hints.next = (next + 1) % HINTS;
    }

    fn hint(&self, offset: i64) -> Option<u64> {
        let hints = self.hints.lock();
        let found = hints
            .positions
            .iter()
            .find(|hint| hint.0 == offset && hint.1 > 0);
        found.map(|hint| hint.1)
    }
}
