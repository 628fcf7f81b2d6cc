//! LZ4 frames, as in batches of format v2. Those of older formats had a wrong header checksum and are not read.
//!
//! ```text
//!  magic 04 22 4d 18 │ FLG │ BD │ content size (8, if flagged) │ header checksum
//!  block length (u32 LE, bit 31: uncompressed) │ block │ block checksum (4, if flagged)   … repeated
//!  end mark 00 00 00 00 │ content checksum (4, if flagged)
//! ```
//!
//! Frames may be concatenated. The frame layer is parsed here and not by the library, because the library's reader takes
//! the end of input within a frame for the end of the frame, and allocates twice the largest block (megabytes) because a
//! header says so. This reader allocates what a block's own length can expand to. The writer emits independent blocks of
//! 64 KiB without checksums, because the batch has its own checksum.
//!
//! Kafka's reader, which Java clients use, supports less of the format: one frame with independent blocks. The reader
//! here supports all of it, so that any log can be inspected, but [`check_readable_by_kafka`] rejects data that must not
//! get into a log because consumers would stop at it.
//!
//! The format: <https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>.

use std::hash::Hasher;

use lz4_flex::block::{decompress_into, decompress_into_with_dict};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use twox_hash::XxHash32;

use crate::record::{Compression, Error, Result};

const MAGIC: u32 = 0x184d_2204;
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;

const VERSION_MASK: u8 = 0b1100_0000;
const VERSION: u8 = 0b0100_0000;
const INDEPENDENT_BLOCKS: u8 = 1 << 5;
const BLOCK_CHECKSUM: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const FLG_RESERVED: u8 = 1 << 1;
const DICTIONARY_ID: u8 = 1;
const BD_RESERVED: u8 = 0b1000_1111;

const STORED: u32 = 1 << 31;
/// Maximum distance of a back-reference in linked blocks.
const WINDOW_BYTES: usize = 64 * 1024;
/// Each byte of a block extends a match by at most 255 bytes.
const EXPANSION_MAX: usize = 255;

pub(in crate::record) struct Reader<'a> {
    rest: &'a [u8],
    frame: Option<Frame>,
    /// The current block, preceded in frames of linked blocks by the last 64 KiB of output.
    out: Vec<u8>,
    /// Bytes of `out` already returned.
    taken: usize,
}

/// State of the frame being read.
struct Frame {
    flags: u8,
    block_bytes_max: usize,
    content_size: Option<u64>,
    content_len: u64,
    content_hash: XxHash32,
}

