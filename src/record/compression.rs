//! The compression codecs of record batches, behind one reader and one writer.
//!
//! Both sides stream: a reader holds at most a codec's own window plus the caller's buffer, and stops at the caller's
//! [`DecompressLimit`]. The formats of the codecs are described in `codec/`.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use super::codec::{gzip, lz4, snappy, zstd};
use super::{Error, Result};

/// Compression codec of a batch. The discriminants are the numbers in the attribute bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// Returns the codec with the number `id`, if there is one.
    pub fn from_id(id: u8) -> Option<Compression> {
        Self::ALL.get(usize::from(id)).copied()
    }

    pub fn id(self) -> u8 {
        self as u8
    }

    /// Returns Kafka's name of the codec.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is not one of Kafka's codec names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown compression {0:?}; allowed are none, gzip, snappy, lz4, zstd")]
pub struct UnknownCompression(pub String);

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> std::result::Result<Compression, UnknownCompression> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(|| UnknownCompression(name.to_owned()))
    }
}

/// Limit on the decompressed size of one batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecompressLimit {
    max_bytes: u64,
}

impl DecompressLimit {
    pub const fn bytes(max_bytes: u64) -> DecompressLimit {
        DecompressLimit { max_bytes }
    }

    pub fn max_bytes(self) -> u64 {
        self.max_bytes
    }
}

/// 128 MiB: sufficient for a full 1 MiB batch of text with a compression ratio of 100.
impl Default for DecompressLimit {
    fn default() -> DecompressLimit {
        DecompressLimit::bytes(128 << 20)
    }
}

/// Decompresses all of `input`.
pub fn decompress(codec: Compression, input: &[u8], limit: DecompressLimit) -> Result<Vec<u8>> {
    Decompressor::new(codec, input, limit)?.read_to_end()
}

/// Compresses all of `input`.
pub fn compress(codec: Compression, input: &[u8]) -> Result<Vec<u8>> {
    let mut compressor = Compressor::new(codec, Vec::new())?;
    compressor.write(input)?;
    compressor.finish()
}

/// Compresses all of `source` with `codec` at a level, appending to `out`.
pub(super) fn compress_from(
    mut source: Decompressor<'_>,
    codec: Compression,
    level: Option<i32>,
    out: Vec<u8>,
) -> Result<Vec<u8>> {
    let mut compressor = Compressor::at_level(codec, level, out)?;
    let mut buffer = vec![0; Decompressor::CHUNK_BYTES];
    loop {
        match source.read(&mut buffer)? {
            0 => return compressor.finish(),
            n => compressor.write(&buffer[..n])?,
        }
    }
}

/// Decompresses a slice, up to a limit.
pub(super) struct Decompressor<'a> {
    reader: Reader<'a>,
    /// Bytes that may still be produced.
    left: u64,
    limit: DecompressLimit,
}

enum Reader<'a> {
    None(&'a [u8]),
    Gzip(gzip::Reader<'a>),
    Snappy(snappy::Reader<'a>),
    Lz4(lz4::Reader<'a>),
    Zstd(zstd::Reader<'a>),
}

impl<'a> Decompressor<'a> {
    const CHUNK_BYTES: usize = 64 * 1024;

    pub(super) fn new(
        codec: Compression,
        input: &'a [u8],
        limit: DecompressLimit,
    ) -> Result<Decompressor<'a>> {
        let reader = match codec {
            Compression::None => Reader::None(input),
            Compression::Gzip => Reader::Gzip(gzip::Reader::new(input)),
            Compression::Snappy => Reader::Snappy(snappy::Reader::new(input, limit)),
            Compression::Lz4 => Reader::Lz4(lz4::Reader::new(input)),
            Compression::Zstd => Reader::Zstd(zstd::Reader::new(input)?),
        };
        Ok(Decompressor {
            reader,
            left: limit.max_bytes,
            limit,
        })
    }

    /// Reads into the front of `buffer`, which must not be empty. Returns 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = match &mut self.reader {
            Reader::None(rest) => {
                let n = rest.len().min(buffer.len());
                let (head, tail) = rest.split_at(n);
                buffer[..n].copy_from_slice(head);
                *rest = tail;
                n
            }
            Reader::Gzip(reader) => reader.read(buffer)?,
            Reader::Snappy(reader) => reader.read(buffer)?,
            Reader::Lz4(reader) => reader.read(buffer)?,
            Reader::Zstd(reader) => reader.read(buffer)?,
        };
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or(Error::DecompressedTooLarge {
                limit: self.limit.max_bytes,
            })?;
        Ok(n)
    }

    /// Reads to the end. The vector grows with the decompressed bytes, never with a size claimed by a header.
    pub(super) fn read_to_end(mut self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut filled = 0;
        loop {
            if filled == out.len() {
                out.resize((out.len() * 2).max(Self::CHUNK_BYTES), 0);
            }
            match self.read(&mut out[filled..])? {
                0 => {
                    out.truncate(filled);
                    out.shrink_to_fit();
                    return Ok(out);
                }
                n => filled += n,
            }
        }
    }
}

/// Compresses the bytes written to it, appending to a vector.
pub(super) enum Compressor {
    None(Vec<u8>),
    Gzip(gzip::Writer),
    Snappy(Box<snappy::Writer>),
    Lz4(lz4::Writer),
    Zstd(zstd::Writer),
}

impl Compressor {
    pub(super) fn new(codec: Compression, out: Vec<u8>) -> Result<Compressor> {
        Self::at_level(codec, None, out)
    }

    /// Creates a compressor with a level, or the codec's default for `None`. Only gzip and zstd have levels here.
    fn at_level(codec: Compression, level: Option<i32>, out: Vec<u8>) -> Result<Compressor> {
        Ok(match codec {
            Compression::None => Compressor::None(out),
            Compression::Gzip => Compressor::Gzip(gzip::writer(out, level)),
            Compression::Snappy => Compressor::Snappy(Box::new(snappy::Writer::new(out))),
            Compression::Lz4 => Compressor::Lz4(lz4::writer(out)),
            Compression::Zstd => Compressor::Zstd(zstd::writer(out, level)?),
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Compressor::None(out) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Compressor::Gzip(writer) => failed(Compression::Gzip, writer.write_all(bytes)),
            Compressor::Snappy(writer) => writer.write(bytes),
            Compressor::Lz4(writer) => failed(Compression::Lz4, writer.write_all(bytes)),
            Compressor::Zstd(writer) => failed(Compression::Zstd, writer.write_all(bytes)),
        }
    }

    pub(super) fn finish(self) -> Result<Vec<u8>> {
        match self {
            Compressor::None(out) => Ok(out),
            Compressor::Gzip(writer) => failed(Compression::Gzip, writer.finish()),
            Compressor::Snappy(writer) => writer.finish(),
            Compressor::Lz4(writer) => failed(Compression::Lz4, writer.finish()),
            Compressor::Zstd(writer) => failed(Compression::Zstd, writer.finish()),
        }
    }
}

fn failed<T, E: ToString>(codec: Compression, result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|error| Error::codec(codec, error))
}
