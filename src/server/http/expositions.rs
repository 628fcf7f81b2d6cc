//! The expositions that clients are still taking, and the memory these hold together.
//!
//! One of a hundred thousand partitions has some 50 MB, and a client may take its time. There is one budget for all: when
//! a further exposition does not fit, the clients that have been at it for longest are cut off. One that reads is done
//! long before it is the oldest.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Tells a connection to end.
#[derive(Clone, Default)]
pub(super) struct CutOff(Arc<Notify>);

impl CutOff {
    /// Returns once the connection is to end.
    pub(super) async fn wanted(&self) {
        self.0.notified().await;
    }
}

/// All expositions on their way out.
pub(super) struct Expositions {
    bytes_max: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    bytes: usize,
    /// In the order in which they were begun. Those that were cut off are gone from here.
    by_age: BTreeMap<u64, (usize, CutOff)>,
    begun: u64,
}

/// An exposition on its way out, for as long as this lives.
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

    /// Notes an exposition of `bytes`, and cuts off older ones that leave no room for it.
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
    fn the_oldest_make_room_and_those_that_are_done_free_theirs() {
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
