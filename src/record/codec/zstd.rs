//! Zstandard (RFC 8878): one or more frames.
//!
//! The window size in the frame header decides how much memory the decoder reserves. The usual limit of 128 MiB applies,
//! because producers may compress at the highest levels. The memory becomes resident only as output fills it, so a
//! false header costs nothing.

use std::io::{Read, Write};

use zstd::stream::read::Decoder;
use zstd::stream::write::Encoder;

use crate::record::{Compression, Error, Result};

/// Accepts windows of up to 2²⁷ bytes, the default limit of zstd decoders.
const WINDOW_LOG_MAX: u32 = 27;
/// Kafka's default level.
const LEVEL: i32 = 3;

pub(in crate::record) struct Reader<'a> {
    decoder: Decoder<'static, &'a [u8]>,
}

impl<'a> Reader<'a> {
    pub(in crate::record) fn new(input: &'a [u8]) -> Result<Reader<'a>> {
        let mut decoder = Decoder::with_buffer(input).map_err(invalid)?;
        decoder.window_log_max(WINDOW_LOG_MAX).map_err(invalid)?;
        Ok(Reader { decoder })
    }

    pub(in crate::record) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.decoder.read(buffer).map_err(invalid)
    }
}

pub(in crate::record) struct Writer {
    encoder: Encoder<'static, Vec<u8>>,
}

pub(in crate::record) fn writer(out: Vec<u8>, level: Option<i32>) -> Result<Writer> {
    let encoder = Encoder::new(out, level.unwrap_or(LEVEL)).map_err(invalid)?;
    Ok(Writer { encoder })
}

impl Writer {
    pub(in crate::record) fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.encoder.write_all(bytes)
    }

    pub(in crate::record) fn finish(self) -> std::io::Result<Vec<u8>> {
        self.encoder.finish()
    }
}

fn invalid(error: std::io::Error) -> Error {
    Error::codec(Compression::Zstd, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_above_the_limit_are_rejected() {
        for (exponent, accepted) in [(17, true), (18, false), (31, false)] {
            // Magic, a descriptor without flags, the window (2^(10 + exponent)), a last raw block of one byte.
            let input = [0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 0b1001, 0, 0, b'x'];
            let mut buffer = [0; 16];
            let read = Reader::new(&input).unwrap().read(&mut buffer);
            assert_eq!(read.is_ok(), accepted, "{read:?}");
        }
    }

    #[test]
    fn a_truncated_frame_is_an_error() {
        let input = [0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0b1001, 0, 0];
        assert!(Reader::new(&input).unwrap().read(&mut [0; 16]).is_err());
    }
}
