//! Reading a partition by offset or timestamp, and its leader epochs. Of the partition's locks it takes only the log
//! state, unless corruption has to be repaired.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::super::aborted::AbortedSearch;
use super::super::checkpoint::{LEADER_EPOCHS, LeaderEpochs};
use super::super::error::Error;
use super::super::log::Segments;
use super::super::log_state::LogPosition;
use super::super::search::{first_record, newest_record};
use super::super::segment::{Located, Segment};
use super::Partition;
use crate::record::{FileRegion, RecordBatch, Records};
use crate::storage::{AbortedTransaction, Fetched, Isolation, ReadOptions, TimestampedOffset};

/// Regions up to this size are copied; larger ones are sent from the file.
const COPIED_BYTES_MAX: u64 = 16 * 1024;

impl Partition {
    /// Returns true if a read at `offset` may wait for the disk, or check CRCs of bytes not read since the server
    /// started. Run such a read on a thread that may block.
    pub fn read_may_block(&self, offset: i64) -> bool {
        offset < self.opened_end || offset < self.log.active().base_offset
    }

    /// Reads whole batches from one segment, starting with the one that holds `offset` or, if that was removed, with
    /// the next one. May block, see [`read_may_block`](Self::read_may_block).
    pub fn read_now(&self, options: ReadOptions) -> Result<Fetched, Error> {
        self.repairing(|| self.read_once(options))
    }

    /// Reads like [`read_now`](Self::read_now), without repairing corruption.
    pub(super) fn read_once(&self, options: ReadOptions) -> Result<Fetched, Error> {
        let (offsets, high_watermark) = {
            let log_state = self.log_state.lock();
            // A failed log can still be read; a deleted one cannot.
            if let Some(Error::Deleted) = log_state.failure() {
                return Err(Error::Deleted);
            }
            (log_state.offsets(), log_state.high_watermark)
        };
        let offset = options.offset;
        if offset < offsets.log_start || offset > offsets.log_end {
            return Err(Error::OffsetOutOfRange {
                offset,
                log_start: offsets.log_start,
                log_end: offsets.log_end,
            });
        }
        let end = offsets.readable_to(options.isolation);
        let found = self.find(offset, end, high_watermark)?;
        if let Some(found) = &found
            && found.first.header.base_offset > offset
        {
            // The next batch is the answer if the offset lies in a gap, but not where records were deleted just now.
            let log_start = self.log_state.lock().log_start;
            if offset < log_start {
                return Err(Error::OffsetOutOfRange {
                    offset,
                    log_start,
                    log_end: offsets.log_end,
                });
            }
        }
        let mut fetched = Fetched {
            records: None,
            offsets,
            aborted: Vec::new(),
            ends_early: false,
        };
        if let Some(found) = &found
            && let Some((records, end)) = self.region(found, options)?
        {
            fetched.records = Some(records);
            fetched.ends_early = offset < found.readable.active;
            if options.isolation == Isolation::ReadCommitted {
                fetched.aborted = found.aborted_in(offset..end)?;
            }
        }
        Ok(fetched)
    }

    /// Finds the batch that holds `offset`, or the next one, below `end`, which is at most the high watermark.
    fn find(
        &self,
        offset: i64,
        end: i64,
        high_watermark: LogPosition,
    ) -> Result<Option<Found>, Error> {
        if offset >= end {
            return Ok(None);
        }
        let (segments, mut limit) = self.segments_to(high_watermark);
        if end < limit.offset {
            limit = position_of(&segments, end, limit)?;
        }
        let first = segments.partition_point(|segment| segment.base_offset <= offset);
        for number in first.saturating_sub(1)..segments.len() {
            let Some(readable) = readable(&segments, number, limit) else {
                break;
            };
            if let Some(first) = segments[number].locate(offset, readable.end)? {
                return Ok(Some(Found {
                    segments,
                    number,
                    first,
                    readable,
                }));
            }
        }
        Ok(None)
    }

