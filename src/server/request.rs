//! One request from its last byte read to the last byte of its response handed to the socket.
//!
//! A request is counted here and nowhere else, once: when its response went out, or when its [`RequestGuard`] is
//! dropped because there was none or the connection ended before that.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::metrics::{DoneRequest, Metrics, TopicCounters};

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
    pub error: bool,
    counted: bool,
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

/// Of a clock that shows far less than the 584 years that fit.
fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
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
    /// The last byte was handed to the socket at `now`.
    pub fn sent(mut self, now: Duration) {
        self.request.count(now, Some(self.response_bytes));
        for (topic, bytes) in &self.bytes_out {
            topic.add_bytes_out(*bytes);
        }
    }
}
