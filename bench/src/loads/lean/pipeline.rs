//! Pipelined requests on one connection: the next ones are sent before the response to the last.

use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::connection::Connection;
use super::frames::{Fetch, FetchLimits, Produce};
use crate::loads::Moved;

/// Limit of the requests in flight.
struct Window {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Window {
    fn new(size: usize) -> Window {
        Window {
            free: Mutex::new(size),
            freed: Condvar::new(),
        }
    }

    fn take(&self) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .freed
            .wait_while(free, |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
    }

    fn give_back(&self, places: usize) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += places;
        self.freed.notify_one();
    }
}

/// Sends `requests` Produce requests, those of `produce` in turn, with at most `window` in flight.
pub fn produce(
    address: SocketAddr,
    produce: &[Produce],
    requests: usize,
    window: usize,
) -> Result<Moved> {
    let mut sending = Connection::open(address)?;
    let mut receiving = sending.split()?;
    let window = Window::new(window);
    let turn = |i: usize| &produce[i % produce.len()];
    let began = Instant::now();
    thread::scope(|scope| {
        let sender = scope.spawn(|| -> Result<()> {
            for i in 0..requests {
                window.take();
                sending.send(&turn(i).frame)?;
            }
            Ok(())
        });
        let mut received = Ok(());
        for i in 0..requests {
            received = receiving
                .receive()
                .and_then(|answer| turn(i).check(answer))
                .map(|_| ());
            if received.is_err() {
                // The sender must not wait for responses that are no longer read.
                window.give_back(requests);
                break;
            }
            window.give_back(1);
        }
        let sent = sender.join().expect("the sender does not panic");
        received.and(sent).context("produce")
    })?;
    let elapsed = began.elapsed();
    let sent = (0..requests).map(turn);
    Ok(Moved {
        bytes: sent.map(|produce| produce.batch_bytes as u64).sum(),
        elapsed,
    })
}

/// Reads a partition from its start in `requests` responses of `batches` whole batches each, with two requests in flight.
/// Since every batch is like `produced`, the offset of the next request is known before the last response arrives.
pub fn fetch(
    address: SocketAddr,
    topic: &str,
    produced: &Produce,
    requests: usize,
    batches: usize,
) -> Result<Moved> {
    const UNDER_WAY: usize = 2;
    let bytes = batches * produced.batch_bytes;
    let limits = FetchLimits {
        max_wait_ms: 1_000,
        // The server sends whole batches, so a slightly larger limit changes nothing.
        max_bytes: i32::try_from(bytes + produced.batch_bytes / 2)?,
    };
    let mut fetch = Fetch::new(topic, 0, limits)?;
    let mut connection = Connection::open(address)?;
    let offset = |request: usize| (request * batches * produced.records) as i64;
    let began = Instant::now();
    for request in 0..UNDER_WAY.min(requests) {
        connection.send(fetch.at(offset(request)))?;
    }
    for request in 0..requests {
        let length = connection.receive_length()?;
        // A response has less than 200 bytes besides the batches, so another number of batches or an error is detected.
        ensure!(
            (bytes..bytes + 200).contains(&length),
            "response of {length} bytes, expected {batches} batches of {} bytes",
            produced.batch_bytes
        );
        if request + UNDER_WAY < requests {
            connection.send(fetch.at(offset(request + UNDER_WAY)))?;
        }
        connection.skip(length)?;
    }
    Ok(Moved {
        bytes: (requests * bytes) as u64,
        elapsed: began.elapsed(),
    })
}
