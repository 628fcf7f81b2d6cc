//! The listeners for Kafka clients: ports that are bound, then accept connections, then close together.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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

fn failed(addr: String) -> impl FnOnce(io::Error) -> StartError {
    |source| StartError::Listen {
        setting: "listen_addr",
        addr,
        source,
    }
}

/// Returns whether a client's connection to one bound address could reach the other. `[::]` is bound for IPv4 too.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |one: IpAddr, other: IpAddr| match one {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => true,
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => other.is_ipv4(),
        _ => one == other,
    };
    let (one_ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && (covers(one_ip, other_ip) || covers(other_ip, one_ip))
}

impl BoundListeners {
    /// Binds the ports, so that one in use fails the start before the logs are opened.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        let mut bound = BoundListeners(Vec::with_capacity(config.listeners.iter().len()));
        for (name, addr) in config.listeners.iter() {
            let port = listener::candidates(addr)
                .and_then(|candidates| listener::first_that_binds(&candidates, BoundPort::bind))
                .map_err(failed(addr.to_string()))?;
            bound
                .check_overlap(port.local_addr)
                .map_err(failed(format!("{name}://{addr}")))?;
            bound.0.push((Arc::from(name), port));
        }
        Ok(bound)
    }

    /// Fails if a port is that of another listener. Linux binds both, as they may reuse addresses, and lets only one listen.
    fn check_overlap(&self, addr: SocketAddr) -> io::Result<()> {
        let taken = (self.0.iter()).find(|(_, port)| overlap(port.local_addr, addr));
        let Some((name, port)) = taken else {
            return Ok(());
        };
        let reason = format!("overlaps with listener {name} on {}", port.local_addr);
        Err(io::Error::new(io::ErrorKind::AddrInUse, reason))
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
        // All ports before any client is accepted, as one that cannot listen fails the start.
        let listening = self.0.into_iter().map(|(name, port)| {
            let addr = port.local_addr.to_string();
            Ok((name, port.listen().map_err(failed(addr))?))
        });
        let listening = listening.collect::<Result<Vec<_>, StartError>>()?;
        let (stop, stopping) = watch::channel(false);
        let mut accepting = JoinSet::new();
        let mut states = Vec::with_capacity(listening.len());
        let are_several = listening.len() > 1;
        for (name, listener) in listening {
            let shown_name = are_several.then(|| Arc::clone(&name));
            let state = Arc::new(ListenerState::new(shown_name));
            accepting.spawn(listener::accept_until(
                name,
                listener,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_addresses_overlap_if_one_covers_the_other() {
        let overlap = |one: &str, other: &str| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(super::overlap(one, other), super::overlap(other, one));
            super::overlap(one, other)
        };
        for (one, other) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("[::]:1", "0.0.0.0:1"),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1"),
        ] {
            assert!(overlap(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("[::]:1", "127.0.0.1:2"),
            ("127.0.0.1:1", "127.0.0.2:1"),
            ("0.0.0.0:1", "[::1]:1"),
        ] {
            assert!(!overlap(one, other), "{one} {other}");
        }
    }

    #[test]
    fn a_listener_that_overlaps_with_another_is_not_bound() {
        let free = BoundPort::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = free.local_addr.port();
        drop(free);
        let listeners = format!("A://0.0.0.0:{port},B://127.0.0.1:{port}");
        let config = Config {
            listeners: listeners.parse().unwrap(),
            ..Config::default()
        };
        let error = BoundListeners::bind(&config).err().unwrap().to_string();
        let expected =
            format!("listen_addr B://127.0.0.1:{port}: overlaps with listener A on 0.0.0.0:{port}");
        assert_eq!(error, expected);
    }
}
