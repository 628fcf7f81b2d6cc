//! Batches that producers were refused: each counted by reason, and told in the log once a minute for each client and
//! reason.

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
    /// By reason, address and client id.
    quiet: LogThrottle<(ProduceRefusal, IpAddr, Box<str>)>,
}

/// Batches of one request that are refused for one reason.
#[derive(Debug, Clone, Copy)]
pub struct RefusedBatches<'a> {
    pub reason: ProduceRefusal,
    pub count: u64,
    pub client_id: Option<&'a str>,
    pub peer: SocketAddr,
    pub acks: i16,
    /// Where the first of them was to go.
    pub topic: &'a str,
    pub partition: i32,
    /// What is wrong with the first of them.
    pub message: &'a str,
}

impl ProduceRefusals {
    pub(super) fn new(metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        ProduceRefusals {
            metrics,
            clock,
            quiet: LogThrottle::default(),
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
        if let Some(silenced) = self.quiet.may_say_of(client, now, count) {
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
