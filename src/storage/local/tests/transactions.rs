//! Transactions across rolls, restarts, crashes and repairs: their index files, and the last stable offset.

use super::*;
use crate::storage::committed_reader::committed;
use crate::storage::{TransactionMarker, TransactionOutcome};
use TransactionOutcome::{Abort, Commit};

fn transactional(id: i64, sequence: i32, value: &str) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None)
        .producer(id, 0, sequence)
        .transactional();
    builder.push(NOW_MS, None, Some(value.as_bytes()), &[]);
    builder.build().unwrap()
}

fn marker(producer_id: i64, outcome: TransactionOutcome) -> TransactionMarker {
    TransactionMarker {
        producer_id,
        producer_epoch: 0,
        coordinator_epoch: 0,
        outcome,
    }
}

impl Fixture {
    fn begin(&self, id: i64, sequence: i32, value: &str) {
        let batches = vec![transactional(id, sequence, value)];
        let appended = self.partition().append_unflushed(batches, ACKS_LEADER);
        appended.unwrap();
    }

    fn end(&self, id: i64, outcome: TransactionOutcome) {
        block_on(
            self.partition()
                .end_transaction(marker(id, outcome), ACKS_LEADER),
        )
        .unwrap();
    }

    /// Returns the values that a reader of committed records sees.
    fn committed(&self) -> Vec<String> {
        let at_once = committed(&*self.partition(), 1 << 20);
        assert_eq!(committed(&*self.partition(), 1), at_once);
        at_once.into_iter().map(|(_, value)| value).collect()
    }

    fn last_stable(&self) -> i64 {
        self.partition().offsets().last_stable
    }

    fn transaction_indexes(&self) -> Vec<std::path::PathBuf> {
        files(&self.log_dir(), ".txnindex")
    }

    /// Appends transactions of producers 1, 2, …, of which those with an even number are committed.
    fn run_transactions(&self, ids: std::ops::RangeInclusive<i64>) {
        for id in ids {
            self.begin(id, 0, &format!("{id:040}"));
            self.end(id, if id % 2 == 0 { Commit } else { Abort });
        }
    }

    fn assert_committed(&self, ids: &[i64]) {
        let expected: Vec<_> = ids.iter().map(|id| format!("{id:040}")).collect();
        assert_eq!(self.committed(), expected);
    }
}

#[test]
fn a_decided_transaction_holds_the_last_stable_offset_until_its_marker_is_flushed() {
    let fixture = Fixture::new(&[]);
    let partition = fixture.partition();
    fixture.begin(1, 0, "a");
    fixture.begin(2, 0, "b");
    let ended = partition.end_transaction(marker(1, Abort), ACKS_ALL);
    fixture.end(2, Commit);
    let offsets = partition.offsets();
    assert_eq!((offsets.last_stable, offsets.high_watermark), (0, 2));
    assert_eq!(fixture.committed(), [""; 0]);
    block_on(ended).unwrap();
    let offsets = partition.offsets();
    assert_eq!((offsets.last_stable, offsets.high_watermark), (4, 4));
    assert_eq!(fixture.committed(), ["b"]);
}

#[test]
fn open_transactions_and_aborted_ones_survive_a_restart_and_a_crash() {
    let mut fixture = Fixture::new(SMALL_SEGMENTS);
    fixture.run_transactions(1..=9);
    fixture.begin(10, 0, "open");
    let open = fixture.last_stable();
    fixture.append(&["behind"]);
    for _ in 0..2 {
        fixture.assert_committed(&[2, 4, 6, 8]);
        assert_eq!(fixture.last_stable(), open);
        fixture.restart();
        fixture.assert_committed(&[2, 4, 6, 8]);
        assert_eq!(fixture.last_stable(), open);
        fixture.crash();
    }
    let producers = PartitionLog::producers(&*fixture.partition()).unwrap();
    let open_ones = producers
        .iter()
        .filter_map(|it| it.transaction_start_offset);
    assert_eq!(open_ones.collect::<Vec<_>>(), [open]);
    fixture.end(10, Abort);
    let committed = fixture.committed();
    assert_eq!(committed.len(), 5);
    assert_eq!(committed[4], "behind");
    fixture.crash();
    assert_eq!(fixture.committed(), committed);
    fixture.restart();
    assert_eq!(fixture.committed(), committed);
}

#[test]
fn the_index_of_a_segment_has_the_layout_of_kafka() {
    let mut fixture = Fixture::new(&[]);
    fixture.begin(0x0102, 0, "a");
    fixture.begin(7, 0, "b");
    fixture.end(0x0102, Abort);
    fixture.end(7, Commit);
    assert_eq!(fixture.transaction_indexes().len(), 0);
    fixture.restart();
    let [index] = &fixture.transaction_indexes()[..] else {
        panic!("one segment with aborted transactions");
    };
    let mut expected = vec![0, 0];
    for number in [0x0102_i64, 0, 2, 1] {
        expected.extend_from_slice(&number.to_be_bytes());
    }
    assert_eq!(std::fs::read(index).unwrap(), expected);
}

