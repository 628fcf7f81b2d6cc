//! Corrupt files.

use super::*;

#[test]
fn a_torn_tail_is_truncated_after_a_crash() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["a"]);
    fixture.append(&["b"]);
    let log = files(&fixture.log_dir(), ".log").remove(0);
    let whole = std::fs::read(&log).unwrap();
    let one = whole.len() / 2;
    for torn in 1..one {
        std::fs::write(&log, &whole[..one + torn]).unwrap();
        fixture.crash();
        assert_eq!(fixture.values(), expected(&["a"]), "{torn} bytes left");
        assert_eq!(std::fs::metadata(&log).unwrap().len(), one as u64);
    }
    assert_eq!(fixture.append(&["c"]).base_offset, 1);
}

#[test]
fn missing_stale_or_invalid_indexes_are_rebuilt() {
    let mut fixture = Fixture::new(SMALL_SEGMENTS);
    let values: Vec<String> = (0..40).map(|n| format!("value-{n}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    for value in &values {
        fixture.append(&[value]);
    }
    let damages: [fn(&Path); 4] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::write(path, b"").unwrap(),
        |path| std::fs::write(path, [0xff; 24]).unwrap(),
        |path| std::fs::write(path, [7; 25]).unwrap(),
    ];
    for damage in damages {
        for clean in [true, false] {
            if clean {
                fixture.topics.close().unwrap();
            }
            for extension in [".index", ".timeindex"] {
                for path in files(&fixture.log_dir(), extension) {
                    damage(&path);
                }
            }
            fixture.crash();
            assert_eq!(fixture.values(), expected(&values));
            let found = fixture.partition().find_timestamp(NOW_MS).unwrap();
            assert_eq!(found.unwrap().offset, 0);
        }
    }
}

#[test]
fn a_flipped_byte_is_never_served_and_costs_one_batch() {
    let values = ["one", "two", "three", "four", "five", "six"];
    let mut fixture = Fixture::new(&[("segment.bytes", "280")]);
    for value in values {
        fixture.append(&[value]);
    }
    fixture.topics.close().unwrap();
    let sound: Vec<_> = files(&fixture.log_dir(), "")
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
        .collect();
    let checkpoint = fixture.dir.path().join("recovery-point-offset-checkpoint");
    let points = std::fs::read(&checkpoint).unwrap();
    let marker = fixture.dir.path().join(".kafka_cleanshutdown");
    let (mut flipped, mut reported) = (0, 0);
    for clean in [true, false] {
        for (victim, content) in sound.iter().filter(|(path, _)| {
            path.extension()
                .is_some_and(|e| e == "log" || e == "index" || e == "timeindex")
        }) {
            for place in 0..content.len() {
                std::fs::remove_dir_all(fixture.log_dir()).unwrap();
                std::fs::create_dir(fixture.log_dir()).unwrap();
                for (path, content) in &sound {
                    std::fs::write(path, content).unwrap();
                }
                std::fs::write(&checkpoint, &points).unwrap();
                match clean {
                    true => std::fs::write(&marker, "{}").unwrap(),
                    false => drop(std::fs::remove_file(&marker)),
                }
                let mut damaged = content.clone();
                damaged[place] ^= 1 << (place % 8);
                std::fs::write(victim, damaged).unwrap();
                fixture.crash();
                let found = fixture.values();
                let whole = expected(&values);
                assert!(
                    found.iter().all(|record| whole.contains(record)),
                    "{} at {place}, clean {clean}: {found:?}",
                    victim.display()
                );
                let lost = whole.len() - found.len();
                flipped += 1;
                reported += lost;
                assert!(
                    lost == 0 || fixture.damaged_ranges() > 0,
                    "{} at {place}, clean {clean}: lost without a word",
                    victim.display()
                );
                let allowed = usize::from(victim.extension().unwrap() == "log");
                assert!(
                    lost <= allowed,
                    "{} at {place}, clean {clean}: {found:?}",
                    victim.display()
                );
                assert_eq!(fixture.append(&["next"]).base_offset, 6);
            }
        }
    }
    println!(
        "figures: {flipped} flipped bytes of logs and indexes: {reported} batches taken out and reported, every other \
         one served as it was written"
    );
}

