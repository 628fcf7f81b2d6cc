//! Gaps between the offsets of adjacent batches: which of them are legal.
//!
//! Appends leave none. Gaps come from what was removed: corrupt ranges by repair, superseded records by compaction. But a
//! flipped bit in a base offset, which no CRC covers, and a hole that a power failure left in unflushed data look the same.
//! This module alone decides:
//!
//! * In bytes not checked since the server started, [`find`] reports any gap, and reads treat it as corruption, which has
//!   the whole segment inspected. Segments that begin below the cleaner's offset are excepted: they were compacted.
//! * An inspection accepts a gap that the batches around it confirm ([`misplaced`]). The segment counts as checked
//!   afterwards, and reads no longer look for gaps in it.
//! * Recovery accepts a gap between two segments if something explains it ([`is_explained`]).

use super::error::Error;
use super::scan::{Found, Scanner};
use super::segment::Located;

/// Returns a description of the gap before a batch with `base_offset`; `None` if it is the offset expected.
pub(super) fn find(expected: i64, base_offset: i64) -> Option<String> {
    (base_offset != expected).then(|| format!("offset {base_offset} follows {}", expected - 1))
}

/// Returns why a batch with a valid CRC cannot belong at its position. `offset_end` is the base offset of the next
/// segment, if known.
pub(super) fn misplaced(
    scanner: &mut Scanner<'_>,
    located: &Located,
    expected: i64,
    offset_end: Option<i64>,
) -> Result<Option<String>, Error> {
    let header = &located.header;
    if offset_end.is_some_and(|end| header.next_offset() > end) {
        return Ok(Some(format!("offset {} is too large", header.base_offset)));
    }
    let Some(gap) = find(expected, header.base_offset) else {
        return Ok(None);
    };
    // The gap is real if the next batch fits this one, too.
    let fits = match scanner.header(located.end(), expected)? {
        Found::Batch(next) => next.base_offset >= header.next_offset(),
        Found::End => offset_end.is_some(),
        Found::Damage(_) => true,
    };
    Ok((!fits).then_some(gap))
}

/// Returns true if no records are missing between a segment that ends at `end` and one that begins at `next`, or if it
/// is known why: the first one was repaired, or the records before `log_start` were deleted.
pub(super) fn is_explained(end: i64, next: i64, log_start: i64, was_repaired: bool) -> bool {
    end >= next || next <= log_start || was_repaired
}
