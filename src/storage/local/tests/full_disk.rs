//! A disk with no byte left: new data is refused; deletion, the catalog and checkpoints still work.

use super::*;

const RESERVE_BYTES: u64 = 65_536;

/// A log of several closed segments and an active one, 200 bytes and more each.
const SEGMENTS: &[(&str, &str)] = &[("internal.segment.bytes", "4000")];
const VALUE_BYTES: usize = 1_000;
const RECORDS: usize = 100;

/// A disk without a byte left, and a topic large enough for its deletion to restore the reserve.
fn full(reserve_bytes: u64, settings: &[(&str, &str)]) -> Fixture {
    let fixture = Fixture::with_reserve(reserve_bytes, Durability::Acks, settings);
    let value = "x".repeat(VALUE_BYTES);
    for sequence in 0..RECORDS {
        let batch = idempotent(7, sequence as i32, &value);
        fixture
            .partition()
            .append_unflushed(vec![batch], ACKS_LEADER)
            .unwrap();
    }
    fixture.faults.limit_disk(0);
    fixture
}

impl Fixture {
    fn refused(&self) -> Error {
        let batch = batch(&["more"]);
        let appended = self.partition().append_unflushed(vec![batch], ACKS_LEADER);
        appended.unwrap_err()
    }

    fn metric(&self, name: &str) -> u64 {
        let text = PrometheusHandle::new(self.metrics.clone()).render(Format::Text);
        let prefix = format!("{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("{name} in\n{text}"))
            .parse()
            .unwrap()
    }

    fn is_released(&self) -> bool {
        self.topics.environment.space.reserve().is_released()
    }

    /// Makes another process take the free space.
    fn occupy(&self) {
        self.faults.limit_disk(0);
    }

    /// Asserts that records are accepted again without a restart.
    fn assert_heals(&self) {
        self.topics.watch_space();
        assert!(!self.is_released());
        self.append(&["more"]);
        self.clock.advance(Duration::from_secs(10));
        self.topics.health().unwrap();
    }
}

#[test]
fn deleting_all_records_frees_even_the_only_segment_and_records_are_accepted_again() {
    let mut fixture = full(RESERVE_BYTES, &[]);
    assert!(matches!(fixture.refused(), Error::DiskFull { .. }));
    assert!(!fixture.is_released(), "nobody may release it for records");
    let end = fixture.partition().offsets().log_end;
    assert_eq!(fixture.partition().delete_records(end).unwrap(), end);
    assert!(fixture.is_released());
    assert!(matches!(fixture.refused(), Error::DiskFull { .. }));
    let reason = fixture.topics.health().unwrap_err();
    assert!(reason.contains("is full"), "{reason}");
    assert_eq!(fixture.partition().snapshot().size_bytes, 0);
    fixture.assert_heals();
    fixture.crash();
    assert_eq!(fixture.values(), [(end, "more".to_string())]);
    // The producer state is kept.
    let again = idempotent(7, RECORDS as i32 - 1, "again");
    let again = fixture
        .partition()
        .append_unflushed(vec![again], ACKS_LEADER);
    assert!(again.unwrap().duplicate);
}

#[test]
fn records_do_not_take_the_released_space() {
    let fixture = full(RESERVE_BYTES, SEGMENTS);
    fixture.partition().delete_records(1).unwrap();
    assert!(fixture.is_released());
    for _ in 0..3 {
        assert!(matches!(fixture.refused(), Error::DiskFull { .. }));
    }
    assert!(matches!(
        fixture.topics.admit_growth(),
        Err(Error::DiskFull { .. })
    ));
    let spec = TopicSpec {
        name: "other".to_string(),
        id: Uuid::new_v4(),
        ..fixture.spec.clone()
    };
    assert!(matches!(
        fixture.topics.create(spec),
        Err(Error::DiskFull { .. })
    ));
    assert!(matches!(
        fixture.topics.add_partitions("t", 2),
        Err(Error::DiskFull { .. })
    ));
    assert!(!fixture.dir.path().join("other-0").exists());
    // A retry of a batch that is in the log takes no space.
    let again = idempotent(7, RECORDS as i32 - 1, "again");
    let again = fixture
        .partition()
        .append_unflushed(vec![again], ACKS_LEADER);
    assert!(again.unwrap().duplicate);
    assert_eq!(fixture.metric("streamline_disk_reserve_bytes"), 0);
    fixture.topics.watch_space();
    let held = fixture.metric("streamline_disk_reserve_bytes");
    assert!((1..RESERVE_BYTES).contains(&held), "{held}");
    assert_eq!(fixture.metric("streamline_disk_full"), 1);
    fixture.faults.heal();
    fixture.assert_heals();
    fixture.topics.watch_space();
    assert_eq!(fixture.metric("streamline_disk_full"), 0);
    assert_eq!(
        fixture.metric("streamline_disk_reserve_bytes"),
        RESERVE_BYTES
    );
    let on_disk = Fs::new().space(fixture.dir.path()).unwrap().total_bytes;
    assert_eq!(fixture.metric("streamline_disk_size_bytes"), on_disk);
}

#[test]
fn a_refused_roll_does_not_release_the_reserve() {
    let fixture = full(RESERVE_BYTES, SEGMENTS);
    let large = "x".repeat(4_000);
    for _ in 0..2 {
        let refused = fixture
            .partition()
            .append_unflushed(vec![batch(&[&large])], ACKS_LEADER);
        assert!(matches!(refused, Err(Error::DiskFull { .. })));
    }
    assert!(!fixture.is_released());
}

#[test]
fn a_topic_can_be_deleted() {
    let fixture = full(RESERVE_BYTES, SEGMENTS);
    fixture.topics.delete("t").unwrap();
    fixture.topics.close().unwrap();
    assert!(!fixture.log_dir().exists());
    fixture.topics.watch_space();
    assert!(!fixture.is_released());
}

#[test]
fn topic_deletion_makes_room_for_its_own_checkpoints() {
    let mut fixture = full(0, SEGMENTS);
    fixture.topics.delete("t").unwrap();
    fixture.spec.id = Uuid::new_v4();
    fixture.topics.create(fixture.spec.clone()).unwrap();
    fixture.append(&["new"]);
    fixture.crash();
    assert_eq!(fixture.values(), expected(&["new"]));
}

#[test]
fn segment_deletion_makes_room_for_its_own_checkpoint() {
    let mut fixture = full(0, SEGMENTS);
    let before = RECORDS as i64 / 2;
    assert_eq!(fixture.partition().delete_records(before).unwrap(), before);
    assert_eq!(fixture.values()[0].0, before);
    fixture.crash();
    assert_eq!(fixture.values()[0].0, before);
}

#[test]
fn retention_frees_the_only_segment() {
    let fixture = full(RESERVE_BYTES, &[("retention.ms", "1000")]);
    fixture.topics.retain(NOW_MS + 2_000);
    assert_eq!(fixture.partition().snapshot().size_bytes, 0);
    fixture.assert_heals();
}

#[test]
fn a_clean_shutdown_and_a_start_work_without_a_byte_left() {
    let mut fixture = full(RESERVE_BYTES, SEGMENTS);
    fixture.restart();
    assert_eq!(fixture.values().len(), RECORDS);
    assert!(matches!(fixture.refused(), Error::DiskFull { .. }));
    fixture.partition().delete_records(RECORDS as i64).unwrap();
    fixture.assert_heals();
}

#[test]
fn a_start_after_a_crash_works_without_a_byte_left() {
    let mut fixture = full(RESERVE_BYTES, SEGMENTS);
    remove_indexes(&fixture);
    fixture.crash();
    assert_eq!(fixture.values().len(), RECORDS);
    assert!(!files(&fixture.log_dir(), ".index").is_empty());
    assert!(fixture.is_released());
    assert!(matches!(fixture.refused(), Error::DiskFull { .. }));
    fixture.partition().delete_records(RECORDS as i64).unwrap();
    fixture.assert_heals();
}

#[test]
fn another_process_does_not_get_the_released_space() {
    let fixture = full(RESERVE_BYTES, SEGMENTS);
    fixture.partition().delete_records(1).unwrap();
    for before in 2..5 {
        assert!(fixture.is_released());
        fixture.topics.watch_space();
        fixture.occupy();
        fixture.partition().delete_records(before).unwrap();
    }
    fixture.partition().delete_records(RECORDS as i64).unwrap();
    fixture.assert_heals();
}

/// Returns files below `dir` that were removed but still take space, because this process has them open.
fn removed_but_open(dir: &Path) -> Vec<std::path::PathBuf> {
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    targets
        .filter(|target| target.starts_with(dir) && target.to_string_lossy().ends_with("(deleted)"))
        .collect()
}

#[test]
fn removed_segments_are_not_kept_open() {
    type Removal = fn(&Fixture);
    let removals: [(&str, Removal); 3] = [
        ("delete records", |fixture| {
            let end = fixture.partition().offsets().log_end;
            fixture.partition().delete_records(end).unwrap();
        }),
        ("retention", |fixture| fixture.topics.retain(NOW_MS + 2_000)),
        ("delete the topic", |fixture| {
            fixture.topics.delete("t").unwrap();
            fixture.topics.close().unwrap();
        }),
    ];
    let settings = [SEGMENTS[0], ("retention.ms", "1000")];
    for durability in [Durability::Os, Durability::Acks] {
        for (name, remove) in removals {
            let fixture = Fixture::with_durability(durability, &settings);
            let value = "x".repeat(VALUE_BYTES);
            for _ in 0..RECORDS {
                fixture.append(&[&value]);
            }
            // Held as for a client that reads slowly.
            let partition = fixture.partition();
            assert_eq!(read_all(&partition).len(), RECORDS);
            remove(&fixture);
            let open = removed_but_open(fixture.dir.path());
            assert!(open.is_empty(), "{durability:?}, {name}: {open:?}");
            if fixture.topics.get("t").is_some() {
                fixture.append(&["more"]);
                partition.flush().unwrap();
                fixture.topics.health().unwrap();
            }
        }
    }
}

/// Removes the index files, so that the next start has to write them and needs space.
fn remove_indexes(fixture: &Fixture) {
    for extension in [".index", ".timeindex"] {
        for index in files(&fixture.log_dir(), extension) {
            std::fs::remove_file(index).unwrap();
        }
    }
}

#[test]
fn a_start_waits_for_deletions_that_make_room() {
    let mut fixture = full(0, SEGMENTS);
    remove_indexes(&fixture);
    let deleted = fixture.dir.path().join("old-0.0123456789-delete");
    std::fs::create_dir(&deleted).unwrap();
    // Large enough for the removal to take longer than it takes the logs to find the disk full.
    for number in 0..5_000 {
        std::fs::write(deleted.join(number.to_string()), "0123456789").unwrap();
    }
    fixture.crash();
    assert_eq!(fixture.values().len(), RECORDS);
    assert!(!deleted.exists());
}

#[test]
fn a_retried_start_counts_the_work_of_its_first_attempt() {
    use std::io::Write;
    let mut fixture = full(RESERVE_BYTES, SEGMENTS);
    remove_indexes(&fixture);
    let last = files(&fixture.log_dir(), ".log").pop().unwrap();
    let mut last = std::fs::OpenOptions::new().append(true).open(last).unwrap();
    last.write_all(b"torn").unwrap();
    fixture.crash();
    assert!(fixture.is_released());
    assert_eq!(
        fixture.topics.environment.counters.truncated_bytes.value(),
        4
    );
    assert_eq!(fixture.values().len(), RECORDS);
}
