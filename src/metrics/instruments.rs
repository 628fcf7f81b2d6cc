//! The hot-path instruments: counter, gauge, histogram.
//!
//! Counters and histograms are sharded by thread (see [`super::slots`]) and every shard starts on its own cache line,
//! so that recording threads never fight over one. Reading sums the shards. Instruments made while metrics are off have
//! no shards at all: recording then finds none and returns.
//!
//! A histogram's shard carries a sequence number that is odd while its writer is inside, so that a render sees a
//! value's bucket and its contribution to the sum either both or not at all.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};
use std::time::Duration;

use super::catalog::LabelValues;
use super::slots::{self, SHARED};

const WORDS_PER_LINE: usize = 8;

/// One cache line of words.
#[repr(align(64))]
#[derive(Default)]
struct Line([AtomicU64; WORDS_PER_LINE]);

impl Line {
    /// Adds to one word, given the shard this line belongs to.
    #[inline]
    fn add(&self, word: usize, n: u64, slot: usize) {
        let cell = &self.0[word];
        if slot == SHARED {
            cell.fetch_add(n, Ordering::Relaxed);
        } else {
            cell.store(
                cell.load(Ordering::Relaxed).wrapping_add(n),
                Ordering::Relaxed,
            );
        }
    }
}

fn lines(enabled: bool, per_shard: usize) -> Box<[Line]> {
    let shards = if enabled { slots::count() } else { 0 };
    (0..shards * per_shard).map(|_| Line::default()).collect()
}

fn total(lines: &[Line], word: usize) -> u64 {
    lines.iter().fold(0, |sum, line| {
        sum.wrapping_add(line.0[word].load(Ordering::Relaxed))
    })
}

/// A number that only grows.
pub struct Counter {
    lines: Box<[Line]>,
}

impl Counter {
    pub fn new(enabled: bool) -> Self {
        Self {
            lines: lines(enabled, 1),
        }
    }

    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    #[inline]
    pub fn add(&self, n: u64) {
        let slot = slots::current();
        if let Some(line) = self.lines.get(slot) {
            line.add(0, n, slot);
        }
    }

    pub fn value(&self) -> u64 {
        total(&self.lines, 0)
    }
}

/// The record-batch bytes of one topic, as they stood on the wire. Both counters share their cache lines: whoever
/// records one of them rarely records the other at the same moment, and a topic costs half the memory.
pub struct TopicCounters {
    lines: Box<[Line]>,
}

impl TopicCounters {
    const BYTES_IN: usize = 0;
    const BYTES_OUT: usize = 1;

    pub(super) fn new(enabled: bool) -> Self {
        Self {
            lines: lines(enabled, 1),
        }
    }

    /// Counts bytes that were appended to the topic.
    #[inline]
    pub fn add_bytes_in(&self, bytes: u64) {
        self.add(Self::BYTES_IN, bytes);
    }

    /// Counts bytes of the topic that were handed to a consumer's socket.
    #[inline]
    pub fn add_bytes_out(&self, bytes: u64) {
        self.add(Self::BYTES_OUT, bytes);
    }

    pub fn bytes_in(&self) -> u64 {
        total(&self.lines, Self::BYTES_IN)
    }

    pub fn bytes_out(&self) -> u64 {
        total(&self.lines, Self::BYTES_OUT)
    }

    #[inline]
    fn add(&self, word: usize, n: u64) {
        let slot = slots::current();
        if let Some(line) = self.lines.get(slot) {
            line.add(word, n, slot);
        }
    }
}

/// One counter for each value of a label whose values are an enum, so that the set of series is bounded and complete
/// from the first scrape on.
pub struct LabelledCounters<L: LabelValues> {
    counters: Box<[Counter]>,
    label: PhantomData<L>,
}

impl<L: LabelValues> LabelledCounters<L> {
    pub fn new(enabled: bool) -> Self {
        Self {
            counters: L::ALL.iter().map(|_| Counter::new(enabled)).collect(),
            label: PhantomData,
        }
    }

