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

/// What a client of the HTTP port may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections_max: usize,
    /// So that one address cannot lock the others, and the container's own health check, out.
    pub connections_per_address_max: usize,
    /// For a request's head to arrive, and between two requests of one connection.
    pub header_timeout: Duration,
    pub header_bytes_max: usize,
    pub body_bytes_max: u64,
    /// For an answer to be ready.
    pub request_timeout: Duration,
    /// For the client to take it.
    pub response_timeout: Duration,
    /// What expositions that clients have not taken yet may hold together.
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

/// Rendering for several scrapers at once, and probes, of which a hung disk may hold two.
const BLOCKING_THREADS_MAX: usize = 6;
/// By how much those threads are less urgent than the ones that serve clients: where all processors are busy they still
/// get a tenth of one.
const NICENESS: i32 = 10;
/// After the grace of a stop, threads still blocked are left behind after this time.
const ABANDON_AFTER: Duration = Duration::from_millis(100);
/// When accepting fails for want of descriptors, trying again at once would only burn a core.
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
            .on_thread_start(step_back)
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
                // Nobody may be waiting any more.
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

    /// Accepts no more, lets responses in flight finish for as long as `grace`, and ends the thread.
    pub async fn stop(self, grace: Duration) {
        self.stop.send_replace(true);
        if tokio::time::timeout(grace, self.stopped).await.is_err() {
            tracing::warn!(?grace, "HTTP responses still in flight at shutdown");
        } else if self.thread.join().is_err() {
            tracing::error!("HTTP thread panicked");
        }
    }
}

/// Lets whoever serves clients go first on this thread's processor. A scrape of 100,000 series takes tens of milliseconds
/// of one, and the next request must not wait for that.
fn step_back() {
    // On Linux, this is about the calling thread alone. Without it a scrape is only more noticeable.
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
                    Some(place) => {
                        let serving = connection::serve(
                            stream, peer, router.clone(), limits, Arc::clone(&refusals), for_connections.clone(),
                        );
                        connections.spawn(async move {
                            serving.await;
                            drop(place);
                        });
                    }
                    None => refuse(stream, peer, &refusals),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept HTTP connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            // Takes finished connections out of the set, which would otherwise keep them.
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
    // A fresh socket takes this much without waiting; if it does not, closing says the same.
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
    fn admit(self: &Arc<Self>, address: IpAddr, limits: &Limits) -> Option<Place> {
        let mut by_address = self.by_address.lock();
        let all: usize = by_address.values().sum();
        let of_address = by_address.get(&address).copied().unwrap_or(0);
        if all >= limits.connections_max || of_address >= limits.connections_per_address_max {
            return None;
        }
        by_address.insert(address, of_address + 1);
        Some(Place {
            open: Arc::clone(self),
            address,
        })
    }
}

/// A connection among the open ones; gives its place up when dropped.
struct Place {
    open: Arc<Open>,
    address: IpAddr,
}

impl Drop for Place {
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
