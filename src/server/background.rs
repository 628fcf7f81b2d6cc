//! Background tasks of the running server.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::memory::RequestMemory;
use super::registry::ConnectionRegistry;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::Config;
use crate::storage::Engine;

/// Interval of the check for logs whose unflushed records have reached the age of `flush.ms`.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Interval of the checks during a shortage of request memory.
const SHORTAGE_INTERVAL: Duration = Duration::from_millis(100);
/// Checks per round of answering waiting fetches, whose clients fetch again at once.
const CHECKS_PER_ANSWER: u32 = 5;
/// Interval of the check of free disk space.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// The background tasks; they end when this is dropped.
pub struct Background {
    _tasks: JoinSet<()>,
}

impl Background {
    /// Starts the tasks. `fit` adjusts changed `settings` to the limits of the process.
    pub fn start(
        connections: Arc<ConnectionRegistry>,
        memory: RequestMemory,
        broker: Arc<Broker>,
        clock: Arc<dyn Clock>,
        settings: watch::Receiver<Arc<Config>>,
        fit: impl Fn(Config) -> Config + Send + 'static,
    ) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(sweep(Arc::clone(&connections), Arc::clone(&clock)));
        let limited = Arc::clone(&connections);
        tasks.spawn(apply_limits(limited, settings, fit));
        let shared = Arc::clone(&broker);
        tasks.spawn(relieve_shortages(connections, memory, shared, clock));
        tasks.spawn(Arc::clone(&broker.groups).run());
        tasks.spawn(Arc::clone(&broker.transactions).run());
        let retention = Duration::from_millis(broker.config.log_retention_check_interval_ms);
        let now = Arc::clone(&broker.clock);
        let retain = move |topics: &dyn Engine| topics.retain(now.now_ms());
        tasks.spawn(on_disk(retention, &broker.topics, |_| true, retain));
        let backoff = Duration::from_millis(broker.config.log_cleaner_backoff_ms.max(1));
        let compact = |topics: &dyn Engine| while topics.compact() {};
        tasks.spawn(on_disk(backoff, &broker.topics, |_| true, compact));
        tasks.spawn(on_disk(
            FLUSH_INTERVAL,
            &broker.topics,
            |topics| topics.awaits_flush(),
            |topics| topics.flush_due(),
        ));
        let watch = |topics: &dyn Engine| topics.watch_space();
        tasks.spawn(on_disk(SPACE_INTERVAL, &broker.topics, |_| true, watch));
        Background { _tasks: tasks }
    }
}

/// Closes connections whose time-out has expired.
async fn sweep(connections: Arc<ConnectionRegistry>, clock: Arc<dyn Clock>) {
    let mut interval = tokio::time::interval(connections.sweep_interval());
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        connections.sweep(clock.monotonic());
    }
}

/// Applies the limits of connections whenever the settings change.
async fn apply_limits(
    connections: Arc<ConnectionRegistry>,
    mut settings: watch::Receiver<Arc<Config>>,
    fit: impl Fn(Config) -> Config,
) {
    // Ends with the broker, of which the sender is a part.
    while settings.changed().await.is_ok() {
        let config = Config::clone(&settings.borrow_and_update());
        connections.set_limits(&fit(config));
    }
}

/// Closes connections with stalled requests and has waiting fetches answered, while other connections wait for request
/// memory. A wait that is over at the next check is no shortage.
async fn relieve_shortages(
    connections: Arc<ConnectionRegistry>,
    memory: RequestMemory,
    broker: Arc<Broker>,
    clock: Arc<dyn Clock>,
) {
    loop {
        memory.shortage().await;
        for check in 0.. {
            tokio::time::sleep(SHORTAGE_INTERVAL).await;
            let usage = memory.usage();
            if usage.waiting == 0 {
                break;
            }
            if check % CHECKS_PER_ANSWER == 0 {
                broker.answer_waiting_fetches();
            }
            connections.make_room_for_requests(usage.limit_bytes / 4, clock.monotonic());
        }
    }
}

/// Runs `work` on a blocking thread at every interval at which `is_due`, one run at a time.
fn on_disk<F>(
    every: Duration,
    topics: &Arc<dyn Engine>,
    is_due: fn(&dyn Engine) -> bool,
    work: F,
) -> impl Future<Output = ()> + use<F>
where
    F: Fn(&dyn Engine) + Send + Sync + 'static,
{
    let (topics, work) = (Arc::clone(topics), Arc::new(work));
    async move {
        let mut interval = tokio::time::interval(every);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if !is_due(&*topics) {
                continue;
            }
            let (topics, work) = (Arc::clone(&topics), Arc::clone(&work));
            if tokio::task::spawn_blocking(move || work(&*topics))
                .await
                .is_err()
            {
                tracing::error!("background log task panicked");
            }
        }
    }
}