    pub fn get(&self, value: L) -> &Counter {
        &self.counters[value.index()]
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Counter)> {
        L::ALL
            .iter()
            .map(|value| value.as_str())
            .zip(&self.counters)
    }
}

/// A number that goes up and down. Not sharded: gauges move once a connection, not once a request.
pub struct Gauge {
    value: AtomicI64,
    enabled: bool,
}

impl Gauge {
    pub fn new(enabled: bool) -> Self {
        Self {
            value: AtomicI64::new(0),
            enabled,
        }
    }

    #[inline]
    pub fn add(&self, n: i64) {
        if self.enabled {
            self.value.fetch_add(n, Ordering::Relaxed);
        }
    }

    pub fn set(&self, value: i64) {
        if self.enabled {
            self.value.store(value, Ordering::Relaxed);
        }
    }

    pub fn value(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// The upper bounds of a histogram's buckets, in the integer unit it is recorded in.
pub struct Buckets {
    /// Ascending; a value equal to a bound falls below it, as Prometheus' `le` demands.
    pub bounds: &'static [u64],
    /// How many of the recorded unit make one of the exposed unit: 10⁹ for nanoseconds shown as seconds.
    pub per_unit: f64,
    /// For every width in bits, how many bounds lie below all values of that width. From there the bucket is a step
    /// or two away, while a binary search would cost more than the rest of a record.
    below_width: [u8; 65],
}

impl Buckets {
    const fn new(bounds: &'static [u64], per_unit: f64) -> Self {
        let mut below_width = [0; 65];
        let mut width = 1;
        while width <= 64 {
            let smallest = 1 << (width - 1);
            let mut below = 0;
            while below < bounds.len() && bounds[below] < smallest {
                below += 1;
            }
            below_width[width] = below as u8;
            width += 1;
        }
        Self {
            bounds,
            per_unit,
            below_width,
        }
    }

    /// The bucket of a value: how many bounds lie below it.
    #[inline]
    fn index(&self, value: u64) -> usize {
        let width = (u64::BITS - value.leading_zeros()) as usize;
        let mut index = usize::from(self.below_width[width]);
        while self.bounds.get(index).is_some_and(|bound| *bound < value) {
            index += 1;
        }
        index
    }
}

/// Latencies, recorded in nanoseconds and shown in seconds: 50 µs to 30 s.
pub static LATENCY: Buckets = Buckets::new(
    &[
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
        30_000_000_000,
    ],
    1e9,
);

/// Sizes in bytes: 64 B to 128 MiB.
pub static SIZE: Buckets = Buckets::new(
    &[
        1 << 6,
        1 << 8,
        1 << 10,
        1 << 12,
        1 << 14,
        1 << 16,
        1 << 18,
        1 << 20,
        1 << 22,
        1 << 24,
        1 << 26,
        1 << 27,
    ],
    1.0,
);

/// A distribution over fixed buckets.
///
/// A shard is a row of words: the sequence number, the sum (an `f64`, which cannot wrap however many long polls wait
/// for however long), then one count for each bound and one for all values beyond the last bound.
pub struct Histogram {
    buckets: &'static Buckets,
    lines: Box<[Line]>,
    lines_per_shard: usize,
}

const SEQUENCE: usize = 0;
const SUM: usize = 1;
const FIRST_BUCKET: usize = 2;

/// A reader that meets a writer this often in a row takes what it sees.
const READ_ATTEMPTS_MAX: usize = 10_000;

impl Histogram {
    pub fn new(enabled: bool, buckets: &'static Buckets) -> Self {
        let lines_per_shard = (FIRST_BUCKET + buckets.bounds.len() + 1).div_ceil(WORDS_PER_LINE);
        Self {
            buckets,
            lines: lines(enabled, lines_per_shard),
            lines_per_shard,
        }
    }

    /// Records a time into a histogram over [`LATENCY`].
    #[inline]
    pub fn record_duration(&self, duration: Duration) {
        let nanos = duration
            .as_secs()
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::from(duration.subsec_nanos()));
        self.record(nanos);
    }

    /// Records a value in the unit the bounds are in.
    #[inline]
    pub fn record(&self, value: u64) {
        let slot = slots::current();
        let first = slot * self.lines_per_shard;
        let Some(shard) = self.lines.get(first..first + self.lines_per_shard) else {
            return;
        };
        let bucket = FIRST_BUCKET + self.buckets.index(value);
        let sequence = enter(word(shard, SEQUENCE), slot);
        let count = word(shard, bucket);
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let sum = word(shard, SUM);
        let added = f64::from_bits(sum.load(Ordering::Relaxed)) + value as f64;
        sum.store(added.to_bits(), Ordering::Relaxed);
        word(shard, SEQUENCE).store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// What has been recorded until now; its count and sum are those of exactly the values in its buckets.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut snapshot = HistogramSnapshot {
            buckets: self.buckets,
            counts: vec![0; self.buckets.bounds.len() + 1],
            sum: 0.0,
        };
        let mut counts = vec![0; snapshot.counts.len()];
        for shard in self.lines.chunks(self.lines_per_shard) {
            snapshot.sum += read_shard(shard, &mut counts);
            for (total, count) in snapshot.counts.iter_mut().zip(&counts) {
                *total += count;
            }
        }
        snapshot.sum /= self.buckets.per_unit;
        snapshot
    }
}

