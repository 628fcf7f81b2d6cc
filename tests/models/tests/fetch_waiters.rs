//! Wake-ups: whoever waits for more records hears of them, whenever they come. A model in which one is lost ends with
//! loom's word that all threads are blocked.

use std::sync::Arc;

use loom::thread;
use models::explore;
use models::storage::Partition;
use models::sync::Notify;

/// As a fetch does it: watch, then look, then wait, until there is enough.
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

/// An append at any moment before, between or after watching, looking and waiting.
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
fn who_waits_on_after_a_wake_up_hears_of_the_next() {
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

/// A fetch is answered, or its client hangs up, while another begins to wait.
#[test]
fn who_leaves_takes_nobody_elses_wake_up_along() {
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
fn everyone_who_waits_is_woken() {
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

/// One waiter watches two partitions, each with a writer of its own.
#[test]
fn a_fetch_from_two_partitions_hears_of_both() {
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
