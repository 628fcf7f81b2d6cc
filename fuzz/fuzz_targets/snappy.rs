//! Arbitrary bytes as snappy data: no panic, no output above the limit, and our own compressed data round-trips.

#![no_main]

use libfuzzer_sys::fuzz_target;
use streamline::record::{Compression, DecompressLimit, compress, decompress};

const LIMIT: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    if let Ok(output) = decompress(Compression::Snappy, data, DecompressLimit::bytes(LIMIT)) {
        assert!(output.len() as u64 <= LIMIT);
    }
    let compressed = compress(Compression::Snappy, data).expect("anything can be compressed");
    let limit = DecompressLimit::bytes(data.len() as u64);
    assert_eq!(
        decompress(Compression::Snappy, &compressed, limit).as_deref(),
        Ok(data)
    );
});
