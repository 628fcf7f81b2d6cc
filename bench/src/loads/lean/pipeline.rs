//! One connection kept full: the next requests are on their way before the last is answered.

use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::connection::Connection;
use super::frames::{Fetch, FetchLimits, Produce};
use crate::loads::Moved;

/// Requests that may be under way: sent and not yet answered.
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

/// Sends `requests` Produce requests, taking `produce` in turn, at most `window` of them unanswered at a time.
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
                // The sender must not wait for answers that nobody reads.
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

/// Reads a partition from its start, `requests` answers of `batches` whole batches each, with two requests under way:
/// that every batch looks like `produced` says where the next answer begins before the last is there.
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
        // Whole batches are sent, so that a little more changes nothing.
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
        // Around the batches there are less than 200 bytes; another number of batches, or an error, shows at once.
        ensure!(
            (bytes..bytes + 200).contains(&length),
            "an answer of {length} bytes, expected {batches} batches of {} bytes",
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
