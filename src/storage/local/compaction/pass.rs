//! One compaction of one log.

use std::sync::Arc;

use tracing::debug;

use super::batch_reader::BatchReader;
use super::compactor::Compactor;
use super::filter::{Fate, Filter, Latest};
use super::offset_map::OffsetMap;
use super::selection::Dirt;
use super::transactions::Transactions;
use crate::config::TopicConfig;
use crate::record::{BatchHeader, RecordBatch};
use crate::storage::local::checkpoint::LeaderEpochs;
use crate::storage::local::environment::Environment;
use crate::storage::local::error::Error;
use crate::storage::local::log::{RELATIVE_OFFSET_MAX, SEGMENT_BYTES_LIMIT};
use crate::storage::local::partition::Partition;
use crate::storage::local::rewrite::Staged;
use crate::storage::local::segment::Segment;

/// Bytes written at a time, unless a batch is larger.
const WRITE_BYTES: usize = 1 << 20;

/// A compaction that is running.
pub(in crate::storage::local) struct Pass<'a> {
    pub compactor: &'a Compactor,
    pub environment: &'a Environment,
    pub partition: &'a Arc<Partition>,
    pub epochs: &'a LeaderEpochs,
    pub config: &'a TopicConfig,
    pub dirt: Dirt,
    pub now_ms: i64,
}

/// The work that a compaction did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage::local) struct Work {
    /// The log is compacted up to this offset.
    pub end: i64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub records_read: u64,
    pub records_written: u64,
    pub segments_before: usize,
    pub segments_after: usize,
}

/// Adjacent segments that are rewritten as one.
struct Group<'a> {
    segments: &'a [Arc<Segment>],
    /// The base offset of the segment that follows.
    end: i64,
}

