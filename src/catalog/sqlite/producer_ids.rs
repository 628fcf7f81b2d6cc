//! Producer ids, assigned from blocks that are claimed durably, so that no id is ever assigned twice.

use std::ops::Range;

use rusqlite::Connection;

use crate::catalog::Error;

/// Ids claimed by one durable write. A restart skips the unused rest of the last block.
pub(super) const PRODUCER_IDS_PER_BLOCK: i64 = 1_000;

/// The ids that are claimed durably and not assigned yet.
#[derive(Debug, Default)]
pub(super) struct ClaimedIds(Vec<Range<i64>>);

impl ClaimedIds {
    pub(super) fn take(&mut self) -> Option<i64> {
        while let Some(block) = self.0.last_mut() {
            if let Some(id) = block.next() {
                return Some(id);
            }
            self.0.pop();
        }
        None
    }

    pub(super) fn add(&mut self, block: Range<i64>) {
        self.0.push(block);
    }
}

/// Limit of foreign ids that are taken into account: a larger one was invented by a client and will never be reached.
const FOREIGN_ID_MAX: i64 = i64::MAX / 2;

/// Moves the durable mark past an id that another server assigned.
pub(super) fn skip(db: &Connection, id: i64) -> Result<(), Error> {
    if id <= FOREIGN_ID_MAX {
        db.prepare_cached("UPDATE producer_ids SET next_block = max(next_block, ?1)")?
            .execute([id + 1])?;
    }
    Ok(())
}

/// Moves the durable mark past the next block and returns the block.
pub(super) fn claim_block(db: &Connection) -> Result<Range<i64>, Error> {
    let start: i64 = db
        .prepare_cached("SELECT next_block FROM producer_ids")?
        .query_row([], |row| row.get(0))?;
    let end = start
        .checked_add(PRODUCER_IDS_PER_BLOCK)
        .filter(|_| start >= 0)
        .ok_or_else(|| Error::Corrupt(format!("next block of producer ids is {start}")))?;
    db.prepare_cached("UPDATE producer_ids SET next_block = ?1")?
        .execute([end])?;
    Ok(start..end)
}
