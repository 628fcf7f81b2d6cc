//! Models of the instruments: no recorded value is lost, whichever shards the threads claim, and a scrape never sees a
//! partial write.

use std::sync::Arc;

use loom::thread;
use models::explore;
use models::metrics::slots::set_owned;
use models::metrics::{
    Counter, DoneRequest, Gauge, Histogram, RequestInstruments, SIZE, Tally, TopicCounters,
    request_instruments, topic_counters,
};

/// Runs each of `work` on its own thread and joins them all. Readers must come last: loom starts with a sequential run and
/// explores from the conflicts it finds there. It sees no conflict in a load that precedes another thread's load and store
/// of the same word, but it does in one that follows them.
fn run<T: 'static, const N: usize>(shared: &Arc<T>, work: [fn(&T); N]) {
    let threads = work.map(|work| {
        let shared = Arc::clone(shared);
        thread::spawn(move || work(&shared))
    });
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Threads that own a shard, take over the shard of a finished thread, or use the shared one.
#[test]
fn a_counter_loses_no_addition_whichever_shard_a_thread_claims() {
    for owned in [0, 1, 2] {
        set_owned(owned);
        explore(3, || {
            let counter = Arc::new(Counter::new(true));
            run(&counter, [|counter| counter.add(10); 3]);
            assert_eq!(counter.value(), 30);
        });
    }
}

/// A thread takes over the shard of a finished thread while the counter is read.
#[test]
fn a_counter_never_decreases() {
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

/// Both counters of a topic are on the same cache lines.
#[test]
fn the_counters_of_a_topic_are_independent() {
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
fn a_gauge_stays_within_bounds_and_returns_to_zero() {
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

/// So large that the sum of two values needs its second word.
const VALUE: u64 = u64::MAX;

const RECORD: fn(&Tally) = |tally| tally.record(VALUE);

const SCRAPE: fn(&Tally) = |tally| {
    let (count, sum) = tally.read();
    assert_eq!(sum, u128::from(count) * u128::from(VALUE));
};

/// The row is written twice, by its owner or as the shared row.
#[test]
fn a_scrape_never_sees_a_partial_write_of_a_thread() {
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

/// The second of two threads claims the row of the first if that one has ended. Otherwise it uses the shared row, as both
/// do if there is no other.
#[test]
fn a_scrape_never_sees_a_partial_write_while_a_row_changes_owners() {
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

/// A histogram adds a value to one of its buckets and to its sum.
#[test]
fn a_scrape_never_sees_a_partially_recorded_value() {
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

/// A failed request is recorded in the durations, in the failures and in the sizes.
#[test]
fn a_scrape_never_sees_a_partially_recorded_request() {
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
