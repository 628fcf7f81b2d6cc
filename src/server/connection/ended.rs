//! Reasons for which a connection ended.

use std::fmt;
use std::io;

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
