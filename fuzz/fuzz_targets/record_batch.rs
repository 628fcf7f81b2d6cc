//! Arbitrary bytes as a batch: first unchanged, then with valid length, magic and CRC, so that the records are parsed.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use streamline::record::{Compression, DecompressLimit, Error, RecordBatch};

const LIMIT: DecompressLimit = DecompressLimit::bytes(4 << 20);

fuzz_target!(|data: &[u8]| {
    if let Ok(batches) = RecordBatch::split(Bytes::copy_from_slice(data)) {
        let total: usize = batches.iter().map(RecordBatch::size_bytes).sum();
        assert_eq!(total, data.len());
    }
    if data.len() < 61 {
        return;
    }
    let mut bytes = data.to_vec();
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    bytes[21] = 0;
    bytes[22] &= 0x7f;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());

    let Ok(batch) = RecordBatch::parse_stored(bytes.into()) else {
        return;
    };
    let valid = batch.validate_records(LIMIT);
    let records: Result<Vec<_>, Error> = batch.records(LIMIT).and_then(Iterator::collect);
    assert_eq!(valid.is_ok(), records.is_ok(), "{valid:?}");
    if batch.compression() == Compression::None {
        // Validation takes a short path for common records, iteration does not. Both give the same reason.
        assert_eq!(valid.as_ref().err(), records.as_ref().err());
    }
    if let Ok(records) = records {
        assert_eq!(records.len(), batch.header().record_count as usize);
        let stamped = batch.with_log_append_time(1);
        assert!(RecordBatch::parse_stored(stamped.bytes().clone()).is_ok());
        if let Ok(plain) = batch.recompress(Compression::None, None, LIMIT) {
            let again: Result<Vec<_>, Error> = plain.records(LIMIT).and_then(Iterator::collect);
            assert_eq!(again.as_ref(), Ok(&records));
        }
    }
});
