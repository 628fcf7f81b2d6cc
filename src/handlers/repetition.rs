//! Entries that a request repeats.
//!
//! Kafka answers each entry of a request, in order, however often the same name occurs; so does this server. But an answer
//! may be a thousand times as large as the name in the request, and a name repeated a million times must not cause a
//! response of gigabytes. So the bytes of repeated answers are bounded for each request, and entries beyond the bound are
//! refused. Some requests are sets, in Kafka too: there only the first entry of each name is answered.

use std::collections::HashSet;
use std::hash::Hash;

/// Bytes of repeated answers in one response. Checked before an answer is made, so that an answer of any size can be
/// repeated once.
const REPEATED_BYTES_MAX: usize = 1 << 20;

/// Bound on the bytes of repeated answers of one request.
pub(super) struct Repetitions {
    bytes_left: usize,
}

impl Default for Repetitions {
    fn default() -> Self {
        Self {
            bytes_left: REPEATED_BYTES_MAX,
        }
    }
}

impl Repetitions {
    /// Makes a repeated answer and charges its size, which `bytes` returns. `None` if the bound is exhausted.
    pub(super) fn repeat<A>(
        &mut self,
        answer: impl FnOnce() -> A,
        bytes: impl FnOnce(&A) -> usize,
    ) -> Option<A> {
        if self.bytes_left == 0 {
            return None;
        }
        let answer = answer();
        self.bytes_left = self.bytes_left.saturating_sub(bytes(&answer));
        Some(answer)
    }
}

/// Answers each entry, in order. Entries with a repeated key are refused once the bound is exhausted.
pub(super) fn answer_each<T, K: Eq + Hash, A>(
    asked: Vec<T>,
    key: impl Fn(&T) -> K,
    mut answer: impl FnMut(&T) -> A,
    bytes: impl Fn(&A) -> usize,
    refuse: impl Fn(T) -> A,
) -> Vec<A> {
    let mut seen = HashSet::new();
    let mut repetitions = Repetitions::default();
    let answers = asked.into_iter().map(|each| {
        if seen.insert(key(&each)) {
            return answer(&each);
        }
        let repeated = repetitions.repeat(|| answer(&each), &bytes);
        repeated.unwrap_or_else(|| refuse(each))
    });
    answers.collect()
}

/// Keeps the first entry of each key.
pub(super) fn once_each<T, K: Eq + Hash>(mut asked: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = HashSet::new();
    asked.retain(|each| seen.insert(key(each)));
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(asked: &[u32], answer_bytes: usize) -> Vec<Option<u32>> {
        answer_each(
            asked.to_vec(),
            |each| *each,
            |each| Some(*each),
            |_| answer_bytes,
            |_| None,
        )
    }

    #[test]
    fn repeated_entries_are_answered_in_order_up_to_the_bound() {
        let asked = [1, 2, 1, 2, 3, 1];
        assert_eq!(answered(&asked, 1000), asked.map(Some));
        let half = REPEATED_BYTES_MAX / 2;
        assert_eq!(
            answered(&asked, half),
            [Some(1), Some(2), Some(1), Some(2), Some(3), None]
        );
        // An answer larger than the bound can still be repeated once.
        let twice = [Some(1), Some(2), Some(1), None, Some(3), None];
        assert_eq!(answered(&asked, 2 * REPEATED_BYTES_MAX), twice);
    }
}
