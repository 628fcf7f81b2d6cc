//! Compaction of a partition: what can be compacted, and the replacement of segments.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::super::aborted::AbortedSearch;
use super::super::compaction::Dirt;
use super::super::error::Error;
use super::super::log::Segments;
use super::super::log_state::LogPosition;
use super::super::producer_state::LastBatch;
use super::super::rewrite::{Staged, Swap};
use super::super::segment::Segment;
use super::Partition;
use crate::storage::{AbortedTransaction, PartitionLog};

impl Partition {
    /// Returns the part of the log that can be compacted, and its segments with those before them. `None` if the log has
    /// failed. May block.
    pub(in crate::storage::local) fn dirt(
        &self,
        now_ms: i64,
    ) -> Result<Option<(Dirt, Segments)>, Error> {
        let config = self.topic.config();
        let segments = self.log.segments();
        let (log_start, log_end, stable) = {
            let log_state = self.log_state.lock();
            if log_state.failure().is_some() {
                return Ok(None);
            }
            let offsets = log_state.offsets();
            let stable = LogPosition {
                offset: offsets.last_stable,
                ..log_state.high_watermark
            };
            (offsets.log_start, offsets.log_end, stable)
        };
        let cleaner_offsets = &self.environment.cleaner_offsets;
        // An offset past the end is from before records were lost: nothing is known about those after them.
        let start = cleaner_offsets
            .get(&self.topic.name, self.number)
            .filter(|offset| (log_start..=log_end).contains(offset))
            .unwrap_or(log_start);
        let dirt = Dirt::find(&segments, start, stable, &config, now_ms)?;
        let count = segments.partition_point(|segment| segment.base_offset < dirt.end);
        let compactable = segments[..count.min(segments.len() - 1)].into();
        Ok(Some((dirt, compactable)))
    }

    /// Returns an error if the log was deleted or closed, or has failed.
    pub(in crate::storage::local) fn check_open(&self) -> Result<(), Error> {
        self.log_state.lock().check()
    }

    /// Makes everything below `offset` durable. Blocks.
    pub(in crate::storage::local) fn flush_below(&self, offset: i64) -> Result<(), Error> {
        match self.durable_offset() >= offset {
            true => Ok(()),
            false => self.flush(),
        }
    }

    /// Returns the last batch of each producer. May block.
    pub(in crate::storage::local) fn last_batches(&self) -> Result<HashMap<i64, LastBatch>, Error> {
        let mut writer = self.writer.lock();
        Ok(self.producer_state(&mut writer)?.last_batches())
    }

    /// Returns the aborted transactions that overlap a range of offsets, by first offset.
    pub(in crate::storage::local) fn aborted_in(
        &self,
        range: Range<i64>,
    ) -> Result<Vec<AbortedTransaction>, Error> {
        let segments = self.log.segments();
        let after = segments.partition_point(|segment| segment.base_offset <= range.start);
        let mut search = AbortedSearch::new(range);
        for segment in &segments[after.saturating_sub(1)..] {
            if !segment.search_aborted(&mut search)? {
                break;
            }
        }
        Ok(search.finish())
    }

    /// Creates the file of a rewritten segment. Its name differs from that of a repaired segment, which may be written at
    /// the same time.
    pub(in crate::storage::local) fn stage(&self, base_offset: i64) -> Result<Staged, Error> {
        // Once the partition is retired, the directory's name may be that of a new topic's.
        let _maintenance = self.maintenance.lock();
        self.check_open()?;
        let fs = &self.environment.fs;
        Staged::create(fs, &self.log.dir, base_offset, "log.compacted")
    }

    /// Replaces segments by the one they were rewritten to, which is durable. Fails with [`Error::Interrupted`] if one of
    /// them was removed or replaced since it was read. Blocks.
    pub(in crate::storage::local) fn swap(
        &self,
        old: &[Arc<Segment>],
        staged: Staged,
    ) -> Result<(), Error> {
        let mut maintenance = self.maintenance.lock();
        self.check_open()?;
        self.complete_swap(&mut maintenance)?;
        let segments = self.log.segments();
        let is_listed = |old| segments.iter().any(|segment| Arc::ptr_eq(segment, old));
        if !old.iter().all(is_listed) {
            return Err(Error::Interrupted);
        }
        let swap = Swap::commit_staged(&self.environment.fs, &self.log.dir, old, staged)?;
        swap.segment.mark_checked();
        self.replace(&mut maintenance, swap);
        Ok(())
    }

    /// Returns true if records of the topic are compacted.
    pub(in crate::storage::local) fn is_compacted(&self) -> bool {
        self.topic().config().cleanup_policy.compact
    }
}
