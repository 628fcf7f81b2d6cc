//! Searching a batch for a record.

use super::error::Error;
use crate::record::{DecompressLimit, Record, RecordBatch};
use crate::storage::TimestampedOffset;

/// Returns the first record of a batch that is `wanted`.
pub(in crate::storage) fn first_record(
    batch: &RecordBatch,
    wanted: impl Fn(&Record) -> bool,
) -> Result<Option<TimestampedOffset>, Error> {
    for record in batch.records(DecompressLimit::default())? {
        let record = record?;
        if wanted(&record) {
            return Ok(Some(TimestampedOffset {
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                leader_epoch: batch.header().partition_leader_epoch,
            }));
        }
    }
    Ok(None)
}
