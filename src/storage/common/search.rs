//! Searching a batch for a record by its timestamp.

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
            return Ok(Some(found(batch, &record)));
        }
    }
    Ok(None)
}

/// Returns the record of a batch with the largest timestamp from `log_start` on, the first if there are several.
pub(in crate::storage) fn newest_record(
    batch: &RecordBatch,
    log_start: i64,
) -> Result<Option<TimestampedOffset>, Error> {
    let mut newest: Option<TimestampedOffset> = None;
    for record in batch.records(DecompressLimit::default())? {
        let record = record?;
        if record.offset >= log_start
            && newest.is_none_or(|newest| record.timestamp_ms > newest.timestamp_ms)
        {
            newest = Some(found(batch, &record));
        }
    }
    Ok(newest)
}

fn found(batch: &RecordBatch, record: &Record) -> TimestampedOffset {
    TimestampedOffset {
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        leader_epoch: batch.header().partition_leader_epoch,
    }
}
