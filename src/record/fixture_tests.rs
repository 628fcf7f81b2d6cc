//! Tests with batches and compressed texts written by other programs, as described in `tests/fixtures/README.md`.

use std::path::PathBuf;

use bytes::Bytes;

use super::*;

const TIME: i64 = 1_700_000_000_000;

fn fixture(path: &str) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(path);
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into()
}

fn batch(name: &str) -> RecordBatch {
    RecordBatch::parse(fixture(&format!("record_batches/{name}.bin"))).unwrap()
}

fn records(batch: &RecordBatch) -> Vec<Record> {
    let limit = DecompressLimit::default();
    let summary = batch.validate_records(limit).unwrap();
    let records: Vec<_> = batch.records(limit).unwrap().map(Result::unwrap).collect();
    assert_eq!(
        summary.max_timestamp,
        records
            .iter()
            .map(|record| record.timestamp_ms)
            .max()
            .unwrap()
    );
    records
}

/// Record `i` of `GenerateBatches.small`.
fn small(i: i64) -> Record {
    let header = |j: i64| Header {
        key: format!("h{j}").into(),
        value: (j != 1).then(|| Bytes::from(vec![i as u8, j as u8])),
    };
    Record {
        offset: 1234 + i,
        timestamp_ms: TIME + i * 7 - i % 3 * 11,
        key: (i % 4 != 0).then(|| format!("key-{i}").into()),
        value: (i % 5 != 3).then(|| format!("value-{i};").repeat((i * 37 % 97) as usize).into()),
        headers: (0..i % 3).map(header).collect(),
    }
}

/// Value `i` of `GenerateBatches.large`. All three are the text of `generate_codecs.py`.
fn large(i: usize) -> Vec<u8> {
    let byte = |k: usize| {
        (if k.is_multiple_of(97) {
            k * 31
        } else {
            k / 1000 * 7 + i
        }) as u8
    };
    (0..40_000).map(byte).collect()
}

#[test]
fn small_batches_of_the_java_client_are_read_in_every_codec() {
    for codec in Compression::ALL {
        let batch = batch(codec.name());
        let header = batch.header();
        assert_eq!(batch.compression(), codec);
        assert_eq!((header.base_offset, header.last_offset()), (1234, 1253));
        assert_eq!(header.partition_leader_epoch, 5);
        assert_eq!(
            (
                header.producer_id,
                header.producer_epoch,
                header.base_sequence
            ),
            (42, 3, 17)
        );
        assert_eq!(
            header.attributes.timestamp_type(),
            TimestampType::CreateTime
        );
        assert_eq!(
            records(&batch),
            (0..20).map(small).collect::<Vec<_>>(),
            "{codec}"
        );
    }
}

#[test]
fn large_batches_of_the_java_client_span_several_blocks_and_are_read() {
    for codec in &Compression::ALL[1..] {
        let values: Vec<_> = records(&batch(&format!("large-{codec}")))
            .into_iter()
            .map(|record| record.value.unwrap())
            .collect();
        assert_eq!(values, (0..3).map(large).collect::<Vec<_>>(), "{codec}");
    }
}

#[test]
fn the_builder_produces_the_same_bytes_as_the_java_client() {
    let mut builder = BatchBuilder::new(Compression::None)
        .base_offset(1234)
        .leader_epoch(5)
        .producer(42, 3, 17);
    for i in 0..20 {
        let record = small(i);
        builder.push(
            record.timestamp_ms,
            record.key.as_deref(),
            record.value.as_deref(),
            &record.headers,
        );
    }
    assert_eq!(builder.build().unwrap(), batch("none"));
}

#[test]
fn log_append_time_overrides_record_timestamps() {
    let batch = batch("log-append-time");
    assert_eq!(
        batch.header().attributes.timestamp_type(),
        TimestampType::LogAppendTime
    );
    for record in records(&batch) {
        assert_eq!(record.timestamp_ms, TIME + 99);
    }
}

#[test]
fn transactional_batches_and_markers_of_the_java_client_are_parsed() {
    let data = batch("transactional");
    assert!(data.header().attributes.is_transactional());
    assert!(!data.header().attributes.is_control());
    for (name, expected) in [
        ("commit-marker", ControlType::Commit),
        ("abort-marker", ControlType::Abort),
    ] {
        let marker = batch(name);
        assert!(marker.header().attributes.is_transactional());
        assert!(marker.header().attributes.is_control());
        let records = records(&marker);
        let control = ControlRecord::of(&records[0]).unwrap();
        assert_eq!(control.control_type, expected);
        let epoch = control.coordinator_epoch.unwrap();
        let ours = ControlRecord::end_of_transaction(expected, epoch);
        assert_eq!(records[0].key.as_deref(), Some(&ours.to_key()[..]));
        assert_eq!(records[0].value.as_deref(), Some(&ours.to_value()[..]));
    }
}

#[test]
fn a_batch_emptied_by_compaction_is_valid_in_a_log_but_not_from_a_producer() {
    let bytes = fixture("record_batches/empty-after-compaction.bin");
    assert!(RecordBatch::parse(bytes.clone()).is_err());
    let batch = RecordBatch::parse_stored(bytes).unwrap();
    assert_eq!(batch.header().record_count, 0);
    assert_eq!(batch.header().next_offset(), 1254);
    assert_eq!(
        batch.records(DecompressLimit::default()).unwrap().count(),
        0
    );
    batch.validate_records(DecompressLimit::default()).unwrap();
}

const CODECS: [(&str, Compression); 10] = [
    ("gzip-two-members.gz", Compression::Gzip),
    ("snappy-raw.snappy", Compression::Snappy),
    ("snappy-xerial-concatenated.snappy", Compression::Snappy),
    ("lz4-linked-checksums.lz4", Compression::Lz4),
    ("lz4-independent-size.lz4", Compression::Lz4),
    ("lz4-large-blocks.lz4", Compression::Lz4),
    ("lz4-two-frames-and-a-skippable.lz4", Compression::Lz4),
    ("zstd-size-known.zst", Compression::Zstd),
    ("zstd-streamed-level-22.zst", Compression::Zstd),
    ("zstd-two-frames.zst", Compression::Zstd),
];

#[test]
fn every_compressed_form_used_by_clients_is_read() {
    let text: Vec<u8> = (0..3).flat_map(large).collect();
    for (name, codec) in CODECS {
        let input = fixture(&format!("codecs/{name}"));
        let output = decompress(codec, &input, DecompressLimit::bytes(text.len() as u64));
        assert!(output.is_ok_and(|output| output == text), "{name}");
    }
}

#[test]
fn output_above_the_limit_is_rejected_in_every_form() {
    for (name, codec) in CODECS {
        let input = fixture(&format!("codecs/{name}"));
        for limit in [0, 1, 119_999] {
            assert_eq!(
                decompress(codec, &input, DecompressLimit::bytes(limit)),
                Err(Error::DecompressedTooLarge { limit }),
                "{name}"
            );
        }
    }
}

#[test]
fn truncated_compressed_data_is_rejected() {
    let text: Vec<u8> = (0..3).flat_map(large).collect();
    for (name, codec) in CODECS {
        let input = fixture(&format!("codecs/{name}"));
        for len in (0..input.len())
            .step_by(61)
            .chain(input.len() - 9..input.len())
        {
            let output = decompress(codec, &input[..len], DecompressLimit::default());
            assert_ne!(output.as_ref(), Ok(&text), "{name} cut to {len}");
        }
    }
}
