//! Saying the same thing once in a while, so that no client floods the log.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;

/// The same is said once in this time.
const QUIET: Duration = Duration::from_secs(60);
/// Things remembered at most, and so said at most in that time: clients that go by ever new names flood the log no more
/// than others.
const REMEMBERED_MAX: usize = 1024;

/// Bytes of a name from the wire that a log line repeats. Some may be as long as a request.
const NAME_BYTES_MAX: usize = 256;

/// As much of a name from the wire as belongs into a log line.
pub fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

/// What was said lately, and of what nothing was said since.
pub struct LogThrottle<K> {
    said: Mutex<HashMap<K, Said>>,
}

#[derive(Default)]
struct Said {
    at: Duration,
    /// How often it was not said since.
    silenced: u64,
}

impl<K> Default for LogThrottle<K> {
    fn default() -> Self {
        LogThrottle {
            said: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash> LogThrottle<K> {
    /// Whether to say `what` at `now`, and if so how often it was not said before.
    pub fn allow(&self, what: K, now: Duration) -> Option<u64> {
        self.may_say_of(what, now, 1)
    }

    /// The same for what has happened `count` times at once: if it is said, then of one of them.
    pub fn may_say_of(&self, what: K, now: Duration, count: u64) -> Option<u64> {
        let mut said = self.said.lock();
        if let Some(last) = said.get_mut(&what) {
            if now.saturating_sub(last.at) < QUIET {
                last.silenced += count;
                return None;
            }
            let silenced = last.silenced;
            *last = Said {
                at: now,
                silenced: count.saturating_sub(1),
            };
            return Some(silenced);
        }
        if said.len() >= REMEMBERED_MAX {
            said.retain(|_, each| now.saturating_sub(each.at) < QUIET);
            if said.len() >= REMEMBERED_MAX {
                return None;
            }
        }
        let first = Said {
            at: now,
            silenced: count.saturating_sub(1),
        };
        said.insert(what, first);
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_never_remembered_without_bound() {
        let quiet = LogThrottle::default();
        let start = Duration::from_secs(7);
        assert_eq!(quiet.allow(("tls", 1), start), Some(0));
        assert_eq!(quiet.allow(("tls", 1), start), None);
        assert_eq!(quiet.allow(("tls", 2), start), Some(0));
        assert_eq!(quiet.allow(("http", 1), start), Some(0));
        assert_eq!(quiet.allow(("tls", 1), start + QUIET), Some(1));
        let said = (10..10_000).filter(|address| {
            let said = quiet.allow(("tls", *address), start + QUIET);
            said.is_some()
        });
        assert!(said.count() < REMEMBERED_MAX);
        assert!(quiet.said.lock().len() <= REMEMBERED_MAX);
        assert_eq!(quiet.allow(("tls", 1), start + QUIET), None);
        assert_eq!(quiet.allow(("new", 1), start + 2 * QUIET), Some(0));
    }

    #[test]
    fn of_many_at_once_one_is_said_and_the_others_are_counted() {
        let quiet = LogThrottle::default();
        let start = Duration::ZERO;
        assert_eq!(quiet.may_say_of("refused", start, 5), Some(0));
        assert_eq!(quiet.may_say_of("refused", start, 3), None);
        assert_eq!(quiet.may_say_of("refused", start + QUIET, 2), Some(7));
        assert_eq!(quiet.may_say_of("refused", start + 2 * QUIET, 1), Some(1));
    }
}
