//! The quotas of one client, as its connections use them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::limits::{Limit, SharedBy};
use super::rate::Rate;
use super::token_bucket::TokenBucket;
use super::window::Window;

/// Largest size of a name in a [`ClientKey`].
const NAME_BYTES_MAX: usize = 255;

/// Identity of the clients that share a meter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    user: Box<str>,
    client_id: Box<str>,
}

impl ClientKey {
    /// Creates the key of the clients that share a limit with this one. Names are cut to a bounded length.
    pub(super) fn new(shared: SharedBy, user: &str, client_id: &str) -> Self {
        let (user, client_id) = match shared {
            SharedBy::UserAndClientId => (user, client_id),
            SharedBy::User => (user, ""),
            SharedBy::ClientId => ("", client_id),
        };
        ClientKey {
            user: cut(user).into(),
            client_id: cut(client_id).into(),
        }
    }
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

/// A limit with the meter that it applies to.
pub(super) struct Metered<M> {
    pub(super) limit: Limit,
    pub(super) meter: Arc<Mutex<M>>,
}

/// The quotas that apply to a user with a client id. They stay valid until any quota changes.
pub struct ClientQuotas {
    pub(super) generation: u64,
    pub(super) client_id: Box<str>,
    pub(super) window: Window,
    pub(super) produce: Option<Metered<Rate>>,
    pub(super) fetch: Option<Metered<Rate>>,
    pub(super) request: Option<Metered<Rate>>,
    pub(super) mutation: Option<Metered<TokenBucket>>,
}

impl ClientQuotas {
    pub(super) fn is_unlimited(&self) -> bool {
        self.produce.is_none()
            && self.fetch.is_none()
            && self.request.is_none()
            && self.mutation.is_none()
    }

    /// Adds produced bytes and returns for how long the client is throttled.
    pub fn produced(&self, bytes: usize, now: Duration) -> Duration {
        self.record(&self.produce, bytes as f64, now)
    }

    /// Adds fetched bytes and returns for how long the client is throttled.
    pub fn fetched(&self, bytes: usize, now: Duration) -> Duration {
        self.record(&self.fetch, bytes as f64, now)
    }

    /// Takes fetched bytes back, because they are not sent.
    pub fn unfetched(&self, bytes: usize, now: Duration) {
        self.record(&self.fetch, -(bytes as f64), now);
    }

    /// Returns the bytes of which a fetch of more would be throttled even after a pause.
    pub fn fetch_bytes_max(&self) -> Option<f64> {
        let per_second = self.fetch.as_ref()?.limit.per_second;
        Some(per_second * self.window.full_samples_seconds())
    }

    /// Adds time spent on a request, and returns for how long the client is throttled: at most one sample.
    pub fn worked(&self, spent: Duration, now: Duration) -> Duration {
        let throttled = self.record(&self.request, percent_seconds(spent), now);
        throttled.min(Duration::from_millis(self.window.sample_ms))
    }

    /// Adds changes of topics or partitions even if they exceed the quota, and returns for how long the client is
    /// throttled.
    pub fn mutated(&self, changes: usize, now: Duration) -> Duration {
        let Some(Metered { limit, meter }) = &self.mutation else {
            return Duration::ZERO;
        };
        let mut bucket = meter.lock();
        let changes = changes as f64;
        millis(bucket.take(self.window, limit.per_second, changes, millis_of(now)))
    }

    /// Adds changes of topics or partitions, unless earlier ones have exhausted the quota. The error is the time for which
    /// the client is throttled.
    pub fn try_mutate(&self, changes: usize, now: Duration) -> Result<(), Duration> {
        let Some(Metered { limit, meter }) = &self.mutation else {
            return Ok(());
        };
        let mut bucket = meter.lock();
        let changes = changes as f64;
        bucket
            .try_take(self.window, limit.per_second, changes, millis_of(now))
            .map_err(millis)
    }

    fn record(&self, metered: &Option<Metered<Rate>>, amount: f64, now: Duration) -> Duration {
        let Some(Metered { limit, meter }) = metered else {
            return Duration::ZERO;
        };
        let now_ms = millis_of(now);
        let mut rate = meter.lock();
        rate.record(self.window, amount, now_ms);
        millis(rate.throttle_ms(self.window, limit.per_second, now_ms))
    }
}

/// Converts time into the unit of `request_percentage`: 100 is one second of one thread.
fn percent_seconds(spent: Duration) -> f64 {
    spent.as_secs_f64() * 100.0
}

pub(super) fn millis_of(now: Duration) -> u64 {
    now.as_millis() as u64
}

/// Converts a time to wait, which is not negative. A conversion of floating point saturates.
pub(super) fn millis(milliseconds: f64) -> Duration {
    Duration::from_millis(milliseconds as u64)
}
