//! Property tests: random batches through builder, parser, codecs and corruption.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn blob(max: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![
        vec(any::<u8>(), 0..max.min(64)),
        (any::<u8>(), 0..max).prop_map(|(byte, len)| vec![byte; len]),
    ]
    .prop_map(Bytes::from)
}

fn record() -> impl Strategy<Value = Record> {
    let header = (blob(20), option::of(blob(40))).prop_map(|(key, value)| Header { key, value });
    (
        prop_oneof![Just(-1), 0..1i64 << 45, Just(i64::MAX)],
        option::of(blob(100)),
        option::of(blob(70_000)),
        vec(header, 0..4),
    )
        .prop_map(|(timestamp_ms, key, value, headers)| Record {
            offset: 0,
            timestamp_ms,
            key,
            value,
            headers,
        })
}

fn codec() -> impl Strategy<Value = Compression> {
    proptest::sample::select(&Compression::ALL[..])
}

fn build(codec: Compression, base_offset: i64, records: &[Record]) -> RecordBatch {
    let mut builder = BatchBuilder::new(codec).base_offset(base_offset);
    for record in records {
        builder.push(
            record.timestamp_ms,
            record.key.as_deref(),
            record.value.as_deref(),
            &record.headers,
        );
    }
    builder.build().unwrap()
}

fn read(batch: &RecordBatch) -> Result<Vec<Record>> {
    batch.records(DecompressLimit::default())?.collect()
}

/// Corrects the length and the CRC of a batch whose bytes were changed.
fn reseal(bytes: &mut [u8]) {
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Records whose numbers have one to four bytes.
fn small_record() -> impl Strategy<Value = Record> {
    let header = (blob(8), option::of(blob(8))).prop_map(|(key, value)| Header { key, value });
    (
        prop_oneof![Just(1_000), 0..100i64, 0..1i64 << 24],
        option::of(blob(20)),
        option::of(prop_oneof![9 => blob(20), 1 => blob(300)]),
        vec(header, 0..3),
    )
        .prop_map(|(timestamp_ms, key, value, headers)| Record {
            offset: 0,
            timestamp_ms,
            key,
            value,
            headers,
        })
}

fn summary_of(records: &[Record]) -> RecordsSummary {
    let timestamps = || records.iter().map(|record| record.timestamp_ms);
    RecordsSummary {
        max_timestamp: timestamps().max().unwrap_or(-1).max(-1),
        min_timestamp: timestamps().min().unwrap_or(-1),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn built_records_are_read_back(
        codec in codec(),
        other in codec(),
        base_offset in 0..i64::MAX / 2,
        mut records in vec(record(), 1..20),
    ) {
        let built = build(codec, base_offset, &records);
        for (record, offset) in records.iter_mut().zip(base_offset..) {
            record.offset = offset;
        }
        let batch = RecordBatch::parse(built.bytes().clone()).unwrap();
        prop_assert_eq!(read(&batch).unwrap(), records.clone());
        let summary = batch.validate_records(DecompressLimit::default()).unwrap();
        let latest = records.iter().map(|record| record.timestamp_ms).max().unwrap();
        prop_assert_eq!(summary.max_timestamp, latest);
        prop_assert_eq!(batch.header().max_timestamp, latest);
        let earliest = records.iter().map(|record| record.timestamp_ms).min().unwrap();
        prop_assert_eq!(summary.min_timestamp, earliest);

        let recompressed = batch.recompress(other, None, DecompressLimit::default()).unwrap();
        prop_assert_eq!(read(&recompressed).unwrap(), records);
    }

    #[test]
    fn corrupt_compressed_records_under_a_valid_crc_never_panic(
        codec in codec(),
        records in vec(record(), 1..5),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in option::of(any::<prop::sample::Index>()),
    ) {
        let batch = build(codec, 0, &records);
        let mut bytes = batch.bytes().to_vec();
        if let Some(cut) = cut {
            bytes.truncate(BatchHeader::LEN + cut.index(bytes.len() - BatchHeader::LEN));
        }
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        reseal(&mut bytes);
        if let Ok(batch) = RecordBatch::parse_stored(bytes.into()) {
            let limit = DecompressLimit::bytes(10 << 20);
            // Validation and iteration must agree, because iteration relies on an earlier validation.
            let valid = batch.validate_records(limit);
            let all: Result<Vec<_>> = batch.records(limit).and_then(Iterator::collect);
            prop_assert_eq!(valid.is_ok(), all.is_ok(), "{:?} {:?}", valid, all.map(|_| ()));
        }
    }

    #[test]
    fn validation_and_iteration_find_the_same_defect(
        records in vec(small_record(), 1..150),
        log_append_time in any::<bool>(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in option::of(any::<prop::sample::Index>()),
        last_offset_delta in option::of(0..200),
    ) {
        let mut batch = build(Compression::None, 7, &records);
        if log_append_time {
            batch = batch.with_log_append_time(5);
        }
        let mut bytes = batch.bytes().to_vec();
        let payload_len = bytes.len() - BatchHeader::LEN;
        for (at, byte) in edits {
            bytes[BatchHeader::LEN + at.index(payload_len)] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(BatchHeader::LEN + cut.index(payload_len));
        }
        if let Some(delta) = last_offset_delta {
            bytes[23..27].copy_from_slice(&i32::to_be_bytes(delta));
        }
        reseal(&mut bytes);
        if let Ok(batch) = RecordBatch::parse_stored(bytes.into()) {
            // Validation takes a short path for common records, iteration does not.
            let limit = DecompressLimit::default();
            prop_assert_eq!(batch.validate_records(limit), read(&batch).map(|read| summary_of(&read)));
        }
    }

    #[test]
    fn random_bytes_never_panic_a_decompressor(codec in codec(), bytes in vec(any::<u8>(), 0..300)) {
        let _ = decompress(codec, &bytes, DecompressLimit::bytes(1 << 20));
    }

    #[test]
    fn texts_round_trip_through_every_codec(codec in codec(), parts in vec(blob(200_000), 0..4)) {
        let text = parts.concat();
        let compressed = compress(codec, &text).unwrap();
        let limit = DecompressLimit::bytes(text.len() as u64);
        prop_assert_eq!(decompress(codec, &compressed, limit).unwrap(), text);
    }
}
