//! The listeners for Kafka clients: ports that are bound, then accept connections, then close together.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::StartError;
use super::connection::Shared;
use super::listener::{self, BoundPort, ListenerState};
use super::registry::ConnectionRegistry;
use crate::config::Config;

/// Listeners that accept connections.
pub struct Listeners {
    accepting: JoinSet<()>,
    stop: watch::Sender<bool>,
}

/// Binds the port, so that one in use fails the start before the logs are opened.
pub fn bind(config: &Config) -> Result<BoundPort, StartError> {
    listener::candidates(&config.listen_addr)
        .and_then(|candidates| listener::first_that_binds(&candidates, BoundPort::bind))
        .map_err(|source| StartError::Listen {
            setting: "listen_addr",
            addr: config.listen_addr.to_string(),
            source,
        })
}

impl Listeners {
    /// Lets clients connect. `state` tells whether they can.
    pub fn start(
        port: BoundPort,
        connections: &Arc<ConnectionRegistry>,
        shared: &Arc<Shared>,
        state: &Arc<ListenerState>,
    ) -> Result<Self, StartError> {
        let (stop, stopping) = watch::channel(false);
        let mut accepting = JoinSet::new();
        let addr = port.local_addr;
        let listener = port.listen().map_err(|source| StartError::Listen {
            setting: "listen_addr",
            addr: addr.to_string(),
            source,
        })?;
        accepting.spawn(listener::accept_until(
            listener,
            Arc::clone(connections),
            Arc::clone(shared),
            Arc::clone(state),
            stopping,
        ));
        Ok(Listeners { accepting, stop })
    }

    /// Closes the ports. Returns once no further connection is accepted.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(stopped) = self.accepting.join_next().await {
            if stopped.is_err() {
                tracing::error!("Kafka listener panicked");
            }
        }
    }
}
