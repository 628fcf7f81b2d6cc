//! Latency at a given rate without coordinated omission: requests are due at fixed times regardless of earlier ones, and
//! latency is measured from when a request was due.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use streamline::protocol::kafka::decode_response;
use streamline::protocol::messages::fetch::FetchRequest;
use streamline::record::BatchHeader;

use super::connection::Connection;
use super::frames::{FETCH_VERSION, Fetch, FetchLimits, Produce};
use crate::clock;

/// Longest latency recorded; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(100);

/// Creates a histogram of nanoseconds with three digits.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3)
        .expect("these bounds make a histogram")
}

pub fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(latency.as_nanos() as u64);
}

/// Returns a quantile in seconds.
pub fn seconds_at(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e9
}

/// Times at which requests are due.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    first: Instant,
    every: Duration,
    requests: u32,
}

impl Schedule {
    fn new(rate: u32, time: Duration) -> Schedule {
        Schedule {
            // Leaves time for all threads to start.
            first: Instant::now() + Duration::from_millis(20),
            every: Duration::from_secs(1) / rate,
            requests: (time.as_secs_f64() * f64::from(rate)) as u32,
        }
    }

    fn due(&self, request: u32) -> Instant {
        self.first + self.every * request
    }

    fn send_all(&self, connection: &mut Connection, frame: &[u8]) -> Result<()> {
        clock::wake_this_thread_on_time();
        for request in 0..self.requests {
            clock::sleep_until(self.due(request));
            connection.send(frame)?;
        }
        Ok(())
    }
}

/// Measures the latency of Produce, from when a request was due to its response.
pub fn produce(
    address: SocketAddr,
    produce: &Produce,
    rate: u32,
    time: Duration,
) -> Result<Histogram<u64>> {
    let mut sending = Connection::open(address)?;
    let mut receiving = sending.split()?;
    let schedule = Schedule::new(rate, time);
    thread::scope(|scope| {
        let sender = scope.spawn(move || schedule.send_all(&mut sending, &produce.frame));
        let mut latency = new_histogram();
        for request in 0..schedule.requests {
            produce.check(receiving.receive()?)?;
            record(&mut latency, schedule.due(request).elapsed());
        }
        sender.join().expect("the sender does not panic")?;
        Ok(latency)
    })
}

/// Measures the end-to-end latency, from when a record's Produce was due until a waiting consumer receives it. The topic
/// must be empty and `produce` have one record.
pub fn end_to_end(
    address: SocketAddr,
    topic: &str,
    produce: &Produce,
    rate: u32,
    time: Duration,
) -> Result<Histogram<u64>> {
    ensure!(produce.records == 1, "offsets count requests");
    let mut sending = Connection::open(address)?;
    let mut acknowledged = sending.split()?;
    let mut consumer = Connection::open(address)?;
    let schedule = Schedule::new(rate, time);
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| schedule.send_all(&mut sending, &produce.frame));
        let acknowledgements = scope.spawn(|| -> Result<()> {
            for _ in 0..schedule.requests {
                if let Err(error) = acknowledged
                    .receive()
                    .and_then(|answer| produce.check(answer))
                {
                    failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
            Ok(())
        });
        let limits = FetchLimits {
            max_wait_ms: 1_000,
            max_bytes: 1 << 20,
        };
        let mut fetch = Fetch::new(topic, 0, limits)?;
        let mut latency = new_histogram();
        let mut next = 0;
        while next < schedule.requests && !failed.load(Ordering::Relaxed) {
            consumer.send(fetch.at(i64::from(next)))?;
            let answer = Bytes::copy_from_slice(consumer.receive()?);
            let now = Instant::now();
            let end = end_of_fetched(answer)?;
            for request in next..end.unwrap_or(next) {
                record(
                    &mut latency,
                    now.saturating_duration_since(schedule.due(request)),
                );
            }
            next = end.unwrap_or(next);
        }
        sender.join().expect("the sender does not panic")?;
        acknowledgements
            .join()
            .expect("the reader does not panic")?;
        Ok(latency)
    })
}

/// Returns the offset after the last batch of a response, if it has one.
fn end_of_fetched(answer: Bytes) -> Result<Option<u32>> {
    let (_, response) = decode_response::<FetchRequest>(answer, FETCH_VERSION)?;
    let partition = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .next()
        .context("the response has no partition")?;
    ensure!(
        !partition.error_code.is_error(),
        "Fetch failed with {:?}",
        partition.error_code
    );
    let Some(records) = &partition.records else {
        return Ok(None);
    };
    let mut left = records.to_bytes()?;
    let mut end = None;
    while left.len() >= BatchHeader::LEN {
        let header = BatchHeader::read(&left)?;
        if header.size_bytes() > left.len() {
            break;
        }
        left = left.slice(header.size_bytes()..);
        end = Some(u32::try_from(header.next_offset())?);
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_even_intervals() {
        let schedule = Schedule::new(500, Duration::from_secs(2));
        assert_eq!(schedule.requests, 1_000);
        assert_eq!(schedule.due(500) - schedule.due(0), Duration::from_secs(1));
    }

    #[test]
    fn what_takes_too_long_counts_as_the_longest() {
        let mut histogram = new_histogram();
        record(&mut histogram, Duration::from_secs(1_000));
        record(&mut histogram, Duration::from_millis(1));
        assert!(seconds_at(&histogram, 1.0) > 99.0);
        assert!((seconds_at(&histogram, 0.5) - 0.001).abs() < 1e-5);
    }
}
