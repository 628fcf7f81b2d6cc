//! Verifying a segment's bytes, and remembering which of them were verified.
//!
//! Bytes that this process did not write are trusted once their CRCs were checked: a read of such bytes checks them
//! first, and checked ranges are remembered. So corruption that happened while the server was down, even after a clean
//! shutdown, is found before it is served.

use super::Segment;
use crate::storage::local::error::Error;
use crate::storage::local::offset_gap;
use crate::storage::local::scan::{Found, Scanner};

/// Limit of separate checked ranges remembered per segment.
const CHECKED_RANGES_MAX: usize = 64;

/// The bytes known to be valid.
#[derive(Debug)]
pub(super) struct Checked {
    /// All bytes from here on were written or checked by this process.
    from: u64,
    /// Further checked ranges, sorted and disjoint.
    ranges: Vec<(u64, u64)>,
}

impl Checked {
    /// Creates a set that covers everything from this position on.
    pub(super) fn from(from: u64) -> Self {
        Self {
            from,
            ranges: Vec::new(),
        }
    }

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

impl Segment {
    /// Returns true if the CRCs of these bytes must be checked before they are read.
    pub fn needs_check(&self, start: u64, end: u64) -> bool {
        !self.checked.lock().covers(start, end)
    }

    /// Marks all bytes as checked.
    pub fn mark_checked(&self) {
        self.checked.lock().from = 0;
    }

    /// Returns a description of the gap before a batch with `base_offset`, if there is one and the segment has none.
    pub(super) fn gap(&self, expected: i64, base_offset: i64) -> Option<String> {
        match self.has_gaps && base_offset >= expected {
            true => None,
            false => offset_gap::find(expected, base_offset),
        }
    }

    /// Checks the batches of a run, their CRCs included, and that offsets continue without a gap: up to `offset_after`
    /// if the run ends at `limit`, up to the next batch otherwise.
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
        let mut scanner = Scanner::new(&file, path, self.base_offset, limit);
        let (mut position, mut offset_min) = (start, self.base_offset);
        while position < end {
            match scanner.batch(position, offset_min)? {
                Found::Batch(header)
                    if position > start
                        && let Some(gap) = self.gap(offset_min, header.base_offset) =>
                {
                    return Err(self.corrupt(position, gap));
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
            return Err(self.corrupt(end, "no batch begins at the indexed position"));
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
        if let Some(gap) = self.gap(offset_min, offset_next) {
            return Err(self.corrupt(position, gap));
        }
        self.checked.lock().add(start, end);
        Ok(())
    }
}
