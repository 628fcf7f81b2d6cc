//! What runs beside the requests, for as long as the server does.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::connections::Connections;
use super::http::Health;
use crate::clock::Clock;
use crate::coordinator::group::Groups;

/// The loops; they end when this is dropped.
pub struct Background {
    _tasks: JoinSet<()>,
}

impl Background {
    pub fn start(
        connections: Arc<Connections>,
        groups: Arc<Groups>,
        health: Arc<Health>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(health.beat_forever());
        tasks.spawn(sweep(connections, clock));
        tasks.spawn(groups.run());
        Background { _tasks: tasks }
    }
}

/// Closes connections whose time is up.
async fn sweep(connections: Arc<Connections>, clock: Arc<dyn Clock>) {
    let mut interval = tokio::time::interval(connections.sweep_interval());
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        connections.sweep(clock.monotonic());
    }
}
