//! Compaction of a partition: what can be compacted, and the replacement of segments.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::compaction::Dirt;
use super::super::error::Error;
use super::super::log::Segments;
use super::super::rewrite::{Staged, Swap};
use super::super::segment::Segment;
use super::Partition;
use crate::storage::{Isolation, PartitionLog};

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
            let stable = log_state.readable_to(Isolation::ReadCommitted);
            (log_state.log_start, log_state.end.offset, stable)
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

    /// Makes everything below `offset` durable. Blocks.
    pub(in crate::storage::local) fn flush_below(&self, offset: i64) -> Result<(), Error> {
        match self.durable_offset() >= offset {
            true => Ok(()),
            false => self.flush(),
        }
    }

    /// Returns the last offset of each producer. May block.
    pub(in crate::storage::local) fn last_offsets(&self) -> Result<HashMap<i64, i64>, Error> {
        Ok(self.producers(&mut self.writer.lock())?.last_offsets())
    }

    /// Creates the file of a rewritten segment. Its name differs from that of a repaired segment, which may be written at
    /// the same time.
    pub(in crate::storage::local) fn stage(&self, base_offset: i64) -> Result<Staged, Error> {
        // Once the partition is retired, the directory's name may be that of a new topic's.
        let _maintenance = self.maintenance.lock();
        self.log_state.lock().check()?;
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
        self.log_state.lock().check()?;
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