#[inline]
fn word(shard: &[Line], index: usize) -> &AtomicU64 {
    &shard[index / WORDS_PER_LINE].0[index % WORDS_PER_LINE]
}

/// Makes the sequence number odd and returns its even value before. In the shared shard this is a lock held for a
/// handful of instructions; in an owned shard nobody else writes.
#[inline]
fn enter(sequence: &AtomicU64, slot: usize) -> u64 {
    let before = if slot == SHARED {
        lock(sequence)
    } else {
        let before = sequence.load(Ordering::Relaxed);
        sequence.store(before.wrapping_add(1), Ordering::Relaxed);
        before
    };
    // The odd number must be visible before anything written inside.
    fence(Ordering::Release);
    before
}

#[cold]
fn lock(sequence: &AtomicU64) -> u64 {
    let mut attempts = 0;
    loop {
        let before = sequence.load(Ordering::Relaxed);
        let free = before.is_multiple_of(2);
        if free
            && sequence
                .compare_exchange_weak(
                    before,
                    before.wrapping_add(1),
                    Ordering::Acquire,
                    Ordering::Relaxed,
                )
                .is_ok()
        {
            return before;
        }
        back_off(&mut attempts);
    }
}

fn back_off(attempts: &mut usize) {
    *attempts += 1;
    if attempts.is_multiple_of(64) {
        // The other side may have lost its core in the middle.
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

/// Copies a shard's counts and returns its sum.
fn read_shard(shard: &[Line], counts: &mut [u64]) -> f64 {
    let sequence = word(shard, SEQUENCE);
    let mut attempts = 0;
    loop {
        let before = sequence.load(Ordering::Acquire);
        for (index, count) in counts.iter_mut().enumerate() {
            *count = word(shard, FIRST_BUCKET + index).load(Ordering::Relaxed);
        }
        let sum = f64::from_bits(word(shard, SUM).load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let quiet = before.is_multiple_of(2) && sequence.load(Ordering::Relaxed) == before;
        if quiet || attempts >= READ_ATTEMPTS_MAX {
            return sum;
        }
        back_off(&mut attempts);
    }
}

/// A histogram as it stood at one moment.
pub struct HistogramSnapshot {
    pub(super) buckets: &'static Buckets,
    /// One count for each bound, not accumulated, and last the values beyond all bounds.
    pub(super) counts: Vec<u64>,
    /// In the exposed unit.
    pub sum: f64,
}

impl HistogramSnapshot {
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Everything recorded about the requests of one API key.
pub struct RequestInstruments {
    pub(super) succeeded: Counter,
    pub(super) failed: Counter,
    pub(super) duration: Histogram,
    pub(super) request_size: Histogram,
    pub(super) response_size: Histogram,
}

impl RequestInstruments {
    pub(super) fn new(enabled: bool) -> Self {
        Self {
            succeeded: Counter::new(enabled),
            failed: Counter::new(enabled),
            duration: Histogram::new(enabled, &LATENCY),
            request_size: Histogram::new(enabled, &SIZE),
            response_size: Histogram::new(enabled, &SIZE),
        }
    }

    /// Counts one request that has been dealt with, and the time from its last byte read to the last byte of its
    /// response handed to the socket.
    #[inline]
    pub fn record(&self, duration: Duration, error: bool) {
        if error {
            self.failed.inc();
        } else {
            self.succeeded.inc();
        }
        self.duration.record_duration(duration);
    }

    /// The size of the request's frame, without its length prefix.
    #[inline]
    pub fn record_request_size(&self, bytes: u64) {
        self.request_size.record(bytes);
    }

    /// The size of the response's frame, without its length prefix.
    #[inline]
    pub fn record_response_size(&self, bytes: u64) {
        self.response_size.record(bytes);
    }

    /// Requests counted until now, by whether they failed.
    pub fn requests(&self, error: bool) -> u64 {
        if error {
            self.failed.value()
        } else {
            self.succeeded.value()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_counter_sums_what_many_threads_added() {
        let counter = Counter::new(true);
        std::thread::scope(|scope| {
            for _ in 0..slots::count() * 2 {
                scope.spawn(|| (0..1_000).for_each(|_| counter.inc()));
            }
        });
        assert_eq!(counter.value(), slots::count() as u64 * 2_000);
    }

    #[test]
    fn a_value_equal_to_a_bound_falls_into_its_bucket() {
        let histogram = Histogram::new(true, &SIZE);
        histogram.record(64);
        histogram.record(65);
        histogram.record((1 << 27) + 1);
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.counts[0], 1);
        assert_eq!(snapshot.counts[1], 1);
        assert_eq!(snapshot.counts[SIZE.bounds.len()], 1);
        assert_eq!(snapshot.count(), 3);
    }

    #[test]
    fn durations_are_shown_in_seconds() {
        let histogram = Histogram::new(true, &LATENCY);
        histogram.record_duration(Duration::from_millis(1));
        histogram.record_duration(Duration::from_secs(u64::MAX));
        histogram.record_duration(Duration::from_millis(1500));
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.counts[4], 1, "1 ms is within le=0.001");
        assert_eq!(snapshot.counts[LATENCY.bounds.len()], 1);
        assert_eq!(snapshot.count(), 3);
    }

    #[test]
    fn every_value_falls_into_the_bucket_a_search_would_find() {
        for buckets in [&LATENCY, &SIZE] {
            let edges = buckets.bounds.iter().flat_map(|b| [b - 1, *b, b + 1]);
            let powers = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit]);
            for value in edges.chain(powers).chain([0, u64::MAX]) {
                let expected = buckets.bounds.partition_point(|bound| *bound < value);
                assert_eq!(buckets.index(value), expected, "{value}");
            }
        }
    }

    #[test]
    fn buckets_ascend() {
        for buckets in [&LATENCY, &SIZE] {
            assert!(buckets.bounds.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn sum_and_count_agree_while_threads_record() {
        let histogram = Histogram::new(true, &SIZE);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // More writers than shards, so that the shared shard is exercised as well.
            for _ in 0..slots::count() + 2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        histogram.record(100);
                        (0..200).for_each(|_| std::hint::spin_loop());
                    }
                });
            }
            let mut last = 0;
            while last < 20_000 {
                let snapshot = histogram.snapshot();
                assert_eq!(snapshot.sum, snapshot.count() as f64 * 100.0);
                assert!(snapshot.count() >= last, "counts never go back");
                last = snapshot.count();
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn instruments_that_are_off_record_nothing() {
        let counter = Counter::new(false);
        counter.inc();
        let gauge = Gauge::new(false);
        gauge.add(1);
        gauge.set(5);
        let histogram = Histogram::new(false, &SIZE);
        histogram.record(1);
        assert_eq!(counter.value(), 0);
        assert_eq!(gauge.value(), 0);
        assert_eq!(histogram.snapshot().count(), 0);
    }
}
