//! Snappy, in the two framings that Kafka clients send.
//!
//! *Raw*: one snappy block (librdkafka, Go clients). *xerial*, named after the author of snappy-java (Kafka's Java
//! clients): a header, then blocks of at most 32 KiB of input, each preceded by its compressed length.
//!
//! ```text
//!   0  82 53 4e 41 50 50 59 00   "\x82SNAPPY\0"
//!   8  version                   i32, 1
//!  12  lowest compatible version i32, 1
//!  16  compressed length         i32 ┐ repeated
//!  20  a raw snappy block            ┘
//! ```
//!
//! xerial streams may be concatenated: a header is then found where a length is expected. Both framings are read; xerial
//! is written, because every consumer reads it.

use crate::record::{Compression, DecompressLimit, Error, Result};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const HEADER_LEN: usize = 16;
const VERSION: i32 = 1;
/// snappy-java's default block size.
const BLOCK_BYTES: usize = 32 * 1024;
/// A copy element of three bytes produces at most 64, so no block has a higher expansion ratio.
const EXPANSION_MAX: u64 = 22;

pub(in crate::record) struct Reader<'a> {
    rest: &'a [u8],
    framing: Framing,
    block: Vec<u8>,
    /// Bytes of `block` already returned.
    taken: usize,
    /// Decompressed bytes of all blocks so far.
    produced: u64,
    limit: DecompressLimit,
}

#[derive(Clone, Copy, PartialEq)]
enum Framing {
    Raw,
    Xerial,
}

impl<'a> Reader<'a> {
    pub(in crate::record) fn new(input: &'a [u8], limit: DecompressLimit) -> Reader<'a> {
        let framing = if input.starts_with(&MAGIC) {
            Framing::Xerial
        } else {
            Framing::Raw
        };
        Reader {
            rest: input,
            framing,
            block: Vec::new(),
            taken: 0,
            produced: 0,
            limit,
        }
    }

    pub(in crate::record) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.taken == self.block.len() {
            let Some(block) = self.next_block()? else {
                return Ok(0);
            };
            self.decompress(block)?;
        }
        let n = buffer.len().min(self.block.len() - self.taken);
        buffer[..n].copy_from_slice(&self.block[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }

    fn next_block(&mut self) -> Result<Option<&'a [u8]>> {
        if self.framing == Framing::Raw {
            let block = std::mem::take(&mut self.rest);
            return Ok((!block.is_empty()).then_some(block));
        }
        while self.rest.starts_with(&MAGIC) {
            let header = self.take(HEADER_LEN)?;
            let (_, compatible) = header
                .split_last_chunk::<4>()
                .ok_or_else(|| invalid("header is truncated"))?;
            if i32::from_be_bytes(*compatible) > VERSION {
                return Err(invalid("framing has an unsupported version"));
            }
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (len, rest) = self
            .rest
            .split_first_chunk::<4>()
            .ok_or_else(|| invalid("block length is truncated"))?;
        self.rest = rest;
        let len = usize::try_from(i32::from_be_bytes(*len))
            .map_err(|_| invalid("block length is negative"))?;
        self.take(len).map(Some)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        if len > self.rest.len() {
            return Err(invalid("stream is truncated"));
        }
        let (head, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(head)
    }

    fn decompress(&mut self, block: &[u8]) -> Result<()> {
        let claimed = snap::raw::decompress_len(block).map_err(invalid)?;
        if claimed as u64 > block.len() as u64 * EXPANSION_MAX {
            return Err(invalid("block claims a larger size than it can expand to"));
        }
        self.produced += claimed as u64;
        if self.produced > self.limit.max_bytes() {
            return Err(Error::DecompressedTooLarge {
                limit: self.limit.max_bytes(),
            });
        }
        self.taken = 0;
        self.block.resize(claimed, 0);
        snap::raw::Decoder::new()
            .decompress(block, &mut self.block)
            .map_err(invalid)?;
        Ok(())
    }
}

pub(in crate::record) struct Writer {
    out: Vec<u8>,
    pending: Vec<u8>,
    encoder: snap::raw::Encoder,
}

impl Writer {
    pub(in crate::record) fn new(mut out: Vec<u8>) -> Writer {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&VERSION.to_be_bytes());
        Writer {
            out,
            pending: Vec::new(),
            encoder: snap::raw::Encoder::new(),
        }
    }

    pub(in crate::record) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.pending.is_empty() && bytes.len() >= BLOCK_BYTES {
                let (block, rest) = bytes.split_at(BLOCK_BYTES);
                put_block(&mut self.encoder, &mut self.out, block)?;
                bytes = rest;
                continue;
            }
            let n = bytes.len().min(BLOCK_BYTES - self.pending.len());
            let (head, rest) = bytes.split_at(n);
            self.pending.extend_from_slice(head);
            bytes = rest;
            if self.pending.len() == BLOCK_BYTES {
                put_block(&mut self.encoder, &mut self.out, &self.pending)?;
                self.pending.clear();
            }
        }
        Ok(())
    }

