//! Rows of words that are written together and read together.
//!
//! An instrument of several words has one row per shard (see [`super::slots`]). A row carries a sequence number that is odd
//! while the row is being written (a seqlock), so that a reader sees each write entirely or not at all.

use std::array;

use super::slots::{self, SHARED};
use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::{hint, thread};

/// Attempts after which a reader that always meets a writer accepts an inconsistent row.
const READ_ATTEMPTS_MAX: usize = 10_000;

/// One shard, on its own cache lines. With the sequence number it fills whole lines if `WORDS` is one less than a multiple
/// of eight.
#[repr(align(64))]
struct Row<const WORDS: usize> {
    sequence: AtomicU64,
    words: [AtomicU64; WORDS],
}

/// The shards of one instrument; none while metrics are off.
pub(super) struct Rows<const WORDS: usize> {
    rows: Box<[Row<WORDS>]>,
}

impl<const WORDS: usize> Rows<WORDS> {
    pub(super) fn new(enabled: bool) -> Self {
        let shards = if enabled { slots::count() } else { 0 };
        let row = || Row {
            sequence: AtomicU64::new(0),
            words: array::from_fn(|_| AtomicU64::new(0)),
        };
        Self {
            rows: (0..shards).map(|_| row()).collect(),
        }
    }

    /// Begins a write to this thread's row, which ends when the writer is dropped. Returns `None` while metrics are off.
    #[inline]
    pub(super) fn write(&self) -> Option<RowWriter<'_, WORDS>> {
        let slot = slots::current();
        let row = self.rows.get(slot)?;
        Some(RowWriter {
            row,
            sequence: enter(&row.sequence, slot),
        })
    }

    /// Calls `each` for every row, with its content between two writes.
    pub(super) fn read(&self, mut each: impl FnMut(&[u64; WORDS])) {
        for row in &self.rows {
            each(&row.read());
        }
    }
}

/// A row being written. It has no other writer meanwhile, so plain loads and stores are sufficient.
pub(super) struct RowWriter<'a, const WORDS: usize> {
    row: &'a Row<WORDS>,
    /// The sequence number before the write; even.
    sequence: u64,
}

impl<const WORDS: usize> RowWriter<'_, WORDS> {
    #[inline]
    pub(super) fn increment(&self, word: usize) {
        let word = &self.row.words[word];
        let value = word.load(Ordering::Relaxed).wrapping_add(1);
        word.store(value, Ordering::Relaxed);
    }

    /// Adds to a number of two words, the lower one at `low`.
    #[inline]
    pub(super) fn add_wide(&self, low: usize, n: u64) {
        let [low, high] = [&self.row.words[low], &self.row.words[low + 1]];
        let (sum, carry) = low.load(Ordering::Relaxed).overflowing_add(n);
        low.store(sum, Ordering::Relaxed);
        let sum = high.load(Ordering::Relaxed).wrapping_add(u64::from(carry));
        high.store(sum, Ordering::Relaxed);
    }
}

/// Combines the two words that [`RowWriter::add_wide`] writes.
pub(super) fn wide(low: u64, high: u64) -> u128 {
    u128::from(high) << u64::BITS | u128::from(low)
}

impl<const WORDS: usize> Drop for RowWriter<'_, WORDS> {
    #[inline]
    fn drop(&mut self) {
        let after = self.sequence.wrapping_add(2);
        self.row.sequence.store(after, Ordering::Release);
    }
}

impl<const WORDS: usize> Row<WORDS> {
    fn read(&self) -> [u64; WORDS] {
        let mut attempts = 0;
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            let words = self
                .words
                .each_ref()
                .map(|word| word.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            let quiet = before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before;
            if quiet || attempts >= READ_ATTEMPTS_MAX {
                return words;
            }
            back_off(&mut attempts);
        }
    }
}

/// Makes the sequence number odd and returns its previous, even value. In the shared shard this takes a lock, held for a
/// few instructions; an owned shard has no other writer.
#[inline]
fn enter(sequence: &AtomicU64, slot: usize) -> u64 {
    let before = if slot == SHARED {
        lock(sequence)
    } else {
        let before = sequence.load(Ordering::Relaxed);
        sequence.store(before.wrapping_add(1), Ordering::Relaxed);
        before
    };
    // The odd number must become visible before any word of the row.
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
        // The other thread may have been preempted in the middle.
        thread::yield_now();
    } else {
        hint::spin_loop();
    }
}
