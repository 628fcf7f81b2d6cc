//! The listeners for Kafka clients: ports that are bound, then accept connections, then close together.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::StartError;
use super::connection::Shared;
use super::http::Health;
use super::listener::{self, BoundPort, ListenerState};
use super::registry::ConnectionRegistry;
use crate::config::Config;

/// The ports of all listeners, bound but not accepting yet.
pub struct BoundListeners(Vec<(Arc<str>, BoundPort)>);

/// Listeners that accept connections.
pub struct Listeners {
    accepting: JoinSet<()>,
    stop: watch::Sender<bool>,
}

fn failed(addr: String) -> impl FnOnce(std::io::Error) -> StartError {
    |source| StartError::Listen {
        setting: "listen_addr",
        addr,
        source,
    }
}

impl BoundListeners {
    /// Binds the ports, so that one in use fails the start before the logs are opened.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        let bound = config.listeners.iter().map(|(name, addr)| {
            let port = listener::candidates(addr)
                .and_then(|candidates| listener::first_that_binds(&candidates, BoundPort::bind))
                .map_err(failed(addr.to_string()))?;
            Ok((Arc::from(name), port))
        });
        Ok(BoundListeners(bound.collect::<Result<_, StartError>>()?))
    }

    /// Returns the names and addresses.
    pub fn addrs(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let addr = |(name, port): &(Arc<str>, BoundPort)| (Arc::clone(name), port.local_addr);
        self.0.iter().map(addr).collect()
    }

    /// Lets clients connect. The health check reports if they cannot.
    pub fn start(
        self,
        connections: &Arc<ConnectionRegistry>,
        shared: &Arc<Shared>,
        health: &Health,
    ) -> Result<Listeners, StartError> {
        let (stop, stopping) = watch::channel(false);
        let mut accepting = JoinSet::new();
        let mut states = Vec::new();
        for (name, port) in self.0 {
            let addr = port.local_addr.to_string();
            let state = Arc::new(ListenerState::default());
            accepting.spawn(listener::accept_until(
                name,
                port.listen().map_err(failed(addr))?,
                Arc::clone(connections),
                Arc::clone(shared),
                Arc::clone(&state),
                stopping.clone(),
            ));
            states.push(state);
        }
        health.watch_listener(move || states.iter().try_for_each(|state| state.check()));
        Ok(Listeners { accepting, stop })
    }
}

impl Listeners {
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
