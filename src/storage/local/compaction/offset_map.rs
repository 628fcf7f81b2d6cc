//! The last offset of each key, in memory of a fixed size.
//!
//! Keys are represented by a hash of 128 bits, in a table with open addressing. Two keys with the same hash would be taken
//! for one, and the older one's record lost: the hash is keyed with random numbers, so that nobody can construct such keys,
//! and by chance they do not occur.

use std::hash::{BuildHasher, RandomState};

/// Part of the slots that may be in use, in percent.
const LOAD_PERCENT: usize = 90;

/// Two halves of a hash, and the offset plus 1; all zero in a free slot.
type Slot = [u64; 3];

/// The last offset of each key.
pub(super) struct OffsetMap {
    slots: Vec<Slot>,
    len: usize,
    len_max: usize,
    hashers: [RandomState; 2],
}

impl OffsetMap {
    /// Creates a map for `keys` different keys, or as many as fit into `bytes`, at least one.
    pub fn new(keys: u64, bytes: usize) -> Self {
        let fitting = bytes / size_of::<Slot>();
        let wanted = usize::try_from(keys).unwrap_or(usize::MAX);
        let wanted = (wanted / LOAD_PERCENT)
            .saturating_mul(100)
            .saturating_add(200);
        let slots = fitting.min(wanted).max(2);
        Self {
            // Zeroed by the system: pages take memory once they are used.
            slots: vec![[0; 3]; slots],
            len: 0,
            len_max: (slots * LOAD_PERCENT / 100).max(1),
            hashers: [RandomState::new(), RandomState::new()],
        }
    }

    /// Sets the offset of a key, which is larger than any before. Returns false if the map is full.
    pub fn put(&mut self, key: &[u8], offset: i64) -> bool {
        let hash = self.hash(key);
        let place = self.place(hash);
        let is_new = self.slots[place][2] == 0;
        if is_new && self.len == self.len_max {
            return false;
        }
        self.len += usize::from(is_new);
        self.slots[place] = [hash[0], hash[1], (offset + 1) as u64];
        true
    }

    /// Returns the last offset of a key.
    pub fn get(&self, key: &[u8]) -> Option<i64> {
        let slot = self.slots[self.place(self.hash(key))];
        (slot[2] != 0).then(|| slot[2] as i64 - 1)
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [0, 1].map(|half| self.hashers[half].hash_one(key))
    }

    /// Returns the slot of a key, or the free one where it belongs.
    fn place(&self, hash: [u64; 2]) -> usize {
        let slots = self.slots.len();
        let mut place = ((u128::from(hash[0]) * slots as u128) >> 64) as usize;
        loop {
            let slot = &self.slots[place];
            if slot[2] == 0 || slot[..2] == hash {
                return place;
            }
            place += 1;
            if place == slots {
                place = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_each_key_is_found() {
        let mut map = OffsetMap::new(1000, usize::MAX);
        for offset in 0..3_000_i64 {
            assert!(map.put(&(offset % 1000).to_be_bytes(), offset));
        }
        for key in 0..1000_i64 {
            assert_eq!(map.get(&key.to_be_bytes()), Some(2000 + key));
        }
        assert_eq!(map.get(b"other"), None);
        assert_eq!(map.len, 1000);
    }

    #[test]
    fn a_full_map_takes_new_offsets_of_its_keys_only() {
        let mut map = OffsetMap::new(u64::MAX, 24 * 10);
        for key in 0..9_i64 {
            assert!(map.put(&key.to_be_bytes(), key));
        }
        assert!(!map.put(b"another", 9));
        assert!(map.put(&3_i64.to_be_bytes(), 10));
        assert_eq!(map.get(&3_i64.to_be_bytes()), Some(10));
        assert_eq!(map.get(b"another"), None);
    }

    #[test]
    fn a_map_has_room_for_the_keys_asked_for_and_at_least_one() {
        for keys in [0, 1, 89, 90, 91, 12_345] {
            let mut map = OffsetMap::new(keys, usize::MAX);
            for key in 0..keys {
                assert!(map.put(&key.to_be_bytes(), 0), "{key} of {keys}");
            }
        }
        assert!(OffsetMap::new(5, 0).put(b"key", 0));
    }
}
