//! Cost of record batches: parsing, validation, iteration, and compression and decompression by each codec.
//!
//! `cargo bench --bench record`

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use streamline::record::{
    BatchBuilder, Compression, DecompressLimit, RecordBatch, compress, decompress,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Generates text from a small vocabulary, which compresses like JSON or log lines.
fn text(len: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = [
        "\"user\":",
        "\"order\":",
        "shipped ",
        "pending ",
        "eu-west-1 ",
        "{}, ",
        "42 ",
        "null ",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut out = Vec::with_capacity(len + 16);
    while out.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let word = state >> 33;
        out.extend_from_slice(WORDS[word as usize % WORDS.len()].as_bytes());
        out.extend_from_slice(&(word % 1_000).to_string().into_bytes());
    }
    out.truncate(len);
    out
}

/// Builds a batch of about `size` bytes in records of `record` bytes.
fn batch(size: usize, record: usize, codec: Compression) -> RecordBatch {
    let text = text(size);
    let mut builder = BatchBuilder::new(codec);
    for value in text.chunks(record) {
        builder.push(1_700_000_000_000, None, Some(value), &[]);
    }
    builder.build().expect("there are records")
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for (name, size) in [("1KiB", KIB), ("1MiB", MIB)] {
        let bytes = batch(size, 100, Compression::None).bytes().clone();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(
            BenchmarkId::from_parameter(name),
            &bytes,
            |b, bytes: &Bytes| {
                b.iter(|| RecordBatch::parse(black_box(bytes.clone())));
            },
        );
    }
    group.finish();
}

fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("records");
    let batch = batch(MIB, 100, Compression::None);
    group.throughput(Throughput::Elements(batch.header().record_count as u64));
    group.bench_function("iterate", |b| {
        b.iter(|| {
            let records = batch
                .records(DecompressLimit::default())
                .expect("not compressed");
            records.filter(Result::is_ok).count()
        });
    });
    group.finish();
}

/// Validation of uncompressed batches of the default `batch.size` and of the largest, in records of 100 B.
fn validate(c: &mut Criterion) {
    let mut group = c.benchmark_group("validate");
    for (name, size) in [("16KiB", 16 * KIB), ("1MiB", MIB)] {
        let batch = batch(size, 100, Compression::None);
        group.throughput(Throughput::Elements(batch.header().record_count as u64));
        group.bench_function(name, |b| {
            b.iter(|| black_box(&batch).validate_records(DecompressLimit::default()));
        });
    }
    group.finish();
}

fn codecs(c: &mut Criterion) {
    let text = text(MIB);
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Bytes(text.len() as u64));
    for codec in &Compression::ALL[1..] {
        group.bench_function(BenchmarkId::new("compress", codec), |b| {
            b.iter(|| compress(*codec, black_box(&text)));
        });
        let compressed = compress(*codec, &text).expect("a vector takes all");
        group.bench_function(BenchmarkId::new("decompress", codec), |b| {
            b.iter(|| decompress(*codec, black_box(&compressed), DecompressLimit::default()));
        });
        let batch = batch(MIB, 100, *codec);
        group.bench_function(BenchmarkId::new("validate", codec), |b| {
            b.iter(|| batch.validate_records(DecompressLimit::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, parse, records, validate, codecs);
criterion_main!(benches);
