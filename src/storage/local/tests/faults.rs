//! Disks that fail, hang or are full.

use std::time::Instant;

use super::*;

#[test]
fn a_failed_flush_is_never_acknowledged_or_retried() {
    let fixture = Fixture::new(&[]);
    let partition = fixture.partition();
    fixture.append(&["seen"]);
    let appended = partition
        .append_unflushed(vec![batch(&["lost"])], ACKS_ALL)
        .unwrap();
    fixture
        .faults
        .plan(Op::SyncData, ".log", Fault::Error(ErrorKind::Other), 1);
    let end = appended.last_offset + 1;
    assert!(block_on(partition.wait_durable(end)).is_err());
    assert!(block_on(partition.wait_durable(end)).is_err());
    assert!(matches!(
        partition.append_unflushed(vec![batch(&["more"])], ACKS_LEADER),
        Err(Error::Poisoned { .. })
    ));
    fixture.clock.advance(Duration::from_secs(60));
    fixture.topics.flush_due();
    assert_eq!(fixture.faults.calls(Op::SyncData, ".log"), 1);
    assert_eq!(fixture.values(), expected(&["seen"]));
    let reason = fixture.topics.health().unwrap_err();
    assert!(reason.contains("t-0"), "{reason}");
    fixture.topics.close().unwrap_err();
    assert!(!fixture.dir.path().join(".kafka_cleanshutdown").exists());
}

#[test]
fn a_full_disk_refuses_records_leaves_the_log_unchanged_and_recovers() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["a"]);
    let size = fixture.partition().snapshot().size_bytes;
    fixture.faults.limit_space(30);
    for _ in 0..2 {
        assert!(matches!(
            fixture
                .partition()
                .append_unflushed(vec![batch(&["b"])], ACKS_LEADER),
            Err(Error::DiskFull { .. })
        ));
        fixture.faults.limit_space(30);
    }
    let log = files(&fixture.log_dir(), ".log").remove(0);
    assert_eq!(std::fs::metadata(&log).unwrap().len(), size);
    assert!(fixture.topics.health().is_err());
    fixture.faults.heal();
    fixture.clock.advance(Duration::from_secs(10));
    fixture.topics.health().unwrap();
    fixture.append(&["c"]);
    assert_eq!(fixture.values(), expected(&["a", "c"]));
    fixture.crash();
    assert_eq!(fixture.values(), expected(&["a", "c"]));
}

#[test]
fn a_failed_append_that_cannot_be_truncated_fails_the_partition() {
    let fixture = Fixture::new(&[]);
    fixture.append(&["a"]);
    fixture.faults.limit_space(30);
    fixture
        .faults
        .plan(Op::SetSize, ".log", Fault::Error(ErrorKind::Other), 1);
    fixture
        .partition()
        .append_unflushed(vec![batch(&["b"])], ACKS_LEADER)
        .unwrap_err();
    fixture.faults.heal();
    assert!(matches!(
        fixture
            .partition()
            .append_unflushed(vec![batch(&["c"])], ACKS_LEADER),
        Err(Error::Poisoned { .. })
    ));
    assert_eq!(fixture.values(), expected(&["a"]));
}

#[test]
fn a_roll_that_fails_leaves_the_log_usable() {
    let fixture = Fixture::new(SMALL_SEGMENTS);
    for _ in 0..4 {
        fixture.append(&["0123456789"]);
    }
    fixture
        .faults
        .plan(Op::Create, ".log", Fault::Error(ErrorKind::StorageFull), 1);
    let mut failures = 0;
    for _ in 0..4 {
        let result = fixture
            .partition()
            .append_unflushed(vec![batch(&["0123456789"])], ACKS_LEADER);
        failures += usize::from(result.is_err());
    }
    assert_eq!(failures, 1);
    assert_eq!(fixture.values(), expected(&["0123456789"; 7]));
}

#[test]
fn a_failed_directory_sync_is_treated_like_a_failed_flush() {
    let fixture = Fixture::new(&[]);
    let partition = fixture.partition();
    let appended = partition
        .append_unflushed(vec![batch(&["lost"])], ACKS_ALL)
        .unwrap();
    fixture
        .faults
        .plan(Op::SyncDir, "t-0", Fault::Error(ErrorKind::Other), 1);
    let end = appended.last_offset + 1;
    assert!(block_on(partition.wait_durable(end)).is_err());
    assert!(block_on(partition.wait_durable(end)).is_err());
    assert_eq!(fixture.faults.calls(Op::SyncDir, "t-0"), 1);
    assert_eq!(partition.offsets().high_watermark, 0);
}

