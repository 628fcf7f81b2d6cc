//! Rewriting segments, interrupted at every step.

use super::*;
use crate::fs::Disk;
use crate::storage::local::log::Log;
use crate::storage::local::repair::{Damage, remove_corrupt_ranges};
use crate::storage::local::rewrite::{Kept, Swap};
use crate::storage::local::segment::Segment;

/// Number of segments that the tests rewrite as one.
const REWRITTEN: usize = 3;

/// A log of several segments, each with two batches of one record, on a disk that may lose power.
struct Machine {
    dir: TempDir,
    disk: Arc<Disk>,
    clock: Arc<ManualClock>,
    spec: TopicSpec,
}

impl Machine {
    fn new() -> Self {
        let dir = scratch();
        let clock = ManualClock::at_ms(NOW_MS);
        let config = BTreeMap::from([("internal.segment.bytes".to_string(), "256".to_string())]);
        let machine = Self {
            disk: Disk::new(&dir.path().canonicalize().unwrap()),
            dir,
            clock,
            spec: TopicSpec {
                name: "t".to_string(),
                id: Uuid::new_v4(),
                partitions: 1,
                config: TopicConfig::default().apply(&config).unwrap(),
            },
        };
        let topics = machine.open(&machine.disk, machine.dir.path(), vec![]);
        topics.create(machine.spec.clone()).unwrap();
        let partition = topics.partition("t", 0).unwrap();
        for offset in 0..10 {
            let value = value_at(offset);
            partition
                .append_unflushed(vec![batch(&[&value])], ACKS_LEADER)
                .unwrap();
        }
        topics.close().unwrap();
        machine
    }

    fn open(&self, disk: &Arc<Disk>, root: &Path, specs: Vec<TopicSpec>) -> Arc<LocalEngine> {
        let fs = Fs::on_disk(Arc::clone(disk), Faults::new());
        self.try_open(fs, root, specs).unwrap()
    }

    fn try_open(
        &self,
        fs: Fs,
        root: &Path,
        specs: Vec<TopicSpec>,
    ) -> Result<Arc<LocalEngine>, Error> {
        let root = root.canonicalize().unwrap();
        let options = StorageOptions {
            fs,
            ..StorageOptions::new(root.join("data"), Durability::Acks)
        };
        let clock: Arc<dyn crate::clock::Clock> = self.clock.clone();
        LocalEngine::open(options, specs, clock, Metrics::new(true))
    }

    /// Rewrites the first segments as one without the last batch of each.
    fn rewrite(&self) -> Result<Swap, Error> {
        let fs = Fs::on_disk(Arc::clone(&self.disk), Faults::new());
        let dir = self.dir.path().canonicalize().unwrap().join("data/t-0");
        let swap = rewrite(&fs, &dir.as_path().into())?;
        swap.complete(&fs, &dir)?;
        Ok(swap)
    }

    /// Opens the log left on a disk, and returns its records.
    fn records(&self, disk: &Arc<Disk>, root: &Path) -> Vec<i64> {
        let topics = self.open(disk, root, vec![self.spec.clone()]);
        let partition = topics.partition("t", 0).unwrap();
        assert_eq!(partition.offsets().log_end, 10);
        let records = read_all(&partition);
        for (offset, value) in &records {
            assert_eq!(*value, value_at(*offset));
        }
        let dir = root.join("data/t-0");
        for extension in [".cleaned", ".swap", ".tmp"] {
            assert_eq!(files(&dir, extension), [] as [std::path::PathBuf; 0]);
        }
        records.iter().map(|record| record.0).collect()
    }
}

/// A value so long that two batches fill a segment.
fn value_at(offset: i64) -> String {
    format!("{offset:040}")
}

fn segments(fs: &Fs, dir: &Arc<Path>) -> Vec<Arc<Segment>> {
    let found = files(dir, ".log").into_iter().map(|path| {
        let base_offset = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let size = fs.size(&path).unwrap();
        Arc::new(Segment::found(fs, dir, base_offset, size))
    });
    found.collect()
}

fn rewrite(fs: &Fs, dir: &Arc<Path>) -> Result<Swap, Error> {
    let old = &segments(fs, dir)[..REWRITTEN];
    let kept = old.iter().map(|segment| Kept {
        segment,
        range: 0..segment.size() / 2,
    });
    Swap::commit(fs, dir, old, kept)
}

