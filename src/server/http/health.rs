//! Health: the checks, their probes, and the three endpoints that report them.
//!
//! - **Live** fails only if a restart would help, which is when the runtime is stuck. Load, a full disk and recovery do not
//!   fail it, since killing a busy or recovering server makes everything worse. A task on the main runtime beats every
//!   second, from before recovery until the process exits; live checks the time of the last beat.
//! - **Ready** fails while the server must not get work: while recovering, draining or unable to write.
//! - **Health** shows the checks `storage` and `listener` by name, for operators and alerts.
//!
//! A probe runs on a blocking thread, one run at a time and at most once a second for all requests together; a probe that
//! does not return (a hung disk) fails its check.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use super::{HttpState, json};
use crate::clock::Clock;
use crate::metrics::{Collector, Metrics, Samples, catalog};

/// Interval of the main runtime's beat.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Time without a beat after which the runtime counts as stuck. A disk that takes seconds for one write blocks a worker,
/// and sometimes all of them, without being a reason to kill the server.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Time for which the outcome of a probe is reused.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Time for which a request waits for a probe before it reports that the probe hangs.
const PROBE_TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 3_000 });
/// Interval of the probes without requests, so that `streamline_ready` stays current.
pub(super) const PROBE_BACKGROUND_INTERVAL: Duration = Duration::from_secs(5);

/// Phase of the server's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Opening the logs, with the progress.
    Recovering(String),
    Serving,
    /// Requests in flight are being finished.
    Draining,
}

/// Checks that a component works, or returns why it does not. May block.
pub type Probe = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Health of the server.
pub struct Health {
    clock: Arc<dyn Clock>,
    started: Duration,
    /// Nanoseconds of the monotonic clock.
    last_beat: AtomicU64,
    phase: Mutex<Phase>,
    storage: Check,
    listener: Check,
}

impl Health {
    /// Creates the health of a server that has just been started and is recovering.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Health> {
        let now = clock.monotonic();
        Arc::new(Health {
            started: now,
            last_beat: AtomicU64::new(now.as_nanos() as u64),
            phase: Mutex::new(Phase::Recovering("the logs are not open yet".to_string())),
            storage: Check::new("storage", "the logs are not open yet"),
            listener: Check::new("listener", "not listening for Kafka clients yet"),
            clock,
        })
    }

    pub fn set_phase(&self, phase: Phase) {
        *self.phase.lock() = phase;
    }

    pub fn phase(&self) -> Phase {
        self.phase.lock().clone()
    }

    /// Sets the probe of the storage check, once the logs are open.
    pub fn watch_storage(&self, probe: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.storage.watch(Arc::new(probe));
    }

    /// Sets the probe of the listener check.
    pub fn watch_listener(&self, probe: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.listener.watch(Arc::new(probe));
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Returns how long the server has been running.
    pub fn uptime(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.started)
    }

    /// Beats once a second on the runtime it is spawned on; `/health/live` checks the time of the last beat.
    pub async fn beat_forever(self: Arc<Self>) {
        loop {
            self.beat();
            tokio::time::sleep(BEAT_INTERVAL).await;
        }
    }

    fn beat(&self) {
        let now = self.clock.monotonic().as_nanos() as u64;
        self.last_beat.store(now, Ordering::Relaxed);
    }

    /// Registers the collector of `streamline_ready` and `streamline_uptime_seconds`.
    pub fn register(self: &Arc<Self>, metrics: &Metrics) {
        metrics.register(Arc::clone(self) as _);
    }

    /// Runs both probes, unless they have just run.
    pub(super) async fn probe(&self) {
        tokio::join!(
            self.storage.ask(&self.clock),
            self.listener.ask(&self.clock)
        );
    }

    fn live(&self) -> Result<(), String> {
        let last_beat = Duration::from_nanos(self.last_beat.load(Ordering::Relaxed));
        let silence = self.clock.monotonic().saturating_sub(last_beat);
        if silence > SILENCE_MAX {
            let seconds = silence.as_secs();
            return Err(format!("the runtime has been stuck for {seconds} s"));
        }
        Ok(())
    }

    /// Returns whether the server is ready, by the outcomes of the last probes.
    fn ready(&self) -> Result<(), String> {
        match self.phase() {
            Phase::Recovering(progress) => return Err(format!("recovering: {progress}")),
            Phase::Draining => return Err("draining: the server is shutting down".to_string()),
            Phase::Serving => {}
        }
        for check in [&self.storage, &self.listener] {
            check
                .last()
                .map_err(|reason| format!("{}: {reason}", check.name))?;
        }
        Ok(())
    }
}