    /// Returns the segments and a limit whose position refers to one of them, `limit` itself if possible.
    ///
    /// A segment is rewritten after it was closed and the limit has left it. So a position in the active segment is valid,
    /// and one in a closed segment is if the limit was still there after the list was taken.
    pub(in crate::storage::local) fn segments_to(
        &self,
        mut limit: LogPosition,
    ) -> (Segments, LogPosition) {
        loop {
            let segments = self.log.segments();
            if segments[segments.len() - 1].base_offset == limit.segment {
                return (segments, limit);
            }
            let now = self.log_state.lock().high_watermark;
            if now.segment == limit.segment {
                return (segments, limit);
            }
            limit = now;
        }
    }

    /// Returns the batches from the one found on, as many as fit, and the offset after them.
    fn region(&self, found: &Found, options: ReadOptions) -> Result<Option<(Records, i64)>, Error> {
        let Found {
            first, readable, ..
        } = found;
        let segment = &found.segments[found.number];
        let max_bytes = options.max_bytes as u64;
        let run = segment.run_end(first, readable.end, max_bytes)?;
        let (start, end) = (first.position, run.end);
        if end - start > max_bytes && !options.at_least_one {
            return Ok(None);
        }
        if segment.needs_check(start, end) {
            let epochs = self.epochs()?;
            segment.check(start, end, readable.end, readable.offset_after, |offset| {
                epochs.at(offset)
            })?;
        }
        let next_offset = match run.next_offset {
            Some(next_offset) if end < readable.end => next_offset,
            _ => readable.offset_after,
        };
        segment.remember(next_offset, end);
        let len = (end - start) as usize;
        let records = match !options.in_place && end - start <= COPIED_BYTES_MAX {
            true => Records::Bytes(segment.read(start, len)?.into()),
            false => Records::File(FileRegion {
                file: Arc::clone(segment.file()?.handle()),
                position: start,
                len,
                cold: segment.base_offset != readable.active,
            }),
        };
        Ok(Some((records, next_offset)))
    }

    /// Returns the first record below the high watermark whose timestamp is `timestamp_ms` or later. May block.
    pub fn find_timestamp(&self, timestamp_ms: i64) -> Result<Option<TimestampedOffset>, Error> {
        self.repairing(|| self.find_timestamp_once(timestamp_ms))
    }

    fn find_timestamp_once(&self, timestamp_ms: i64) -> Result<Option<TimestampedOffset>, Error> {
        let (log_start, high_watermark) = self.readable_now();
        let (segments, high_watermark) = self.segments_to(high_watermark);
        for (number, segment) in segments.iter().enumerate() {
            let Some(readable) = readable(&segments, number, high_watermark) else {
                break;
            };
            if readable.offset_after <= log_start {
                continue;
            }
            let newest = segment.max_time(readable.end)?;
            if newest.is_none_or(|newest| newest.header.max_timestamp < timestamp_ms) {
                continue;
            }
            let mut next = segment.locate_time(timestamp_ms, log_start, readable.end)?;
            while let Some(located) = next {
                let record = first_record(&batch_at(segment, &located)?, |record| {
                    record.timestamp_ms >= timestamp_ms && record.offset >= log_start
                })?;
                if record.is_some() {
                    return Ok(record);
                }
                let after = located.header.next_offset();
                next = segment.locate_time(timestamp_ms, after, readable.end)?;
            }
        }
        Ok(None)
    }

    /// Returns the record with the largest timestamp between the log start and the high watermark, the first if there are
    /// several. May block.
    pub fn find_max_timestamp(&self) -> Result<Option<TimestampedOffset>, Error> {
        self.repairing(|| self.find_max_timestamp_once())
    }

    fn find_max_timestamp_once(&self) -> Result<Option<TimestampedOffset>, Error> {
        let (log_start, high_watermark) = self.readable_now();
        let (segments, high_watermark) = self.segments_to(high_watermark);
        let mut at_start = None;
        let mut newest: Option<(&Segment, Located)> = None;
        for (number, segment) in segments.iter().enumerate() {
            let Some(readable) = readable(&segments, number, high_watermark) else {
                break;
            };
            if readable.offset_after <= log_start {
                continue;
            }
            let mut found = segment.max_time(readable.end)?;
            if found.is_some_and(|found| found.header.base_offset < log_start) {
                (at_start, found) = newest_kept(segment, log_start, readable.end)?;
            }
            if let Some(found) = found
                && newest.is_none_or(|(_, newest)| found.newest_ms() > newest.newest_ms())
            {
                newest = Some((segment, found));
            }
        }
        let newest = match newest {
            Some((segment, located)) => newest_record(&batch_at(segment, &located)?, log_start)?,
            None => None,
        };
        let found = match (at_start, newest) {
            (Some(start), Some(newest)) if newest.timestamp_ms > start.timestamp_ms => Some(newest),
            (start, newest) => start.or(newest),
        };
        Ok(found.filter(|found| found.timestamp_ms >= 0))
    }

