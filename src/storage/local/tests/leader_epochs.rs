//! Leader epochs begin where a log may have lost records that consumers have read, and nowhere else.

use super::*;

impl Fixture {
    /// Lets the next start believe that the machine was restarted since the logs were written.
    fn forget_boot(&self) {
        std::fs::write(self.dir.path().join(".streamline-boot"), "another boot").unwrap();
    }

    fn epoch(&self) -> i32 {
        self.partition().leader_epoch().unwrap()
    }

    fn end_of(&self, epoch: i32) -> (i32, i64) {
        self.partition().end_offset_for_epoch(epoch).unwrap()
    }

    /// Removes everything from a position of the first segment on.
    fn cut_log(&self, size: u64) {
        let log = self.log_dir().join("00000000000000000000.log");
        let file = std::fs::OpenOptions::new().write(true).open(log).unwrap();
        file.set_len(size).unwrap();
    }

    fn raised_epochs(&self) -> u64 {
        self.topics.environment.counters.raised_epochs.value()
    }
}

/// Returns the epochs stamped into the batches of the log.
fn stamped(partition: &Arc<Partition>) -> Vec<i32> {
    let read = partition.read_now(ReadOptions::at(0, 1 << 20)).unwrap();
    let records = read.records.unwrap().to_bytes().unwrap();
    let batches = RecordBatch::split(records).unwrap();
    let epochs = batches.iter();
    epochs
        .map(|batch| batch.header().partition_leader_epoch)
        .collect()
}

#[test]
fn a_restart_of_the_machine_begins_a_new_epoch_at_the_end_of_the_log() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["a"]);
    let kept = batch(&["a"]).size_bytes() as u64;
    fixture.append(&["lost", "too"]);
    // Nothing is left of the lost batch, so that the log seems to be complete.
    fixture.cut_log(kept);
    fixture.forget_boot();
    fixture.crash();
    assert_eq!((fixture.epoch(), fixture.raised_epochs()), (1, 1));
    fixture.append(&["b", "c", "d"]);
    assert_eq!((fixture.end_of(0), fixture.end_of(1)), ((0, 1), (1, 4)));
    assert_eq!(stamped(&fixture.partition()), [0, 1]);
    // The epochs survive every kind of restart.
    fixture.crash();
    fixture.restart();
    assert_eq!((fixture.end_of(0), fixture.end_of(1)), ((0, 1), (1, 4)));
    fixture.forget_boot();
    fixture.crash();
    assert_eq!((fixture.epoch(), fixture.end_of(1)), (2, (1, 4)));
}

#[test]
fn no_epoch_begins_if_nothing_can_have_been_lost() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["a"]);
    fixture.crash();
    assert_eq!(fixture.epoch(), 0, "the process was killed");
    fixture.topics.close().unwrap();
    fixture.forget_boot();
    fixture.crash();
    assert_eq!(fixture.epoch(), 0, "the shutdown was clean");
    fixture.topics.add_partitions("t", 2).unwrap();
    let added = fixture.topics.partition("t", 1).unwrap();
    assert_eq!(added.leader_epoch().unwrap(), 0);
}

#[test]
fn a_truncation_begins_a_new_epoch() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["a"]);
    fixture.append(&["b"]);
    fixture.cut_log(batch(&["a"]).size_bytes() as u64 + 10);
    fixture.crash();
    assert_eq!((fixture.epoch(), fixture.end_of(0)), (1, (0, 1)));
}

#[test]
fn an_empty_log_may_have_lost_records_too() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["lost"]);
    std::fs::remove_dir_all(fixture.log_dir()).unwrap();
    fixture.forget_boot();
    fixture.crash();
    assert_eq!((fixture.epoch(), fixture.end_of(0)), (1, (0, 0)));
}

#[test]
fn a_recovery_that_was_interrupted_is_repeated_with_the_same_knowledge() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["a"]);
    fixture.forget_boot();
    let fault = Fault::Error(ErrorKind::PermissionDenied);
    fixture
        .faults
        .plan(Op::Rename, "leader-epoch-checkpoint", fault, 1);
    let refused = open(
        &fixture.dir,
        &fixture.clock,
        &fixture.metrics,
        &fixture.faults,
        fixture.durability,
        0,
        vec![fixture.spec.clone()],
    );
    assert!(refused.is_err());
    fixture.faults.heal();
    fixture.crash();
    assert_eq!(fixture.epoch(), 1);
}
