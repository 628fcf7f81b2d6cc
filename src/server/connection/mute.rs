//! The pause of a client that has exceeded a quota (KIP-219).
//!
//! Its responses are sent, and its requests in flight finish, but no further ones are read until the pause is over. One
//! exception: the rest of a large request that has begun to arrive is read and served, since its memory would otherwise be
//! held for as long. The client may be gone meanwhile, which is noticed after the pause, or once it has lasted for the idle
//! time-out.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::metrics::{Metrics, ThrottledGuard};

/// Longest pause at a time. Timers have an end, and a rate of bytes has none: one byte a second makes hours of a request.
const PAUSE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Pause of one connection, if there is one.
#[derive(Default)]
pub(super) struct Mute {
    pause: Option<Box<Pause>>,
}

struct Pause {
    sleep: Pin<Box<Sleep>>,
    /// Keeps the connection in the metrics.
    _counted: ThrottledGuard,
}

impl Mute {
    /// Pauses for `time` from now on, or for what is left of the current pause if that is longer.
    pub(super) fn begin(&mut self, time: Duration, metrics: &Arc<Metrics>) {
        let until = Instant::now() + time.min(PAUSE_MAX);
        match &mut self.pause {
            Some(pause) if pause.sleep.deadline() >= until => {}
            Some(pause) => pause.sleep.as_mut().reset(until),
            None => {
                self.pause = Some(Box::new(Pause {
                    sleep: Box::pin(tokio::time::sleep_until(until)),
                    _counted: metrics.connection_throttled(),
                }));
            }
        }
    }

    /// Ends the pause if its time is up; otherwise the task is woken then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(pause) = &mut self.pause
            && pause.sleep.as_mut().poll(cx).is_ready()
        {
            self.pause = None;
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.pause.is_some()
    }
}
