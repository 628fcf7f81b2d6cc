//! Reading the batches of a closed segment from the front.

use bytes::Bytes;

use crate::fs::File;
use crate::record::{BatchHeader, RecordBatch};
use crate::storage::local::checkpoint::LeaderEpochs;
use crate::storage::local::error::Error;
use crate::storage::local::segment::Segment;

/// Bytes read at a time, unless a batch is larger.
const READ_BYTES: u64 = 1 << 20;

/// The batches of a segment, with their CRCs checked. Offsets may be missing between them.
pub(super) struct BatchReader<'a> {
    segment: &'a Segment,
    epochs: &'a LeaderEpochs,
    file: File,
    /// The size of the segment.
    end: u64,
    /// The base offset of the next segment.
    offset_end: i64,
    position: u64,
    next_offset: i64,
    /// Bytes from `position` on.
    chunk: Bytes,
}

impl<'a> BatchReader<'a> {
    /// Creates a reader that starts with the batch that holds `offset`, or with the next one.
    pub fn new(
        segment: &'a Segment,
        offset: i64,
        offset_end: i64,
        epochs: &'a LeaderEpochs,
    ) -> Result<Self, Error> {
        let end = segment.size();
        let position = match offset > segment.base_offset {
            true => segment.locate(offset, end)?.map_or(end, |it| it.position),
            false => 0,
        };
        Ok(Self {
            segment,
            epochs,
            file: segment.file()?,
            end,
            offset_end,
            position,
            next_offset: segment.base_offset,
            chunk: Bytes::new(),
        })
    }

    /// Returns the bytes that are left to read.
    pub fn left(&self) -> u64 {
        self.end - self.position
    }

    /// Returns the next batch; `None` at the end.
    pub fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        if self.position == self.end {
            return Ok(None);
        }
        self.fill(BatchHeader::LEN)?;
        let size = BatchHeader::read(&self.chunk)
            .map_err(|error| self.corrupt(error))?
            .size_bytes();
        self.fill(size)?;
        let batch = RecordBatch::parse_stored(self.chunk.split_to(size))
            .map_err(|error| self.corrupt(error))?;
        self.check(batch.header())?;
        self.position += size as u64;
        self.next_offset = batch.header().next_offset();
        Ok(Some(batch))
    }

    /// Reads until at least `len` bytes are in memory.
    fn fill(&mut self, len: usize) -> Result<(), Error> {
        if self.chunk.len() >= len {
            return Ok(());
        }
        if len as u64 > self.left() {
            return Err(self.corrupt("the segment ends within a batch"));
        }
        let want = self.left().min(READ_BYTES.max(len as u64)) as usize;
        let mut chunk = vec![0; want];
        self.file
            .read_exact_at(&mut chunk, self.position)
            .map_err(|error| Error::io("read", self.segment.log_path(), error))?;
        self.chunk = chunk.into();
        Ok(())
    }

    /// Checks the fields that no CRC covers.
    fn check(&self, header: &BatchHeader) -> Result<(), Error> {
        if header.base_offset < self.next_offset || header.next_offset() > self.offset_end {
            return Err(self.corrupt(format!("offset {} is misplaced", header.base_offset)));
        }
        let epoch = header.partition_leader_epoch;
        match epoch == self.epochs.at(header.base_offset) {
            true => Ok(()),
            false => Err(self.corrupt(format!("leader epoch {epoch}"))),
        }
    }

    /// Returns the error for an invalid batch at the reader's position.
    pub fn corrupt(&self, reason: impl ToString) -> Error {
        self.segment.corrupt(self.position, reason.to_string())
    }
}
