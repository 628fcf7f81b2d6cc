//! What a request names more than once.
//!
//! An answer may be a thousand times as large as the name that asks for it. Naming the same thing a million times must not
//! make one of gigabytes, so it is answered once.

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::hash::Hash;

/// The first of each key.
pub(super) fn once_each<T, K: Eq + Hash>(mut asked: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = HashSet::new();
    asked.retain(|each| seen.insert(key(each)));
    asked
}

/// The first of each key, with all that later ones ask for added to it.
pub(super) fn merged<T, K: Eq + Hash>(
    asked: Vec<T>,
    key: impl Fn(&T) -> K,
    add: impl Fn(&mut T, T),
) -> Vec<T> {
    let mut merged = Vec::with_capacity(asked.len());
    let mut places = HashMap::new();
    for each in asked {
        match places.entry(key(&each)) {
            Entry::Vacant(place) => {
                place.insert(merged.len());
                merged.push(each);
            }
            Entry::Occupied(place) => add(&mut merged[*place.get()], each),
        }
    }
    merged
}
