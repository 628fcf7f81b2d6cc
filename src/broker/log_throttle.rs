//! Throttling of log lines by key, so that no client floods the log.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;

/// Interval between two lines of the same key.
const INTERVAL: Duration = Duration::from_secs(60);
/// Largest number of keys, and so of lines in one interval: clients that keep changing their names flood the log no more
/// than others.
const KEYS_MAX: usize = 1024;

/// Bytes of a name from the wire that a log line shows. Some names may be as long as a request.
const NAME_BYTES_MAX: usize = 256;

/// Shortens a name from the wire to at most 256 bytes for a log line.
pub fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

/// Limits log lines to one a minute for each key, and counts the suppressed ones.
pub struct LogThrottle<K> {
    logged: Mutex<HashMap<K, LastLine>>,
}

/// The last line of a key.
#[derive(Default)]
struct LastLine {
    at: Duration,
    /// Number of lines suppressed since.
    silenced: u64,
}

impl<K> Default for LogThrottle<K> {
    fn default() -> Self {
        LogThrottle {
            logged: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash> LogThrottle<K> {
    /// Returns `None` if a line of `key` is to be suppressed at `now`, otherwise how many were suppressed since the last
    /// one.
    pub fn allow(&self, key: K, now: Duration) -> Option<u64> {
        self.allow_one_of(key, now, 1)
    }

    /// The same for `count` events at once, of which at most one is logged.
    pub fn allow_one_of(&self, key: K, now: Duration, count: u64) -> Option<u64> {
        let mut logged = self.logged.lock();
        if let Some(last) = logged.get_mut(&key) {
            if now.saturating_sub(last.at) < INTERVAL {
                last.silenced += count;
                return None;
            }
            let silenced = last.silenced;
            *last = LastLine {
                at: now,
                silenced: count.saturating_sub(1),
            };
            return Some(silenced);
        }
        if logged.len() >= KEYS_MAX {
            logged.retain(|_, each| now.saturating_sub(each.at) < INTERVAL);
            if logged.len() >= KEYS_MAX {
                return None;
            }
        }
        let first = LastLine {
            at: now,
            silenced: count.saturating_sub(1),
        };
        logged.insert(key, first);
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_logged_once_a_minute_and_the_number_of_keys_is_bounded() {
        let throttle = LogThrottle::default();
        let start = Duration::from_secs(7);
        assert_eq!(throttle.allow(("tls", 1), start), Some(0));
        assert_eq!(throttle.allow(("tls", 1), start), None);
        assert_eq!(throttle.allow(("tls", 2), start), Some(0));
        assert_eq!(throttle.allow(("http", 1), start), Some(0));
        assert_eq!(throttle.allow(("tls", 1), start + INTERVAL), Some(1));
        let logged = (10..10_000).filter(|address| {
            let logged = throttle.allow(("tls", *address), start + INTERVAL);
            logged.is_some()
        });
        assert!(logged.count() < KEYS_MAX);
        assert!(throttle.logged.lock().len() <= KEYS_MAX);
        assert_eq!(throttle.allow(("tls", 1), start + INTERVAL), None);
        assert_eq!(throttle.allow(("new", 1), start + 2 * INTERVAL), Some(0));
    }

    #[test]
    fn of_several_events_at_once_one_is_logged_and_the_others_are_counted() {
        let throttle = LogThrottle::default();
        let start = Duration::ZERO;
        let allow = |at, count| throttle.allow_one_of("refused", at, count);
        assert_eq!(allow(start, 5), Some(0));
        assert_eq!(allow(start, 3), None);
        assert_eq!(allow(start + INTERVAL, 2), Some(7));
        assert_eq!(allow(start + 2 * INTERVAL, 1), Some(1));
    }
}
