//! Reads a segment file batch by batch, skipping damage to the next intact batch.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use crate::record::{BatchHeader, RecordBatch};

/// Content found at a position in a segment.
#[derive(Debug)]
pub(super) enum Event {
    /// Intact batch with a valid checksum.
    Batch { position: u64, batch: RecordBatch },
    /// Bytes in `position..end` that are not a valid batch.
    Damage {
        position: u64,
        end: u64,
        reason: String,
    },
}

/// Reader of one segment file. Lengths read from the file are checked against its size.
#[derive(Debug)]
pub(super) struct SegmentReader {
    file: File,
    size_bytes: u64,
    position: u64,
    expected_offset: i64,
    window: Bytes,
    window_start: u64,
}

impl SegmentReader {
    const WINDOW_BYTES: usize = 1 << 20;

    pub(super) fn open(path: &Path, base_offset: i64) -> io::Result<SegmentReader> {
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        Ok(SegmentReader {
            file,
            size_bytes,
            position: 0,
            expected_offset: base_offset,
            window: Bytes::new(),
            window_start: 0,
        })
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Lowest base offset allowed for the next batch.
    pub(super) fn expected_offset(&self) -> i64 {
        self.expected_offset
    }

    /// Accepts the last batch: the next one must start at `next_offset` or later.
    pub(super) fn advance(&mut self, next_offset: i64) {
        self.expected_offset = next_offset;
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Event>> {
        let position = self.position;
        if position >= self.size_bytes {
            return Ok(None);
        }
        match self.batch_at(position)? {
            Ok(batch) => {
                self.position += batch.size_bytes() as u64;
                Ok(Some(Event::Batch { position, batch }))
            }
            Err(reason) => {
                let end = self.next_intact_batch(position)?;
                self.position = end;
                Ok(Some(Event::Damage {
                    position,
                    end,
                    reason,
                }))
            }
        }
    }

    fn batch_at(&mut self, position: u64) -> io::Result<Result<RecordBatch, String>> {
        let left = self.size_bytes - position;
        let head = self.bytes(position, left.min(BatchHeader::LEN as u64) as usize)?;
        let size = match BatchHeader::read(&head) {
            Ok(header) => header.size_bytes(),
            Err(_) if left < BatchHeader::LEN as u64 => {
                return Ok(Err(format!(
                    "torn: the file ends {left} bytes into a batch header"
                )));
            }
            Err(error) => return Ok(Err(error.to_string())),
        };
        if size as u64 > left {
            return Ok(Err(format!(
                "torn: the file ends {left} bytes into a batch of {size}"
            )));
        }
        let bytes = self.bytes(position, size)?;
        Ok(RecordBatch::parse_stored(bytes).map_err(|error| error.to_string()))
    }

    /// Finds where to resume after damage at `position`: after the damaged batch if its length leads to an intact batch
    /// or to the end of the file, else at the next intact batch, else at the end of the file.
    fn next_intact_batch(&mut self, position: u64) -> io::Result<u64> {
        let left = (self.size_bytes - position).min(BatchHeader::LEN as u64) as usize;
        let head = self.bytes(position, left)?;
        if let Ok(header) = BatchHeader::read(&head) {
            let end = position + header.size_bytes() as u64;
            if end == self.size_bytes || (end < self.size_bytes && self.is_intact_at(end)?) {
                return Ok(end);
            }
        }
        for candidate in position + 1..self.size_bytes {
            if self.is_intact_at(candidate)? {
                return Ok(candidate);
            }
        }
        Ok(self.size_bytes)
    }

    /// Cheap checks come first: almost every position fails the first of them.
    fn is_intact_at(&mut self, position: u64) -> io::Result<bool> {
        if self.size_bytes - position < BatchHeader::LEN as u64 {
            return Ok(false);
        }
        let head = self.bytes(position, BatchHeader::LEN)?;
        let Ok(header) = BatchHeader::read(&head) else {
            return Ok(false);
        };
        if header.base_offset < self.expected_offset
            || header.last_offset_delta < 0
            || header.size_bytes() as u64 > self.size_bytes - position
        {
            return Ok(false);
        }
        let bytes = self.bytes(position, header.size_bytes())?;
        Ok(RecordBatch::parse_stored(bytes).is_ok())
    }

    /// Reads `len` bytes that are known to be in the file; an error if the file has shrunk since.
    fn bytes(&mut self, position: u64, len: usize) -> io::Result<Bytes> {
        let inside = position
            .checked_sub(self.window_start)
            .and_then(|start| usize::try_from(start).ok())
            .filter(|start| {
                start
                    .checked_add(len)
                    .is_some_and(|end| end <= self.window.len())
            });
        if let Some(start) = inside {
            return Ok(self.window.slice(start..start + len));
        }
        let left = self.size_bytes - position;
        let fill = len.max(left.min(Self::WINDOW_BYTES as u64) as usize);
        let mut window = BytesMut::zeroed(fill);
        self.file.read_exact_at(&mut window, position)?;
        self.window = window.freeze();
        self.window_start = position;
        Ok(self.window.slice(..len))
    }
}
