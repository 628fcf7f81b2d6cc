//! Repairing the segments in which reads find corruption.

use std::path::Path;
use std::sync::Arc;

use tracing::warn;

use super::super::error::Error;
use super::super::repair;
use super::Partition;

/// Repairs attempted by one read before it gives up.
const REPAIRS_MAX: usize = 8;

impl Partition {
    /// Runs a read; if it finds corruption, repairs the segment and runs the read again.
    pub(super) fn repairing<T>(
        self: &Arc<Self>,
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
    fn repair(self: &Arc<Self>, path: &Path) -> Result<(), Error> {
        let _maintenance = self.maintenance.lock();
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
        // Appends change the list, too.
        let _writer = self.writer.lock();
        self.log.replace(segment, Arc::new(rewritten));
        Ok(())
    }
}
