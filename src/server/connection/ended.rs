//! How a connection ended.

use std::fmt;
use std::io;

use super::super::registry::DisconnectReason;

/// How a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// The client closed it.
    ByClient,
    /// It was told to end.
    Told(DisconnectReason),
    /// What the client sent was refused; already logged.
    Refused,
    /// The socket, or a file that was to be sent, failed.
    Failed(io::Error),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::ByClient => f.write_str("closed by the client"),
            Ended::Told(DisconnectReason::Idle) => f.write_str("idle for too long"),
            Ended::Told(DisconnectReason::ReadTimeout | DisconnectReason::RequestMemory) => {
                f.write_str("an incomplete request arrived too slowly")
            }
            Ended::Told(DisconnectReason::WriteTimeout | DisconnectReason::ResponseMemory) => {
                f.write_str("the client did not read its responses")
            }
            Ended::Told(DisconnectReason::Drain | DisconnectReason::Abort) => {
                f.write_str("the server is shutting down")
            }
            Ended::Refused => f.write_str("a request was refused"),
            Ended::Failed(error) => write!(f, "I/O error: {error}"),
        }
    }
}