impl Pass<'_> {
    /// Compacts the log. `segments` are those of its clean and dirty part, all of them closed and durable.
    pub fn run(&self, segments: &[Arc<Segment>]) -> Result<Work, Error> {
        let total: u64 = segments.iter().map(|segment| segment.size()).sum();
        self.compactor.begin(total + self.dirt.dirty_bytes);
        let mut work = Work::default();
        let latest = self.read_dirt(segments, &mut work)?;
        work.end = latest.end;
        let mut filter = Filter {
            latest,
            transactions: self.transactions_from(segments[0].base_offset)?,
            producers: self.partition.last_batches()?,
            now_ms: self.now_ms,
            delete_retention_ms: self.config.delete_retention_ms,
        };
        let rewritten = segments.partition_point(|segment| segment.base_offset < work.end);
        for group in self.groups(segments, rewritten) {
            self.rewrite(&group, &mut filter, &mut work)?;
        }
        Ok(work)
    }

    /// Reads the dirty part, or as much of it as the offset map can hold.
    fn read_dirt(&self, segments: &[Arc<Segment>], work: &mut Work) -> Result<Latest, Error> {
        let Dirt { start, end, .. } = self.dirt;
        let map = OffsetMap::new((end - start) as u64, self.compactor.dedupe_buffer_bytes());
        let transactions = self.transactions_from(start)?;
        let mut latest = Latest::new(map, transactions, start);
        for (number, segment) in segments.iter().enumerate() {
            let offset_end = self.end_of(segments, number);
            if offset_end <= start {
                continue;
            }
            let mut reader = BatchReader::new(segment, start, offset_end, self.epochs)?;
            while let Some(batch) = reader.next()? {
                self.note_read(&batch, work)?;
                let has_room = latest.add(&batch).map_err(|error| reader.corrupt(error))?;
                if !has_room {
                    debug!(partition = %self.partition, offset = latest.end, "compaction buffer full, leaving the rest to the next compaction");
                    return Ok(latest);
                }
            }
            latest.end = offset_end;
        }
        Ok(latest)
    }

    /// Returns the transactions of the log at an offset.
    fn transactions_from(&self, offset: i64) -> Result<Transactions, Error> {
        let aborted = self.partition.aborted_in(offset..self.dirt.end)?;
        Ok(Transactions::new(aborted))
    }

    /// Returns the offset at which a segment ends.
    fn end_of(&self, segments: &[Arc<Segment>], number: usize) -> i64 {
        let next = segments.get(number + 1);
        next.map_or(self.dirt.end, |next| next.base_offset)
    }

    /// Divides the first segments into groups of which each fits into one segment.
    fn groups<'s>(&self, segments: &'s [Arc<Segment>], count: usize) -> Vec<Group<'s>> {
        let bytes_max = (self.config.segment_bytes_max() as u64).min(SEGMENT_BYTES_LIMIT);
        let mut groups = Vec::new();
        let mut first = 0;
        while first < count {
            let base_offset = segments[first].base_offset;
            let mut bytes = segments[first].size();
            let mut next = first + 1;
            while next < count {
                bytes += segments[next].size();
                let last_offset = self.end_of(segments, next) - 1;
                if bytes > bytes_max || last_offset - base_offset > RELATIVE_OFFSET_MAX {
                    break;
                }
                next += 1;
            }
            groups.push(Group {
                segments: &segments[first..next],
                end: self.end_of(segments, next - 1),
            });
            first = next;
        }
        groups
    }

    /// Rewrites segments as one, unless none of their records is dropped.
    fn rewrite(
        &self,
        group: &Group<'_>,
        filter: &mut Filter,
        work: &mut Work,
    ) -> Result<(), Error> {
        let first = &group.segments[0];
        let mut output = Output {
            staged: self.partition.stage(first.base_offset)?,
            buffer: Vec::with_capacity(WRITE_BYTES),
            headers: Vec::new(),
        };
        let mut is_changed = group.segments.len() > 1;
        for (number, segment) in group.segments.iter().enumerate() {
            let next = group.segments.get(number + 1);
            let offset_end = next.map_or(group.end, |next| next.base_offset);
            let mut reader =
                BatchReader::new(segment, segment.base_offset, offset_end, self.epochs)?;
            while let Some(batch) = reader.next()? {
                self.note_read(&batch, work)?;
                work.records_read += batch.header().record_count as u64;
                let fate = filter
                    .decide(&batch, group.end)
                    .map_err(|error| reader.corrupt(error))?;
                is_changed |= fate != Fate::Keep;
                match fate {
                    Fate::Keep => self.write(&mut output, &batch, work)?,
                    Fate::Replace(batch) => self.write(&mut output, &batch, work)?,
                    Fate::Drop => {}
                }
            }
        }
        work.segments_before += group.segments.len();
        work.segments_after += 1;
        if !is_changed {
            return Ok(());
        }
        self.flush(&mut output)?;
        let last = &group.segments[group.segments.len() - 1];
        // Retention takes the age of records without timestamps from the file.
        output.staged.set_modified(last.modified()?)?;
        output.staged.flush()?;
        self.partition.swap(group.segments, output.staged)
    }

    /// Adds a batch to the rewritten segment.
    fn write(
        &self,
        output: &mut Output,
        batch: &RecordBatch,
        work: &mut Work,
    ) -> Result<(), Error> {
        work.records_written += batch.header().record_count as u64;
        work.bytes_written += batch.size_bytes() as u64;
        output.buffer.extend_from_slice(batch.bytes());
        output.headers.push(*batch.header());
        match output.buffer.len() >= WRITE_BYTES {
            true => self.flush(output),
            false => Ok(()),
        }
    }

    fn flush(&self, output: &mut Output) -> Result<(), Error> {
        let bytes = output.buffer.len();
        self.environment.space.admit_compaction(bytes)?;
        self.compactor.note_written(bytes)?;
        output.staged.append(&output.buffer, &output.headers)?;
        output.buffer.clear();
        output.headers.clear();
        Ok(())
    }

    fn note_read(&self, batch: &RecordBatch, work: &mut Work) -> Result<(), Error> {
        work.bytes_read += batch.size_bytes() as u64;
        self.compactor.note_read(batch.size_bytes())
    }
}

/// A rewritten segment, and the batches that are to be written to it.
struct Output {
    staged: Staged,
    buffer: Vec<u8>,
    headers: Vec<BatchHeader>,
}
