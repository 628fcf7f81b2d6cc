//! Walking over the batches of a segment file, believing nothing.
//!
//! A [`Scanner`] reads forward through a window of the file. It can step by headers alone, or check each batch whole
//! against its CRC. The first 16 bytes of a batch (base offset, length, leader epoch) are not covered by that CRC, so
//! they are held against what surrounds the batch instead: offsets only grow, and not too far from the segment's first;
//! lengths fit the file.

use std::path::Path;

use super::error::{Error, IoContext};
use super::log::RELATIVE_OFFSET_MAX;
use crate::fs::File;
use crate::record::BatchHeader;

/// Read ahead this much; a batch that is larger is checked in pieces of this size.
const WINDOW_BYTES: usize = 128 * 1024;

/// Where the CRC's cover begins: at the attributes.
const CRC_COVER_START: u64 = 21;

/// What stands at a position.
#[derive(Debug)]
pub(super) enum Found {
    /// A batch whose header is plausible, and whose CRC holds if that was asked for.
    Batch(BatchHeader),
    /// The end of the range, exactly.
    End,
    /// No batch that can be believed.
    Damage(String),
}

/// A forward reader over `[0, end)` of a segment file.
pub(super) struct Scanner<'a> {
    file: &'a File,
    path: &'a Path,
    /// Of the segment.
    base_offset: i64,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
    window_bytes: usize,
}

impl<'a> Scanner<'a> {
    /// For reading all of a range, bodies included.
    pub fn new(file: &'a File, path: &'a Path, base_offset: i64, end: u64) -> Self {
        Self::with_window(file, path, base_offset, end, WINDOW_BYTES)
    }

    /// For stepping over a few headers near one another.
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

    /// The header at `position`, if what stands there can be a batch with `base_offset ≥ offset_min`.
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

    /// The same, and the batch's CRC holds.
    pub fn batch(&mut self, position: u64, offset_min: i64) -> Result<Found, Error> {
        let found = self.header(position, offset_min)?;
        if let Found::Batch(header) = &found {
            let end = position + header.size_bytes() as u64;
            let crc = self.crc(position + CRC_COVER_START, end)?;
            if crc != header.crc {
                return Ok(Found::Damage(format!(
                    "CRC is {crc:08x}, the batch says {:08x}",
                    header.crc
                )));
            }
        }
        Ok(found)
    }

    /// The first position after `position` at which a whole, valid batch with offsets in `offset_min..offset_end`
    /// begins.
    pub fn resynchronise(
        &mut self,
        position: u64,
        offset_min: i64,
        offset_end: i64,
    ) -> Result<Option<u64>, Error> {
        let mut candidate = position + 1;
        while candidate + BatchHeader::LEN as u64 <= self.end {
            // The eight bytes of the base offset and the magic byte rule out nearly every position at once.
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

    /// Why there can be no such batch where `left` bytes are left.
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

    /// `len` bytes at `position`, which must lie before the end.
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
