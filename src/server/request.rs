//! One request from its last byte read to the last byte of its response handed to the socket.
//!
//! A request is counted here and nowhere else, when its [`RequestGuard`] is dropped: after the response went out, or
//! when the connection ended before that.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::metrics::{Metrics, TopicCounters};

/// What counting needs, shared by the requests of one connection.
pub struct Counting {
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
}

/// A request that has arrived whole.
pub struct RequestGuard {
    counting: Arc<Counting>,
    api_key: i16,
    received_at: Duration,
    request_bytes: u64,
    /// Set once the response is with the socket.
    response_bytes: Option<u64>,
    pub error: bool,
}

impl RequestGuard {
    /// `frame` is the request without its length, `received_at` when its last byte was read.
    pub fn new(counting: &Arc<Counting>, frame: &[u8], received_at: Duration) -> Self {
        let api_key = frame
            .first_chunk()
            .map_or(-1, |key| i16::from_be_bytes(*key));
        RequestGuard {
            counting: Arc::clone(counting),
            api_key,
            received_at,
            request_bytes: frame.len() as u64,
            response_bytes: None,
            error: false,
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let Counting { metrics, clock } = &*self.counting;
        if !metrics.enabled() {
            return;
        }
        let instruments = metrics.request(self.api_key);
        let duration = clock.monotonic().saturating_sub(self.received_at);
        instruments.record(duration, self.error || std::thread::panicking());
        instruments.record_request_size(self.request_bytes);
        if let Some(bytes) = self.response_bytes {
            instruments.record_response_size(bytes);
        }
    }
}

/// A response on its way out, and what is counted once it is with the socket.
pub struct ResponseGuard {
    pub request: RequestGuard,
    /// Without the length prefix.
    pub response_bytes: u64,
    /// Record-batch bytes by topic.
    pub bytes_out: Vec<(Arc<TopicCounters>, u64)>,
}

impl ResponseGuard {
    /// The last byte was handed to the socket.
    pub fn sent(mut self) {
        self.request.response_bytes = Some(self.response_bytes);
        for (topic, bytes) in &self.bytes_out {
            topic.add_bytes_out(*bytes);
        }
    }
}
