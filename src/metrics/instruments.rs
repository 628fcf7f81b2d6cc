//! Counters and gauges.
//!
//! Counters are sharded by thread (see [`super::slots`]), each shard on its own cache line, so that recording threads do not
//! contend. Reading sums the shards. Instruments created while metrics are off have no shards, and recording returns at
//! once.

use std::marker::PhantomData;

use super::catalog::LabelValues;
use super::slots::{self, SHARED};
use crate::sync::atomic::{AtomicI64, AtomicU64, Ordering};

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

fn lines(enabled: bool) -> Box<[Line]> {
    let shards = if enabled { slots::count() } else { 0 };
    (0..shards).map(|_| Line::default()).collect()
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
            lines: lines(enabled),
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

/// Record-batch bytes of one topic, in their wire form. Both counters share cache lines: a thread rarely records both at the
/// same time, and a topic takes half the memory.
pub struct TopicCounters {
    lines: Box<[Line]>,
}

impl TopicCounters {
    const BYTES_IN: usize = 0;
    const BYTES_OUT: usize = 1;

    pub(super) fn new(enabled: bool) -> Self {
        Self {
            lines: lines(enabled),
        }
    }

    /// Counts bytes appended to the topic.
    #[inline]
    pub fn add_bytes_in(&self, bytes: u64) {
        self.add(Self::BYTES_IN, bytes);
    }

    /// Counts bytes of the topic handed to a consumer's socket.
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

/// One counter for each value of an enum label, so that the set of series is bounded and complete from the first scrape.
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

/// A number that goes up and down. Not sharded: gauges change once per connection, not once per request.
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

    pub fn value(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_sums_the_additions_of_all_threads() {
        let counter = Counter::new(true);
        std::thread::scope(|scope| {
            for _ in 0..slots::count() * 2 {
                scope.spawn(|| (0..1_000).for_each(|_| counter.inc()));
            }
        });
        assert_eq!(counter.value(), slots::count() as u64 * 2_000);
    }

    #[test]
    fn disabled_instruments_record_nothing() {
        let counter = Counter::new(false);
        counter.inc();
        let gauge = Gauge::new(false);
        gauge.add(1);
        assert_eq!(counter.value(), 0);
        assert_eq!(gauge.value(), 0);
    }
}
