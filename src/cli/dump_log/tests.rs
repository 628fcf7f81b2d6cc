//! Offline reading of intact, torn and damaged segments.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::report::Totals;
use super::*;
use crate::record::{BatchBuilder, BatchHeader, Compression};

/// A partition directory under construction.
struct Partition {
    dir: TempDir,
}

impl Partition {
    fn new() -> Partition {
        Partition {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn write(&self, base_offset: i64, extension: &str, bytes: &[u8]) -> PathBuf {
        let path = self
            .dir
            .path()
            .join(format!("{base_offset:020}.{extension}"));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn dump(&self) -> Totals {
        dump_path(self.dir.path())
    }
}

fn dump_path(path: &Path) -> Totals {
    let args = DumpLog {
        paths: vec![path.to_owned()],
        deep: false,
        verify_only: true,
        output: OutputFormat::Text,
    };
    dump(&args, &mut |_| Ok(())).unwrap()
}

fn batch(base_offset: i64, records: i64, codec: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec)
        .base_offset(base_offset)
        .leader_epoch(1);
    for offset in base_offset..base_offset + records {
        builder.push(1_000 + offset, Some(b"key"), Some(&[b'v'; 50]), &[]);
    }
    builder.build().unwrap().bytes().to_vec()
}

/// Five batches of two records, and the position of each.
fn five() -> (Vec<u8>, Vec<usize>) {
    let mut log = Vec::new();
    let mut positions = Vec::new();
    for (number, codec) in Compression::ALL.into_iter().enumerate() {
        positions.push(log.len());
        log.extend(batch(number as i64 * 2, 2, codec));
    }
    (log, positions)
}

fn events(path: &Path) -> Vec<Event> {
    let mut reader = SegmentReader::open(path, base_offset(path).unwrap()).unwrap();
    let mut events = Vec::new();
    while let Some(event) = reader.next().unwrap() {
        if let Event::Batch { batch, .. } = &event {
            reader.advance(batch.header().next_offset());
        }
        events.push(event);
    }
    events
}

fn damaged_ranges(path: &Path) -> Vec<(u64, u64)> {
    let ranges = events(path).into_iter().filter_map(|event| match event {
        Event::Damage { position, end, .. } => Some((position, end)),
        Event::Batch { .. } => None,
    });
    ranges.collect()
}

#[test]
fn intact_partition_with_several_segments_is_fully_counted() {
    let partition = Partition::new();
    let (log, _) = five();
    partition.write(0, "log", &log);
    partition.write(10, "log", &batch(10, 7, Compression::Zstd));
    partition.write(17, "log", b"");
    let totals = partition.dump();
    assert_eq!(
        (
            totals.segments,
            totals.batches,
            totals.records,
            totals.damages
        ),
        (3, 6, 17, 0)
    );
}

#[test]
fn data_directory_expands_to_its_partitions() {
    let data = tempfile::tempdir().unwrap();
    for name in ["orders-0", "orders-1"] {
        let dir = data.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("00000000000000000000.log"), five().0).unwrap();
    }
    assert_eq!(dump_path(data.path()).batches, 10);
}

#[test]
fn every_flipped_byte_of_a_log_is_reported() {
    let (log, _) = five();
    let partition = Partition::new();
    for at in 0..log.len() {
        for flip in [0x01, 0x80] {
            let mut damaged = log.clone();
            damaged[at] ^= flip;
            partition.write(0, "log", &damaged);
            let totals = partition.dump();
            // The last batch has no successor, so a raised offset or epoch in it cannot be detected.
            let last = log.len() - batch(8, 2, Compression::Zstd).len();
            let raised = (last..last + 8).contains(&at) || (last + 12..last + 16).contains(&at);
            let first_epoch_lowered = (12..16).contains(&at);
            assert!(
                totals.damages > 0 || raised || first_epoch_lowered,
                "byte {at} flipped by {flip:#x} went unnoticed"
            );
        }
    }
}

#[test]
fn reading_resumes_after_a_damaged_batch() {
    let (log, positions) = five();
    let partition = Partition::new();
    let mut damaged = log.clone();
    damaged[positions[2] + 70] ^= 1;
    let path = partition.write(0, "log", &damaged);
    assert_eq!(
        damaged_ranges(&path),
        [(positions[2] as u64, positions[3] as u64)]
    );
    assert_eq!(partition.dump().batches, 4);
}

#[test]
fn reading_resumes_at_the_next_intact_batch_when_a_length_is_damaged() {
    let (log, positions) = five();
    let partition = Partition::new();
    for flip in [0x01, 0x7f] {
        let mut damaged = log.clone();
        damaged[positions[1] + 8] ^= flip;
        damaged[positions[1] + 11] ^= flip;
        let path = partition.write(0, "log", &damaged);
        assert_eq!(
            damaged_ranges(&path),
            [(positions[1] as u64, positions[2] as u64)]
        );
    }
}

#[test]
fn torn_tail_is_reported_with_its_position() {
    let (log, positions) = five();
    let partition = Partition::new();
    for cut in [positions[4] + 1, positions[4] + 61, log.len() - 1] {
        let path = partition.write(0, "log", &log[..cut]);
        let events = events(&path);
        let Some(Event::Damage {
            position,
            end,
            reason,
        }) = events.last()
        else {
            panic!("{events:?}");
        };
        assert_eq!((*position, *end), (positions[4] as u64, cut as u64));
        assert!(reason.starts_with("torn"), "{reason}");
    }
}

#[test]
fn overlapping_segments_are_damage() {
    let partition = Partition::new();
    partition.write(0, "log", &batch(0, 5, Compression::None));
    partition.write(3, "log", &batch(3, 5, Compression::None));
    assert!(partition.dump().damages > 0);
}

fn index(entries: &[(u32, u32)]) -> Vec<u8> {
    let entries = entries.iter();
    entries
        .flat_map(|(offset, position)| [offset.to_be_bytes(), position.to_be_bytes()].concat())
        .collect()
}

fn time_index(entries: &[(i64, u32)]) -> Vec<u8> {
    let entries = entries.iter();
    entries
        .flat_map(|(time, offset)| [&time.to_be_bytes()[..], &offset.to_be_bytes()].concat())
        .collect()
}

#[test]
fn matching_indexes_pass_and_preallocated_space_is_ignored() {
    let (log, positions) = five();
    let partition = Partition::new();
    let path = partition.write(0, "log", &log);
    let mut offsets = index(&[(3, positions[1] as u32), (7, positions[3] as u32)]);
    offsets.extend([0; 800]);
    let mut times = time_index(&[(1_003, 3), (1_009, 9)]);
    times.extend([0; 1_200]);
    let index_path = partition.write(0, INDEX, &offsets);
    partition.write(0, TIME_INDEX, &times);
    assert_eq!(partition.dump().damages, 0);
    assert_eq!(
        dump_path(&index_path),
        dump_path(&path),
        "an index stands for its log"
    );
    let mut check = IndexCheck::offsets(&index_path, 0).unwrap();
    for event in events(&path) {
        if let Event::Batch { position, batch } = event {
            check.batch(position, batch.header()).unwrap();
        }
    }
    assert_eq!(check.finish().unwrap().entries, 2);
}

#[test]
fn indexes_that_do_not_match_the_log_are_damage() {
    let (log, positions) = five();
    let at = |number: usize| positions[number] as u32;
    let wrong_offsets: [&[(u32, u32)]; 5] = [
        &[(2, at(1))],
        &[(3, at(1) + 1)],
        &[(7, at(3)), (3, at(1))],
        &[(11, log.len() as u32)],
        &[(3, at(1)), (9, at(3))],
    ];
    for entries in wrong_offsets {
        let partition = Partition::new();
        partition.write(0, "log", &log);
        partition.write(0, INDEX, &index(entries));
        assert!(partition.dump().damages > 0, "{entries:?}");
    }
    let wrong_times: [&[(i64, u32)]; 4] = [
        &[(1_002, 3)],
        &[(1_007, 7), (1_003, 3)],
        &[(1_010, 10)],
        &[(1_003, 9)],
    ];
    for entries in wrong_times {
        let partition = Partition::new();
        partition.write(0, "log", &log);
        partition.write(0, TIME_INDEX, &time_index(entries));
        assert!(partition.dump().damages > 0, "{entries:?}");
    }
    let partition = Partition::new();
    partition.write(0, "log", &log);
    partition.write(0, INDEX, &index(&[(3, at(1))])[..7]);
    assert!(partition.dump().damages > 0, "an entry cut short");
}

#[test]
fn index_entries_for_a_damaged_range_are_not_mismatches() {
    let (mut log, positions) = five();
    log[positions[1] + 70] ^= 1;
    let partition = Partition::new();
    partition.write(0, "log", &log);
    partition.write(
        0,
        INDEX,
        &index(&[(3, positions[1] as u32), (7, positions[3] as u32)]),
    );
    partition.write(0, TIME_INDEX, &time_index(&[(1_003, 3), (1_007, 7)]));
    assert_eq!(partition.dump().damages, 1, "the batch alone");
}

#[test]
fn unparsable_records_with_a_valid_crc_are_damage() {
    let mut bytes = batch(0, 2, Compression::None);
    bytes[BatchHeader::LEN] = 0x7e;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let partition = Partition::new();
    partition.write(0, "log", &bytes);
    assert_eq!(partition.dump().damages, 1);
}

#[test]
fn files_that_are_not_segments_are_rejected_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["notes.txt", "1.log", "00000000000000000009.index"] {
        let path = dir.path().join(name);
        std::fs::write(&path, b"").unwrap();
        let error = find_segments(&[path]).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(find_segments(&[dir.path().to_owned()]).is_err());
    assert!(find_segments(&[dir.path().join("absent")]).is_err());
}

fn printed(path: &Path, output: OutputFormat) -> String {
    let args = DumpLog {
        paths: vec![path.to_owned()],
        deep: true,
        verify_only: false,
        output,
    };
    let mut out = String::new();
    dump(&args, &mut |piece| {
        out.push_str(piece);
        Ok(())
    })
    .unwrap();
    out
}

#[test]
fn records_are_printed_quoted() {
    let partition = Partition::new();
    let mut builder = BatchBuilder::new(Compression::Snappy);
    builder.push(1_700_000_000_000, None, Some(b"two\nlines"), &[]);
    builder.push(i64::MAX, Some(b"k"), None, &[]);
    let path = partition.write(0, "log", builder.build().unwrap().bytes());
    let out = printed(&path, OutputFormat::Text);
    let lines: Vec<_> = out.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 5, "{out}");
    assert_eq!(
        lines[2],
        r#"0 2023-11-14T22:13:20.000Z key=null value="two\nlines""#
    );
    assert_eq!(lines[3], r#"1 9223372036854775807 key="k" value=null"#);
    assert!(lines[4].ends_with("no damage found"));
}

#[test]
fn lz4_unreadable_by_kafka_clients_is_reported_but_not_as_damage() {
    let mut bytes = batch(0, 2, Compression::Lz4);
    let flags = BatchHeader::LEN + 4;
    bytes[flags] &= !(1 << 5);
    bytes[flags + 2] = (twox_hash::XxHash32::oneshot(0, &bytes[flags..flags + 2]) >> 8) as u8;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let partition = Partition::new();
    let path = partition.write(0, "log", &bytes);
    let out = printed(&path, OutputFormat::Text);
    assert!(out.contains("not for Kafka clients: lz4 data"), "{out}");
    assert!(
        out.contains("value=") && out.contains("no damage found"),
        "{out}"
    );
}

#[test]
fn json_output_is_one_object_per_line() {
    let partition = Partition::new();
    let (mut log, positions) = five();
    log[positions[1] + 70] ^= 1;
    let path = partition.write(0, "log", &log);
    let objects: Vec<serde_json::Value> = printed(&path, OutputFormat::Json)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &str| objects.iter().filter(|it| it["type"] == kind).count();
    assert_eq!(
        (of("batch"), of("record"), of("damage"), of("summary")),
        (4, 8, 1, 1)
    );
    let damage = objects.iter().find(|it| it["type"] == "damage").unwrap();
    assert_eq!(damage["position"], positions[1]);
    assert_eq!(objects.last().unwrap()["damages"], 1);
}