/// Restarts a log of three records in one segment, and then flips a byte of each position of its first two batches.
fn each_flip_after_a_restart(check: impl Fn(&Fixture, &str)) {
    let mut fixture = Fixture::new(&[]);
    for value in ["a", "b", "c"] {
        fixture.append(&[value]);
    }
    fixture.topics.close().unwrap();
    let sound = everything_in(fixture.dir.path());
    let log = files(&fixture.log_dir(), ".log").remove(0);
    let content = std::fs::read(&log).unwrap();
    for place in 0..content.len() / 3 * 2 {
        restore(fixture.dir.path(), &sound);
        fixture.crash();
        let mut damaged = content.clone();
        damaged[place] ^= 1 << (place % 8);
        std::fs::write(&log, damaged).unwrap();
        check(&fixture, &format!("byte {place}"));
    }
}

#[test]
fn corruption_of_the_active_segment_before_the_first_append_is_repaired_by_a_read() {
    each_flip_after_a_restart(|fixture, what| {
        let found = fixture.values();
        let lost = 3 - found.len() as u64;
        assert!(lost <= 1, "{what}: {found:?}");
        assert_eq!(lost, fixture.damaged_ranges(), "{what}");
        assert_eq!(fixture.append(&["d"]).base_offset, 3, "{what}");
        assert_eq!(fixture.values().len(), found.len() + 1, "{what}");
    });
}

#[test]
fn corruption_of_the_active_segment_before_the_first_append_does_not_prevent_it() {
    each_flip_after_a_restart(|fixture, what| {
        assert_eq!(fixture.append(&["d"]).base_offset, 3, "{what}");
        let found = fixture.values();
        assert!(found.len() >= 3, "{what}: {found:?}");
        assert_eq!(4 - found.len() as u64, fixture.damaged_ranges(), "{what}");
        let newest = fixture.partition().find_max_timestamp().unwrap().unwrap();
        assert_eq!(newest.timestamp_ms, NOW_MS, "{what}");
    });
}

/// A read that has copied the limit continues after appends to, and a repair of, the segment that was active then.
#[test]
fn a_limit_from_before_a_repair_does_not_apply_to_the_rewritten_segment() {
    let mut fixture = Fixture::new(&[]);
    for value in ["a", "b", "c"] {
        fixture.append(&[value]);
    }
    fixture.restart();
    let partition = fixture.partition();
    let (_, limit) = partition.readable_now();
    let log = files(&fixture.log_dir(), ".log").remove(0);
    let mut content = std::fs::read(&log).unwrap();
    content[65] ^= 1;
    std::fs::write(&log, &content).unwrap();
    fixture.append(&["four"]);
    assert_eq!(fixture.values().len(), 3);
    let (segments, limit) = partition.segments_to(limit);
    assert_eq!(limit, partition.readable_now().1);
    assert_ne!(limit.segment, segments[0].base_offset);
}

/// Small files have no CRC of ours. Whatever their content, no record is invented or changed, and no record's offset is
/// reused.
#[test]
fn a_flipped_byte_of_a_small_file_invents_no_records() {
    let values = ["one", "two", "three", "four"];
    let mut fixture = Fixture::new(&[("segment.bytes", "256")]);
    for (sequence, value) in values.iter().enumerate() {
        let sent = idempotent(7, sequence as i32, value);
        fixture
            .partition()
            .append_unflushed(vec![sent], ACKS_LEADER)
            .unwrap();
    }
    fixture.partition().delete_records(1).unwrap();
    fixture.topics.close().unwrap();
    let sound = everything_in(fixture.dir.path());
    let small = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with("checkpoint") || name.ends_with(".snapshot") || name == "partition.metadata"
    };
    let mut flipped = 0;
    for clean in [true, false] {
        for (victim, content) in sound.iter().filter(|(path, _)| small(path)) {
            for place in 0..content.len() {
                restore(fixture.dir.path(), &sound);
                if !clean {
                    std::fs::remove_file(fixture.dir.path().join(".kafka_cleanshutdown")).unwrap();
                }
                let mut damaged = content.clone();
                damaged[place] ^= 1 << (place % 8);
                std::fs::write(victim, damaged).unwrap();
                fixture.crash();
                let what = format!("{} at {place}, clean {clean}", victim.display());
                let found = fixture.values();
                let whole = expected(&values);
                assert!(
                    found.iter().all(|record| whole.contains(record)),
                    "{what}: {found:?}"
                );
                let is_set_aside = victim.ends_with("partition.metadata") && found.is_empty();
                let next = fixture.append(&["next"]).base_offset;
                assert!(next >= 4 || is_set_aside, "{what}: {next}");
                flipped += 1;
            }
        }
    }
    println!(
        "figures: {flipped} flipped bytes of the small files beside them, and no record made up"
    );
}

