//! The Kafka port: binding it, and accepting within limits.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::connection::{Accepted, Connection, Shared};
use super::registry::ConnectionRegistry;
use super::transport::Transport;
use crate::config::ListenAddr;
use crate::metrics::ConnectionRejection;

/// Backlog of connections not accepted yet. The kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// Pause after a failed accept: when descriptors or memory have run out, retrying at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Number of failed attempts per log line, 600 of which take a minute.
const LOG_EVERY: u64 = 600;

/// Returns the addresses of a setting, the preferred ones first. Blocks when a host name has to be resolved.
pub fn candidates(addr: &ListenAddr) -> io::Result<Vec<SocketAddr>> {
    match &addr.host {
        // One socket for both families; on a machine without IPv6, one for IPv4.
        None => Ok(vec![
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, addr.port)),
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port)),
        ]),
        Some(host) => Ok((host.as_str(), addr.port).to_socket_addrs()?.collect()),
    }
}

/// Runs `bind` on the candidates until one succeeds. The error is that of the first, preferred candidate.
pub fn first_that_binds<T>(
    candidates: &[SocketAddr],
    mut bind: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut first_error = None;
    for candidate in candidates {
        match bind(*candidate) {
            Ok(bound) => return Ok(bound),
            Err(error) => {
                let no_ipv6 = matches!(
                    error.kind(),
                    io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
                ) || error.raw_os_error()
                    == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
                first_error.get_or_insert(error);
                if !no_ipv6 {
                    break;
                }
            }
        }
    }
    Err(first_error.unwrap_or_else(|| io::Error::other("the host name resolves to no address")))
}

/// A bound port that does not accept connections yet.
pub struct BoundPort {
    socket: Socket,
    pub local_addr: SocketAddr,
}

impl BoundPort {
    /// Binds the port, so that a port in use is noticed before the logs are opened.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // A restarted server need not wait for its predecessor's connections to leave TIME_WAIT.
        socket.set_reuse_address(true)?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&addr.into())?;
        socket.set_nonblocking(true)?;
        let local_addr = socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("the bound address is not an IP address"))?;
        Ok(BoundPort { socket, local_addr })
    }

    /// Lets clients connect.
    pub fn listen(self) -> io::Result<TcpListener> {
        self.socket.listen(BACKLOG)?;
        TcpListener::from_std(self.socket.into())
    }
}

/// State of a listener, for the health check.
#[derive(Debug)]
pub struct ListenerState {
    /// Name that distinguishes the listener from others, `None` if it is the only one.
    name: Option<Arc<str>>,
    trouble: Mutex<Option<String>>,
}

impl ListenerState {
    pub fn new(name: Option<Arc<str>>) -> Self {
        ListenerState {
            name,
            trouble: Mutex::new(None),
        }
    }

    /// Returns the reason if clients cannot connect.
    pub fn check(&self) -> Result<(), String> {
        match (&*self.trouble.lock(), &self.name) {
            (Some(trouble), Some(name)) => Err(format!("{name}: {trouble}")),
            (Some(trouble), None) => Err(trouble.clone()),
            (None, _) => Ok(()),
        }
    }

    fn set(&self, trouble: Option<String>) {
        *self.trouble.lock() = trouble;
    }
}

