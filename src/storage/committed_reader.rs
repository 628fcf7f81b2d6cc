//! A reader of committed records, as consumers do it: up to the last stable offset, without the records of the aborted
//! transactions that each read lists.

use std::collections::HashSet;

use super::{Fetched, Isolation, PartitionLog, ReadOptions, ReadTicket};
use crate::record::{BatchHeader, DecompressLimit, Record, RecordBatch};
use crate::storage::{TransactionMarker, TransactionOutcome};

/// Returns the offset and value of every committed record, read in pieces of `max_bytes`.
pub(in crate::storage) fn committed(
    partition: &dyn PartitionLog,
    max_bytes: usize,
) -> Vec<(i64, String)> {
    let records = committed_records(partition, max_bytes).into_iter();
    let with_value = |record: Record| {
        let value = record.value.unwrap_or_default();
        (record.offset, String::from_utf8_lossy(&value).into_owned())
    };
    records.map(with_value).collect()
}

/// Returns every committed record, read in pieces of `max_bytes`.
pub(in crate::storage) fn committed_records(
    partition: &dyn PartitionLog,
    max_bytes: usize,
) -> Vec<Record> {
    let mut found = Vec::new();
    let mut offset = partition.offsets().log_start;
    loop {
        let fetched = read(partition, offset, max_bytes);
        let Some(next) = visible(&fetched, offset, &mut found) else {
            return found;
        };
        offset = next;
    }
}

/// Reads committed records at an offset.
pub(in crate::storage) fn read(
    partition: &dyn PartitionLog,
    offset: i64,
    max_bytes: usize,
) -> Fetched {
    let options = ReadOptions {
        isolation: Isolation::ReadCommitted,
        ..ReadOptions::at(offset, max_bytes)
    };
    match partition.read(options) {
        ReadTicket::Ready(result) => result.unwrap(),
        ReadTicket::WouldBlock | ReadTicket::Pending(_) => panic!("not ready"),
    }
}

/// Adds the records that a consumer shows of one read. Returns the offset after them; `None` if nothing was read.
fn visible(fetched: &Fetched, offset: i64, found: &mut Vec<Record>) -> Option<i64> {
    let mut records = fetched.records.as_ref()?.to_bytes().unwrap();
    let mut next = offset;
    let mut aborted = fetched.aborted.iter().peekable();
    let mut skipped = HashSet::new();
    while !records.is_empty() {
        let size = BatchHeader::read(&records).unwrap().size_bytes();
        let batch = RecordBatch::parse_stored(records.split_to(size)).unwrap();
        let header = batch.header();
        next = header.next_offset();
        while let Some(begun) = aborted.next_if(|it| it.first_offset <= header.last_offset()) {
            skipped.insert(begun.producer_id);
        }
        if header.attributes.is_control() {
            let marker = TransactionMarker::of(&batch).unwrap().unwrap();
            if marker.outcome == TransactionOutcome::Abort {
                skipped.remove(&header.producer_id);
            }
            continue;
        }
        if header.attributes.is_transactional() && skipped.contains(&header.producer_id) {
            continue;
        }
        for record in batch.records(DecompressLimit::default()).unwrap() {
            let record = record.unwrap();
            if record.offset >= offset {
                found.push(record);
            }
        }
    }
    Some(next)
}
