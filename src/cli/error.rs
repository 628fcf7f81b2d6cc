//! What can go wrong for a person at the command line, said so that they can mend it.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::protocol::kafka::ErrorCode;
use crate::server::StartError;

/// Why a subcommand could not do what it was asked.
#[derive(Debug, Error)]
pub enum CliError {
    #[error(
        "cannot reach a server at {address}: {reason}; is it running there? (--bootstrap-server names another)"
    )]
    Unreachable { address: String, reason: String },

    #[error("{api}: no answer within {}", humantime::format_duration(*.after))]
    TimedOut { api: &'static str, after: Duration },

    #[error("{api}: the connection to {address} ended before the answer: {reason}")]
    Disconnected {
        address: String,
        api: &'static str,
        reason: String,
    },

    #[error("the server at {address} does not offer {api} in a version this client speaks")]
    NotOffered { address: String, api: &'static str },

    #[error("{api}: {reason}")]
    Protocol { api: &'static str, reason: String },

    #[error("{what}: {}{}", .code.name(), .message.as_deref().map(|it| format!(" ({it})")).unwrap_or_default())]
    Refused {
        what: String,
        code: ErrorCode,
        message: Option<String>,
    },

    /// The arguments contradict each other or what the server holds.
    #[error("{0}")]
    Usage(String),

    /// Some records had been acknowledged when the rest failed.
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
    /// What the process ends with.
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
