//! The only place where what went wrong below becomes a Kafka error code.
//!
//! Every match is exhaustive: a new error does not compile until somebody has decided what clients are told.

use crate::catalog;
use crate::protocol::kafka::ErrorCode;

pub(super) fn of_catalog(error: &catalog::Error) -> ErrorCode {
    use catalog::Error;
    match error {
        Error::TopicExists(_) => ErrorCode::TOPIC_ALREADY_EXISTS,
        Error::NoSuchTopic(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Error::DiskFull(_) | Error::Io(_) | Error::Corrupt(_) | Error::NewerSchema { .. } => {
            ErrorCode::KAFKA_STORAGE_ERROR
        }
        Error::Busy(_) => ErrorCode::REQUEST_TIMED_OUT,
        Error::Closed => ErrorCode::NOT_CONTROLLER,
        Error::Statement(_) => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}
