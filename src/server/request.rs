//! Accounting of one request, from reading its last byte to handing the last byte of its response to the socket.
//!
//! A request is counted here and nowhere else, once: when its response has been sent, or when its [`RequestGuard`] is
//! dropped because there was no response or the connection ended first.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::metrics::{DoneRequest, Metrics, TopicCounters};

/// Metrics and clock, shared by the requests of one connection.
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
    pub error: bool,
    counted: bool,
}

impl RequestGuard {
    /// Starts the accounting of a request: `frame` without its length, whose last byte was read at `received_at`.
    pub fn new(counting: &Arc<Counting>, frame: &[u8], received_at: Duration) -> Self {
        let api_key = frame
            .first_chunk()
            .map_or(-1, |key| i16::from_be_bytes(*key));
        RequestGuard {
            counting: Arc::clone(counting),
            api_key,
            received_at,
            request_bytes: frame.len() as u64,
            error: false,
            counted: false,
        }
    }

    #[inline]
    fn count(&mut self, done_at: Duration, response_bytes: Option<u64>) {
        self.counted = true;
        let metrics = &self.counting.metrics;
        if metrics.enabled() {
            metrics.request(self.api_key).record_done(&DoneRequest {
                duration_ns: nanos(done_at).saturating_sub(nanos(self.received_at)),
                error: self.error,
                request_bytes: self.request_bytes,
                response_bytes,
            });
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if !self.counted {
            self.error |= std::thread::panicking();
            self.count(self.counting.clock.monotonic(), None);
        }
    }
}

/// Converts a reading of the monotonic clock; 584 years fit.
fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

/// A response on its way out, with the values to count once it has been handed to the socket.
pub struct ResponseGuard {
    pub request: RequestGuard,
    /// Without the length prefix.
    pub response_bytes: u64,
    /// Record-batch bytes by topic.
    pub bytes_out: Vec<(Arc<TopicCounters>, u64)>,
}

impl ResponseGuard {
    /// Counts the response, whose last byte was handed to the socket at `now`.
    pub fn sent(mut self, now: Duration) {
        self.request.count(now, Some(self.response_bytes));
        for (topic, bytes) in &self.bytes_out {
            topic.add_bytes_out(*bytes);
        }
    }
}