    pub(in crate::record) fn finish(mut self) -> Result<Vec<u8>> {
        if !self.pending.is_empty() {
            put_block(&mut self.encoder, &mut self.out, &self.pending)?;
        }
        Ok(self.out)
    }
}

fn put_block(encoder: &mut snap::raw::Encoder, out: &mut Vec<u8>, block: &[u8]) -> Result<()> {
    let length_at = out.len();
    let start = length_at + 4;
    out.resize(start + snap::raw::max_compress_len(block.len()), 0);
    let len = encoder
        .compress(block, &mut out[start..])
        .map_err(invalid)?;
    out.truncate(start + len);
    out[length_at..start].copy_from_slice(&(len as u32).to_be_bytes());
    Ok(())
}

fn invalid(reason: impl ToString) -> Error {
    Error::codec(Compression::Snappy, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_claims_gigabytes_is_rejected_before_allocation() {
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        let mut xerial = Writer::new(Vec::new()).finish().unwrap();
        xerial.extend_from_slice(&6i32.to_be_bytes());
        xerial.extend_from_slice(&claim);
        for input in [&claim[..], &xerial] {
            let mut reader = Reader::new(input, DecompressLimit::bytes(u64::MAX));
            assert!(reader.read(&mut [0; 16]).is_err());
            assert_eq!(reader.block.capacity(), 0);
        }
    }

    #[test]
    fn framing_with_false_lengths_or_versions_is_rejected() {
        let header = Writer::new(Vec::new()).finish().unwrap();
        let mut later = header.clone();
        later[15] = 2;
        let with_length = |len: i32| [&header[..], &len.to_be_bytes(), b"abc"].concat();
        for input in [
            later,
            with_length(4),
            with_length(-1),
            with_length(i32::MAX),
            header[..12].to_vec(),
        ] {
            let mut reader = Reader::new(&input, DecompressLimit::default());
            assert!(reader.read(&mut [0; 16]).is_err());
        }
        assert_eq!(
            Reader::new(&header, DecompressLimit::default()).read(&mut [0; 16]),
            Ok(0)
        );
    }

    #[test]
    fn input_is_split_into_blocks_of_the_default_size() {
        let mut writer = Writer::new(Vec::new());
        for chunk in vec![7u8; 100_000].chunks(30_000) {
            writer.write(chunk).unwrap();
        }
        let out = writer.finish().unwrap();
        let mut reader = Reader::new(&out, DecompressLimit::default());
        let mut sizes = Vec::new();
        while let Some(block) = reader.next_block().unwrap() {
            sizes.push(snap::raw::decompress_len(block).unwrap());
        }
        assert_eq!(sizes, [32_768, 32_768, 32_768, 1_696]);
    }
}
