//! Request metrics of one API key.

use std::time::Duration;

use super::histogram::{HistogramSnapshot, LATENCY, Layout, SIZE, nanos};
use super::rows::{RowWriter, Rows};

/// Request counts, durations and sizes of one API key. All are in one row, so that a request is recorded with one row
/// look-up and one write. The request counter is derived from the duration histogram, so that the two never disagree.
pub struct RequestInstruments {
    rows: Rows<WORDS>,
}

const FAILED: usize = 0;
const DURATION: Layout = Layout::at(1, &LATENCY);
const REQUEST_SIZE: Layout = Layout::at(DURATION.end(), &SIZE);
const RESPONSE_SIZE: Layout = Layout::at(REQUEST_SIZE.end(), &SIZE);
const WORDS: usize = 55;
const _: () = assert!(RESPONSE_SIZE.end() <= WORDS);

/// A completed request. Sizes are frame sizes without the length prefix.
#[derive(Debug, Clone, Copy)]
pub struct DoneRequest {
    /// Nanoseconds from the last byte read of the request to the last byte of its response handed to the socket.
    pub duration_ns: u64,
    pub error: bool,
    pub request_bytes: u64,
    /// `None` if the request has no response.
    pub response_bytes: Option<u64>,
}

impl RequestInstruments {
    pub(super) fn new(enabled: bool) -> Self {
        Self {
            rows: Rows::new(enabled),
        }
    }

    /// Counts a request with its duration, outcome and sizes.
    #[inline]
    pub fn record_done(&self, request: &DoneRequest) {
        let Some(row) = self.rows.write() else {
            return;
        };
        count(&row, request.duration_ns, request.error);
        REQUEST_SIZE.record(&row, request.request_bytes);
        if let Some(bytes) = request.response_bytes {
            RESPONSE_SIZE.record(&row, bytes);
        }
    }

    /// Counts a request without its sizes.
    pub fn record(&self, duration: Duration, error: bool) {
        if let Some(row) = self.rows.write() {
            count(&row, nanos(duration), error);
        }
    }

    /// Returns everything recorded so far.
    pub fn snapshot(&self) -> RequestsSnapshot {
        let mut snapshot = RequestsSnapshot {
            failed: 0,
            duration: DURATION.empty(),
            request_size: REQUEST_SIZE.empty(),
            response_size: RESPONSE_SIZE.empty(),
        };
        self.rows.read(|row| {
            snapshot.failed += row[FAILED];
            DURATION.add_to(&mut snapshot.duration, row);
            REQUEST_SIZE.add_to(&mut snapshot.request_size, row);
            RESPONSE_SIZE.add_to(&mut snapshot.response_size, row);
        });
        snapshot
    }
}

#[inline]
fn count(row: &RowWriter<'_, WORDS>, duration_ns: u64, error: bool) {
    DURATION.record(row, duration_ns);
    if error {
        row.increment(FAILED);
    }
}

/// Snapshot of the request metrics of one API key.
pub struct RequestsSnapshot {
    failed: u64,
    pub duration: HistogramSnapshot,
    pub request_size: HistogramSnapshot,
    pub response_size: HistogramSnapshot,
}

impl RequestsSnapshot {
    /// Returns the number of failed requests, or of successful ones.
    pub fn requests(&self, error: bool) -> u64 {
        if error {
            self.failed
        } else {
            self.duration.count() - self.failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::slots;

    const DONE: DoneRequest = DoneRequest {
        duration_ns: 2_000_000,
        error: false,
        request_bytes: 100,
        response_bytes: Some(1_000),
    };

    #[test]
    fn a_request_is_recorded_once_in_every_instrument() {
        let instruments = RequestInstruments::new(true);
        let failed = DoneRequest {
            error: true,
            response_bytes: None,
            ..DONE
        };
        std::thread::scope(|scope| {
            // More writers than shards, so that the shared shard is exercised as well.
            for _ in 0..slots::count() + 2 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        instruments.record_done(&DONE);
                        instruments.record_done(&failed);
                        let seen = instruments.snapshot();
                        assert_eq!(seen.request_size.count(), seen.duration.count());
                        assert_eq!(seen.response_size.count(), seen.requests(false));
                    }
                });
            }
        });
        let each = (slots::count() as u64 + 2) * 1_000;
        let seen = instruments.snapshot();
        assert_eq!((seen.requests(false), seen.requests(true)), (each, each));
        assert_eq!(seen.duration.sum(), each as f64 * 2.0 * 0.002);
        assert_eq!(seen.request_size.sum(), each as f64 * 2.0 * 100.0);
        assert_eq!(seen.response_size.sum(), each as f64 * 1_000.0);
    }

    #[test]
    fn disabled_instruments_record_nothing() {
        let instruments = RequestInstruments::new(false);
        instruments.record_done(&DONE);
        instruments.record(Duration::ZERO, true);
        let seen = instruments.snapshot();
        assert_eq!((seen.requests(false), seen.requests(true)), (0, 0));
        assert_eq!(seen.request_size.count(), 0);
    }
}
