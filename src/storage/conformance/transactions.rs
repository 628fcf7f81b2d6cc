//! Transactions.

use super::*;
use crate::storage::committed_reader::{committed, read};

fn transactional(id: i64, epoch: i16, sequence: i32, values: &[&str]) -> RecordBatch {
    let builder = BatchBuilder::new(Compression::None)
        .producer(id, epoch, sequence)
        .transactional();
    build(builder, NOW_MS, values)
}

fn marker(producer_id: i64, producer_epoch: i16, outcome: TransactionOutcome) -> TransactionMarker {
    TransactionMarker {
        producer_id,
        producer_epoch,
        coordinator_epoch: 3,
        outcome,
    }
}

use TransactionOutcome::{Abort, Commit};

impl Fixture {
    fn end(&self, marker: TransactionMarker) -> Result<Appended, Error> {
        let options = AppendOptions { acks: Acks::Leader };
        let ticket = self.partition().end_transaction(marker, options);
        ticket.now_or_never().unwrap()
    }

    /// Returns the values that a reader of committed records sees; the same however it reads.
    fn committed(&self) -> Vec<String> {
        let at_once = committed(&*self.partition(), 1 << 20);
        assert_eq!(committed(&*self.partition(), 1), at_once, "{}", self.name);
        at_once.into_iter().map(|(_, value)| value).collect()
    }

    fn last_stable(&self) -> i64 {
        self.partition().offsets().last_stable
    }

    fn producer(&self, id: i64) -> Option<ProducerInfo> {
        let producers = self.partition().producers().unwrap();
        producers.into_iter().find(|it| it.producer_id == id)
    }
}

#[test]
fn records_of_a_transaction_become_readable_with_its_marker() {
    for outcome in [Commit, Abort] {
        with_each(&[], |fixture| {
            fixture.append(batch(&["before"])).unwrap();
            fixture.append(transactional(7, 0, 0, &["a", "b"])).unwrap();
            fixture.append(batch(&["between"])).unwrap();
            fixture.append(transactional(7, 0, 2, &["c"])).unwrap();
            assert_eq!(fixture.committed(), ["before"]);
            let offsets = fixture.partition().offsets();
            assert_eq!((offsets.last_stable, offsets.high_watermark), (1, 5));
            assert_eq!(fixture.partition().snapshot().offsets, offsets);
            let ended = fixture.end(marker(7, 0, outcome)).unwrap();
            assert_eq!((ended.base_offset, ended.last_offset), (5, 5));
            assert_eq!(fixture.last_stable(), 6);
            match outcome {
                Commit => assert_eq!(fixture.committed(), ["before", "a", "b", "between", "c"]),
                Abort => assert_eq!(fixture.committed(), ["before", "between"]),
            }
            assert_eq!(fixture.records().len(), 6);
        });
    }
}

#[test]
fn the_last_stable_offset_is_where_the_oldest_open_transaction_begins() {
    with_each(&[], |fixture| {
        for (id, value) in [(1, "one"), (2, "two"), (3, "three")] {
            fixture.append(transactional(id, 0, 0, &[value])).unwrap();
        }
        assert_eq!(fixture.last_stable(), 0);
        fixture.end(marker(2, 0, Abort)).unwrap();
        assert_eq!(fixture.last_stable(), 0);
        fixture.end(marker(1, 0, Commit)).unwrap();
        assert_eq!(fixture.last_stable(), 2);
        assert_eq!(fixture.committed(), ["one"]);
        fixture.append(transactional(1, 0, 1, &["four"])).unwrap();
        fixture.end(marker(3, 0, Commit)).unwrap();
        assert_eq!(fixture.last_stable(), 5);
        assert_eq!(fixture.committed(), ["one", "three"]);
        fixture.end(marker(1, 0, Abort)).unwrap();
        assert_eq!(fixture.last_stable(), 8);
        assert_eq!(fixture.committed(), ["one", "three"]);
    });
}