impl Collector for Health {
    fn collect(&self, out: &mut Samples) {
        out.family(&catalog::UPTIME_SECONDS)
            .sample(&[], self.uptime().as_secs_f64());
        out.family(&catalog::READY)
            .sample(&[], self.ready().is_ok());
    }
}

/// One named check: its probe and the last outcome.
struct Check {
    name: &'static str,
    state: Arc<Mutex<CheckState>>,
    /// Notified whenever a probe has returned.
    answered: watch::Sender<()>,
}

struct CheckState {
    probe: Option<Probe>,
    outcome: Result<(), String>,
    /// Time at which the probe last returned.
    answered_at: Option<Duration>,
    /// Start of the probe that is running.
    running_since: Option<Duration>,
}

impl CheckState {
    fn fail_hanging_probe(&mut self, now: Duration) {
        if let Some(since) = self.running_since {
            let seconds = now.saturating_sub(since).as_secs();
            self.outcome = Err(format!("no answer for {seconds} s"));
        }
    }
}

impl Check {
    fn new(name: &'static str, before: &str) -> Self {
        Self {
            name,
            state: Arc::new(Mutex::new(CheckState {
                probe: None,
                outcome: Err(before.to_string()),
                answered_at: None,
                running_since: None,
            })),
            answered: watch::Sender::new(()),
        }
    }

    fn watch(&self, probe: Probe) {
        let mut state = self.state.lock();
        state.probe = Some(probe);
        state.answered_at = None;
    }

    fn last(&self) -> Result<(), String> {
        self.state.lock().outcome.clone()
    }

    /// Updates the outcome: runs the probe, unless it returned less than a second ago, and waits for it for at most
    /// [`PROBE_TIMEOUT`].
    async fn ask(&self, clock: &Arc<dyn Clock>) {
        let mut answered = self.answered.subscribe();
        if self.start_if_due(clock)
            && tokio::time::timeout(PROBE_TIMEOUT, answered.changed())
                .await
                .is_err()
        {
            self.state.lock().fail_hanging_probe(clock.monotonic());
        }
    }

    /// Starts the probe if its last outcome is too old and it is not running yet. Returns whether to wait for it: once a
    /// probe hangs, only the first request waits for the time-out.
    fn start_if_due(&self, clock: &Arc<dyn Clock>) -> bool {
        let now = clock.monotonic();
        let mut state = self.state.lock();
        // A running probe is shared by all requests, until it hangs.
        if let Some(since) = state.running_since {
            let hangs = now.saturating_sub(since) >= PROBE_TIMEOUT;
            if hangs {
                state.fail_hanging_probe(now);
            }
            return !hangs;
        }
        let fresh = state
            .answered_at
            .is_some_and(|at| now.saturating_sub(at) < PROBE_INTERVAL);
        let Some(probe) = state.probe.clone().filter(|_| !fresh) else {
            return false;
        };
        state.running_since = Some(now);
        let (shared, answered, clock) = (
            Arc::clone(&self.state),
            self.answered.clone(),
            Arc::clone(clock),
        );
        tokio::task::spawn_blocking(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| probe()))
                .unwrap_or_else(|_| Err("the probe panicked".to_string()));
            let mut state = shared.lock();
            state.outcome = outcome;
            state.answered_at = Some(clock.monotonic());
            state.running_since = None;
            drop(state);
            answered.send_replace(());
        });
        true
    }
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<CheckReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct CheckReport {
    name: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

fn status_of(outcome: &Result<(), String>) -> &'static str {
    if outcome.is_ok() {
        "healthy"
    } else {
        "unhealthy"
    }
}

