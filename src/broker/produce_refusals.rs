//! Refused batches of producers: each is counted by reason, and logged once a minute for each client and reason.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::log_throttle::{LogThrottle, shortened};
use crate::clock::Clock;
use crate::metrics::catalog::LabelValues;
use crate::metrics::{Metrics, ProduceRefusal};

/// Counts and logs refused batches.
pub struct ProduceRefusals {
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    /// Keyed by reason, address and client id.
    throttle: LogThrottle<(ProduceRefusal, IpAddr, Box<str>)>,
}

/// Batches of one request refused for the same reason.
#[derive(Debug, Clone, Copy)]
pub struct RefusedBatches<'a> {
    pub reason: ProduceRefusal,
    pub count: u64,
    pub client_id: Option<&'a str>,
    pub peer: SocketAddr,
    pub acks: i16,
    /// Topic of the first of them.
    pub topic: &'a str,
    pub partition: i32,
    /// Error code and message of the first of them.
    pub message: &'a str,
}

impl ProduceRefusals {
    pub(super) fn new(metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        ProduceRefusals {
            metrics,
            clock,
            throttle: LogThrottle::default(),
        }
    }

    pub fn note(&self, refused: RefusedBatches<'_>) {
        let RefusedBatches {
            reason,
            count,
            client_id,
            peer,
            acks,
            topic,
            partition,
            message,
        } = refused;
        self.metrics.produce_refused.get(reason).add(count);
        let client_id = shortened(client_id.unwrap_or_default());
        let client = (reason, peer.ip(), Box::from(client_id));
        let now = self.clock.monotonic();
        if let Some(silenced) = self.throttle.allow_one_of(client, now, count) {
            tracing::warn!(
                topic = shortened(topic),
                partition,
                reason = reason.as_str(),
                acks,
                client_id,
                %peer,
                silenced,
                error = message,
                "produce refused"
            );
        }
    }
}