#[test]
fn a_read_lists_the_aborted_transactions_that_overlap_it() {
    with_each(&[], |fixture| {
        fixture.append(transactional(1, 0, 0, &["a"])).unwrap();
        fixture.append(transactional(2, 0, 0, &["b"])).unwrap();
        fixture.end(marker(2, 0, Abort)).unwrap();
        fixture.append(transactional(3, 0, 0, &["c"])).unwrap();
        fixture.end(marker(3, 0, Commit)).unwrap();
        fixture.end(marker(1, 0, Abort)).unwrap();
        fixture.append(batch(&["d"])).unwrap();
        let aborted = |producer_id, first_offset| AbortedTransaction {
            producer_id,
            first_offset,
        };
        for (offset, max_bytes, expected) in [
            (0, usize::MAX, vec![aborted(1, 0), aborted(2, 1)]),
            (0, 1, vec![aborted(1, 0)]),
            (1, 1, vec![aborted(1, 0), aborted(2, 1)]),
            (3, usize::MAX, vec![aborted(1, 0)]),
            (6, usize::MAX, vec![]),
            (7, usize::MAX, vec![]),
        ] {
            let fetched = read(&*fixture.partition(), offset, max_bytes);
            assert_eq!(fetched.aborted, expected, "{}: {offset}", fixture.name);
        }
        let uncommitted = fixture.read(ReadOptions::at(0, usize::MAX)).unwrap();
        assert_eq!(uncommitted.aborted, []);
    });
}

#[test]
fn a_batch_outside_the_open_transaction_of_its_producer_is_refused() {
    with_each(&[], |fixture| {
        fixture.append(transactional(7, 0, 0, &["a"])).unwrap();
        let outside = || {
            let builder = BatchBuilder::new(Compression::None).producer(7, 0, 1);
            build(builder, NOW_MS, &["b"])
        };
        let refused = fixture.append(outside()).unwrap_err();
        assert!(matches!(refused, Error::TransactionOpen { producer_id: 7 }));
        assert!(
            fixture
                .append(transactional(7, 0, 0, &["a"]))
                .unwrap()
                .duplicate
        );
        fixture.end(marker(7, 0, Commit)).unwrap();
        fixture.append(outside()).unwrap();
        assert_eq!(fixture.committed(), ["a", "b"]);
    });
}

#[test]
fn clients_cannot_write_markers_or_transactions_without_a_producer() {
    with_each(&[], |fixture| {
        let marker = marker(7, 0, Commit).to_batch(NOW_MS, false).unwrap();
        let anonymous = BatchBuilder::new(Compression::None).transactional();
        for refused in [marker, build(anonymous, NOW_MS, &["a"])] {
            let refused = fixture.append(refused).unwrap_err();
            assert!(matches!(refused, Error::NotAClientBatch));
        }
        assert_eq!(fixture.partition().offsets().log_end, 0);
    });
}

#[test]
fn a_marker_raises_the_epoch_and_resets_the_sequence() {
    with_each(&[], |fixture| {
        fixture.append(transactional(7, 4, 0, &["a"])).unwrap();
        let refused = fixture.end(marker(7, 3, Commit)).unwrap_err();
        assert!(matches!(
            refused,
            Error::ProducerFenced {
                current: 4,
                got: 3,
                ..
            }
        ));
        fixture.end(marker(7, 5, Commit)).unwrap();
        let refused = fixture.append(transactional(7, 4, 1, &["b"])).unwrap_err();
        assert!(matches!(
            refused,
            Error::ProducerFenced {
                current: 5,
                got: 4,
                ..
            }
        ));
        let refused = fixture.append(transactional(7, 5, 1, &["b"])).unwrap_err();
        assert!(matches!(
            refused,
            Error::OutOfOrderSequence {
                expected: 0,
                got: 1,
                ..
            }
        ));
        fixture.append(transactional(7, 5, 0, &["b"])).unwrap();
        let older = TransactionMarker {
            coordinator_epoch: 2,
            ..marker(7, 5, Commit)
        };
        let refused = fixture.end(older).unwrap_err();
        assert!(matches!(
            refused,
            Error::CoordinatorFenced {
                current: 3,
                got: 2,
                ..
            }
        ));
        fixture.end(marker(7, 5, Commit)).unwrap();
        // Without an epoch of its own for each transaction, the sequence goes on.
        fixture.append(transactional(7, 5, 1, &["c"])).unwrap();
        fixture.end(marker(7, 5, Commit)).unwrap();
        assert_eq!(fixture.committed(), ["a", "b", "c"]);
    });
}

