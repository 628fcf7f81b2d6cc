//! Arbitrary bytes as the index files of a cleanly closed log: every record is still found.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use streamline::record::{BatchBuilder, BatchHeader, Compression};
use streamline::storage::{PartitionLog, ReadOptions};
use streamline_fuzz::ScratchLog;

/// Batches of one record, one per second.
const BATCHES: i64 = 40;

static SCRATCH: LazyLock<ScratchLog> = LazyLock::new(|| ScratchLog::of("index-open"));

static LOG: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut log = Vec::new();
    for offset in 0..BATCHES {
        let mut builder = BatchBuilder::new(Compression::None)
            .base_offset(offset)
            .leader_epoch(0);
        builder.push(offset * 1_000, None, Some(&[b'x'; 200]), &[]);
        log.extend_from_slice(builder.build().expect("it holds a record").bytes());
    }
    log
});

fuzz_target!(|data: &[u8]| {
    let (closed, index) = match data.split_first() {
        Some((first, rest)) => (first & 1 == 1, rest),
        None => (false, data),
    };
    let (offsets, times) = index.split_at(index.len() / 2 / 8 * 8);
    let mut files = vec![
        ("00000000000000000000.log", &**LOG),
        ("00000000000000000000.index", offsets),
        ("00000000000000000000.timeindex", times),
    ];
    if closed {
        files.push(("00000000000000000040.log", &[]));
    }
    SCRATCH.lay_out(&files, true);
    let (_topics, partition) = SCRATCH
        .open()
        .expect("a corrupt index does not prevent opening");
    assert_eq!(partition.offsets().log_end, BATCHES);
    for offset in (0..BATCHES).rev() {
        let fetched = partition
            .read_now(ReadOptions::at(offset, 1))
            .expect("the log is sound");
        let bytes = fetched.records.expect("the offset is there").to_bytes();
        let header = BatchHeader::read(&bytes.expect("the file is there")).expect("a batch");
        assert_eq!(header.base_offset, offset);
        let found = partition
            .find_timestamp(offset * 1_000)
            .expect("the log is sound");
        assert_eq!(found.map(|found| found.offset), Some(offset));
    }
    let newest = partition.find_max_timestamp().expect("the log is sound");
    assert_eq!(newest.map(|newest| newest.offset), Some(BATCHES - 1));
});
