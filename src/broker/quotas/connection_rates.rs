//! Limits on the rate of new connections, by IP address (KIP-612).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use super::client::{millis, millis_of};
use super::meters::Meters;
use super::rate::Rate;
use super::window::Window;

/// Limits and rates of new connections.
pub(super) struct ConnectionRates {
    window: Window,
    has_limits: AtomicBool,
    limits: RwLock<AddressLimits>,
    rates: Meters<IpAddr, Rate>,
}

/// Connections a second, by address.
#[derive(Debug, Default, PartialEq)]
pub(super) struct AddressLimits {
    pub(super) by_address: HashMap<IpAddr, f64>,
    /// Limit of each other address.
    pub(super) default: Option<f64>,
}

impl ConnectionRates {
    pub(super) fn new(window: Window) -> Self {
        ConnectionRates {
            window,
            has_limits: AtomicBool::new(false),
            limits: RwLock::default(),
            rates: Meters::new(window),
        }
    }

    pub(super) fn set(&self, limits: AddressLimits) {
        let has_limits = limits != AddressLimits::default();
        *self.limits.write() = limits;
        self.has_limits.store(has_limits, Ordering::Relaxed);
    }

    /// Counts a new connection, or returns for how long its address is throttled: at most one sample.
    pub(super) fn admit(&self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        if !self.has_limits.load(Ordering::Relaxed) {
            return Ok(());
        }
        let limit = {
            let limits = self.limits.read();
            let own = limits.by_address.get(&address).copied();
            own.or(limits.default)
        };
        let Some(limit) = limit else {
            return Ok(());
        };
        let now_ms = millis_of(now);
        let meter = self.rates.of(address, now_ms);
        let mut rate = meter.lock();
        rate.record(self.window, 1.0, now_ms);
        let throttled_ms = rate.throttle_ms(self.window, limit, now_ms);
        if throttled_ms == 0.0 {
            return Ok(());
        }
        // It is refused, so it does not count.
        rate.record(self.window, -1.0, now_ms);
        Err(millis(throttled_ms.min(self.window.sample_ms as f64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        samples: 11,
        sample_ms: 1000,
    };

    fn admitted(rates: &ConnectionRates, last: u8, now_ms: u64) -> usize {
        let address = IpAddr::from([127, 0, 0, last]);
        let now = Duration::from_millis(now_ms);
        let admit = |_: &u32| rates.admit(address, now).is_ok();
        (0..100).filter(admit).count()
    }

    #[test]
    fn addresses_are_limited_by_their_own_limit_or_the_default() {
        let rates = ConnectionRates::new(WINDOW);
        assert_eq!(admitted(&rates, 1, 0), 100);
        rates.set(AddressLimits {
            by_address: HashMap::from([(IpAddr::from([127, 0, 0, 1]), 2.0)]),
            default: Some(5.0),
        });
        // Idle addresses may use ten samples at once.
        assert_eq!(admitted(&rates, 1, 0), 20);
        assert_eq!(admitted(&rates, 2, 0), 50);
        assert_eq!(admitted(&rates, 3, 0), 50);
        let refused = rates.admit(IpAddr::from([127, 0, 0, 1]), Duration::ZERO);
        assert_eq!(refused, Err(Duration::from_millis(500)));
        // Refused ones do not count.
        assert_eq!(admitted(&rates, 1, 20_000), 20);
        rates.set(AddressLimits::default());
        assert_eq!(admitted(&rates, 1, 20_000), 100);
    }
}