/// A base offset is not covered by its batch's CRC, and after damage there is no preceding batch to compare it with.
#[test]
fn a_batch_after_damage_with_an_impossible_offset_is_removed() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["a"]);
    fixture.append(&["b"]);
    let log = files(&fixture.log_dir(), ".log").remove(0);
    let whole = std::fs::read(&log).unwrap();
    let second = whole.len() / 2;
    for base_offset in [1 << 32, i64::MAX - i64::from(i32::MAX), i64::MAX] {
        let mut damaged = whole.clone();
        damaged[second - 1] ^= 1;
        damaged[second..second + 8].copy_from_slice(&i64::to_be_bytes(base_offset));
        std::fs::write(&log, damaged).unwrap();
        fixture.crash();
        assert_eq!(fixture.values(), [], "{base_offset}");
        assert_eq!(fixture.append(&["c"]).base_offset, 0);
        assert_eq!(fixture.values(), expected(&["c"]));
    }
}

#[test]
fn a_checkpoint_with_an_impossible_offset_is_ignored() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["a"]);
    fixture.topics.close().unwrap();
    let sound = everything_in(fixture.dir.path());
    for name in [
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
    ] {
        for offset in [i64::MAX - 1, i64::MAX] {
            restore(fixture.dir.path(), &sound);
            let path = fixture.dir.path().join(name);
            std::fs::write(path, format!("0\n1\nt 0 {offset}\n")).unwrap();
            fixture.crash();
            assert_eq!(fixture.append(&["b"]).base_offset, 1, "{name}: {offset}");
            assert_eq!(fixture.values(), expected(&["a", "b"]));
        }
    }
}

/// Makes the header of the log's first batch invalid, which reads see even if this process wrote the batch.
fn damage_first_header(fixture: &Fixture) {
    let log = files(&fixture.log_dir(), ".log").remove(0);
    let mut content = std::fs::read(&log).unwrap();
    content[16] ^= 1;
    std::fs::write(&log, content).unwrap();
}

#[test]
fn a_read_that_must_not_block_leaves_the_repair_to_one_that_may() {
    let fixture = Fixture::new(&[]);
    fixture.append(&["a"]);
    fixture.append(&["b"]);
    damage_first_header(&fixture);
    let options = ReadOptions {
        may_block: false,
        ..ReadOptions::at(0, 1_000)
    };
    let read = fixture.partition().read(options);
    assert!(matches!(read, ReadTicket::WouldBlock));
    assert_eq!(fixture.damaged_ranges(), 0);
    assert_eq!(fixture.values(), [(1, "b".to_string())]);
    assert_eq!(fixture.damaged_ranges(), 1);
}

#[test]
fn a_repair_before_batches_that_await_a_flush_serves_the_rest() {
    let fixture = Fixture::new(&[]);
    fixture.append(&["a"]);
    fixture.append(&["b"]);
    let partition = fixture.partition();
    let waiting = partition.append(vec![batch(&["c"])], ACKS_ALL);
    assert_eq!(partition.offsets().high_watermark, 2);
    damage_first_header(&fixture);
    let rest = [(1, "b".to_string()), (2, "c".to_string())];
    assert_eq!(fixture.values(), rest);
    assert_eq!(
        partition.durable_offset(),
        3,
        "no record is read before its flush"
    );
    assert_eq!(block_on(waiting).unwrap().base_offset, 2);
    fixture.append(&["d"]);
    assert_eq!(fixture.values().last().unwrap().0, 3);
}

fn everything_in(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(everything_in(&path)),
            false => found.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found
}

fn restore(dir: &Path, files: &[(std::path::PathBuf, Vec<u8>)]) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
    }
    for (path, content) in files {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}
