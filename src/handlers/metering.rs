//! Use that a request makes of its client's quotas, and the time for which the client is throttled for it.
//!
//! As in Kafka (KIP-219), a request is always served, its response is sent at once and says for how long the client should
//! pause; the server does not read from the connection for that time, so that a client which does not pause is held up
//! anyway. Only a fetch that exceeds a quota gets an empty response, and changes of topics are refused.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::refusal::Refusal;
use super::{Call, Session};
use crate::broker::{Broker, ClientQuotas, Quota};
use crate::protocol::kafka::{ApiKey, ErrorCode};

/// The use of one request of a client that has quotas.
pub(super) struct RequestMeter {
    api: ApiKey,
    quotas: Arc<ClientQuotas>,
    broker: Arc<Broker>,
    request_bytes: usize,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    /// Time spent on the request, without the part that has not ended.
    spent: Duration,
    /// Start of the work on the request that has not ended.
    began: Option<Duration>,
    /// Part of `spent` that has been added to the client's.
    charged: Duration,
    throttled: Option<(Quota, Duration)>,
}

impl Session {
    /// Starts metering a request, unless its client has no quotas.
    #[inline]
    pub(super) fn meter(
        &self,
        api: ApiKey,
        client_id: Option<&str>,
        request_bytes: usize,
    ) -> Option<Arc<RequestMeter>> {
        match self.broker.quotas.generation() {
            0 => None,
            _ => self.meter_for(api, client_id.unwrap_or_default(), request_bytes),
        }
    }

    #[cold]
    fn meter_for(
        &self,
        api: ApiKey,
        client_id: &str,
        request_bytes: usize,
    ) -> Option<Arc<RequestMeter>> {
        let broker = &self.broker;
        let quotas = broker.quotas.of_client(
            &mut self.quotas.lock(),
            self.principal.name(),
            client_id,
            broker.clock.monotonic(),
        )?;
        Some(Arc::new(RequestMeter {
            api,
            quotas,
            broker: Arc::clone(broker),
            request_bytes,
            used: Mutex::default(),
        }))
    }
}

impl RequestMeter {
    /// Runs a part of the work on the request and adds the time that it takes.
    pub(super) fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        self.used.lock().began = Some(self.broker.clock.monotonic());
        let done = work();
        let mut used = self.used.lock();
        if let Some(began) = used.began.take() {
            used.spent += self.broker.clock.monotonic().saturating_sub(began);
        }
        done
    }

    /// Adds what the request has used so far. Returns the time for which the client is throttled, which the response states.
    pub(super) fn finish(&self, has_response: bool) -> Duration {
        if self.api == ApiKey::Produce {
            let now = self.broker.clock.monotonic();
            let throttled = self.quotas.produced(self.request_bytes, now);
            self.note(Quota::ProducerByteRate, throttled);
        }
        // A produce with acks=0 is exempt, as in Kafka. A fetch was charged before its response was decided.
        if has_response && self.api != ApiKey::Fetch {
            self.charge_time();
        }
        let Some((quota, throttled)) = self.used.lock().throttled else {
            return Duration::ZERO;
        };
        self.broker
            .quotas
            .throttling
            .count(self.api as i16, quota, throttled);
        throttled
    }

    /// Adds the time spent since [`Self::finish`], which counts for the client's next request.
    pub(super) fn charge_rest(&self) {
        let (spent, now) = self.uncharged();
        self.quotas.worked(spent, now);
    }

    /// Adds the time spent on the request.
    fn charge_time(&self) {
        let (spent, now) = self.uncharged();
        let throttled = self.quotas.worked(spent, now);
        self.note(Quota::RequestPercentage, throttled);
    }

    /// Returns the time spent since the last call, and the time.
    fn uncharged(&self) -> (Duration, Duration) {
        let now = self.broker.clock.monotonic();
        let mut used = self.used.lock();
        let current = used
            .began
            .map_or(Duration::ZERO, |began| now.saturating_sub(began));
        let spent = (used.spent + current).saturating_sub(used.charged);
        used.charged += spent;
        (spent, now)
    }

    /// Notes a time for which the client is throttled. The longest counts.
    fn note(&self, quota: Quota, throttled: Duration) {
        let mut used = self.used.lock();
        if throttled > used.throttled.map_or(Duration::ZERO, |(_, time)| time) {
            used.throttled = Some((quota, throttled));
        }
    }

    fn mutate(&self, changes: usize, is_strict: bool) -> Result<(), Refusal> {
        let now = self.broker.clock.monotonic();
        let quota = Quota::ControllerMutationRate;
        if !is_strict {
            self.note(quota, self.quotas.mutated(changes, now));
            return Ok(());
        }
        self.quotas.try_mutate(changes, now).map_err(|throttled| {
            self.note(quota, throttled);
            exceeded()
        })
    }
}

fn exceeded() -> Refusal {
    Refusal::new(
        ErrorCode::THROTTLING_QUOTA_EXCEEDED,
        "the quota controller_mutation_rate has been exceeded: retry after the throttle time",
    )
}

impl Call {
    /// Returns the largest number of bytes to fetch at once: more would be throttled again and again.
    pub(super) fn fetch_bytes_max(&self) -> usize {
        let max = self
            .meter
            .as_ref()
            .and_then(|it| it.quotas.fetch_bytes_max());
        // The conversion saturates.
        max.map_or(usize::MAX, |bytes| bytes as usize)
    }

    /// Adds a fetch with its response. Returns true if the client is throttled and gets no records, which then do not count.
    pub(super) fn is_fetch_throttled(&self, response_bytes: usize) -> bool {
        let Some(meter) = &self.meter else {
            return false;
        };
        meter.charge_time();
        let now = meter.broker.clock.monotonic();
        let throttled = meter.quotas.fetched(response_bytes, now);
        meter.note(Quota::ConsumerByteRate, throttled);
        let is_throttled = meter.used.lock().throttled.is_some();
        if is_throttled {
            meter.quotas.unfetched(response_bytes, now);
        }
        is_throttled
    }

    /// Returns whether changes of topics and partitions are limited, so that [`Self::mutate`] has to be called for them.
    pub(super) fn has_quotas(&self) -> bool {
        self.meter.is_some()
    }

    /// Adds the creation of a topic that the request only mentions. Returns false if earlier changes have exhausted the quota.
    pub(super) fn may_auto_create(&self, partitions: i32) -> bool {
        self.meter.as_ref().is_none_or(|meter| {
            let now = meter.broker.clock.monotonic();
            meter
                .quotas
                .try_mutate(partitions.max(0) as usize, now)
                .is_ok()
        })
    }

    /// Adds a change of this many partitions. From the version `strict_from` of an API its clients know the error, so that the
    /// change is refused if earlier ones have exhausted the quota; earlier clients are throttled afterwards.
    pub(super) fn mutate(&self, partitions: i32, strict_from: i16) -> Result<(), Refusal> {
        match &self.meter {
            None => Ok(()),
            Some(meter) => meter.mutate(partitions.max(0) as usize, self.version >= strict_from),
        }
    }
}
