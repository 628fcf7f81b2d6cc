//! gzip (RFC 1952): one or more members, as Java's `GZIPOutputStream` and zlib write them.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::record::{Compression, Error, Result};

pub(in crate::record) struct Reader<'a> {
    decoder: MultiGzDecoder<&'a [u8]>,
}

impl<'a> Reader<'a> {
    pub(in crate::record) fn new(input: &'a [u8]) -> Reader<'a> {
        Reader {
            decoder: MultiGzDecoder::new(input),
        }
    }

    pub(in crate::record) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.decoder
            .read(buffer)
            .map_err(|error| Error::codec(Compression::Gzip, error))
    }
}

pub(in crate::record) type Writer = GzEncoder<Vec<u8>>;

/// Creates a writer with a level from 1 to 9. The default is 6, as in Kafka.
pub(in crate::record) fn writer(out: Vec<u8>, level: Option<i32>) -> Writer {
    let level = level.and_then(|level| u32::try_from(level).ok());
    let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
    GzEncoder::new(out, level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_a_trailer_or_with_a_wrong_checksum_is_rejected() {
        let whole = crate::record::compress(Compression::Gzip, b"some text").unwrap();
        let read = |input: &[u8]| -> Result<usize> {
            let mut reader = Reader::new(input);
            let mut total = 0;
            loop {
                match reader.read(&mut [0; 64])? {
                    0 => return Ok(total),
                    n => total += n,
                }
            }
        };
        assert_eq!(read(&whole), Ok(9));
        assert!(read(&whole[..whole.len() - 1]).is_err());
        let mut damaged = whole.clone();
        damaged[whole.len() - 5] ^= 1;
        assert!(read(&damaged).is_err());
        let mut trailing = whole;
        trailing.extend_from_slice(b"more");
        assert!(read(&trailing).is_err());
    }
}
