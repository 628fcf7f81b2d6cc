//! Metrics expositions that clients are still reading, and the memory they hold together.
//!
//! An exposition of a hundred thousand partitions takes about 50 MB, and clients may read slowly. All share one budget:
//! when a further exposition does not fit, the oldest ones are cut off. A client that reads at all finishes long before
//! its exposition is the oldest.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Asks a connection to end.
#[derive(Clone, Default)]
pub(super) struct CutOff(Arc<Notify>);

impl CutOff {
    /// Returns once the connection is asked to end.
    pub(super) async fn wanted(&self) {
        self.0.notified().await;
    }
}

/// All expositions in flight.
pub(super) struct Expositions {
    bytes_max: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    bytes: usize,
    /// Keyed by number, hence oldest first. Expositions that were cut off are removed.
    by_age: BTreeMap<u64, (usize, CutOff)>,
    begun: u64,
}

/// An exposition in flight, until dropped.
pub(super) struct Exposition {
    all: Arc<Expositions>,
    number: u64,
}

impl Expositions {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Expositions {
            bytes_max,
            held: Mutex::default(),
        })
    }

    /// Adds an exposition of `bytes`, and cuts off the oldest ones until it fits the budget.
    pub(super) fn begin(self: &Arc<Self>, bytes: usize, cut_off: CutOff) -> Exposition {
        let mut held = self.held.lock();
        while held.bytes + bytes > self.bytes_max
            && let Some((_, (freed, oldest))) = held.by_age.pop_first()
        {
            held.bytes -= freed;
            oldest.0.notify_one();
        }
        let number = held.begun;
        held.begun += 1;
        held.bytes += bytes;
        held.by_age.insert(number, (bytes, cut_off));
        Exposition {
            all: Arc::clone(self),
            number,
        }
    }
}

impl Drop for Exposition {
    fn drop(&mut self) {
        let mut held = self.all.held.lock();
        if let Some((bytes, _)) = held.by_age.remove(&self.number) {
            held.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn is_cut_off(cut_off: &CutOff) -> bool {
        cut_off.wanted().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_expositions_are_cut_off_and_finished_ones_free_their_memory() {
        let all = Expositions::new(100);
        let clients: [CutOff; 5] = Default::default();
        let first = all.begin(40, clients[0].clone());
        let second = all.begin(40, clients[1].clone());
        let third = all.begin(40, clients[2].clone());
        assert!(is_cut_off(&clients[0]));
        drop(second);
        let fourth = all.begin(60, clients[3].clone());
        drop(first);
        assert!(clients[1..4].iter().all(|client| !is_cut_off(client)));
        // Larger than the budget, and alone.
        let fifth = all.begin(101, clients[4].clone());
        assert!(clients[2..4].iter().all(is_cut_off));
        drop((third, fourth, fifth));
        assert_eq!(all.held.lock().bytes, 0);
        assert!(!is_cut_off(&clients[4]));
    }
}
