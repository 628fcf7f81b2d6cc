//! Histograms with fixed buckets.

use std::time::Duration;

use super::rows::{RowWriter, Rows, wide};

/// Upper bounds of a histogram's buckets, in the integer unit in which values are recorded.
pub struct Buckets {
    /// Ascending. A value equal to a bound belongs to that bound's bucket, as Prometheus' `le` requires.
    pub bounds: &'static [u64],
    /// Recorded units per exposed unit: 10⁹ for nanoseconds exposed as seconds.
    pub per_unit: f64,
    /// By the position of a value's highest bit, so that its bucket is found in one step. A search would cost more than the
    /// rest of the recording.
    by_highest_bit: [Span; 64],
}

/// The range of values with the same highest bit, which contains at most one bound.
#[derive(Clone, Copy)]
struct Span {
    /// Number of bounds below the range.
    below: u8,
    /// The bound in the range, or `u64::MAX`.
    bound: u64,
}

impl Buckets {
    const fn new(bounds: &'static [u64], per_unit: f64) -> Self {
        let mut by_highest_bit = [Span {
            below: 0,
            bound: u64::MAX,
        }; 64];
        let mut bit = 0;
        let mut below = 0;
        while bit < 64 {
            by_highest_bit[bit].below = below as u8;
            if below < bounds.len() && bounds[below].ilog2() as usize == bit {
                by_highest_bit[bit].bound = bounds[below];
                below += 1;
            }
            bit += 1;
        }
        assert!(
            below == bounds.len(),
            "bounds must ascend, and no two may have the same highest bit"
        );
        Self {
            bounds,
            per_unit,
            by_highest_bit,
        }
    }

    /// Returns the bucket of a value: the number of bounds below it.
    #[inline]
    fn index(&self, value: u64) -> usize {
        let span = &self.by_highest_bit[(value | 1).ilog2() as usize];
        usize::from(span.below) + usize::from(value > span.bound)
    }
}

/// Latencies, recorded in nanoseconds and exposed in seconds: 50 µs to 30 s.
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

/// Numbers of items in a group: 1 to 4,096.
pub static COUNT: Buckets = Buckets::new(
    &[
        1,
        1 << 1,
        1 << 2,
        1 << 3,
        1 << 4,
        1 << 5,
        1 << 6,
        1 << 7,
        1 << 8,
        1 << 9,
        1 << 10,
        1 << 11,
        1 << 12,
    ],
    1.0,
);

/// Layout of a histogram in a row: its sum, then one count per bound and one for all values above the last bound.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    buckets: &'static Buckets,
    sum: usize,
}

/// Two words, because ten thousand long polls add up to more than 2⁶⁴ ns within weeks.
const SUM_WORDS: usize = 2;

impl Layout {
    pub(super) const fn at(word: usize, buckets: &'static Buckets) -> Self {
        Layout { buckets, sum: word }
    }

    const fn counts(self) -> usize {
        self.sum + SUM_WORDS
    }

    /// Returns the index of the first word after the histogram.
    pub(super) const fn end(self) -> usize {
        self.counts() + self.buckets.bounds.len() + 1
    }

    /// Records a value in the unit the bounds are in.
    #[inline]
    pub(super) fn record<const WORDS: usize>(self, row: &RowWriter<'_, WORDS>, value: u64) {
        row.increment(self.counts() + self.buckets.index(value));
        row.add_wide(self.sum, value);
    }

    pub(super) fn empty(self) -> HistogramSnapshot {
        HistogramSnapshot {
            buckets: self.buckets,
            counts: vec![0; self.buckets.bounds.len() + 1],
            sum: 0,
        }
    }

    pub(super) fn add_to(self, snapshot: &mut HistogramSnapshot, row: &[u64]) {
        snapshot.sum += wide(row[self.sum], row[self.sum + 1]);
        for (total, count) in snapshot.counts.iter_mut().zip(&row[self.counts()..]) {
            *total += count;
        }
    }
}

/// A histogram in rows of its own.
pub struct Histogram {
    rows: Rows<HISTOGRAM_WORDS>,
    layout: Layout,
}

/// Sufficient for the longest of [`LATENCY`], [`SIZE`] and [`COUNT`].
const HISTOGRAM_WORDS: usize = 23;
const _: () = assert!(
    Layout::at(0, &LATENCY).end() <= HISTOGRAM_WORDS
        && Layout::at(0, &SIZE).end() <= HISTOGRAM_WORDS
        && Layout::at(0, &COUNT).end() <= HISTOGRAM_WORDS
);

impl Histogram {
    pub fn new(enabled: bool, buckets: &'static Buckets) -> Self {
        Self {
            rows: Rows::new(enabled),
            layout: Layout::at(0, buckets),
        }
    }

    /// Records a duration in a histogram over [`LATENCY`].
    #[inline]
    pub fn record_duration(&self, duration: Duration) {
        self.record(nanos(duration));
    }

    /// Records a value in the unit the bounds are in.
    #[inline]
    pub fn record(&self, value: u64) {
        if let Some(row) = self.rows.write() {
            self.layout.record(&row, value);
        }
    }

    /// Returns everything recorded so far. Count and sum are those of exactly the values in the buckets.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut snapshot = self.layout.empty();
        self.rows.read(|row| self.layout.add_to(&mut snapshot, row));
        snapshot
    }
}

/// Converts to whole nanoseconds, saturating.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Snapshot of a histogram.
pub struct HistogramSnapshot {
    pub(super) buckets: &'static Buckets,
    /// One count per bound, not cumulative, and last the count of values above all bounds.
    pub(super) counts: Vec<u64>,
    /// In the recorded unit.
    sum: u128,
}

impl HistogramSnapshot {
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum in the exposed unit.
    pub fn sum(&self) -> f64 {
        self.sum as f64 / self.buckets.per_unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::slots;
    use std::sync::atomic::{AtomicBool, Ordering};

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
    fn durations_are_exposed_in_seconds() {
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
    fn every_value_falls_into_the_bucket_found_by_a_search() {
        for buckets in [&LATENCY, &SIZE, &COUNT] {
            let edges = buckets.bounds.iter().flat_map(|b| [b - 1, *b, b + 1]);
            let powers = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit]);
            for value in edges.chain(powers).chain([0, u64::MAX]) {
                let expected = buckets.bounds.partition_point(|bound| *bound < value);
                assert_eq!(buckets.index(value), expected, "{value}");
            }
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
                assert_eq!(snapshot.sum(), snapshot.count() as f64 * 100.0);
                assert!(snapshot.count() >= last, "counts never go back");
                last = snapshot.count();
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
