//! Reading whole segments, finding corrupt ranges and removing them.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use tracing::{error, warn};

use super::checkpoint::LeaderEpochs;
use super::error::{Error, IoContext};
use super::index::SparseIndex;
use super::offset_gap;
use super::rewrite::{Kept, Swap, copy};
use super::scan::{Found, Scanner};
use super::segment::{Located, REBUILT_INTERVAL_BYTES, Segment, file_path};
use crate::fs::Fs;

/// A range of a segment that holds no valid batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    pub range: Range<u64>,
    /// The offset expected where it begins.
    pub offset: i64,
    pub reason: String,
}

/// The result of reading a whole segment.
pub(super) struct Inspected {
    pub index: SparseIndex,
    pub next_offset: i64,
    /// Corrupt ranges that are followed by valid batches.
    pub damages: Vec<Damage>,
    /// A corrupt range with nothing valid after it.
    pub tail: Option<Damage>,
    /// Positions of batches whose leader epoch differs from the checkpoint's, and the checkpoint's epoch.
    wrong_epochs: Vec<(u64, i32)>,
}

/// Reads a whole segment. `offset_end` is the base offset of the next segment, if known. Invalid bytes where an offset
/// from `open_from` on is expected count as the segment's tail, without a check of what follows them.
pub(super) fn inspect(
    segment: &Segment,
    size: u64,
    offset_end: Option<i64>,
    open_from: i64,
    epochs: Option<&LeaderEpochs>,
    mut each: impl FnMut(&Located) -> Result<(), Error>,
) -> Result<Inspected, Error> {
    let path = segment.log_path();
    let file = segment.file()?;
    let mut scanner = Scanner::new(&file, path, segment.base_offset, size);
    let mut found = Inspected {
        index: SparseIndex::new(),
        next_offset: segment.base_offset,
        damages: Vec::new(),
        tail: None,
        wrong_epochs: Vec::new(),
    };
    let mut position = 0;
    loop {
        let reason = match batch_at(&mut scanner, position, &found, offset_end)? {
            Found::End => break,
            Found::Damage(reason) => reason,
            Found::Batch(header) => {
                let located = Located { position, header };
                found.note(segment, &located, epochs);
                each(&located)?;
                position = located.end();
                continue;
            }
        };
        let offset = found.next_offset;
        let next = match offset >= open_from {
            true => None,
            false => {
                let offset_limit = offset_end.unwrap_or(i64::MAX);
                next_valid(&mut scanner, position, offset, offset_limit)?
            }
        };
        let damage = Damage {
            range: position..next.unwrap_or(size),
            offset,
            reason,
        };
        match next {
            Some(next) => {
                found.damages.push(damage);
                position = next;
            }
            None => {
                found.tail = Some(damage);
                break;
            }
        }
    }
    Ok(found)
}

impl Inspected {
    /// Notes a valid batch.
    fn note(&mut self, segment: &Segment, located: &Located, epochs: Option<&LeaderEpochs>) {
        let header = &located.header;
        if let Some(epoch) = epochs.map(|epochs| epochs.at(header.base_offset))
            && epoch != header.partition_leader_epoch
        {
            self.wrong_epochs.push((located.position, epoch));
        }
        self.index
            .note(segment.indexed(located), REBUILT_INTERVAL_BYTES);
        self.next_offset = header.next_offset();
    }
}

/// Reads the batch at `position` and checks that it belongs there.
fn batch_at(
    scanner: &mut Scanner<'_>,
    position: u64,
    found: &Inspected,
    offset_end: Option<i64>,
) -> Result<Found, Error> {
    let batch = scanner.batch(position, found.next_offset)?;
    let Found::Batch(header) = batch else {
        return Ok(batch);
    };
    // A gap after a corrupt range is what the corrupt batches left.
    let after_damage = (found.damages.last()).is_some_and(|damage| damage.range.end == position);
    let expected = match after_damage {
        true => header.base_offset,
        false => found.next_offset,
    };
    let located = Located { position, header };
    Ok(
        match offset_gap::misplaced(scanner, &located, expected, offset_end)? {
            Some(reason) => Found::Damage(reason),
            None => batch,
        },
    )
}

/// Finds the next valid batch after an invalid one, first at the position that the invalid one's length gives.
fn next_valid(
    scanner: &mut Scanner<'_>,
    position: u64,
    offset_min: i64,
    offset_limit: i64,
) -> Result<Option<u64>, Error> {
    if let Found::Batch(header) = scanner.header(position, i64::MIN)? {
        let next = position + header.size_bytes() as u64;
        if let Found::Batch(after) = scanner.batch(next, offset_min)?
            && after.next_offset() <= offset_limit
        {
            return Ok(Some(next));
        }
    }
    scanner.find_next(position, offset_min, offset_limit)
}

/// Restores leader epochs from the checkpoint; no CRC covers them.
pub(super) fn repair_leader_epochs(segment: &Segment, inspected: &Inspected) -> Result<(), Error> {
    let path = segment.log_path();
    for (position, epoch) in &inspected.wrong_epochs {
        warn!(path = %path.display(), position, epoch, "restoring leader epoch of batch");
        segment
            .file()?
            .write_all_at(&epoch.to_be_bytes(), position + 12)
            .during("write", path)?;
    }
    Ok(())
}

/// Rewrites a segment without its corrupt ranges, which are copied to separate files; these are durable before the segment
/// is replaced. The swap is left to complete.
pub(super) fn remove_corrupt_ranges(
    fs: &Fs,
    dir: &Arc<Path>,
    segment: &Arc<Segment>,
    size: u64,
    damages: &[Damage],
) -> Result<Swap, Error> {
    for damage in damages {
        error!(
            path = %segment.log_path().display(),
            position = damage.range.start,
            bytes = damage.range.end - damage.range.start,
            offset = damage.offset,
            reason = damage.reason,
            "corrupt records moved to a separate file, no longer served"
        );
        let extension = format!("log.{}.damaged", damage.range.start);
        let aside = file_path(dir, segment.base_offset, &extension);
        let file = fs.create(&aside).during("create", &aside)?;
        copy(segment, damage.range.clone(), &file, &aside, 0)?;
        file.sync_data().during("sync", &aside)?;
    }
    fs.sync_dir(dir).during("sync", dir)?;
    let starts = [0].into_iter().chain(damages.iter().map(|it| it.range.end));
    let ends = (damages.iter().map(|it| it.range.start)).chain([size]);
    let kept = starts.zip(ends).map(|(start, end)| Kept {
        segment,
        range: start..end,
    });
    Swap::commit(fs, dir, std::slice::from_ref(segment), kept)
}
