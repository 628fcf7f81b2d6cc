//! Removing data from the front of a partition: deleted records and expired segments.

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::warn;

use super::super::error::Error;
use super::super::recovery::Producers;
use super::super::retention;
use super::super::rewrite::Swap;
use super::super::segment::Segment;
use super::Partition;

/// Work on closed segments that an earlier call could not finish.
#[derive(Default)]
pub(super) struct Maintenance {
    /// Segments removed from the front of the log whose files are not deleted yet, oldest first.
    pub pending_deletion: VecDeque<Arc<Segment>>,
    /// A rewritten segment that is in the list, while the files of the old ones still have their names.
    pub pending_swap: Option<Swap>,
}

impl Partition {
    /// Moves the log start offset to `before` and removes segments that hold no record from there on; if no record is
    /// left, the active segment is rolled and removed, too. Returns the log start offset. Blocks.
    pub fn delete_records(self: &Arc<Self>, before: i64) -> Result<i64, Error> {
        let mut maintenance = self.maintenance.lock();
        self.log_state.lock().check()?;
        self.complete_swap(&mut maintenance)?;
        let log_start = {
            let log_state = self.log_state.lock();
            log_state.check()?;
            if before < 0 || before > log_state.high_watermark.offset {
                return Err(Error::OffsetOutOfRange {
                    offset: before,
                    log_start: log_state.log_start,
                    log_end: log_state.high_watermark.offset,
                });
            }
            log_state.log_start.max(before)
        };
        match self.write_log_start(log_start) {
            Err(full) if full.is_disk_full() && self.segments_below(log_start) > 0 => {
                // Whole segments can be removed before the new log start is written, which makes room for it.
                let count = self.segments_below(log_start);
                self.remove_front(&mut maintenance, count)?;
                self.write_log_start(log_start)?;
            }
            other => other?,
        }
        self.log_state.lock().log_start = log_start;
        // Otherwise the space of the last segment would not be freed until it is full.
        if let Err(error) = self.roll_if_it_ends_at(log_start) {
            warn!(partition = %self, %error, "last segment of deleted records not rolled, its space stays in use for now");
        }
        self.remove_front(&mut maintenance, self.segments_below(log_start))?;
        Ok(log_start)
    }

    /// Writes the log start offset to its checkpoint.
    fn write_log_start(&self, log_start: i64) -> Result<(), Error> {
        let environment = &self.environment;
        let name = &self.topic.name;
        let set = || {
            let log_starts = &environment.log_starts;
            log_starts.set(&environment.fs, name, self.number, log_start)
        };
        environment.spending(set)
    }

    /// Returns the number of segments at the front that end at or before `log_start`; never counts the last one.
    fn segments_below(&self, log_start: i64) -> usize {
        let segments = self.log.segments();
        segments
            .windows(2)
            .take_while(|pair| pair[1].base_offset <= log_start)
            .count()
    }

    /// Rolls the log, so that all segments with records can be removed, if it still ends at `log_end`. Returns false if
    /// it does not.
    fn roll_if_it_ends_at(&self, log_end: i64) -> Result<bool, Error> {
        let mut writer = self.writer.lock();
        if writer.log.next_offset != log_end {
            return Ok(false);
        }
        if self.log.active().size() > 0 {
            self.environment.spending(|| self.roll(&mut writer))?;
        }
        Ok(true)
    }

    /// Rolls the log if `expired` is still its active segment. Returns false if records were appended since the log ended at
    /// `log_end`: they may be in that segment and not have expired, which the next check decides. A log that is always
    /// busy would otherwise never be rolled here.
    fn roll_expired(&self, expired: &Arc<Segment>, log_end: i64) -> Result<bool, Error> {
        let mut writer = self.writer.lock();
        if Arc::ptr_eq(&self.log.active(), expired) {
            self.environment.spending(|| self.roll(&mut writer))?;
        }
        Ok(writer.log.next_offset == log_end)
    }

    /// Removes segments from the front of the log, then their files and those that an earlier call could not remove.
    /// Files are removed oldest first, so that a crash leaves no gap between the remaining ones.
    fn remove_front(&self, maintenance: &mut Maintenance, count: usize) -> Result<u64, Error> {
        let removed = match count {
            0 => Vec::new(),
            count => self.drop_front(count),
        };
        let bytes = removed.iter().map(|segment| segment.size()).sum();
        let pending_deletion = &mut maintenance.pending_deletion;
        pending_deletion.extend(removed);
        while let Some(segment) = pending_deletion.front() {
            segment.remove_files()?;
            pending_deletion.pop_front();
        }
        Ok(bytes)
    }

    /// Removes segments from the list. The log start is moved first: readers would otherwise take the next segment's
    /// records for those they asked for.
    fn drop_front(&self, count: usize) -> Vec<Arc<Segment>> {
        // Appends change the list, too.
        let _writer = self.writer.lock();
        let first_kept = self.log.segments()[count].base_offset;
        {
            let mut log_state = self.log_state.lock();
            log_state.log_start = log_state.log_start.max(first_kept);
            log_state.removed_before(first_kept);
        }
        self.log.drop_front(count)
    }

    /// Deletes segments by the topic's retention, oldest first. Returns their number and their bytes. Blocks.
    pub(in crate::storage) fn retain(self: &Arc<Self>, now_ms: i64) -> Result<(u64, u64), Error> {
        let config = self.topic.config();
        let mut maintenance = self.maintenance.lock();
        let (high_watermark, log_end) = {
            let log_state = self.log_state.lock();
            if log_state.failure().is_some() {
                return Ok((0, 0));
            }
            (log_state.high_watermark.offset, log_state.end.offset)
        };
        self.complete_swap(&mut maintenance)?;
        self.expire_producers(now_ms);
        let segments = self.log.segments();
        let mut count = retention::expired(&segments, high_watermark, log_end, &config, now_ms)?;
        if count == segments.len() && !self.roll_expired(&segments[count - 1], log_end)? {
            count -= 1;
        }
        let bytes = self.remove_front(&mut maintenance, count)?;
        Ok((count as u64, bytes))
    }

    /// Drops the state of producers that were idle for too long.
    fn expire_producers(&self, now_ms: i64) {
        if let Producers::Loaded(state) = &mut self.writer.lock().producers {
            state.expire(now_ms.saturating_sub(self.environment.producer_id_expiration_ms));
        }
    }
}
