//! Saying the same thing once in a while, so that no client floods the log.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;

/// The same is said once in this time.
const QUIET: Duration = Duration::from_secs(60);
/// Things remembered at most. Beyond, all are forgotten and may be said again.
const REMEMBERED_MAX: usize = 1024;

/// What was said lately, and of what nothing was said since.
pub struct Quiet<K> {
    said: Mutex<HashMap<K, Said>>,
}

#[derive(Default)]
struct Said {
    at: Duration,
    /// How often it was not said since.
    silenced: u64,
}

impl<K> Default for Quiet<K> {
    fn default() -> Self {
        Quiet {
            said: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash> Quiet<K> {
    /// Whether to say `what` at `now`, and if so how often it was not said before.
    pub fn may_say(&self, what: K, now: Duration) -> Option<u64> {
        let mut said = self.said.lock();
        if let Some(last) = said.get_mut(&what) {
            if now.saturating_sub(last.at) < QUIET {
                last.silenced += 1;
                return None;
            }
            let silenced = last.silenced;
            *last = Said {
                at: now,
                silenced: 0,
            };
            return Some(silenced);
        }
        if said.len() >= REMEMBERED_MAX {
            said.clear();
        }
        let first = Said {
            at: now,
            silenced: 0,
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
        let quiet = Quiet::default();
        let start = Duration::from_secs(7);
        assert_eq!(quiet.may_say(("tls", 1), start), Some(0));
        assert_eq!(quiet.may_say(("tls", 1), start), None);
        assert_eq!(quiet.may_say(("tls", 2), start), Some(0));
        assert_eq!(quiet.may_say(("http", 1), start), Some(0));
        assert_eq!(quiet.may_say(("tls", 1), start + QUIET), Some(1));
        for address in 0..10_000 {
            quiet.may_say(("tls", address), start);
        }
        assert!(quiet.said.lock().len() <= REMEMBERED_MAX);
    }
}
