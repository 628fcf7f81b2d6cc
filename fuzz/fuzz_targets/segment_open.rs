//! Arbitrary bytes as a segment file after a crash: opening, reading, looking up and appending never panic, and only valid
//! batches are served, in order.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use streamline::record::{BatchBuilder, BatchHeader, Compression};
use streamline::storage::{Acks, AppendOptions, PartitionLog, ReadOptions};
use streamline_fuzz::ScratchLog;

const OPTIONS: AppendOptions = AppendOptions { acks: Acks::Leader };

static SCRATCH: LazyLock<ScratchLog> = LazyLock::new(|| ScratchLog::of("segment-open"));

/// Returns the bytes with a valid CRC in every batch found by its length, so that the code after the check is reached.
fn with_right_crcs(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let mut position = 0;
    while let Some(header) = bytes.get_mut(position..position + 61) {
        let length = i32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let end = position + 12 + usize::try_from(length).unwrap_or(0).max(49);
        if end > bytes.len() {
            break;
        }
        let crc = crc32c::crc32c(&bytes[position + 21..end]);
        bytes[position + 17..position + 21].copy_from_slice(&crc.to_be_bytes());
        position = end;
    }
    bytes
}

fn open_and_use(content: &[u8]) {
    SCRATCH.lay_out(&[("00000000000000000000.log", content)], false);
    let (_topics, partition) = SCRATCH.open().expect("corruption does not prevent opening");
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(0, None, Some(b"appended"), &[]);
    let appended =
        partition.append_unflushed(vec![builder.build().expect("it holds a record")], OPTIONS);
    let appended = appended.expect("the log can be written");
    let end = partition.offsets().high_watermark;
    assert_eq!(end, appended.last_offset + 1);
    let mut offset = partition.offsets().log_start;
    while offset < end {
        let fetched = partition
            .read_now(ReadOptions::at(offset, 1 << 20))
            .expect("corrupt ranges were removed");
        let records = fetched.records.expect("there is more before the end");
        let mut bytes = records.to_bytes().expect("the file is there");
        while !bytes.is_empty() {
            let header = BatchHeader::read(&bytes).expect("whole batches");
            let _ = bytes.split_to(header.size_bytes());
            assert!(header.last_offset() >= offset);
            offset = header.next_offset();
        }
    }
    let _ = partition.find_timestamp(1);
    let _ = partition.find_max_timestamp();
}

fuzz_target!(|data: &[u8]| {
    open_and_use(data);
    open_and_use(&with_right_crcs(data));
});