    pub(in crate::storage::local) fn readable_now(&self) -> (i64, LogPosition) {
        let log_state = self.log_state.lock();
        (log_state.log_start, log_state.high_watermark)
    }

    pub(in crate::storage::local) fn epochs(&self) -> Result<&LeaderEpochs, Error> {
        if let Some(epochs) = self.epochs.get() {
            return Ok(epochs);
        }
        let path = self.log.dir.join(LEADER_EPOCHS);
        let read = LeaderEpochs::read(&self.environment.fs, &path)?;
        Ok(self
            .epochs
            .get_or_init(|| read.unwrap_or_else(LeaderEpochs::new)))
    }
}

/// Searches the segment that holds the log start, whose newest batch begins before it. Returns the newest record left of
/// the batch that holds the log start, whose header counts deleted records, and the newest of the batches after it.
fn newest_kept(
    segment: &Segment,
    log_start: i64,
    limit: u64,
) -> Result<(Option<TimestampedOffset>, Option<Located>), Error> {
    let Some(first) = segment.locate(log_start, limit)? else {
        return Ok((None, None));
    };
    let at_start = newest_record(&batch_at(segment, &first)?, log_start)?;
    let newest = match segment.locate(first.header.next_offset(), limit)? {
        Some(second) => Some(segment.newest_from(second, limit)?),
        None => None,
    };
    Ok((at_start, newest))
}

/// Returns the position at which the batch with `offset` begins, below the high watermark.
fn position_of(
    segments: &[Arc<Segment>],
    offset: i64,
    high_watermark: LogPosition,
) -> Result<LogPosition, Error> {
    let after = segments.partition_point(|segment| segment.base_offset <= offset);
    let number = after.saturating_sub(1);
    let segment = &segments[number];
    let Some(readable) = readable(segments, number, high_watermark) else {
        return Ok(high_watermark);
    };
    let located = segment.locate(offset, readable.end)?;
    Ok(LogPosition {
        offset,
        segment: segment.base_offset,
        position: located.map_or(readable.end, |located| located.position),
    })
}

fn batch_at(segment: &Segment, located: &Located) -> Result<RecordBatch, Error> {
    let bytes = segment.read(located.position, located.header.size_bytes())?;
    RecordBatch::parse_stored(Bytes::from(bytes))
        .map_err(|error| segment.corrupt(located.position, error.to_string()))
}

/// The batch where a read begins.
struct Found {
    segments: Segments,
    /// The segment of the batch.
    number: usize,
    first: Located,
    readable: Readable,
}

impl Found {
    /// Returns the aborted transactions that overlap a range of offsets, which begins in the segment of the batch.
    fn aborted_in(&self, range: Range<i64>) -> Result<Vec<AbortedTransaction>, Error> {
        let mut search = AbortedSearch::new(range);
        for segment in &self.segments[self.number..] {
            if !segment.search_aborted(&mut search)? {
                break;
            }
        }
        Ok(search.finish())
    }
}

/// The readable part of a segment.
#[derive(Debug, Clone, Copy)]
struct Readable {
    /// The position at which it ends.
    end: u64,
    /// The offset that follows it.
    offset_after: i64,
    /// The active segment's base offset.
    active: i64,
}

/// Returns the readable part of the segment at `number`; `None` if the segment is past the high watermark.
fn readable(
    segments: &[Arc<Segment>],
    number: usize,
    high_watermark: LogPosition,
) -> Option<Readable> {
    let segment = &segments[number];
    let active = segments[segments.len() - 1].base_offset;
    if segment.base_offset == high_watermark.segment {
        return Some(Readable {
            end: high_watermark.position,
            offset_after: high_watermark.offset,
            active,
        });
    }
    let next = segments.get(number + 1)?;
    (segment.base_offset < high_watermark.segment).then(|| Readable {
        end: segment.size(),
        offset_after: next.base_offset,
        active,
    })
}
