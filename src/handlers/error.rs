//! The only place where what went wrong below becomes a Kafka error code.
//!
//! Every match is exhaustive: a new error does not compile until somebody has decided what clients are told.

use crate::catalog;
use crate::coordinator::group::GroupError;
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

pub(super) fn of_group(error: &GroupError) -> ErrorCode {
    match error {
        GroupError::CoordinatorNotAvailable => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        GroupError::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
        GroupError::GroupIdNotFound => ErrorCode::GROUP_ID_NOT_FOUND,
        GroupError::NonEmptyGroup => ErrorCode::NON_EMPTY_GROUP,
        GroupError::GroupSubscribedToTopic => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
        GroupError::GroupMaxSizeReached => ErrorCode::GROUP_MAX_SIZE_REACHED,
        GroupError::MemberIdRequired { .. } => ErrorCode::MEMBER_ID_REQUIRED,
        GroupError::UnknownMemberId => ErrorCode::UNKNOWN_MEMBER_ID,
        GroupError::FencedInstanceId => ErrorCode::FENCED_INSTANCE_ID,
        GroupError::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
        GroupError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
        GroupError::InconsistentGroupProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        GroupError::InvalidSessionTimeout => ErrorCode::INVALID_SESSION_TIMEOUT,
        GroupError::UnknownTopicOrPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OFFSET_METADATA_TOO_LARGE,
        // Whatever keeps the catalog from being written, a client's commit may be tried again.
        GroupError::Catalog(error) if error.is_fault() => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        GroupError::Catalog(error) => of_catalog(error),
    }
}

/// The same for one of many answers, of which most are none.
pub(super) fn of_group_result(answer: &Result<(), GroupError>) -> ErrorCode {
    match answer {
        Ok(()) => ErrorCode::NONE,
        Err(error) => of_group(error),
    }
}
