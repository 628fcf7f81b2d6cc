//! Models of wake-ups: a fetch that waits for records is woken whenever they are appended. If a wake-up is lost, loom
//! reports that all threads are blocked.

use std::sync::Arc;

use loom::thread;
use models::explore;
use models::storage::Partition;
use models::sync::Notify;

/// Waits for `enough` records as a fetch does: watch, then check, then wait.
fn fetch(partitions: &[Arc<Partition>], enough: i64) {
    let waiter = Arc::new(Notify::default());
    let watches: Vec<_> = partitions.iter().map(|each| each.watch(&waiter)).collect();
    while partitions
        .iter()
        .map(|each| each.high_watermark())
        .sum::<i64>()
        < enough
    {
        waiter.wait();
    }
    drop(watches);
    assert_eq!(
        Arc::strong_count(&waiter),
        1,
        "a watch leaves nothing behind"
    );
}

/// An append before, between or after watching, checking and waiting.
#[test]
fn a_wake_up_between_watching_and_waiting_is_not_lost() {
    explore(5, || {
        let partition = Arc::new(Partition::default());
        let appender = thread::spawn({
            let partition = Arc::clone(&partition);
            move || partition.append()
        });
        fetch(&[partition], 1);
        appender.join().unwrap();
    });
}

/// Several appends, of which the first is not enough.
#[test]
fn a_fetch_that_waits_again_is_woken_by_the_next_append() {
    explore(3, || {
        let partition = Arc::new(Partition::default());
        let appenders = [(); 2].map(|()| {
            let partition = Arc::clone(&partition);
            thread::spawn(move || partition.append())
        });
        fetch(&[partition], 2);
        for appender in appenders {
            appender.join().unwrap();
        }
    });
}

/// A fetch ends, or its client disconnects, while another begins to wait.
#[test]
fn a_fetch_that_ends_does_not_consume_the_wake_up_of_another() {
    explore(3, || {
        let partition = Arc::new(Partition::default());
        let leaver = thread::spawn({
            let partition = Arc::clone(&partition);
            move || drop(partition.watch(&Arc::new(Notify::default())))
        });
        let appender = thread::spawn({
            let partition = Arc::clone(&partition);
            move || partition.append()
        });
        fetch(&[partition], 1);
        appender.join().unwrap();
        leaver.join().unwrap();
    });
}

/// Two fetches wait for the same append.
#[test]
fn all_waiting_fetches_are_woken() {
    explore(3, || {
        let partition = Arc::new(Partition::default());
        let fetcher = thread::spawn({
            let partition = Arc::clone(&partition);
            move || fetch(&[partition], 1)
        });
        let appender = thread::spawn({
            let partition = Arc::clone(&partition);
            move || partition.append()
        });
        fetch(&[partition], 1);
        appender.join().unwrap();
        fetcher.join().unwrap();
    });
}

/// One fetch watches two partitions, each with its own writer.
#[test]
fn a_fetch_from_two_partitions_is_woken_by_both() {
    explore(3, || {
        let partitions = [(); 2].map(|()| Arc::new(Partition::default()));
        let appenders = partitions
            .clone()
            .map(|partition| thread::spawn(move || partition.append()));
        fetch(&partitions, 2);
        for appender in appenders {
            appender.join().unwrap();
        }
    });
}
