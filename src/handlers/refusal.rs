//! Refusals of requests: error code and message for the client.

use super::error;
use crate::broker::TopicError;
use crate::protocol::kafka::ErrorCode;
use crate::record;

/// Largest size of a message in bytes. Messages repeat names and values of the client, which may be as long as the longest
/// string of the protocol; with the text around them the message would not fit.
const MESSAGE_BYTES_MAX: usize = 1000;

/// Error code and message of a refused request.
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

    /// Creates the refusal of an operation that the client may not perform, with Kafka's message.
    pub(super) fn denied(code: ErrorCode) -> Self {
        let resource = match code {
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => "Topic",
            ErrorCode::GROUP_AUTHORIZATION_FAILED => "Group",
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => "Transactional Id",
            _ => "Cluster",
        };
        Refusal::new(code, format!("{resource} authorization failed."))
    }
}

/// Returns code and message of a response; `NONE` and no message without a refusal.
pub(super) fn error_fields(refused: Option<Refusal>) -> (ErrorCode, Option<String>) {
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

impl From<record::Error> for Refusal {
    fn from(error: record::Error) -> Self {
        Refusal::new(error::of_record(&error), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_at_a_character_boundary() {
        let message = |text: &str| Refusal::new(ErrorCode::INVALID_CONFIG, text).message;
        assert_eq!(message("short"), "short");
        let cut = message(&"\u{1f980}".repeat(20_000));
        assert_eq!(cut.len(), MESSAGE_BYTES_MAX + '…'.len_utf8());
        assert!(message(&format!("x{}", "\u{1f980}".repeat(20_000))).len() < cut.len());
    }
}
