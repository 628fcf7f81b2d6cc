//! Reasons for which a connection ended.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::Sleep;

use super::super::registry::DisconnectReason;

/// Reason for which a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// The client closed it.
    ByClient,
    /// The server ended it.
    ByServer(DisconnectReason),
    /// A request was refused; already logged.
    Refused,
    /// The socket, or a file that was to be sent, failed.
    Failed(io::Error),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::ByClient => f.write_str("closed by the client"),
            Ended::ByServer(DisconnectReason::Idle) => f.write_str("idle for too long"),
            Ended::ByServer(DisconnectReason::ReadTimeout | DisconnectReason::RequestMemory) => {
                f.write_str("an incomplete request arrived too slowly")
            }
            Ended::ByServer(DisconnectReason::WriteTimeout | DisconnectReason::ResponseMemory) => {
                f.write_str("the client did not read its responses")
            }
            Ended::ByServer(DisconnectReason::Drain | DisconnectReason::Abort) => {
                f.write_str("the server is shutting down")
            }
            Ended::Refused => f.write_str("a request was refused"),
            Ended::Failed(error) => write!(f, "I/O error: {error}"),
        }
    }
}

/// Time for the requests of a disconnected client to finish.
const LINGER: Duration = Duration::from_secs(3);

/// The end of a connection that still finishes its requests in flight.
#[derive(Default)]
pub(super) struct Ending {
    ended: Option<Ended>,
    linger: Option<Pin<Box<Sleep>>>,
}

impl Ending {
    pub(super) fn is_set(&self) -> bool {
        self.ended.is_some()
    }

    /// Sets the reason; the first one given is kept.
    pub(super) fn set(&mut self, ended: Ended) {
        self.ended.get_or_insert(ended);
    }

    /// Sets the failure of the socket, which replaces any other reason.
    pub(super) fn fail(&mut self, error: io::Error) {
        self.ended = Some(Ended::Failed(error));
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.ended, Some(Ended::Failed(_)))
    }

    /// Returns whether the time for the requests in flight is up.
    pub(super) fn has_lingered(&mut self, cx: &mut Context<'_>) -> bool {
        if matches!(self.ended, Some(Ended::ByServer(DisconnectReason::Drain))) {
            // The registry aborts the connection when the shutdown time-out is over.
            return false;
        }
        let linger = self
            .linger
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        linger.as_mut().poll(cx).is_ready()
    }

    /// Returns the reason.
    pub(super) fn take(&mut self) -> Ended {
        self.ended.take().unwrap_or(Ended::ByClient)
    }
}