#[test]
fn a_marker_without_an_open_transaction_is_appended() {
    with_each(&[], |fixture| {
        assert_eq!(fixture.end(marker(7, 0, Abort)).unwrap().base_offset, 0);
        fixture.append(transactional(7, 0, 0, &["a"])).unwrap();
        fixture.end(marker(7, 0, Commit)).unwrap();
        assert_eq!(fixture.end(marker(7, 0, Abort)).unwrap().base_offset, 3);
        assert_eq!(fixture.last_stable(), 4);
        assert_eq!(fixture.committed(), ["a"]);
        assert_eq!(read(&*fixture.partition(), 0, 1 << 20).aborted, []);
    });
}

#[test]
fn the_state_of_producers_is_described() {
    with_each(&[], |fixture| {
        fixture.append(batch(&["a"])).unwrap();
        fixture.append(transactional(7, 2, 0, &["b", "c"])).unwrap();
        let open = ProducerInfo {
            producer_id: 7,
            producer_epoch: 2,
            last_sequence: 1,
            last_timestamp_ms: NOW_MS,
            coordinator_epoch: -1,
            transaction_start_offset: Some(1),
        };
        assert_eq!(fixture.partition().producers().unwrap(), [open]);
        fixture.clock.advance(Duration::from_millis(5));
        fixture.end(marker(7, 3, Commit)).unwrap();
        let ended = ProducerInfo {
            producer_epoch: 3,
            last_sequence: -1,
            last_timestamp_ms: NOW_MS + 5,
            coordinator_epoch: 3,
            transaction_start_offset: None,
            ..open
        };
        assert_eq!(fixture.partition().producers().unwrap(), [ended]);
    });
}

#[test]
fn a_producer_with_an_open_transaction_does_not_expire() {
    with_each(&[], |fixture| {
        fixture.append(transactional(7, 0, 0, &["a"])).unwrap();
        let late_ms = NOW_MS + 10 * PRODUCER_EXPIRATION_MS;
        fixture.engine.retain(late_ms);
        assert_eq!(fixture.last_stable(), 0);
        fixture.clock.advance(Duration::from_millis(5));
        fixture.end(marker(7, 0, Commit)).unwrap();
        fixture.engine.retain(NOW_MS + PRODUCER_EXPIRATION_MS + 5);
        assert!(fixture.producer(7).is_some());
        fixture.engine.retain(late_ms);
        assert!(fixture.producer(7).is_none());
    });
}

#[test]
fn waiting_readers_are_notified_of_markers() {
    with_each(&[], |fixture| {
        let partition = fixture.partition();
        block_on(async {
            fixture.append(transactional(7, 0, 0, &["a"])).unwrap();
            let waiter = Arc::new(Notify::new());
            let _watch = partition.watch(&waiter);
            let options = AppendOptions { acks: Acks::All };
            let ended = partition.end_transaction(marker(7, 0, Commit), options);
            ended.await.unwrap();
            waiter.notified().await;
            assert_eq!(fixture.committed(), ["a"]);
        });
    });
}

#[test]
fn deleted_records_hold_nothing_back_beyond_the_log_start() {
    with_each(&[], |fixture| {
        fixture
            .append(transactional(7, 0, 0, &["a", "b", "c"]))
            .unwrap();
        fixture.append(batch(&["d"])).unwrap();
        for (before, last_stable) in [(1, 1), (3, 3), (4, 4)] {
            block_on(fixture.partition().delete_before(before)).unwrap();
            assert_eq!(fixture.last_stable(), last_stable, "{}", fixture.name);
            assert_eq!(fixture.committed(), [""; 0]);
        }
        fixture.append(batch(&["e"])).unwrap();
        assert_eq!(fixture.last_stable(), 4);
        fixture.end(marker(7, 0, Abort)).unwrap();
        assert_eq!(fixture.last_stable(), 6);
        assert_eq!(fixture.committed(), ["e"]);
        block_on(fixture.partition().delete_before(6)).unwrap();
        fixture.append(batch(&["f"])).unwrap();
        assert_eq!(read(&*fixture.partition(), 6, 1 << 20).aborted, []);
    });
}

#[test]
fn markers_have_the_time_of_their_append() {
    let configs = [("message.timestamp.type", "LogAppendTime")];
    with_each(&configs, |fixture| {
        fixture.clock.advance(Duration::from_millis(5));
        let ended = fixture.end(marker(7, 0, Commit)).unwrap();
        assert_eq!(ended.log_append_time_ms, Some(NOW_MS + 5));
        let found = block_on(fixture.partition().max_timestamp()).unwrap();
        assert_eq!(found.unwrap().timestamp_ms, NOW_MS + 5);
    });
}
