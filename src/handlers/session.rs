//! The session of one client's connection, as handlers see it: the broker, the way the client came in, and who it is.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::broker::{Broker, Principal};

/// One connection's session, shared by its requests.
pub struct Session {
    pub(super) broker: Arc<Broker>,
    pub(super) peer: SocketAddr,
    /// Server address to which the client connected.
    pub(super) local: SocketAddr,
    pub(super) principal: Principal,
}

impl Session {
    /// Starts the session of a client that is not authenticated.
    pub fn new(broker: Arc<Broker>, peer: SocketAddr, local: SocketAddr) -> Arc<Session> {
        Arc::new(Session {
            broker,
            peer,
            local,
            principal: Principal::ANONYMOUS,
        })
    }

    /// Returns the host and port by which this client reaches the server.
    pub(super) fn advertised(&self) -> (String, u16) {
        self.broker.advertised(self.local)
    }
}
