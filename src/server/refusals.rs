//! Clients that were refused: each counted by reason, and named in the log without letting them flood it.

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
    /// By reason, or another protocol's name, and address.
    quiet: LogThrottle<(&'static str, IpAddr)>,
}

impl Refusals {
    pub fn new(metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        Refusals {
            metrics,
            clock,
            quiet: LogThrottle::default(),
        }
    }

    /// A connection that was refused before its first request.
    pub fn connection(&self, reason: ConnectionRejection, peer: SocketAddr, why: &dyn Display) {
        self.metrics.connections_rejected.get(reason).inc();
        if let Some(silenced) = self.may_log(reason.as_str(), peer) {
            tracing::warn!(%peer, reason = reason.as_str(), silenced, "connection refused: {why}");
        }
    }

    /// A request that was refused by closing its connection.
    pub fn request(&self, reason: RequestRejection, peer: SocketAddr, what: &dyn Display) {
        self.metrics.requests_rejected.get(reason).inc();
        if let Some(silenced) = self.may_log(reason.as_str(), peer) {
            tracing::warn!(%peer, reason = reason.as_str(), silenced, "connection closed: {what}");
        }
    }

    /// A connection that began in another protocol, which is named. Each protocol is logged by itself.
    pub fn other_protocol(&self, name: &'static str, peer: SocketAddr, what: &dyn Display) {
        let reason = RequestRejection::OtherProtocol;
        self.metrics.requests_rejected.get(reason).inc();
        if let Some(silenced) = self.may_log(name, peer) {
            tracing::warn!(%peer, reason = reason.as_str(), silenced, "connection closed: {what}");
        }
    }

    /// A connection or request that was refused on the HTTP port.
    pub fn http(&self, reason: HttpRejection, peer: SocketAddr, what: &dyn Display) {
        self.metrics.http_rejected.get(reason).inc();
        if let Some(silenced) = self.may_log(reason.as_str(), peer) {
            tracing::warn!(%peer, reason = reason.as_str(), silenced, "HTTP request refused: {what}");
        }
    }

    /// Whether to log now, and if so how many of the kind were not logged before.
    fn may_log(&self, reason: &'static str, peer: SocketAddr) -> Option<u64> {
        let now = self.clock.monotonic();
        self.quiet.allow((reason, peer.ip()), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn the_same_refusal_is_counted_every_time_and_logged_once_a_minute() {
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