fn status_code(healthy: bool) -> StatusCode {
    if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

pub(super) async fn get_health(State(state): State<HttpState>) -> Response {
    let health = &state.health;
    health.probe().await;
    let checks: Vec<_> = [&health.storage, &health.listener]
        .map(|check| (check.name, check.last()))
        .into();
    let healthy = checks.iter().all(|(_, outcome)| outcome.is_ok());
    let report = Report {
        status: if healthy { "healthy" } else { "unhealthy" },
        checks: checks
            .into_iter()
            .map(|(name, outcome)| CheckReport {
                name,
                status: status_of(&outcome),
                reason: outcome.err(),
            })
            .collect(),
        reason: None,
    };
    json(status_code(healthy), &report)
}

pub(super) async fn get_live(State(state): State<HttpState>) -> Response {
    answer(state.health.live())
}

pub(super) async fn get_ready(State(state): State<HttpState>) -> Response {
    state.health.probe().await;
    answer(state.health.ready())
}

fn answer(outcome: Result<(), String>) -> Response {
    let report = Report {
        status: status_of(&outcome),
        checks: Vec::new(),
        reason: outcome.err(),
    };
    json(status_code(report.reason.is_none()), &report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, SystemClock};

    fn serving(clock: Arc<dyn Clock>) -> Arc<Health> {
        let health = Health::new(clock);
        health.watch_storage(|| Ok(()));
        health.watch_listener(|| Ok(()));
        health.set_phase(Phase::Serving);
        health
    }

    #[test]
    fn only_a_stuck_runtime_fails_liveness() {
        let clock = ManualClock::at_ms(0);
        let health = Health::new(clock.clone());
        clock.advance(Duration::from_secs(15));
        assert_eq!(health.live(), Ok(()));
        health.beat();
        clock.advance(Duration::from_secs(25));
        let reason = health.live().unwrap_err();
        assert_eq!(reason, "the runtime has been stuck for 25 s");
        health.beat();
        assert_eq!(health.live(), Ok(()));
    }

    #[tokio::test]
    async fn readiness_follows_the_phase_and_the_probes() {
        let clock = ManualClock::at_ms(0);
        let health = Health::new(clock.clone());
        health.set_phase(Phase::Recovering("3 of 7 partitions".to_string()));
        assert_eq!(health.ready().unwrap_err(), "recovering: 3 of 7 partitions");

        let health = serving(clock.clone());
        health.probe().await;
        assert_eq!(health.ready(), Ok(()));

        health.watch_storage(|| Err("disk full".to_string()));
        health.probe().await;
        assert_eq!(health.ready().unwrap_err(), "storage: disk full");

        health.watch_storage(|| Ok(()));
        health.probe().await;
        assert_eq!(health.ready(), Ok(()));

        health.set_phase(Phase::Draining);
        assert!(health.ready().unwrap_err().starts_with("draining"));
    }

    #[tokio::test]
    async fn probes_run_at_most_once_a_second() {
        let clock = ManualClock::at_ms(0);
        let health = serving(clock.clone());
        let runs = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&runs);
        health.watch_storage(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        for _ in 0..10 {
            health.probe().await;
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        clock.advance(Duration::from_millis(1001));
        health.probe().await;
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_hanging_probe_fails_its_check_until_it_returns() {
        let health = serving(SystemClock::new());
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = Mutex::new(released);
        health.watch_storage(move || {
            // Returns at once when the sender is gone.
            let _ = released.lock().recv();
            Ok(())
        });
        health.probe().await;
        let reason = health.ready().unwrap_err();
        assert!(reason.starts_with("storage: no answer for"), "{reason}");
        let mut answered = health.storage.answered.subscribe();
        drop(release);
        answered.changed().await.unwrap();
        assert_eq!(health.ready(), Ok(()));
    }

    #[tokio::test]
    async fn a_panicking_probe_fails_its_check() {
        let health = serving(SystemClock::new());
        health.watch_listener(|| panic!("on purpose"));
        health.probe().await;
        assert_eq!(health.ready().unwrap_err(), "listener: the probe panicked");
    }
}
