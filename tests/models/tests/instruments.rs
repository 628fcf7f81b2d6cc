//! Instruments: nothing recorded is lost, whichever shards the threads get, and a scrape sees no half of anything.

use std::sync::Arc;

use loom::thread;
use models::explore;
use models::metrics::slots::set_owned;
use models::metrics::{
    Counter, DoneRequest, Gauge, Histogram, RequestInstruments, SIZE, Tally, TopicCounters,
    request_instruments, topic_counters,
};

/// Runs each of `work` on a thread of its own, to its end. Who only reads stands last: loom begins with one after the
/// other and goes on from where that shows a conflict, and a load that comes before another thread's load and store of
/// the same word is none to it, while one that comes after them is.
fn run<T: 'static, const N: usize>(shared: &Arc<T>, work: [fn(&T); N]) {
    let threads = work.map(|work| {
        let shared = Arc::clone(shared);
        thread::spawn(move || work(&shared))
    });
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Threads that own a shard, inherit it from one that has ended, or share one with others.
#[test]
fn a_counter_loses_nothing_whatever_shard_a_thread_gets() {
    for owned in [0, 1, 2] {
        set_owned(owned);
        explore(3, || {
            let counter = Arc::new(Counter::new(true));
            run(&counter, [|counter| counter.add(10); 3]);
            assert_eq!(counter.value(), 30);
        });
    }
}

/// A thread goes on in the shard of one that has ended, while the counter is read.
#[test]
fn a_counter_never_goes_back() {
    set_owned(1);
    explore(3, || {
        let read: fn(&Counter) = |counter| {
            let (first, second) = (counter.value(), counter.value());
            assert!(first <= second && second <= 2, "{first}, then {second}");
        };
        run(
            &Arc::new(Counter::new(true)),
            [Counter::inc, Counter::inc, read],
        );
    });
}

/// Both of a topic's counters lie on the same cache lines.
#[test]
fn a_topics_counters_do_not_disturb_each_other() {
    for owned in [0, 1] {
        set_owned(owned);
        explore(5, || {
            let counters = Arc::new(topic_counters());
            let records: [fn(&TopicCounters); 2] = [
                |counters| counters.add_bytes_in(1),
                |counters| {
                    counters.add_bytes_out(100);
                    counters.add_bytes_in(2);
                },
            ];
            run(&counters, records);
            assert_eq!((counters.bytes_in(), counters.bytes_out()), (3, 100));
        });
    }
}

#[test]
fn a_gauge_shows_no_more_than_there_is_and_nothing_once_all_is_gone() {
    explore(5, || {
        let gauge = Arc::new(Gauge::new(true));
        let visit: fn(&Gauge) = |gauge| {
            gauge.add(1);
            gauge.add(-1);
        };
        let look: fn(&Gauge) = |gauge| assert!((0..=2).contains(&gauge.value()));
        run(&gauge, [visit, visit, look]);
        assert_eq!(gauge.value(), 0);
    });
}

/// So large that the sum of two needs its second word.
const VALUE: u64 = u64::MAX;

const RECORD: fn(&Tally) = |tally| tally.record(VALUE);

const SCRAPE: fn(&Tally) = |tally| {
    let (count, sum) = tally.read();
    assert_eq!(sum, u128::from(count) * u128::from(VALUE));
};

/// The row is written twice, by its owner or by one who may not be alone.
#[test]
fn a_scrape_never_sees_half_of_what_a_thread_writes() {
    for owned in [0, 1] {
        set_owned(owned);
        explore(3, || {
            let tally = Arc::new(Tally::default());
            let twice: fn(&Tally) = |tally| {
                RECORD(tally);
                RECORD(tally);
            };
            run(&tally, [twice, SCRAPE]);
            assert_eq!(tally.read().0, 2);
        });
    }
}

/// Of two threads, the second gets the row of the first if that has ended. Otherwise it gets the shared one, as do both
/// where there is no other.
#[test]
fn a_scrape_never_sees_half_of_anything_while_a_row_changes_hands() {
    for owned in [0, 1] {
        set_owned(owned);
        explore(1, || {
            let tally = Arc::new(Tally::default());
            run(&tally, [RECORD, RECORD, SCRAPE]);
            assert_eq!(tally.read().0, 2);
        });
    }
}

#[test]
fn writers_of_the_shared_row_wait_for_each_other() {
    set_owned(0);
    explore(5, || {
        let tally = Arc::new(Tally::default());
        run(&tally, [RECORD; 2]);
        assert_eq!(tally.read(), (2, 2 * u128::from(VALUE)));
    });
    explore(1, || {
        let tally = Arc::new(Tally::default());
        run(&tally, [RECORD; 3]);
        assert_eq!(tally.read(), (3, 3 * u128::from(VALUE)));
    });
}

/// A histogram's value is in one of its buckets and in its sum.
#[test]
fn a_scrape_never_sees_half_of_a_value() {
    set_owned(0);
    explore(5, || {
        let histogram = Arc::new(Histogram::new(true, &SIZE));
        let record: fn(&Histogram) = |histogram| histogram.record(100);
        let scrape: fn(&Histogram) = |histogram| {
            let seen = histogram.snapshot();
            assert_eq!(seen.sum(), seen.count() as f64 * 100.0);
        };
        run(&histogram, [record, scrape]);
        assert_eq!(histogram.snapshot().count(), 1);
    });
}

/// A failed request is counted by its duration and among the failed, and its frames have sizes.
#[test]
fn a_scrape_never_sees_half_of_a_request() {
    set_owned(0);
    explore(1, || {
        let requests = Arc::new(request_instruments());
        let record: fn(&RequestInstruments) = |requests| {
            requests.record_done(&DoneRequest {
                duration_ns: 1_000,
                error: true,
                request_bytes: 100,
                response_bytes: Some(1_000),
            });
        };
        let scrape: fn(&RequestInstruments) = |requests| {
            let seen = requests.snapshot();
            let count = seen.duration.count();
            assert_eq!((seen.requests(true), seen.requests(false)), (count, 0));
            assert_eq!(seen.request_size.count(), count);
            assert_eq!(seen.response_size.count(), count);
            assert_eq!(seen.response_size.sum(), count as f64 * 1_000.0);
        };
        run(&requests, [record, scrape]);
        assert_eq!(requests.snapshot().requests(true), 1);
    });
}
