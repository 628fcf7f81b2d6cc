//! Refused connections and requests: each is counted by reason, and logged at a limited rate.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::broker::LogThrottle;
use crate::clock::Clock;
use crate::metrics::catalog::LabelValues;
use crate::metrics::{ConnectionRejection, HttpRejection, Metrics, RequestRejection};

/// Counts and logs refusals.
pub struct Refusals {
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    /// Keyed by reason, or another protocol's name, and address.
    throttle: LogThrottle<(&'static str, IpAddr)>,
}

impl Refusals {
    pub fn new(metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        Refusals {
            metrics,
            clock,
            throttle: LogThrottle::default(),
        }
    }

    /// Records a connection refused before its first request.
    pub fn connection(&self, reason: ConnectionRejection, peer: SocketAddr, why: &dyn Display) {
        self.metrics.connections_rejected.get(reason).inc();
        if let Some(silenced) = self.may_log(reason.as_str(), peer) {
            tracing::warn!(%peer, reason = reason.as_str(), silenced, "connection refused: {why}");
        }
    }

    /// Records a request refused by closing its connection.
    pub fn request(&self, reason: RequestRejection, peer: SocketAddr, what: &dyn Display) {
        self.metrics.requests_rejected.get(reason).inc();
        if let Some(silenced) = self.may_log(reason.as_str(), peer) {
            tracing::warn!(%peer, reason = reason.as_str(), silenced, "connection closed: {what}");
        }
    }

    /// Records a connection of another protocol, described by `name`. Log lines are throttled for each protocol separately.
    pub fn other_protocol(&self, name: &'static str, peer: SocketAddr, what: &dyn Display) {
        let reason = RequestRejection::OtherProtocol;
        self.metrics.requests_rejected.get(reason).inc();
        if let Some(silenced) = self.may_log(name, peer) {
            tracing::warn!(%peer, reason = reason.as_str(), silenced, "connection closed: {what}");
        }
    }

    /// Records a connection or request refused on the HTTP port.
    pub fn http(&self, reason: HttpRejection, peer: SocketAddr, what: &dyn Display) {
        self.metrics.http_rejected.get(reason).inc();
        if let Some(silenced) = self.may_log(reason.as_str(), peer) {
            tracing::warn!(%peer, reason = reason.as_str(), silenced, "HTTP request refused: {what}");
        }
    }

    /// Returns `None` if the line is to be suppressed, otherwise how many were suppressed since the last one.
    fn may_log(&self, reason: &'static str, peer: SocketAddr) -> Option<u64> {
        let now = self.clock.monotonic();
        self.throttle.allow((reason, peer.ip()), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_repeated_refusal_is_always_counted_and_logged_once_a_minute() {
        let clock = ManualClock::at_ms(0);
        let metrics = Metrics::new(true);
        let refusals = Refusals::new(Arc::clone(&metrics), clock.clone());
        let peer = SocketAddr::from(([127, 0, 0, 1], 1000));
        assert_eq!(refusals.may_log("http", peer), Some(0));
        let other_port = SocketAddr::from(([127, 0, 0, 1], 1001));
        assert_eq!(refusals.may_log("http", other_port), None);
        refusals.request(RequestRejection::Http, peer, &"first");
        refusals.request(RequestRejection::Http, peer, &"second");
        assert_eq!(
            metrics
                .requests_rejected
                .get(RequestRejection::Http)
                .value(),
            2
        );
    }
}