impl Frame {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl<'a> Reader<'a> {
    pub(in crate::record) fn new(input: &'a [u8]) -> Reader<'a> {
        Reader {
            rest: input,
            frame: None,
            out: Vec::new(),
            taken: 0,
        }
    }

    pub(in crate::record) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.taken == self.out.len() {
            match self.frame.take() {
                Some(frame) => self.frame = self.next_block(frame)?,
                None if self.rest.is_empty() => return Ok(0),
                None => self.frame = self.next_frame()?,
            }
        }
        let n = buffer.len().min(self.out.len() - self.taken);
        buffer[..n].copy_from_slice(&self.out[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }

    /// Reads a frame header. Returns `None` after skipping a skippable frame.
    fn next_frame(&mut self) -> Result<Option<Frame>> {
        let magic = self.u32()?;
        if SKIPPABLE.contains(&magic) {
            let len = self.u32()? as usize;
            self.take(len)?;
            return Ok(None);
        }
        if magic != MAGIC {
            return Err(invalid("frame magic is missing"));
        }
        let descriptor = self.rest;
        let flags = self.take(1)?[0];
        let block_descriptor = self.take(1)?[0];
        if flags & VERSION_MASK != VERSION
            || flags & FLG_RESERVED != 0
            || block_descriptor & BD_RESERVED != 0
        {
            return Err(invalid("frame header has unknown bits"));
        }
        if flags & DICTIONARY_ID != 0 {
            return Err(invalid("frame needs a dictionary"));
        }
        let block_bytes_max = match block_descriptor >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(invalid("frame header has an unknown block size")),
        };
        let content_size = match flags & CONTENT_SIZE {
            0 => None,
            _ => Some(u64::from(self.u32()?) | u64::from(self.u32()?) << 32),
        };
        let descriptor = &descriptor[..descriptor.len() - self.rest.len()];
        let checksum = self.take(1)?[0];
        if checksum != (XxHash32::oneshot(0, descriptor) >> 8) as u8 {
            return Err(invalid("header checksum mismatch"));
        }
        self.out.clear();
        self.taken = 0;
        Ok(Some(Frame {
            flags,
            block_bytes_max,
            content_size,
            content_len: 0,
            content_hash: XxHash32::with_seed(0),
        }))
    }

    /// Decodes the next block of the frame into `out`. Returns `None` at the end of the frame.
    fn next_block(&mut self, mut frame: Frame) -> Result<Option<Frame>> {
        let length = self.u32()?;
        if length == 0 {
            return self.end_frame(&frame).map(|()| None);
        }
        let block = self.take((length & !STORED) as usize)?;
        if block.len() > frame.block_bytes_max {
            return Err(invalid("block is larger than its frame allows"));
        }
        if frame.has(BLOCK_CHECKSUM) && self.u32()? != XxHash32::oneshot(0, block) {
            return Err(invalid("block checksum mismatch"));
        }

        let window = if frame.has(INDEPENDENT_BLOCKS) {
            0
        } else {
            self.out.len().min(WINDOW_BYTES)
        };
        self.out.drain(..self.out.len() - window);
        if length & STORED != 0 {
            self.out.extend_from_slice(block);
        } else {
            let room = frame.block_bytes_max.min(block.len() * EXPANSION_MAX);
            self.out.resize(window + room, 0);
            let (dictionary, room) = self.out.split_at_mut(window);
            let n = match window {
                0 => decompress_into(block, room),
                _ => decompress_into_with_dict(block, room, dictionary),
            }
            .map_err(invalid)?;
            self.out.truncate(window + n);
        }
        self.taken = window;

        let content = &self.out[window..];
        frame.content_len += content.len() as u64;
        if frame.has(CONTENT_CHECKSUM) {
            frame.content_hash.write(content);
        }
        Ok(Some(frame))
    }

    /// Skips the rest of a frame.
    fn skip_blocks(&mut self, frame: &Frame) -> Result<()> {
        loop {
            match self.u32()? & !STORED {
                0 if frame.has(CONTENT_CHECKSUM) => return self.u32().map(|_| ()),
                0 => return Ok(()),
                length => self.take(length as usize)?,
            };
            if frame.has(BLOCK_CHECKSUM) {
                self.u32()?;
            }
        }
    }

    fn end_frame(&mut self, frame: &Frame) -> Result<()> {
        if frame.has(CONTENT_CHECKSUM) && self.u32()? != frame.content_hash.finish_32() {
            return Err(invalid("content checksum mismatch"));
        }
        match frame.content_size {
            Some(size) if size != frame.content_len => Err(invalid("content size mismatch")),
            _ => Ok(()),
        }
    }

    fn u32(&mut self) -> Result<u32> {
        let (number, rest) = self
            .rest
            .split_first_chunk::<4>()
            .ok_or_else(|| invalid("frame is truncated"))?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*number))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        if len > self.rest.len() {
            return Err(invalid("frame is truncated"));
        }
        let (head, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(head)
    }
}

/// Rejects data that Kafka's clients cannot read. Looks only at the frame header and the block lengths, and does not
/// decode the blocks.
pub(in crate::record) fn check_readable_by_kafka(input: &[u8]) -> Result<()> {
    let mut reader = Reader::new(input);
    let Some(frame) = reader.next_frame()? else {
        return Err(invalid(
            "it starts with a skippable frame, which Kafka clients cannot read; send the records in one frame",
        ));
    };
    if !frame.has(INDEPENDENT_BLOCKS) {
        return Err(invalid(
            "its blocks are linked, which Kafka clients cannot read; \
             configure the producer's LZ4 library for independent (not linked) blocks",
        ));
    }
    reader.skip_blocks(&frame)?;
    match reader.rest.is_empty() {
        true => Ok(()),
        false => Err(invalid(
            "it has more than one frame, which Kafka clients cannot read; send all records in one frame",
        )),
    }
}

pub(in crate::record) type Writer = FrameEncoder<Vec<u8>>;

pub(in crate::record) fn writer(out: Vec<u8>) -> Writer {
    let info = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB);
    FrameEncoder::with_frame_info(info, out)
}

