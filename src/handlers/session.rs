//! The session of one client's connection, as handlers see it: the broker, the way the client came in, and who it is.
//!
//! A handler changes the session through `&self`, before it first waits: the requests of a connection start in their order,
//! so the next one sees the change. A property that is learned only then is a [`OnceLock`], which is read without a lock.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::broker::{Broker, ClientQuotas, Principal};

/// One connection's session, shared by its requests.
pub struct Session {
    pub(super) broker: Arc<Broker>,
    /// Name of the listener to which the client connected.
    pub(super) listener: Arc<str>,
    pub(super) peer: SocketAddr,
    /// Server address to which the client connected.
    pub(super) local: SocketAddr,
    pub(super) principal: Principal,
    software: OnceLock<ClientSoftware>,
    /// Quotas of the client, as last found.
    pub(super) quotas: Mutex<Option<Arc<ClientQuotas>>>,
}

/// Name and version of a client's software, which it gives in ApiVersions (KIP-511).
#[derive(Debug)]
pub(super) struct ClientSoftware {
    pub(super) name: String,
    pub(super) version: String,
}

impl fmt::Display for ClientSoftware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

impl Session {
    /// Starts the session of a client that is not authenticated.
    pub fn new(
        broker: Arc<Broker>,
        listener: Arc<str>,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Arc<Session> {
        Arc::new(Session {
            broker,
            listener,
            peer,
            local,
            principal: Principal::ANONYMOUS,
            software: OnceLock::new(),
            quotas: Mutex::default(),
        })
    }

    /// Returns the host and port by which this client reaches the server.
    pub(super) fn advertised(&self) -> (String, u16) {
        self.broker.advertised(&self.listener, self.local)
    }

    /// Returns the client's software, if the client has named it.
    pub(super) fn software(&self) -> Option<&ClientSoftware> {
        self.software.get()
    }

    /// Sets the client's software, unless it is known: a client that asks again is still the same.
    pub(super) fn identify(&self, software: ClientSoftware) {
        self.software.get_or_init(|| software);
    }
}
