//! Errors of the command line, worded for the person who has to fix them.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::protocol::kafka::ErrorCode;
use crate::server::StartError;

/// Failure of a subcommand.
#[derive(Debug, Error)]
pub enum CliError {
    #[error(
        "cannot connect to {address}: {reason}; check that the server is running there, or set --bootstrap-server"
    )]
    Unreachable { address: String, reason: String },

    #[error("{api}: no response within {}", humantime::format_duration(*.after))]
    TimedOut { api: &'static str, after: Duration },

    #[error("{api}: connection to {address} closed before the response arrived: {reason}")]
    Disconnected {
        address: String,
        api: &'static str,
        reason: String,
    },

    #[error(
        "the server at {address} does not support any version of {api} that this client supports"
    )]
    NotOffered { address: String, api: &'static str },

    #[error("{api}: {reason}")]
    Protocol { api: &'static str, reason: String },

    #[error("{what}: {}{}", .code.name(), .message.as_deref().map(|it| format!(" ({it})")).unwrap_or_default())]
    Refused {
        what: String,
        code: ErrorCode,
        message: Option<String>,
    },

    /// The arguments contradict each other or the state of the server.
    #[error("{0}")]
    Usage(String),

    /// Some records were acknowledged before the rest failed.
    #[error("{error}; {} acknowledged before that", match written {
        0 => "no record was".to_owned(),
        1 => "1 record was".to_owned(),
        more => format!("{more} records were"),
    })]
    Partly { written: u64, error: Box<CliError> },

    #[error(transparent)]
    Start(#[from] StartError),

    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
}

impl CliError {
    /// Exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Usage(_) => 2,
            CliError::Partly { error, .. } => error.exit_code(),
            _ => 1,
        }
    }

    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> CliError {
        let what = what.into();
        move |source| CliError::Io { what, source }
    }
}
