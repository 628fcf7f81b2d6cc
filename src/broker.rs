//! The shared state a handler may touch, and the questions that several of them ask.
//!
//! A [`Broker`] holds the components that handlers reach through it. It knows nothing of requests or error codes.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::{Config, Effective};
use crate::coordinator::group::Groups;
use crate::metrics::Metrics;

/// The only node there is.
pub const NODE_ID: i32 = 1;

/// One server's components.
pub struct Broker {
    pub config: Config,
    /// The server's settings and where each came from.
    pub settings: Vec<Effective>,
    pub catalog: Arc<Catalog>,
    pub groups: Arc<Groups>,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
}

impl Broker {
    /// Host and port under which a client that reached the server at `local` is told to find it.
    pub fn advertised(&self, local: SocketAddr) -> (String, u16) {
        match &self.config.advertised_addr {
            Some(endpoint) => (endpoint.host.clone(), endpoint.port),
            None => (local.ip().to_canonical().to_string(), local.port()),
        }
    }
}