fn invalid(reason: impl ToString) -> Error {
    Error::codec(Compression::Lz4, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{DecompressLimit, decompress};

    fn frame(flags: u8, block_descriptor: u8, body: &[u8]) -> Vec<u8> {
        let descriptor = [flags, block_descriptor];
        let mut out = MAGIC.to_le_bytes().to_vec();
        out.extend_from_slice(&descriptor);
        out.push((XxHash32::oneshot(0, &descriptor) >> 8) as u8);
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn memory_depends_on_the_blocks_and_not_on_the_maximum_block_size() {
        let body = [
            3, 0, 0, 0x80, b'a', b'b', b'c', 2, 0, 0, 0, 0x10, b'd', 0, 0, 0, 0,
        ];
        let input = frame(VERSION | INDEPENDENT_BLOCKS, 7 << 4, &body);
        let mut reader = Reader::new(&input);
        let mut buffer = [0; 16];
        assert_eq!(reader.read(&mut buffer).unwrap(), 3);
        assert_eq!(reader.read(&mut buffer).unwrap(), 1);
        assert_eq!(reader.read(&mut buffer).unwrap(), 0);
        assert!(reader.out.capacity() < 2_000);
    }

    #[test]
    fn a_frame_without_an_end_mark_is_rejected() {
        let input = frame(VERSION | INDEPENDENT_BLOCKS, 4 << 4, &[1, 0, 0, 0x80, b'a']);
        let mut reader = Reader::new(&input);
        assert_eq!(reader.read(&mut [0; 16]).unwrap(), 1);
        assert!(reader.read(&mut [0; 16]).is_err());
    }

    #[test]
    fn a_block_length_beyond_the_input_is_rejected() {
        let input = frame(VERSION, 7 << 4, &[0xff, 0xff, 0xff, 0x7f, 0]);
        assert!(Reader::new(&input).read(&mut [0; 16]).is_err());
    }

    #[test]
    fn only_one_frame_of_independent_blocks_is_readable_by_kafka() {
        let text = b"independent of one another ".repeat(10_000);
        let compressed = |mode, checksums| {
            let info = FrameInfo::new()
                .block_mode(mode)
                .block_checksums(checksums)
                .content_checksum(checksums);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            std::io::Write::write_all(&mut encoder, &text).unwrap();
            encoder.finish().unwrap()
        };
        let good = compressed(BlockMode::Independent, false);
        let linked = compressed(BlockMode::Linked, false);
        let skippable = [&SKIPPABLE.start().to_le_bytes()[..], &[0; 4], &good].concat();
        check_readable_by_kafka(&good).unwrap();
        check_readable_by_kafka(&compressed(BlockMode::Independent, true)).unwrap();
        for (input, remedy) in [
            (&linked, "independent"),
            (&[&good[..], &good].concat(), "in one frame"),
            (&skippable, "one frame"),
        ] {
            let refusal = check_readable_by_kafka(input).unwrap_err().to_string();
            assert!(refusal.contains(remedy), "{refusal}");
            // The reader itself accepts it.
            let limit = DecompressLimit::default();
            assert!(
                decompress(Compression::Lz4, input, limit)
                    .unwrap()
                    .starts_with(&text)
            );
        }
        for len in 0..good.len() {
            assert!(check_readable_by_kafka(&good[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn dictionaries_unknown_bits_and_wrong_header_checksums_are_rejected() {
        for (flags, block_descriptor) in [
            (VERSION | DICTIONARY_ID, 4 << 4),
            (VERSION | FLG_RESERVED, 4 << 4),
            (0, 4 << 4),
            (VERSION, 3 << 4),
            (VERSION, 4 << 4 | 1),
        ] {
            let input = frame(flags, block_descriptor, &[0; 8]);
            assert!(Reader::new(&input).read(&mut [0; 1]).is_err());
        }
        let mut input = frame(VERSION, 4 << 4, &[0; 4]);
        assert_eq!(Reader::new(&input).read(&mut [0; 1]), Ok(0));
        input[6] ^= 1;
        assert!(Reader::new(&input).read(&mut [0; 1]).is_err());
    }
}
