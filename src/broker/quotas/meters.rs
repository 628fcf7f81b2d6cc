//! Use that clients have made of one quota, in bounded memory.
//!
//! A client without recent use has the same allowance as an unknown one, so its meter is dropped. If there are more clients
//! than meters nevertheless, such as those of a client that makes up a new client id for each request, the excess ones share
//! one.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

use super::rate::Rate;
use super::token_bucket::TokenBucket;
use super::window::Window;

/// Largest number of clients that are metered separately.
#[cfg(not(test))]
const METERS_MAX: usize = 20_000;
#[cfg(test)]
const METERS_MAX: usize = 100;

/// Number of meters below which no idle ones are looked for.
const SWEEP_FROM: usize = METERS_MAX / 4;

/// A meter that is dropped when its client has been idle for long enough.
pub(super) trait Meter: Default {
    fn is_idle(&self, window: Window, now_ms: u64) -> bool;
}

impl Meter for Rate {
    fn is_idle(&self, window: Window, now_ms: u64) -> bool {
        Rate::is_idle(self, window, now_ms)
    }
}

impl Meter for TokenBucket {
    fn is_idle(&self, window: Window, now_ms: u64) -> bool {
        TokenBucket::is_idle(self, window, now_ms)
    }
}

/// The meters of one quota, by client.
pub(super) struct Meters<K, M> {
    window: Window,
    state: Mutex<State<K, M>>,
}

struct State<K, M> {
    meters: HashMap<K, Arc<Mutex<M>>>,
    /// Meter of the clients in excess.
    excess: Arc<Mutex<M>>,
    /// Number of meters at which idle ones are looked for.
    sweep_at: usize,
    /// Time before which they are not looked for again.
    sweep_not_before_ms: u64,
}

impl<K: Hash + Eq, M: Meter> Meters<K, M> {
    pub(super) fn new(window: Window) -> Self {
        Meters {
            window,
            state: Mutex::new(State {
                meters: HashMap::new(),
                excess: Arc::default(),
                sweep_at: SWEEP_FROM,
                sweep_not_before_ms: 0,
            }),
        }
    }

    /// Returns the meter of a client.
    pub(super) fn of(&self, client: K, now_ms: u64) -> Arc<Mutex<M>> {
        let mut state = self.state.lock();
        if let Some(meter) = state.meters.get(&client) {
            return Arc::clone(meter);
        }
        if state.meters.len() >= state.sweep_at && now_ms >= state.sweep_not_before_ms {
            state.sweep(self.window, now_ms);
        }
        if state.meters.len() >= METERS_MAX {
            return Arc::clone(&state.excess);
        }
        Arc::clone(state.meters.entry(client).or_default())
    }
}

impl<K: Hash + Eq, M: Meter> State<K, M> {
    fn sweep(&mut self, window: Window, now_ms: u64) {
        // A meter that somebody else holds may be about to be used.
        self.meters.retain(|_, meter| {
            Arc::strong_count(meter) > 1 || !meter.lock().is_idle(window, now_ms)
        });
        // The cost of a sweep is paid by the clients added since the last one.
        self.sweep_at = (self.meters.len() + SWEEP_FROM).min(METERS_MAX);
        self.sweep_not_before_ms = now_ms + window.sample_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        samples: 2,
        sample_ms: 1000,
    };

    fn use_some(meters: &Meters<usize, Rate>, client: usize, now_ms: u64) -> Arc<Mutex<Rate>> {
        let meter = meters.of(client, now_ms);
        meter.lock().record(WINDOW, 1.0, now_ms);
        meter
    }

    #[test]
    fn a_client_keeps_its_meter() {
        let meters = Meters::new(WINDOW);
        let one = use_some(&meters, 1, 0);
        assert!(Arc::ptr_eq(&one, &meters.of(1, 0)));
        assert!(!Arc::ptr_eq(&one, &meters.of(2, 0)));
    }

    #[test]
    fn meters_of_idle_clients_are_dropped_and_those_in_use_kept() {
        let meters = Meters::new(WINDOW);
        let held = use_some(&meters, 0, 0);
        for client in 1..1000 {
            use_some(&meters, client, client as u64 * 1000);
        }
        assert!(meters.state.lock().meters.len() <= SWEEP_FROM + 3);
        assert!(Arc::ptr_eq(&held, &meters.of(0, 1_000_000)));
    }

    #[test]
    fn clients_in_excess_share_one_meter() {
        let meters = Meters::new(WINDOW);
        for client in 0..METERS_MAX {
            use_some(&meters, client, 0);
        }
        let [one, other] = [5000, 5001].map(|client| use_some(&meters, client, 0));
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!(meters.state.lock().meters.len(), METERS_MAX);
        // Once the others have become idle, there is room again.
        let [one, other] = [5000, 5001].map(|client| use_some(&meters, client, 60_000));
        assert!(!Arc::ptr_eq(&one, &other));
    }
}
