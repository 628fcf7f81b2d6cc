//! What runs beside the requests, for as long as the server does.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::memory::RequestMemory;
use super::registry::ConnectionRegistry;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::storage::Topics;

/// How often the log is asked whether records have waited for the disk as long as `flush.ms` allows.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// How often a shortage of memory for requests is looked at.
const SHORTAGE_INTERVAL: Duration = Duration::from_millis(100);
/// Waiting fetches are answered at one in so many looks: their clients ask again at once.
const LOOKS_PER_ANSWER: u32 = 5;
/// How often the log looks how full the disk is.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// The loops; they end when this is dropped.
pub struct Background {
    _tasks: JoinSet<()>,
}

impl Background {
    pub fn start(
        connections: Arc<ConnectionRegistry>,
        memory: RequestMemory,
        broker: Arc<Broker>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(sweep(Arc::clone(&connections), Arc::clone(&clock)));
        let shared = Arc::clone(&broker);
        tasks.spawn(relieve_shortages(connections, memory, shared, clock));
        tasks.spawn(Arc::clone(&broker.groups).run());
        let retention = Duration::from_millis(broker.config.log_retention_check_interval_ms);
        let now = Arc::clone(&broker.clock);
        let retain = move |topics: &Topics| topics.retain(now.now_ms());
        tasks.spawn(on_disk(retention, &broker.topics, |_| true, retain));
        tasks.spawn(on_disk(
            FLUSH_INTERVAL,
            &broker.topics,
            Topics::awaits_flush,
            Topics::flush_due,
        ));
        let watch = Topics::watch_space;
        tasks.spawn(on_disk(SPACE_INTERVAL, &broker.topics, |_| true, watch));
        Background { _tasks: tasks }
    }
}

/// Closes connections whose time is up.
async fn sweep(connections: Arc<ConnectionRegistry>, clock: Arc<dyn Clock>) {
    let mut interval = tokio::time::interval(connections.sweep_interval());
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        connections.sweep(clock.monotonic());
    }
}

/// While connections wait for the memory of requests, closes those whose requests have stalled, and has waiting fetches
/// answered. A wait that is over at the next look is no shortage.
async fn relieve_shortages(
    connections: Arc<ConnectionRegistry>,
    memory: RequestMemory,
    broker: Arc<Broker>,
    clock: Arc<dyn Clock>,
) {
    loop {
        memory.shortage().await;
        for look in 0.. {
            tokio::time::sleep(SHORTAGE_INTERVAL).await;
            let usage = memory.usage();
            if usage.waiting == 0 {
                break;
            }
            if look % LOOKS_PER_ANSWER == 0 {
                broker.answer_waiting_fetches();
            }
            connections.make_room_for_requests(usage.limit_bytes / 4, clock.monotonic());
        }
    }
}

/// Does something with the log again and again, when there is cause to, off the runtime's threads, each time to its end.
fn on_disk<F>(
    every: Duration,
    topics: &Arc<Topics>,
    is_due: fn(&Topics) -> bool,
    work: F,
) -> impl Future<Output = ()> + use<F>
where
    F: Fn(&Topics) + Send + Sync + 'static,
{
    let (topics, work) = (Arc::clone(topics), Arc::new(work));
    async move {
        let mut interval = tokio::time::interval(every);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if !is_due(&topics) {
                continue;
            }
            let (topics, work) = (Arc::clone(&topics), Arc::clone(&work));
            if tokio::task::spawn_blocking(move || work(&topics))
                .await
                .is_err()
            {
                tracing::error!("background log task panicked");
            }
        }
    }
}
