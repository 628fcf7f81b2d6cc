//! Removing data from a partition: deleted records, expired segments, corrupt ranges.

use std::path::Path;
use std::sync::Arc;

use tracing::warn;

use super::super::error::Error;
use super::super::recovery::Producers;
use super::super::segment::Segment;
use super::super::{repair, retention};
use super::{Partition, PartitionWriter};

/// Repairs attempted by one read before it gives up.
const REPAIRS_MAX: usize = 8;

impl Partition {
    /// Moves the log start offset to `before` and removes segments that hold no record from there on; if no record is
    /// left, the active segment is rolled and removed, too. Returns the log start offset. Blocks.
    pub fn delete_records(self: &Arc<Self>, before: i64) -> Result<i64, Error> {
        let mut writer = self.writer.lock();
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
                self.remove_front(&mut writer, count)?;
                self.write_log_start(log_start)?;
            }
            other => other?,
        }
        self.log_state.lock().log_start = log_start;
        if log_start == writer.log.next_offset && self.log.active().size() > 0 {
            // Otherwise the space of the last segment would not be freed until it is full.
            let rolled = self.environment.spending(|| self.roll(&mut writer));
            if let Err(error) = rolled {
                warn!(partition = %self, %error, "last segment of deleted records not rolled, its space stays in use for now");
            }
        }
        self.remove_front(&mut writer, self.segments_below(log_start))?;
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

    /// Removes segments from the front of the log, then their files and those that an earlier call could not remove.
    /// The log start is moved first: readers would otherwise take the next segment's records for those they asked for.
    /// Files are removed oldest first, so that a crash leaves no gap between the remaining ones.
    fn remove_front(&self, writer: &mut PartitionWriter, count: usize) -> Result<u64, Error> {
        let mut bytes = 0;
        if count > 0 {
            let first_kept = self.log.segments()[count].base_offset;
            {
                let mut log_state = self.log_state.lock();
                log_state.log_start = log_state.log_start.max(first_kept);
                log_state.removed_before(first_kept);
            }
            for segment in self.log.drop_front(count) {
                bytes += segment.size();
                writer.pending_deletion.push_back(segment);
            }
        }
        while let Some(segment) = writer.pending_deletion.front() {
            segment.remove_files()?;
            writer.pending_deletion.pop_front();
        }
        Ok(bytes)
    }

    /// Deletes segments by the topic's retention, oldest first. Returns their number and their bytes. Blocks.
    pub(in crate::storage) fn retain(self: &Arc<Self>, now_ms: i64) -> Result<(u64, u64), Error> {
        let config = self.topic.config();
        let mut writer = self.writer.lock();
        if self.log_state.lock().failure().is_some() {
            return Ok((0, 0));
        }
        if let Producers::Loaded(state) = &mut writer.producers {
            state.expire(now_ms.saturating_sub(self.environment.producer_id_expiration_ms));
        }
        let (_, high_watermark) = self.readable_now();
        let segments = self.log.segments();
        let log_end = writer.log.next_offset;
        let count = retention::expired(&segments, high_watermark.offset, log_end, &config, now_ms)?;
        if count == segments.len() {
            self.environment.spending(|| self.roll(&mut writer))?;
        }
        let bytes = self.remove_front(&mut writer, count)?;
        Ok((count as u64, bytes))
    }

    /// Runs a read; if it finds corruption, repairs the segment and runs the read again.
    pub(super) fn repairing<T>(
        &self,
        mut read: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        for _ in 0..REPAIRS_MAX {
            match read() {
                Err(Error::Corrupt {
                    path,
                    position,
                    reason,
                }) => {
                    warn!(path = %path.display(), position, reason, "corrupt batch found, checking the segment");
                    self.repair(&path)?;
                }
                // The segment was deleted after it was found and before it was opened.
                Err(error) if error.is_absent() => {}
                other => return other,
            }
        }
        read()
    }

    /// Reads a whole segment and removes its corrupt ranges. Blocks.
    fn repair(&self, path: &Path) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        let is_sought = |segment: &&Arc<Segment>| segment.log_path() == path;
        if is_sought(&&self.log.active()) && self.log.active().size() > 0 {
            // Others hold positions in the active segment; only a closed one can be replaced.
            self.flush()?;
            self.roll(&mut writer)?;
        }
        let segments = self.log.segments();
        let Some(number) = segments.iter().position(|segment| is_sought(&segment)) else {
            return Ok(());
        };
        let segment = &segments[number];
        let following = segments.get(number + 1).map(|next| next.base_offset);
        let size = segment.size();
        let inspected = repair::inspect(
            segment,
            size,
            following,
            i64::MAX,
            Some(self.epochs()?),
            |_| {},
        )?;
        repair::repair_leader_epochs(segment, &inspected)?;
        let mut damages = inspected.damages;
        damages.extend(inspected.tail);
        if damages.is_empty() {
            segment.mark_checked();
            segment.rebuild_index()?;
            return Ok(());
        }
        self.environment.note_damage(damages.len() as u64);
        let fs = &self.environment.fs;
        let rewritten = repair::remove_corrupt_ranges(fs, &self.log.dir, segment, size, &damages)?;
        rewritten.mark_checked();
        rewritten.rebuild_index()?;
        self.log.replace(segment, Arc::new(rewritten));
        Ok(())
    }
}
