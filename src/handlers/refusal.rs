//! Why something that a client asked for is not done, as the client is told.

use super::error;
use crate::broker::TopicError;
use crate::protocol::kafka::ErrorCode;
use crate::record;
use crate::storage;

/// Bytes of a message at most. Messages repeat names and values that the client sent, which may be as long as anything
/// the protocol can carry; the message around them would not fit any more.
const MESSAGE_BYTES_MAX: usize = 1000;

/// An error code, and what the error's message says.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
            message.push('…');
        }
        Refusal { code, message }
    }

    /// Of everything that has to do with transactions. The code is the one that producers of every family take as final;
    /// others they retry for minutes.
    pub(super) fn transactional() -> Self {
        Refusal::new(
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "transactions are not supported",
        )
    }
}

/// Code and message of an answer; of one that refuses nothing, `NONE` and no message.
pub(super) fn told(refused: Option<Refusal>) -> (ErrorCode, Option<String>) {
    match refused {
        Some(Refusal { code, message }) => (code, Some(message)),
        None => (ErrorCode::NONE, None),
    }
}

impl From<TopicError> for Refusal {
    fn from(error: TopicError) -> Self {
        Refusal::new(error::of_topic_change(&error), error.to_string())
    }
}

impl From<storage::Error> for Refusal {
    fn from(error: storage::Error) -> Self {
        Refusal::new(error::of_storage(&error), error.to_string())
    }
}

impl From<record::Error> for Refusal {
    fn from(error: record::Error) -> Self {
        Refusal::new(error::of_record(&error), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_where_a_character_ends() {
        let message = |text: &str| Refusal::new(ErrorCode::INVALID_CONFIG, text).message;
        assert_eq!(message("short"), "short");
        let cut = message(&"\u{1f980}".repeat(20_000));
        assert_eq!(cut.len(), MESSAGE_BYTES_MAX + '…'.len_utf8());
        assert!(message(&format!("x{}", "\u{1f980}".repeat(20_000))).len() < cut.len());
    }
}