#[test]
fn an_index_that_is_invalid_or_lost_with_the_other_index_is_rebuilt() {
    let mut fixture = Fixture::new(SMALL_SEGMENTS);
    // Producer 50 has a transaction open over several segments.
    fixture.begin(50, 0, "long");
    fixture.run_transactions(1..=9);
    fixture.end(50, Abort);
    fixture.run_transactions(10..=12);
    let ids = [2, 4, 6, 8, 10, 12];
    fixture.assert_committed(&ids);
    fixture.restart();
    let indexes = fixture.transaction_indexes();
    assert!(indexes.len() > 3, "{indexes:?}");
    let sound: Vec<_> = indexes
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    for (number, (path, content)) in indexes.iter().zip(&sound).enumerate() {
        fixture.topics.close().unwrap();
        match number % 4 {
            0 => std::fs::write(path, &content[1..]).unwrap(),
            1 => std::fs::write(path, [&[1][..], &content[1..]].concat()).unwrap(),
            2 => std::fs::write(path, [&content[..], content].concat()).unwrap(),
            _ => {
                std::fs::remove_file(path).unwrap();
                std::fs::remove_file(path.with_extension("index")).unwrap();
            }
        }
        fixture.crash();
        assert_eq!(std::fs::read(path).unwrap(), *content, "{number}");
        fixture.assert_committed(&ids);
    }
}

#[test]
fn indexes_are_removed_with_their_segments() {
    let mut fixture = Fixture::new(SMALL_SEGMENTS);
    fixture.run_transactions(1..=9);
    fixture.append(&["last"]);
    let end = fixture.partition().offsets().log_end;
    assert!(fixture.transaction_indexes().len() > 3);
    block_on(fixture.partition().delete_before(end - 1)).unwrap();
    assert!(fixture.transaction_indexes().len() <= 1);
    assert_eq!(fixture.committed(), ["last"]);
    // An index whose segment is gone is left by a crash during its removal.
    let stray = fixture.log_dir().join(format!("{:020}.txnindex", 1));
    std::fs::write(&stray, [0; 34]).unwrap();
    fixture.restart();
    assert!(!stray.exists());
    assert_eq!(fixture.committed(), ["last"]);
}

#[test]
fn a_repaired_segment_keeps_the_aborted_transactions_whose_markers_it_has() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["damaged"]);
    fixture.run_transactions(1..=4);
    fixture.begin(5, 0, "open");
    fixture.restart();
    let log = files(&fixture.log_dir(), ".log").remove(0);
    let mut content = std::fs::read(&log).unwrap();
    content[65] ^= 1;
    std::fs::write(&log, &content).unwrap();
    fixture.assert_committed(&[2, 4]);
    assert_eq!(fixture.damaged_ranges(), 1);
    assert_eq!(fixture.last_stable(), 9);
    fixture.end(5, Commit);
    assert_eq!(fixture.committed().len(), 3);
    fixture.crash();
    assert_eq!(fixture.committed().len(), 3);
    fixture.restart();
    assert_eq!(fixture.committed().len(), 3);
}

#[test]
fn a_segment_is_rolled_when_its_transaction_index_is_full() {
    let fixture = Fixture::new(&[("segment.index.bytes", "340")]);
    fixture.run_transactions(1..=60);
    assert_eq!(fixture.transaction_indexes().len(), 3);
    fixture.assert_committed(&(1..=30).map(|half| half * 2).collect::<Vec<_>>());
}

#[test]
fn a_corrupt_snapshot_does_not_hide_an_open_transaction() {
    let mut fixture = Fixture::new(&[]);
    fixture.append(&["before"]);
    fixture.begin(1, 0, "open");
    fixture.topics.close().unwrap();
    for snapshot in files(&fixture.log_dir(), ".snapshot") {
        std::fs::write(snapshot, "corrupt").unwrap();
    }
    fixture.crash();
    assert_eq!(fixture.last_stable(), 1);
    assert_eq!(fixture.committed(), ["before"]);
}

#[test]
fn readers_behind_many_segments_find_what_was_aborted_later() {
    let fixture = Fixture::new(SMALL_SEGMENTS);
    let values: Vec<String> = (0..40).map(|number| format!("{number:040}")).collect();
    fixture.begin(100, 0, "long");
    for value in &values {
        fixture.append(&[value]);
    }
    fixture.end(100, Abort);
    for value in &values {
        fixture.append(&[value]);
    }
    assert_eq!(fixture.transaction_indexes().len(), 1);
    assert_eq!(fixture.committed(), [&values[..], &values].concat());
}
