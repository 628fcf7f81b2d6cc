//! Repairing the segments in which reads find corruption.

use std::path::Path;

use tracing::warn;

use super::super::error::Error;
use super::super::repair;
use super::super::rewrite::Swap;
use super::Partition;
use super::trimming::Maintenance;

/// Repairs attempted by one read before it gives up.
const REPAIRS_MAX: usize = 8;

impl Partition {
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
                // The segment was deleted or replaced after it was found and before it was opened.
                Err(error) if error.is_absent() => {}
                other => return other,
            }
        }
        read()
    }

    /// Rolls the log if the segment at `path` is the active one: only a closed segment can be replaced.
    fn close_segment(&self, path: &Path) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        let active = self.log.active();
        if active.log_path() != path || active.size() == 0 {
            return Ok(());
        }
        self.log_state.lock().check()?;
        self.roll(&mut writer)
    }

    /// Reads a whole segment and removes its corrupt ranges. Blocks.
    fn repair(&self, path: &Path) -> Result<(), Error> {
        let mut maintenance = self.maintenance.lock();
        // The names of a deleted log's files may be those of a new topic. Any other failure leaves the log readable.
        if let Some(Error::Deleted) = self.log_state.lock().failure() {
            return Err(Error::Deleted);
        }
        self.complete_swap(&mut maintenance)?;
        self.close_segment(path)?;
        let segments = self.log.segments();
        let Some(number) = segments
            .iter()
            .position(|segment| segment.log_path() == path)
        else {
            return Ok(());
        };
        let segment = &segments[number];
        if self.readable_now().1.segment <= segment.base_offset {
            // Batches that await a flush are known by their positions, which are about to change.
            self.flush()?;
        }
        let following = segments.get(number + 1).map(|next| next.base_offset);
        let size = segment.size();
        let inspected = repair::inspect(
            segment,
            size,
            following,
            i64::MAX,
            Some(self.epochs()?),
            |_| Ok(()),
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
        let swap = repair::remove_corrupt_ranges(fs, &self.log.dir, segment, size, &damages)?;
        swap.segment.mark_checked();
        self.replace(&mut maintenance, swap);
        Ok(())
    }

    /// Replaces segments by the one they were rewritten to.
    pub(super) fn replace(&self, maintenance: &mut Maintenance, swap: Swap) {
        {
            // Appends change the list, too.
            let _writer = self.writer.lock();
            self.log.replace(&swap.replaced, &swap.segment);
        }
        maintenance.pending_swap = Some(swap);
        if let Err(error) = self.complete_swap(maintenance) {
            warn!(partition = %self, %error, "files of rewritten segments not replaced, retrying later");
        }
    }

    /// Replaces the files of segments that were rewritten, unless that has been done.
    pub(super) fn complete_swap(&self, maintenance: &mut Maintenance) -> Result<(), Error> {
        let Some(swap) = &maintenance.pending_swap else {
            return Ok(());
        };
        swap.complete(&self.environment.fs, &self.log.dir)?;
        let segment = &swap.segment;
        // Not worth a retry: deletions that make room would have to wait for it, and the index stays in memory.
        if let Err(error) = segment.close_index().and_then(|()| segment.sync_index()) {
            warn!(partition = %self, %error, "index of a rewritten segment not written");
        }
        maintenance.pending_swap = None;
        Ok(())
    }
}