const BEFORE: [i64; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const AFTER: [i64; 7] = [0, 2, 4, 6, 7, 8, 9];

#[test]
fn several_segments_become_one_that_keeps_the_given_batches() {
    let machine = Machine::new();
    machine.rewrite().unwrap();
    let data = machine.dir.path().join("data");
    assert_eq!(files(&data.join("t-0"), ".log").len(), 5 - REWRITTEN + 1);
    assert_eq!(machine.records(&machine.disk, machine.dir.path()), AFTER);
    // The first start was not followed by a clean shutdown.
    assert!(!data.join(".kafka_cleanshutdown").exists());
    assert_eq!(machine.records(&machine.disk, machine.dir.path()), AFTER);
}

#[test]
fn the_list_of_segments_has_the_new_one_in_place_of_the_old_ones() {
    let machine = Machine::new();
    let fs = Fs::new();
    let dir: Arc<Path> = machine.dir.path().join("data/t-0").into();
    let swap = rewrite(&fs, &dir).unwrap();
    let others = segments(&fs, &dir).split_off(REWRITTEN);
    let all = [swap.replaced.clone(), others].concat();
    let log = Log::new(&fs, dir, all);
    log.replace(&swap.replaced, &swap.segment);
    let bases: Vec<i64> = (log.segments().iter())
        .map(|segment| segment.base_offset)
        .collect();
    assert_eq!(bases, [0, 6, 8]);
    assert!(Arc::ptr_eq(&log.segments()[0], &swap.segment));
}

/// Returns which of the possible states of a disk is left after a power failure: always the first, always the second, or
/// different ones.
fn choices(luck: u64) -> impl FnMut(u64) -> u64 {
    let mut step = luck;
    move |count| {
        step += 1;
        match luck {
            0 | 1 => luck.min(count - 1),
            _ => step.wrapping_mul(0x9e37_79b9) % count,
        }
    }
}

/// Power fails, or the process is killed, at each change that the rewrite makes to the disk.
#[test]
fn an_interrupted_rewrite_leaves_the_old_segments_or_the_new_one() {
    let (mut old, mut new) = (0, 0);
    for changes in 0.. {
        let mut completed = false;
        for luck in 0..6 {
            let machine = Machine::new();
            machine.disk.fail_power_after(changes);
            completed = machine.rewrite().is_ok();
            let after = scratch();
            let root = after.path().canonicalize().unwrap();
            let disk = (machine.disk.after_power_loss(&root, &mut choices(luck))).unwrap();
            // The second start finds what the first one left.
            let found = [(); 2].map(|()| machine.records(&disk, &root));
            assert_eq!(found[0], found[1]);
            match found[0] == AFTER {
                true => new += 1,
                false => {
                    assert_eq!(found[0], BEFORE, "{changes} changes, luck {luck}");
                    assert!(!completed);
                    old += 1;
                }
            }
            // The same without a power failure: all changes arrive.
            let killed = scratch();
            let root = killed.path().canonicalize().unwrap();
            let disk = (machine.disk.after_power_loss(&root, &mut |_| 1)).unwrap();
            let found = machine.records(&disk, &root);
            assert!(found == BEFORE || found == AFTER, "{found:?}");
        }
        if completed {
            break;
        }
    }
    assert!(old > 0 && new > 0);
}

/// Power fails at each change that a repair makes to the disk.
#[test]
fn an_interrupted_repair_leaves_the_corrupt_bytes_in_the_segment_or_in_the_copy() {
    for changes in 0.. {
        let mut completed = false;
        for luck in 0..6 {
            let machine = Machine::new();
            let fs = Fs::on_disk(Arc::clone(&machine.disk), Faults::new());
            let dir = machine.dir.path().canonicalize().unwrap().join("data/t-0");
            let segment = segments(&fs, &dir.as_path().into()).remove(0);
            let size = segment.size();
            let damage = Damage {
                range: 0..size / 2,
                offset: 0,
                reason: "test".to_string(),
            };
            let corrupt = segment.read(0, size as usize / 2).unwrap();
            machine.disk.fail_power_after(changes);
            completed = remove_corrupt_ranges(
                &fs,
                &dir.as_path().into(),
                &segment,
                size,
                std::slice::from_ref(&damage),
            )
            .and_then(|swap| swap.complete(&fs, &dir))
            .is_ok();
            let after = scratch();
            let root = after.path().canonicalize().unwrap();
            let disk = (machine.disk.after_power_loss(&root, &mut choices(luck))).unwrap();
            if machine.records(&disk, &root) == BEFORE {
                continue;
            }
            let copies = files(&root.join("data/t-0"), ".damaged");
            assert_eq!(copies.len(), 1, "{changes} changes, luck {luck}");
            assert_eq!(std::fs::read(&copies[0]).unwrap(), corrupt);
        }
        if completed {
            break;
        }
    }
}

#[test]
fn a_recovery_that_is_interrupted_completes_the_rewrite_later() {
    interrupt_recovery_of(&AFTER, |fs, dir| {
        rewrite(fs, dir).unwrap();
    });
}

#[test]
fn a_recovery_that_is_interrupted_completes_a_replacement_of_kafka_later() {
    interrupt_recovery_of(&BEFORE, |fs, dir| {
        let old = &segments(fs, dir)[..REWRITTEN];
        let swap = fs.create(&old[0].path("log.swap")).unwrap();
        let mut size = 0;
        for segment in old {
            let content = segment.read(0, segment.size() as usize).unwrap();
            swap.write_all_at(&content, size).unwrap();
            size += segment.size();
        }
        swap.sync_data().unwrap();
        let first = old[0].log_path();
        fs.rename(first, &first.with_extension("log.deleted"))
            .unwrap();
        fs.sync_dir(dir).unwrap();
    });
}

/// Power fails at each change that recovery makes to a log left in this state.
fn interrupt_recovery_of(records: &[i64], leave: impl Fn(&Fs, &Arc<Path>)) {
    for changes in 0.. {
        let machine = Machine::new();
        let fs = Fs::on_disk(Arc::clone(&machine.disk), Faults::new());
        let root = machine.dir.path().canonicalize().unwrap();
        leave(&fs, &root.join("data/t-0").as_path().into());
        machine.disk.fail_power_after(changes);
        let opened = machine.try_open(fs, &root, vec![machine.spec.clone()]);
        for luck in 0..3 {
            let after = scratch();
            let root = after.path().canonicalize().unwrap();
            let mut choose = |count: u64| luck.min(count - 1);
            let disk = machine.disk.after_power_loss(&root, &mut choose).unwrap();
            assert_eq!(machine.records(&disk, &root), records, "{changes} changes");
        }
        if opened.is_ok() {
            break;
        }
    }
}

#[test]
fn readers_of_an_old_segment_keep_its_file_and_no_new_reader_opens_it() {
    let machine = Machine::new();
    let fs = Fs::new();
    let dir: Arc<Path> = machine.dir.path().join("data/t-0").into();
    let swap = rewrite(&fs, &dir).unwrap();
    let old = &swap.replaced[1];
    let (open, content) = (old.file().unwrap(), old.read(0, 100).unwrap());
    swap.complete(&fs, &dir).unwrap();
    let mut read = vec![0; 100];
    open.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, content);
    for old in &swap.replaced {
        assert!(old.file().unwrap_err().is_absent());
    }
    assert_eq!(swap.segment.read(0, 1).unwrap().len(), 1);
    // A call that is repeated after an error at its end changes nothing.
    swap.complete(&fs, &dir).unwrap();
    assert_eq!(machine.records(&machine.disk, machine.dir.path()), AFTER);
}

