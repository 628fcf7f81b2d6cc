//! Clients that were refused: each counted by reason, and named in the log without letting them flood it.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::metrics::catalog::LabelValues;
use crate::metrics::{ConnectionRejection, HttpRejection, Metrics, RequestRejection};

/// The same refusal of the same address is logged once in this time.
const QUIET: Duration = Duration::from_secs(60);
/// Refusals remembered at most. Beyond, all are forgotten and may be logged again.
const REMEMBERED_MAX: usize = 1024;

/// What the log calls a failed produce whose sender awaits no answer.
const UNACKNOWLEDGED: &str = "unacknowledged_produce";

/// Counts and logs refusals.
pub struct Refusals {
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    logged: Mutex<HashMap<(&'static str, IpAddr), Logged>>,
}

#[derive(Default)]
struct Logged {
    at: Duration,
    /// Refusals since that were not logged.
    silenced: u64,
}

impl Refusals {
    pub fn new(metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        Refusals {
            metrics,
            clock,
            logged: Mutex::default(),
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

    /// A produce with acks=0 that failed, which closing the connection tells its sender. Counted as the request it is.
    pub fn unacknowledged(&self, peer: SocketAddr, what: &dyn Display) {
        if let Some(silenced) = self.may_log(UNACKNOWLEDGED, peer) {
            tracing::warn!(%peer, reason = UNACKNOWLEDGED, silenced, "connection closed: {what}");
        }
    }

    /// A connection or request that was refused on the HTTP port.
    pub fn http(&self, reason: HttpRejection, peer: SocketAddr, what: &dyn Display) {
        self.metrics.http_rejected.get(reason).inc();
        if let Some(silenced) = self.may_log(reason.as_str(), peer) {
            tracing::warn!(%peer, reason = reason.as_str(), silenced, "http refused: {what}");
        }
    }

    /// Whether to log now, and if so how many of the kind were not logged before.
    fn may_log(&self, reason: &'static str, peer: SocketAddr) -> Option<u64> {
        let now = self.clock.monotonic();
        let key = (reason, peer.ip());
        let mut logged = self.logged.lock();
        if let Some(last) = logged.get_mut(&key) {
            if now.saturating_sub(last.at) < QUIET {
                last.silenced += 1;
                return None;
            }
            let silenced = last.silenced;
            *last = Logged {
                at: now,
                silenced: 0,
            };
            return Some(silenced);
        }
        if logged.len() >= REMEMBERED_MAX {
            logged.clear();
        }
        logged.insert(
            key,
            Logged {
                at: now,
                silenced: 0,
            },
        );
        Some(0)
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
        let other_port = SocketAddr::from(([127, 0, 0, 1], 1001));
        let other = SocketAddr::from(([127, 0, 0, 2], 1000));
        assert_eq!(refusals.may_log("tls", peer), Some(0));
        assert_eq!(refusals.may_log("tls", other_port), None);
        assert_eq!(refusals.may_log("tls", other), Some(0));
        assert_eq!(refusals.may_log("http", peer), Some(0));
        clock.advance(QUIET);
        assert_eq!(refusals.may_log("tls", peer), Some(1));
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
