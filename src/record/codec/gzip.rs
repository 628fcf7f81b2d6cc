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

/// Level 6, as Kafka's own default.
pub(in crate::record) fn writer(out: Vec<u8>) -> Writer {
    GzEncoder::new(out, flate2::Compression::default())
}