#[test]
fn a_rewrite_that_fails_leaves_no_files() {
    for (op, path_part) in [
        (Op::Write, ".cleaned"),
        (Op::SyncData, ".cleaned"),
        (Op::Rename, ".cleaned"),
        (Op::SyncDir, "t-0"),
    ] {
        let machine = Machine::new();
        let faults = Faults::new();
        let fs = Fs::with_faults(Arc::clone(&faults));
        let dir: Arc<Path> = machine.dir.path().join("data/t-0").into();
        let before = files(&dir, "");
        faults.plan(op, path_part, Fault::Error(ErrorKind::Other), 1);
        assert!(rewrite(&fs, &dir).is_err());
        assert_eq!(files(&dir, ""), before, "{op:?}");
    }
}

/// Makes the first batch of a closed segment invalid, as found by the next read of it.
fn with_damage() -> Fixture {
    let mut fixture = Fixture::new(&[("internal.segment.bytes", "280"), ("retention.ms", "1000")]);
    for value in ["a", "b", "c", "d", "e", "f"] {
        fixture.append(&[value]);
    }
    fixture.restart();
    let log = files(&fixture.log_dir(), ".log").remove(0);
    let mut content = std::fs::read(&log).unwrap();
    content[65] ^= 1;
    std::fs::write(&log, content).unwrap();
    fixture
}

