//! Reading whole segments, finding corrupt ranges and removing them.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use tracing::{error, warn};

use super::checkpoint::LeaderEpochs;
use super::error::{Error, IoContext};
use super::index::SparseIndex;
use super::scan::{Found, Scanner, read_bytes};
use super::segment::{Located, REBUILT_INTERVAL_BYTES, Segment, file_path};
use crate::fs::{File, Fs};

/// Size of the pieces in which valid ranges are copied when a segment is rewritten.
const COPY_BYTES: usize = 1 << 20;

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
    mut each: impl FnMut(&Located),
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
    let offset_limit = offset_end.unwrap_or(i64::MAX);
    loop {
        let reason = match scanner.batch(position, found.next_offset)? {
            Found::End => break,
            Found::Damage(reason) => reason,
            Found::Batch(header) => {
                let located = Located { position, header };
                // A gap after a corrupt range is what the corrupt batches left.
                let after_damage =
                    (found.damages.last()).is_some_and(|damage| damage.range.end == position);
                let expected = match after_damage {
                    true => header.base_offset,
                    false => found.next_offset,
                };
                match misplaced(&mut scanner, &located, expected, offset_end)? {
                    Some(reason) => reason,
                    None => {
                        if let Some(epoch) = epochs.map(|epochs| epochs.at(header.base_offset))
                            && epoch != header.partition_leader_epoch
                        {
                            found.wrong_epochs.push((position, epoch));
                        }
                        found
                            .index
                            .note(segment.indexed(&located), REBUILT_INTERVAL_BYTES);
                        each(&located);
                        found.next_offset = header.next_offset();
                        position = located.end();
                        continue;
                    }
                }
            }
        };
        let damage = |end| Damage {
            range: position..end,
            offset: found.next_offset,
            reason: reason.clone(),
        };
        let next = match found.next_offset >= open_from {
            true => None,
            false => next_valid(&mut scanner, position, found.next_offset, offset_limit)?,
        };
        match next {
            Some(next) => {
                found.damages.push(damage(next));
                position = next;
            }
            None => {
                found.tail = Some(damage(size));
                break;
            }
        }
    }
    Ok(found)
}

/// Returns why a batch with a valid CRC cannot belong at its position. The CRC does not cover the base offset.
fn misplaced(
    scanner: &mut Scanner<'_>,
    located: &Located,
    expected: i64,
    offset_end: Option<i64>,
) -> Result<Option<String>, Error> {
    let header = &located.header;
    if offset_end.is_some_and(|end| header.next_offset() > end) {
        return Ok(Some(format!("offset {} is too large", header.base_offset)));
    }
    if header.base_offset == expected {
        return Ok(None);
    }
    // There may be a gap, after compaction or where corruption was removed. It is one if the next batch fits it, too.
    let fits = match scanner.header(located.end(), expected)? {
        Found::Batch(next) => next.base_offset >= header.next_offset(),
        Found::End => offset_end.is_some(),
        Found::Damage(_) => true,
    };
    Ok((!fits).then(|| format!("offset {} follows {}", header.base_offset, expected - 1)))
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

/// Rewrites a segment without its corrupt ranges, which are copied to separate files. The old file stays readable for
/// readers that hold it open.
pub(super) fn remove_corrupt_ranges(
    fs: &Fs,
    dir: &Arc<Path>,
    segment: &Segment,
    size: u64,
    damages: &[Damage],
) -> Result<Segment, Error> {
    let path = segment.log_path();
    let file = segment.file()?;
    let staging = file_path(dir, segment.base_offset, "log.tmp");
    let rewritten = fs.create(&staging).during("create", &staging)?;
    let mut valid_from = 0;
    let mut written = 0;
    for damage in damages {
        error!(
            path = %path.display(),
            position = damage.range.start,
            bytes = damage.range.end - damage.range.start,
            offset = damage.offset,
            reason = damage.reason,
            "corrupt records moved to a separate file, no longer served"
        );
        let aside = file_path(
            dir,
            segment.base_offset,
            &format!("log.{}.damaged", damage.range.start),
        );
        let kept = fs.create(&aside).during("create", &aside)?;
        copy(&file, path, damage.range.clone(), &kept, &aside, 0)?;
        let valid = valid_from..damage.range.start;
        written += copy(&file, path, valid, &rewritten, &staging, written)?;
        valid_from = damage.range.end;
    }
    written += copy(&file, path, valid_from..size, &rewritten, &staging, written)?;
    rewritten.sync_data().during("sync", &staging)?;
    fs.rename(&staging, path).during("replace", path)?;
    fs.sync_dir(dir).during("sync", dir)?;
    for extension in ["index", "timeindex"] {
        let index = segment.path(extension);
        fs.remove_file(&index).during("remove", &index)?;
    }
    Ok(Segment::found(fs, dir, segment.base_offset, written))
}

fn copy(
    from: &File,
    from_path: &Path,
    range: Range<u64>,
    to: &File,
    to_path: &Path,
    mut to_position: u64,
) -> Result<u64, Error> {
    let mut position = range.start;
    while position < range.end {
        let len = (range.end - position).min(COPY_BYTES as u64) as usize;
        let piece = read_bytes(from, from_path, position, len)?;
        to.write_all_at(&piece, to_position)
            .during("write", to_path)?;
        position += len as u64;
        to_position += len as u64;
    }
    Ok(range.end.saturating_sub(range.start))
}
