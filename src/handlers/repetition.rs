//! What a request names more than once.
//!
//! Kafka answers each entry of a request, in order, however often the same is named; so does this server. But an answer
//! may be a thousand times as large as the name that asks for it, and naming the same thing a million times must not make
//! a response of gigabytes. So what answers repeat is bounded for each request, and entries beyond are refused. Some
//! requests name a set, in Kafka too: there the first of each name counts.

use std::collections::HashSet;
use std::hash::Hash;

/// Bytes that answers to repetitions may take in one response. Checked before an answer is made, so that one of any size
/// can be had twice.
const REPEATED_BYTES_MAX: usize = 1 << 20;

/// Bytes that the answers to one request's repetitions may still take.
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
    /// Makes an answer that the response holds already, of which `bytes` tells the size; `None` if repetitions have used
    /// up their bound.
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

/// Answers each entry, in order. Entries whose key was there before are refused once repetitions have used up their bound.
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

/// The first of each key.
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
    fn repetitions_are_answered_in_order_up_to_their_bound() {
        let asked = [1, 2, 1, 2, 3, 1];
        assert_eq!(answered(&asked, 1000), asked.map(Some));
        let half = REPEATED_BYTES_MAX / 2;
        assert_eq!(
            answered(&asked, half),
            [Some(1), Some(2), Some(1), Some(2), Some(3), None]
        );
        // Larger than the bound, and still to be had twice.
        let twice = [Some(1), Some(2), Some(1), None, Some(3), None];
        assert_eq!(answered(&asked, 2 * REPEATED_BYTES_MAX), twice);
    }
}