#[test]
fn a_repair_whose_files_cannot_be_replaced_serves_its_result_and_is_completed_later() {
    let completions: [fn(&mut Fixture); 4] = [
        |fixture| fixture.topics.retain(NOW_MS),
        |fixture| {
            fixture.partition().delete_records(0).unwrap();
        },
        Fixture::restart,
        Fixture::crash,
    ];
    for complete in completions {
        for (op, path_part) in [(Op::Remove, ".index"), (Op::Rename, ".swap")] {
            let mut fixture = with_damage();
            let failing = Fault::Error(ErrorKind::Other);
            fixture.faults.plan(op, path_part, failing, 1);
            let found = fixture.values();
            assert_eq!(found.len(), 5, "{found:?}");
            assert_eq!(fixture.damaged_ranges(), 1);
            assert_eq!(files(&fixture.log_dir(), ".swap").len(), 1);
            complete(&mut fixture);
            assert_eq!(files(&fixture.log_dir(), ".swap").len(), 0);
            assert_eq!(fixture.values(), found);
            fixture.restart();
            assert_eq!(fixture.values(), found);
        }
    }
}

#[test]
fn a_clean_shutdown_completes_a_repair() {
    let fixture = with_damage();
    let failing = Fault::Error(ErrorKind::Other);
    fixture.faults.plan(Op::Rename, ".swap", failing, 1);
    assert_eq!(fixture.values().len(), 5);
    assert_eq!(files(&fixture.log_dir(), ".swap").len(), 1);
    fixture.topics.close().unwrap();
    assert_eq!(files(&fixture.log_dir(), ".swap").len(), 0);
}

#[test]
fn an_unfinished_repair_of_a_deleted_topic_leaves_a_new_one_of_its_name_alone() {
    let fixture = with_damage();
    let failing = Fault::Error(ErrorKind::Other);
    fixture.faults.plan(Op::Rename, ".swap", failing, 1);
    assert_eq!(fixture.values().len(), 5);
    let deleted = fixture.partition();
    fixture.topics.delete("t").unwrap();
    let renewed = TopicSpec {
        id: Uuid::new_v4(),
        ..fixture.spec.clone()
    };
    fixture.topics.create(renewed).unwrap();
    for value in ["a", "b", "c", "d", "e", "f"] {
        fixture.append(&[value]);
    }
    fixture.partition().flush().unwrap();
    let sound = files(&fixture.log_dir(), "");
    assert_eq!(files(&fixture.log_dir(), ".index").len(), 1);
    let refused = deleted.delete_records(0).unwrap_err();
    assert!(matches!(refused, Error::Deleted), "{refused}");
    assert_eq!(files(&fixture.log_dir(), ""), sound);
}

#[test]
fn retention_waits_for_a_repair_to_be_completed() {
    let fixture = with_damage();
    let failing = Fault::Error(ErrorKind::Other);
    fixture.faults.plan(Op::Rename, ".swap", failing, 2);
    assert_eq!(fixture.values().len(), 5);
    fixture.topics.retain(NOW_MS + 5_000);
    assert_eq!(fixture.values().len(), 5);
    fixture.topics.retain(NOW_MS + 5_000);
    assert_eq!(fixture.values(), []);
    assert_eq!(files(&fixture.log_dir(), ".log").len(), 1);
}

#[test]
fn appends_and_other_reads_do_not_wait_for_a_repair() {
    for (op, path_part) in [(Op::Write, ".cleaned"), (Op::Rename, ".swap")] {
        let fixture = with_damage();
        fixture.faults.plan(op, path_part, Fault::Hang, 1);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| fixture.values());
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            while fixture.faults.calls(op, path_part) == 0 {
                assert!(std::time::Instant::now() < deadline, "nothing is rewritten");
                std::thread::yield_now();
            }
            let others = scope.spawn(|| {
                fixture.append(&["g"]);
                // From the segment that is rewritten, after the corrupt batch.
                let fetched = fixture.partition().read_now(ReadOptions::at(1, 1)).unwrap();
                assert!(fetched.records.is_some());
            });
            while !others.is_finished() && std::time::Instant::now() < deadline {
                std::thread::yield_now();
            }
            let are_free = others.is_finished();
            fixture.faults.heal();
            assert!(are_free, "{op:?} of {path_part}");
            assert!(reader.join().unwrap().len() >= 5);
        });
        assert_eq!(fixture.values().len(), 6);
    }
}
