//! Requests that were throttled, by API and quota.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::metrics::{Collector, Samples, api_key_name, catalog};

/// A quota of users and client ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quota {
    ProducerByteRate,
    ConsumerByteRate,
    RequestPercentage,
    ControllerMutationRate,
}

impl Quota {
    pub(super) const ALL: [Quota; 4] = [
        Quota::ProducerByteRate,
        Quota::ConsumerByteRate,
        Quota::RequestPercentage,
        Quota::ControllerMutationRate,
    ];

    /// Returns Kafka's name of the quota.
    pub const fn name(self) -> &'static str {
        match self {
            Quota::ProducerByteRate => "producer_byte_rate",
            Quota::ConsumerByteRate => "consumer_byte_rate",
            Quota::RequestPercentage => "request_percentage",
            Quota::ControllerMutationRate => "controller_mutation_rate",
        }
    }
}

/// Number of throttled requests and the time for which their clients were throttled, by API key and by the quota that
/// required the longest time.
#[derive(Debug, Default)]
pub struct Throttling {
    counts: Mutex<BTreeMap<(i16, Quota), (u64, Duration)>>,
}

impl Throttling {
    /// Counts a throttled request.
    pub fn count(&self, api_key: i16, quota: Quota, throttled: Duration) {
        let mut counts = self.counts.lock();
        let (requests, time) = counts.entry((api_key, quota)).or_default();
        *requests += 1;
        *time += throttled;
    }
}

impl Collector for Throttling {
    fn collect(&self, out: &mut Samples) {
        let counts = self.counts.lock().clone();
        let labels = |api_key: i16, quota: Quota| (api_key_name(api_key), quota.name());
        let mut requests = out.family(&catalog::REQUESTS_THROTTLED_TOTAL);
        for ((api_key, quota), (count, _)) in &counts {
            let (api_key, quota) = labels(*api_key, *quota);
            requests.sample(&[("api_key", &api_key), ("quota", &quota)], *count);
        }
        let mut seconds = out.family(&catalog::THROTTLE_SECONDS_TOTAL);
        for ((api_key, quota), (_, time)) in &counts {
            let (api_key, quota) = labels(*api_key, *quota);
            let time = time.as_secs_f64();
            seconds.sample(&[("api_key", &api_key), ("quota", &quota)], time);
        }
    }
}