#[test]
fn a_failed_partition_affects_no_other_and_works_again_after_a_restart() {
    let mut fixture = Fixture::new(&[]);
    let (poisoned, sound) = (fixture.partition(), fixture.other_partition());
    poisoned
        .append_unflushed(vec![batch(&["a"])], ACKS_ALL)
        .unwrap();
    fixture
        .faults
        .plan(Op::SyncData, "t-0", Fault::Error(ErrorKind::Other), 1);
    block_on(poisoned.wait_durable(1)).unwrap_err();
    for acks in [ACKS_LEADER, ACKS_ALL] {
        let appended = sound.append_unflushed(vec![batch(&["b"])], acks).unwrap();
        block_on(sound.wait_durable(appended.last_offset + 1)).unwrap();
    }
    assert_eq!(sound.offsets().high_watermark, 2);
    fixture.spec.partitions = 2;
    fixture.crash();
    fixture.topics.health().unwrap();
    let appended = fixture
        .partition()
        .append_unflushed(vec![batch(&["c"])], ACKS_ALL);
    assert_eq!(appended.unwrap().base_offset, 1);
    block_on(fixture.partition().wait_durable(2)).unwrap();
    assert_eq!(fixture.values(), expected(&["a", "c"]));
}

#[test]
fn a_hanging_flush_blocks_only_its_waiters() {
    let fixture = Fixture::new(&[("flush.ms", "1")]);
    let (hanging, other) = (fixture.partition(), fixture.other_partition());
    hanging
        .append_unflushed(vec![batch(&["seen"])], ACKS_LEADER)
        .unwrap();
    hanging
        .append_unflushed(vec![batch(&["held"])], ACKS_ALL)
        .unwrap();
    let calls_before = fixture.faults.calls(Op::SyncData, "t-0");
    fixture
        .faults
        .plan(Op::SyncData, "t-0", Fault::Hang, usize::MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let held = {
        let hanging = hanging.clone();
        runtime.spawn(async move { hanging.wait_durable(2).await })
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while fixture.faults.calls(Op::SyncData, "t-0") == calls_before {
        assert!(Instant::now() < deadline, "no flush was started");
        std::thread::yield_now();
    }

    // Its other producers go on without waiting, its readers read up to the high watermark.
    hanging
        .append_unflushed(vec![batch(&["more"])], ACKS_LEADER)
        .unwrap();
    assert_eq!(read_all(&hanging), expected(&["seen"]));
    // The other partition is not affected, and is flushed after `flush.ms`.
    let appended = other
        .append_unflushed(vec![batch(&["b"])], ACKS_ALL)
        .unwrap();
    runtime
        .block_on(other.wait_durable(appended.last_offset + 1))
        .unwrap();
    other
        .append_unflushed(vec![batch(&["c"])], ACKS_LEADER)
        .unwrap();
    fixture.clock.advance(Duration::from_secs(1));
    fixture.topics.flush_due();
    assert_eq!(other.durable_offset(), 2);
    assert!(!held.is_finished());

    fixture.faults.heal();
    runtime.block_on(held).unwrap().unwrap();
    assert_eq!(hanging.offsets().high_watermark, 3);
    fixture.topics.flush_due();
    assert_eq!(hanging.durable_offset(), 3);
}

#[test]
fn the_file_of_a_failed_roll_is_removed_durably_before_the_next_append() {
    let fixture = Fixture::new(&[("internal.segment.bytes", "256")]);
    let partition = fixture.partition();
    let append_durably = || {
        let appended = partition
            .append_unflushed(vec![batch(&["a"])], ACKS_ALL)
            .unwrap();
        block_on(partition.wait_durable(appended.last_offset + 1)).unwrap();
    };
    append_durably();
    append_durably();
    assert_eq!(fixture.faults.calls(Op::SyncDir, "t-0"), 1);
    fixture.faults.plan(
        Op::Create,
        ".index",
        Fault::Error(ErrorKind::StorageFull),
        1,
    );
    let large = "x".repeat(150);
    partition
        .append_unflushed(vec![batch(&[&large])], ACKS_LEADER)
        .unwrap_err();
    assert_eq!(fixture.faults.calls(Op::SyncDir, "t-0"), 2);
    append_durably();
    assert_eq!(fixture.faults.calls(Op::SyncDir, "t-0"), 2);
}

#[test]
fn a_roll_without_space_for_the_snapshot_is_refused_and_retried() {
    let mut fixture = Fixture::new(SMALL_SEGMENTS);
    fixture.faults.plan(
        Op::Write,
        ".snapshot",
        Fault::Error(ErrorKind::StorageFull),
        2,
    );
    let mut refused = 0;
    let mut sequence = 0;
    while sequence < 10 {
        let sent = idempotent(7, sequence, "0123456789");
        match fixture
            .partition()
            .append_unflushed(vec![sent], ACKS_LEADER)
        {
            Ok(appended) => {
                assert!(!appended.duplicate);
                sequence += 1;
            }
            Err(error) => {
                assert!(matches!(error, Error::DiskFull { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 2);
    fixture.crash();
    assert_eq!(fixture.values(), expected(&["0123456789"; 10]));
    let again = idempotent(7, 9, "0123456789");
    let again = fixture
        .partition()
        .append_unflushed(vec![again], ACKS_LEADER);
    assert!(again.unwrap().duplicate);
}

#[test]
fn records_are_not_deleted_if_the_log_start_cannot_be_written() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["a", "b", "c"]);
    fixture.faults.limit_space(0);
    fixture.partition().delete_records(2).unwrap_err();
    assert_eq!(fixture.values(), expected(&["a", "b", "c"]));
    fixture.faults.heal();
    fixture.partition().delete_records(1).unwrap();
    assert_eq!(fixture.values()[0].0, 1);
    fixture.crash();
    assert_eq!(fixture.values()[0].0, 1);
}

/// Ten seconds of records in several segments, each kept for a second.
fn with_a_record_a_second() -> Fixture {
    let fixture = Fixture::new(&[("internal.segment.bytes", "256"), ("retention.ms", "1000")]);
    for n in 0..10 {
        let batch = batch_at(NOW_MS + n * 1_000, &["0123456789"]);
        fixture
            .partition()
            .append_unflushed(vec![batch], ACKS_LEADER)
            .unwrap();
    }
    fixture
}

#[test]
fn segments_whose_files_cannot_be_removed_are_hidden_from_readers_and_retried() {
    let fixture = with_a_record_a_second();
    let partition = fixture.partition();
    let fault = Fault::Error(ErrorKind::PermissionDenied);
    fixture.faults.plan(Op::Remove, ".log", fault, 1);
    fixture.topics.retain(NOW_MS + 8_000);
    let log_start = partition.offsets().log_start;
    assert!((1..8).contains(&log_start), "{log_start}");
    for offset in 0..log_start {
        assert!(matches!(
            partition.read_now(ReadOptions::at(offset, 100)),
            Err(Error::OffsetOutOfRange { .. })
        ));
    }
    fixture.topics.retain(NOW_MS + 8_000);
    let left = files(&fixture.log_dir(), ".log").len();
    assert_eq!(left, partition.snapshot().segments);
}

#[test]
fn a_reader_gets_offset_out_of_range_during_a_deletion() {
    let fixture = with_a_record_a_second();
    let partition = fixture.partition();
    fixture.faults.plan(Op::Remove, ".log", Fault::Hang, 1);
    let topics = Arc::clone(&fixture.topics);
    let retaining = std::thread::spawn(move || topics.retain(NOW_MS + 8_000));
    let deadline = Instant::now() + Duration::from_secs(20);
    while fixture.faults.calls(Op::Remove, ".log") == 0 {
        assert!(Instant::now() < deadline, "nothing is removed");
        std::thread::yield_now();
    }
    let read = partition.read_now(ReadOptions::at(0, 100));
    fixture.faults.heal();
    retaining.join().unwrap();
    assert!(matches!(read, Err(Error::OffsetOutOfRange { .. })));
}

#[test]
fn appends_do_not_wait_for_the_files_of_a_deletion() {
    let retain: fn(&Fixture) = |fixture| fixture.topics.retain(NOW_MS + 8_000);
    let delete_records: fn(&Fixture) = |fixture| {
        fixture.partition().delete_records(8).unwrap();
    };
    for (op, path_part, delete) in [
        (Op::Open, ".index", retain),
        (Op::Remove, ".log", retain),
        (Op::Create, "log-start", delete_records),
        (Op::Remove, ".log", delete_records),
    ] {
        let fixture = with_a_record_a_second();
        let calls_before = fixture.faults.calls(op, path_part);
        fixture.faults.plan(op, path_part, Fault::Hang, 1);
        std::thread::scope(|scope| {
            scope.spawn(|| delete(&fixture));
            let deadline = Instant::now() + Duration::from_secs(20);
            let wait_until = |is_reached: &dyn Fn() -> bool| {
                while !is_reached() && Instant::now() < deadline {
                    std::thread::yield_now();
                }
                is_reached()
            };
            let hangs = wait_until(&|| fixture.faults.calls(op, path_part) > calls_before);
            let append = scope.spawn(|| fixture.append(&["more"]).base_offset);
            let is_free = wait_until(&|| append.is_finished());
            fixture.faults.heal();
            assert!(hangs && is_free, "{op:?} of {path_part}");
            assert_eq!(append.join().unwrap(), 10);
        });
        assert!(fixture.partition().offsets().log_start > 0);
        assert_eq!(fixture.values().last().unwrap().0, 10);
    }
}

#[test]
fn a_record_appended_while_the_whole_log_expires_is_kept() {
    let fixture = with_a_record_a_second();
    let partition = fixture.partition();
    fixture.faults.plan(Op::Open, ".index", Fault::Hang, 1);
    std::thread::scope(|scope| {
        let calls_before = fixture.faults.calls(Op::Open, ".index");
        scope.spawn(|| fixture.topics.retain(NOW_MS + 60_000));
        while fixture.faults.calls(Op::Open, ".index") == calls_before {
            std::thread::yield_now();
        }
        fixture.append(&["more"]);
        fixture.faults.heal();
    });
    assert_eq!(fixture.values().last().unwrap(), &(10, "more".to_string()));
    // The rest expires with the next check, even if records are appended during that one, too.
    assert_eq!(partition.snapshot().segments, 2);
    fixture.topics.retain(NOW_MS + 60_000);
    assert_eq!(partition.offsets().log_start, 11);
    assert_eq!(partition.snapshot().segments, 1);
}

/// A topic whose first records were deleted, so that a checkpoint holds its log start offset.
fn with_a_log_start() -> Fixture {
    let fixture = Fixture::new(SMALL_SEGMENTS);
    fixture.append(&["a", "b", "c", "d"]);
    fixture.partition().delete_records(3).unwrap();
    fixture
}

fn checkpoints(fixture: &Fixture) -> [String; 2] {
    [
        "log-start-offset-checkpoint",
        "recovery-point-offset-checkpoint",
    ]
    .map(|name| std::fs::read_to_string(fixture.dir.path().join(name)).unwrap_or_default())
}

#[test]
fn a_new_topic_does_not_start_where_the_deleted_one_of_its_name_did() {
    for checkpoint in ["log-start-offset", "recovery-point-offset"] {
        let mut fixture = with_a_log_start();
        fixture.partition().flush().unwrap();
        fixture.clock.advance(Duration::from_secs(60));
        fixture.topics.flush_due();
        assert_eq!(checkpoints(&fixture), ["0\n1\nt 0 3\n", "0\n1\nt 0 4\n"]);

        let failing = Fault::Error(ErrorKind::Other);
        fixture.faults.plan(Op::Create, checkpoint, failing, 2);
        fixture.topics.delete("t").unwrap();
        fixture.spec.id = Uuid::new_v4();
        // As long as a start would find the old topic's entries, no new topic can be created.
        fixture.topics.create(fixture.spec.clone()).unwrap_err();
        assert!(!fixture.log_dir().exists(), "{checkpoint}");
        fixture.topics.create(fixture.spec.clone()).unwrap();
        assert_eq!(checkpoints(&fixture), ["0\n0\n", "0\n0\n"]);
        fixture.append(&["new"]);
        fixture.crash();
        assert_eq!(fixture.values(), expected(&["new"]), "{checkpoint}");
    }
}

#[test]
fn checkpoints_that_could_not_be_written_at_topic_deletion_are_written_later() {
    for at_the_end in [false, true] {
        let fixture = with_a_log_start();
        let failing = Fault::Error(ErrorKind::Other);
        fixture
            .faults
            .plan(Op::Create, "log-start-offset", failing, 1);
        fixture.topics.delete("t").unwrap();
        match at_the_end {
            true => fixture.topics.close().unwrap(),
            false => {
                assert!(fixture.topics.awaits_flush());
                fixture.clock.advance(Duration::from_secs(60));
                fixture.topics.flush_due();
            }
        }
        assert_eq!(checkpoints(&fixture), ["0\n0\n", "0\n0\n"]);
    }
}

#[test]
fn a_start_that_cannot_clean_checkpoints_of_a_deleted_topic_does_it_later() {
    let fixture = with_a_log_start();
    let failing = Fault::Error(ErrorKind::StorageFull);
    fixture
        .faults
        .plan(Op::Create, "log-start-offset", failing, 2);
    let topics = open(
        &fixture.dir,
        &fixture.clock,
        &fixture.metrics,
        &fixture.faults,
        fixture.durability,
        0,
        vec![],
    )
    .unwrap();
    assert!(checkpoints(&fixture)[0].contains("t 0 3"));
    topics.close().unwrap();
    assert_eq!(checkpoints(&fixture), ["0\n0\n", "0\n0\n"]);
}

#[test]
fn a_roll_that_left_a_stray_file_is_not_retried() {
    let fixture = Fixture::with_reserve(65_536, Durability::Acks, &[]);
    fixture.append(&["a"]);
    let full = Fault::Error(ErrorKind::StorageFull);
    fixture.faults.plan(Op::Write, "index", full, 1);
    let failing = Fault::Error(ErrorKind::Other);
    fixture.faults.plan(Op::Remove, "1.log", failing, 1);
    fixture.partition().delete_records(1).unwrap();
    assert_eq!(fixture.faults.calls(Op::Create, "1.log"), 1);
    assert_eq!(fixture.partition().snapshot().segments, 1);
    fixture.topics.watch_space();
    let appended = fixture
        .partition()
        .append_unflushed(vec![batch(&["b"])], ACKS_LEADER);
    assert!(matches!(appended, Err(Error::Corrupt { .. })));
    fixture.topics.health().unwrap_err();
}

#[test]
fn a_start_that_cannot_list_or_look_up_files_fails_and_changes_nothing() {
    let mut fixture = Fixture::new(SMALL_SEGMENTS);
    let values = ["0123456789"; 12];
    for value in values {
        fixture.append(&[value]);
    }
    let failing = Fault::Error(ErrorKind::Other);
    for (op, path_part) in [
        (Op::List, ""),
        (Op::List, "t-0"),
        (Op::Stat, ".log"),
        (Op::Stat, "cleanshutdown"),
    ] {
        let before = files(&fixture.log_dir(), "");
        fixture.faults.plan(op, path_part, failing, 1);
        let opened = open(
            &fixture.dir,
            &fixture.clock,
            &fixture.metrics,
            &fixture.faults,
            fixture.durability,
            0,
            vec![fixture.spec.clone()],
        );
        let error = opened.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{op:?}: {error}");
        assert_eq!(files(&fixture.log_dir(), ""), before, "{op:?}");
    }
    fixture.crash();
    assert_eq!(fixture.values(), expected(&values));
}

#[test]
fn adoption_and_interrupted_deletion_report_a_failing_disk_and_can_be_repeated() {
    let fixture = Fixture::new(&[]);
    fixture.append(&["a"]);
    std::fs::remove_file(fixture.log_dir().join("partition.metadata")).unwrap();
    let fs = Fs::with_faults(Arc::clone(&fixture.faults));
    let dir = fixture.dir.path();
    let failing = Fault::Error(ErrorKind::Other);
    fixture.faults.plan(Op::List, "", failing, 1);
    fixture.faults.plan(Op::List, "t-0", failing, 1);
    data_dir::scan(&fs, dir).unwrap_err();
    data_dir::scan(&fs, dir).unwrap_err();
    let found = data_dir::scan(&fs, dir).unwrap();
    assert_eq!((found.len(), found[0].name.as_str()), (1, "t"));
    fixture.faults.plan(Op::Remove, "t-0", failing, 1);
    data_dir::remove_directories(&fs, dir, &found[0]).unwrap_err();
    data_dir::remove_directories(&fs, dir, &found[0]).unwrap();
    assert_eq!(data_dir::scan(&fs, dir).unwrap(), []);
}