/// Accepts connections until `stop` is true, then closes the port.
pub async fn accept_until(
    name: Arc<str>,
    listener: TcpListener,
    connections: Arc<ConnectionRegistry>,
    shared: Arc<Shared>,
    state: Arc<ListenerState>,
    mut stop: watch::Receiver<bool>,
) {
    let mut failures: u64 = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            // An error means that the sender is gone.
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if failures > 0 {
                    let listener = state.name.as_deref();
                    tracing::info!(listener, failures, "accepting connections again");
                    failures = 0;
                    state.set(None);
                }
                admit(stream, peer, &name, &connections, &shared);
            }
            // The client disconnected while it waited in the backlog; the next one may be fine.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if failures.is_multiple_of(LOG_EVERY) {
                    let listener = state.name.as_deref();
                    tracing::error!(listener, %error, "cannot accept connections");
                }
                failures += 1;
                state.set(Some(format!("cannot accept connections: {error}")));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    state.set(Some(
        "the listener is closed: the server is shutting down".to_string(),
    ));
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    listener: &Arc<str>,
    connections: &Arc<ConnectionRegistry>,
    shared: &Arc<Shared>,
) {
    let peer = canonical(peer);
    let local = match stream.local_addr().and_then(|local| {
        stream.set_nodelay(true)?;
        Ok(canonical(local))
    }) {
        Ok(local) => local,
        Err(error) => {
            tracing::debug!(%peer, %error, "client disconnected before it was accepted");
            return;
        }
    };
    let now = shared.clock().monotonic();
    if let Err(pause) = shared.quotas().admit_connection(peer.ip(), now) {
        let reason = ConnectionRejection::RateFromAddress;
        refuse(reason, peer, shared);
        return shared.delayed_closes().close(stream, pause);
    }
    let slot = match connections.enter(peer.ip(), now, shared.metrics()) {
        Ok(slot) => slot,
        Err(reason) => return refuse(reason, peer, shared),
    };
    tracing::debug!(%peer, "connection accepted");
    let accepted = Accepted {
        listener: Arc::clone(listener),
        peer,
        local,
    };
    let connection = Connection::new(Transport::Plain(stream), accepted, slot, Arc::clone(shared));
    let metrics = Arc::clone(shared.metrics());
    tokio::spawn(async move {
        // A panic ends this connection alone.
        match AssertUnwindSafe(connection).catch_unwind().await {
            Ok(ended) => tracing::debug!(%peer, "connection closed: {ended}"),
            Err(_) => {
                metrics.connection_panics.inc();
                tracing::error!(%peer, "connection closed: its task panicked, see the panic above");
            }
        }
    });
}

fn refuse(reason: ConnectionRejection, peer: SocketAddr, shared: &Shared) {
    let why = match reason {
        ConnectionRejection::TooMany => "max_connections reached",
        ConnectionRejection::TooManyFromAddress => {
            "max_connections_per_ip reached for this address"
        }
        ConnectionRejection::RateFromAddress => {
            "quota connection_creation_rate exceeded for this address"
        }
    };
    shared.refusals().connection(reason, peer, &why);
}

/// Converts an IPv4-mapped address of a dual-stack socket to IPv4.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen_addr(host: Option<&str>, port: u16) -> ListenAddr {
        ListenAddr {
            host: host.map(str::to_string),
            port,
        }
    }

    #[test]
    fn trouble_names_its_listener_if_there_are_several() {
        for (name, expected) in [(None, "trouble"), (Some("EXTERNAL"), "EXTERNAL: trouble")] {
            let state = ListenerState::new(name.map(Arc::from));
            assert_eq!(state.check(), Ok(()));
            state.set(Some("trouble".to_owned()));
            assert_eq!(state.check(), Err(expected.to_owned()));
        }
    }

    #[test]
    fn every_address_means_both_families_where_there_are_both() {
        let candidates = candidates(&listen_addr(None, 0)).unwrap();
        let bound = first_that_binds(&candidates, BoundPort::bind).unwrap();
        assert!(bound.local_addr.ip().is_unspecified());
        assert_ne!(bound.local_addr.port(), 0);
    }

    #[tokio::test]
    async fn a_port_in_use_is_said_so_and_not_tried_elsewhere() {
        let first = BoundPort::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let taken = first.local_addr;
        let _listener = first.listen().unwrap();
        let mut tried = 0;
        let second = first_that_binds(&[taken, "127.0.0.1:0".parse().unwrap()], |addr| {
            tried += 1;
            BoundPort::bind(addr)
        });
        assert_eq!(second.err().unwrap().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(tried, 1);
    }
}
