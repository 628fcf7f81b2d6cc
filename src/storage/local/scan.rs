//! Reading the batches of a segment file without trusting its content.
//!
//! A [`Scanner`] reads forward through a window of the file. It can step by headers alone, or check each batch against
//! its CRC. The CRC does not cover the first 16 bytes of a batch (base offset, length, leader epoch), so these are
//! checked for plausibility: offsets only grow, within the distance allowed from the segment's base offset; lengths fit
//! the file.

use std::path::Path;

use super::error::{Error, IoContext};
use super::log::RELATIVE_OFFSET_MAX;
use crate::fs::File;
use crate::record::BatchHeader;

/// Size of the read-ahead window; a larger batch is checked in pieces of this size.
const WINDOW_BYTES: usize = 128 * 1024;

/// Position in a batch from which the CRC covers it: the attributes.
const CRC_COVER_START: u64 = 21;

/// The content found at a position.
#[derive(Debug)]
pub(super) enum Found {
    /// A batch with a plausible header and, if it was checked, a valid CRC.
    Batch(BatchHeader),
    /// Exactly the end of the range.
    End,
    /// No valid batch, and why.
    Damage(String),
}

/// A forward reader over `[0, end)` of a segment file.
pub(super) struct Scanner<'a> {
    file: &'a File,
    path: &'a Path,
    /// Base offset of the segment.
    base_offset: i64,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
    window_bytes: usize,
}

impl<'a> Scanner<'a> {
    /// Creates a scanner that reads whole batches, bodies included.
    pub fn new(file: &'a File, path: &'a Path, base_offset: i64, end: u64) -> Self {
        Self::with_window(file, path, base_offset, end, WINDOW_BYTES)
    }

    /// Creates a scanner with a small window, for a few headers close to each other.
    pub fn for_headers(file: &'a File, path: &'a Path, base_offset: i64, end: u64) -> Self {
        Self::with_window(file, path, base_offset, end, 4 * 1024)
    }

    fn with_window(
        file: &'a File,
        path: &'a Path,
        base_offset: i64,
        end: u64,
        window_bytes: usize,
    ) -> Self {
        Self {
            file,
            path,
            base_offset,
            end,
            window: Vec::new(),
            window_start: 0,
            window_bytes,
        }
    }

    /// Reads the header at `position` and checks that it is a plausible batch with `base_offset ≥ offset_min`.
    pub fn header(&mut self, position: u64, offset_min: i64) -> Result<Found, Error> {
        if position == self.end {
            return Ok(Found::End);
        }
        let left = self.end.saturating_sub(position);
        if left < BatchHeader::LEN as u64 {
            return Ok(Found::Damage(format!("{left} bytes are not a batch")));
        }
        let bytes = self.bytes(position, BatchHeader::LEN)?;
        let header = match BatchHeader::read(bytes) {
            Ok(header) => header,
            Err(error) => return Ok(Found::Damage(error.to_string())),
        };
        Ok(match self.implausible(&header, left, offset_min) {
            Some(reason) => Found::Damage(reason),
            None => Found::Batch(header),
        })
    }

    /// Reads the header at `position` like [`header`](Self::header) and checks the batch's CRC.
    pub fn batch(&mut self, position: u64, offset_min: i64) -> Result<Found, Error> {
        let found = self.header(position, offset_min)?;
        if let Found::Batch(header) = &found {
            let end = position + header.size_bytes() as u64;
            let crc = self.crc(position + CRC_COVER_START, end)?;
            if crc != header.crc {
                return Ok(Found::Damage(format!(
                    "CRC is {crc:08x}, expected {:08x}",
                    header.crc
                )));
            }
        }
        Ok(found)
    }

    /// Returns the first position after `position` at which a complete, valid batch with offsets in
    /// `offset_min..offset_end` begins.
    pub fn find_next(
        &mut self,
        position: u64,
        offset_min: i64,
        offset_end: i64,
    ) -> Result<Option<u64>, Error> {
        let mut candidate = position + 1;
        while candidate + BatchHeader::LEN as u64 <= self.end {
            // The base offset and the magic byte rule out nearly every position cheaply.
            let bytes = self.bytes(candidate, 17)?;
            let base_offset = i64::from_be_bytes(*bytes.first_chunk().expect("17 bytes were read"));
            if bytes[16] == 2
                && (offset_min..offset_end).contains(&base_offset)
                && let Found::Batch(header) = self.batch(candidate, offset_min)?
                && header.next_offset() <= offset_end
            {
                return Ok(Some(candidate));
            }
            candidate += 1;
        }
        Ok(None)
    }

    /// Returns why the header is not plausible where `left` bytes are left.
    fn implausible(&self, header: &BatchHeader, left: u64, offset_min: i64) -> Option<String> {
        if header.size_bytes() as u64 > left {
            return Some(format!(
                "a batch length of {} does not fit the {left} bytes left",
                header.batch_length
            ));
        }
        if header.base_offset < offset_min {
            return Some(format!(
                "base offset {}, expected at least {offset_min}",
                header.base_offset
            ));
        }
        let distance = header.last_offset().saturating_sub(self.base_offset);
        if header.last_offset_delta < 0 || distance > RELATIVE_OFFSET_MAX {
            return Some(format!(
                "offsets {} + {} in a segment that begins with {}",
                header.base_offset, header.last_offset_delta, self.base_offset
            ));
        }
        None
    }

    fn crc(&mut self, from: u64, to: u64) -> Result<u32, Error> {
        let mut crc = 0;
        let mut position = from;
        while position < to {
            let piece = (to - position).min(self.window_bytes as u64) as usize;
            crc = crc32c::crc32c_append(crc, self.bytes(position, piece)?);
            position += piece as u64;
        }
        Ok(crc)
    }

    /// Returns `len` bytes at `position`, which must lie before the end.
    fn bytes(&mut self, position: u64, len: usize) -> Result<&[u8], Error> {
        let window_end = self.window_start + self.window.len() as u64;
        if position < self.window_start || position + len as u64 > window_end {
            let want = (self.end - position).min(self.window_bytes.max(len) as u64) as usize;
            self.window.resize(want, 0);
            self.window_start = position;
            if let Err(error) = self.file.read_exact_at(&mut self.window, position) {
                self.window.clear();
                return Err(Error::io("read", self.path, error));
            }
        }
        let from = (position - self.window_start) as usize;
        self.window
            .get(from..from + len)
            .ok_or_else(|| Error::corrupt(self.path, position, "unexpected end of file"))
    }
}

/// Reads `len` bytes at `position` of a segment.
pub(super) fn read_bytes(
    file: &File,
    path: &Path,
    position: u64,
    len: usize,
) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, position)
        .during("read", path)?;
    Ok(bytes)
}
