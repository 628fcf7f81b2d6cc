//! The HTTP thread: accepts connections within limits and serves them until it is stopped.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::health::PROBE_BACKGROUND_INTERVAL;
use super::{HttpState, connection, router};
use crate::metrics::HttpRejection;
use crate::server::refusals::Refusals;

/// Limits for clients of the HTTP port.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections_max: usize,
    /// Keeps one address from locking out the others and the container's own health check.
    pub connections_per_address_max: usize,
    /// Time for a request's head to arrive, and between two requests of one connection.
    pub header_timeout: Duration,
    pub header_bytes_max: usize,
    pub body_bytes_max: u64,
    /// Time for a response to be ready.
    pub request_timeout: Duration,
    /// Time for the client to read it.
    pub response_timeout: Duration,
    /// Memory that all expositions in flight may hold together.
    pub expositions_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            connections_per_address_max: 64,
            header_timeout: Duration::from_secs(30),
            header_bytes_max: 16 * 1024,
            body_bytes_max: 64 * 1024,
            request_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(30),
            expositions_bytes_max: 256 << 20,
        }
    }
}

/// Blocking threads: for rendering for several scrapers at once, and for probes, of which a hung disk may block two.
const BLOCKING_THREADS_MAX: usize = 6;
/// Niceness of those threads relative to the ones that serve clients: with all processors busy they still get a tenth of
/// one.
const NICENESS: i32 = 10;
/// Time after the grace period of a shutdown after which threads that are still blocked are abandoned.
const ABANDON_AFTER: Duration = Duration::from_millis(100);
/// Pause after a failed accept: when descriptors have run out, retrying at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The running HTTP thread.
pub struct HttpServer {
    local_addr: SocketAddr,
    stop: watch::Sender<bool>,
    stopped: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

impl HttpServer {
    /// Listens on `addr` and serves from a thread of its own.
    pub fn start(addr: SocketAddr, state: HttpState, limits: Limits) -> io::Result<HttpServer> {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let local_addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("http-blocking")
            .on_thread_start(lower_priority)
            .build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (stop, stopping) = watch::channel(false);
        let (finished, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("http".to_string())
            .spawn(move || {
                runtime.block_on(run(listener, state, limits, stopping));
                runtime.shutdown_timeout(ABANDON_AFTER);
                // Fails if `stop` has given up waiting.
                let _ = finished.send(());
            })?;
        Ok(HttpServer {
            local_addr,
            stop,
            stopped,
            thread,
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops accepting, lets responses in flight finish for at most `grace`, and ends the thread.
    pub async fn stop(self, grace: Duration) {
        self.stop.send_replace(true);
        if tokio::time::timeout(grace, self.stopped).await.is_err() {
            tracing::warn!(?grace, "HTTP responses still in flight at shutdown");
        } else if self.thread.join().is_err() {
            tracing::error!("HTTP thread panicked");
        }
    }
}

/// Lowers the priority of the calling thread below the threads that serve clients. A scrape of 100,000 series takes tens of
/// milliseconds of processor time, and the next request must not wait for that.
fn lower_priority() {
    // On Linux, niceness is a property of the thread. A failure only makes scrapes more noticeable.
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "cannot lower the priority of a scrape thread");
    }
}

async fn run(
    listener: TcpListener,
    state: HttpState,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let health = Arc::clone(&state.health);
    let refusals = Arc::new(Refusals::new(state.handle.metrics(), health.clock()));
    let router = router(state, limits, Arc::clone(&refusals));
    let open = Arc::new(Open::default());
    let for_connections = stop.clone();
    let mut connections = JoinSet::new();
    let mut probes = tokio::time::interval(PROBE_BACKGROUND_INTERVAL);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match open.admit(peer.ip(), &limits) {
                    Some(permit) => {
                        let serving = connection::serve(
                            stream, peer, router.clone(), limits, Arc::clone(&refusals), for_connections.clone(),
                        );
                        connections.spawn(async move {
                            serving.await;
                            drop(permit);
                        });
                    }
                    None => refuse(stream, peer, &refusals),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept HTTP connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            // Removes finished connections from the set, which would otherwise keep them.
            Some(_) = connections.join_next() => {}
            _ = probes.tick() => {
                let health = Arc::clone(&health);
                tokio::spawn(async move { health.probe().await });
            }
            () = connection::stopping(&mut stop) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn refuse(stream: TcpStream, peer: SocketAddr, refusals: &Refusals) {
    let reason = HttpRejection::TooManyConnections;
    refusals.http(reason, peer, &"too many connections are open");
    // A new socket accepts this much without waiting; if not, the client only sees the connection close.
    let _ = stream.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: application/json\r\n\
          content-length: 55\r\n\r\n{\"status\":503,\"error\":\"too many connections are open\"}\n",
    );
}

/// Open connections by address.
#[derive(Default)]
struct Open {
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Open {
    fn admit(self: &Arc<Self>, address: IpAddr, limits: &Limits) -> Option<ConnectionPermit> {
        let mut by_address = self.by_address.lock();
        let all: usize = by_address.values().sum();
        let of_address = by_address.get(&address).copied().unwrap_or(0);
        if all >= limits.connections_max || of_address >= limits.connections_per_address_max {
            return None;
        }
        by_address.insert(address, of_address + 1);
        Some(ConnectionPermit {
            open: Arc::clone(self),
            address,
        })
    }
}

/// Permit of an open connection; releases its count when dropped.
struct ConnectionPermit {
    open: Arc<Open>,
    address: IpAddr,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut by_address = self.open.by_address.lock();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}
