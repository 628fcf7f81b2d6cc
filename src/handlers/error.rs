//! Mapping of errors of the lower layers to Kafka error codes, the only one.
//!
//! For each layer there is one exhaustive match: a new error does not compile until its code is decided here. Functions for
//! single APIs make exceptions to it. Handlers choose codes themselves only for what they check themselves: the request and
//! its deadline.

use crate::broker::{FeatureError, FetchSessionError, QuotaError, TopicError};
use crate::coordinator::group::GroupError;
use crate::coordinator::transaction::{OffsetsError, TransactionError};
use crate::protocol::kafka::ErrorCode;
use crate::{catalog, record, storage};

/// The first version of OffsetCommit with GROUP_ID_NOT_FOUND.
const COMMIT_GROUP_NOT_FOUND_FROM: i16 = 9;

/// The first version of TxnOffsetCommit, and of Produce, whose clients know TRANSACTION_ABORTABLE.
const COMMIT_ABORTABLE_FROM: i16 = 4;
const PRODUCE_ABORTABLE_FROM: i16 = 11;
/// The first version of TxnOffsetCommit, and of Produce, that adds to the transaction, and so may come too early.
const COMMIT_ADDS_FROM: i16 = 5;
const PRODUCE_ADDS_FROM: i16 = 12;

/// Code of a request whose work on a blocking thread panicked or was cancelled.
pub(super) const TASK_FAILED: ErrorCode = ErrorCode::UNKNOWN_SERVER_ERROR;

pub(super) fn of_storage(error: &storage::Error) -> ErrorCode {
    use storage::Error;
    match error {
        Error::UnknownTopic { .. } | Error::Deleted => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Error::TopicExists { .. } => ErrorCode::TOPIC_ALREADY_EXISTS,
        Error::InvalidPartitionCount { .. } => ErrorCode::INVALID_PARTITIONS,
        Error::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        Error::BatchTooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        Error::TimestampsOutOfRange(_) => ErrorCode::INVALID_TIMESTAMP,
        Error::RecordsWithoutKey(_) | Error::NotAClientBatch => ErrorCode::INVALID_RECORD,
        Error::InvalidBatch(error) => of_record(error),
        Error::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        Error::ProducerFenced { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
        Error::TransactionOpen { .. } => ErrorCode::INVALID_TXN_STATE,
        Error::CoordinatorFenced { .. } => ErrorCode::TRANSACTION_COORDINATOR_FENCED,
        Error::DiskFull { .. }
        | Error::NoSpace { .. }
        | Error::Io { .. }
        | Error::Corrupt { .. }
        | Error::Poisoned { .. } => ErrorCode::KAFKA_STORAGE_ERROR,
        // The server is shutting down: this code makes clients look for the leader again and retry.
        Error::Closed => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        Error::Interrupted => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// Maps an error of a topic that the request named by id.
pub(super) fn of_storage_by_id(error: &storage::Error) -> ErrorCode {
    match error {
        storage::Error::Deleted => ErrorCode::UNKNOWN_TOPIC_ID,
        error => of_storage(error),
    }
}

pub(super) fn of_fetch_session(error: FetchSessionError) -> ErrorCode {
    match error {
        FetchSessionError::NotFound => ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
        FetchSessionError::InvalidEpoch => ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        FetchSessionError::TopicIds => ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
    }
}

pub(super) fn of_record(error: &record::Error) -> ErrorCode {
    use record::Error;
    match error {
        Error::Truncated { .. }
        | Error::TrailingBytes { .. }
        | Error::InvalidLength(_)
        | Error::Crc { .. } => ErrorCode::CORRUPT_MESSAGE,
        Error::UnsupportedMagic(_)
        | Error::UnknownAttributes(_)
        | Error::InvalidCount { .. }
        | Error::InvalidRecord { .. }
        | Error::Codec { .. }
        | Error::Empty => ErrorCode::INVALID_RECORD,
        Error::DecompressedTooLarge { .. } | Error::TooLarge => ErrorCode::MESSAGE_TOO_LARGE,
    }
}

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
        // A retriable code, whatever keeps the catalog from being written.
        GroupError::Catalog(error) if error.is_fault() => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        GroupError::Catalog(error) => of_catalog(error),
    }
}

/// Maps an error of OffsetCommit, whose earlier versions have no code for a group that does not exist.
pub(super) fn of_commit(error: &GroupError, version: i16) -> ErrorCode {
    match error {
        GroupError::GroupIdNotFound if version < COMMIT_GROUP_NOT_FOUND_FROM => {
            ErrorCode::ILLEGAL_GENERATION
        }
        error => of_group(error),
    }
}

/// Maps a result of [`of_group`]'s error type, `NONE` for success.
pub(super) fn of_group_result(answer: &Result<(), GroupError>) -> ErrorCode {
    match answer {
        Ok(()) => ErrorCode::NONE,
        Err(error) => of_group(error),
    }
}

/// Maps an error of a transaction. `knows_fenced` is false for clients that know only the older code for fencing.
pub(super) fn of_transaction(error: &TransactionError, knows_fenced: bool) -> ErrorCode {
    match error {
        TransactionError::EmptyId => ErrorCode::INVALID_REQUEST,
        TransactionError::InvalidTimeout => ErrorCode::INVALID_TRANSACTION_TIMEOUT,
        TransactionError::InvalidProducerIdMapping => ErrorCode::INVALID_PRODUCER_ID_MAPPING,
        TransactionError::ProducerFenced if knows_fenced => ErrorCode::PRODUCER_FENCED,
        TransactionError::ProducerFenced => ErrorCode::INVALID_PRODUCER_EPOCH,
        TransactionError::ConcurrentTransactions => ErrorCode::CONCURRENT_TRANSACTIONS,
        TransactionError::InvalidState => ErrorCode::INVALID_TXN_STATE,
        TransactionError::NotInTransaction => ErrorCode::TRANSACTION_ABORTABLE,
        TransactionError::CoordinatorNotAvailable => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        // A retriable code, whatever keeps the catalog from being written.
        TransactionError::Catalog(error) if error.is_fault() => {
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        }
        TransactionError::Catalog(error) => of_catalog(error),
    }
}

/// Maps an error of TxnOffsetCommit.
pub(super) fn of_transactional_commit(error: &OffsetsError, version: i16) -> ErrorCode {
    match error {
        OffsetsError::Group(GroupError::GroupIdNotFound) => ErrorCode::ILLEGAL_GENERATION,
        OffsetsError::Group(error) => of_group(error),
        OffsetsError::Transaction(TransactionError::NotInTransaction)
            if version < COMMIT_ABORTABLE_FROM =>
        {
            ErrorCode::INVALID_TXN_STATE
        }
        OffsetsError::Transaction(TransactionError::ConcurrentTransactions)
            if version < COMMIT_ADDS_FROM =>
        {
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        }
        OffsetsError::Transaction(error) => of_transaction(error, false),
    }
}

/// Maps an error of the transaction of a Produce request.
pub(super) fn of_transactional_produce(error: &TransactionError, version: i16) -> ErrorCode {
    match error {
        TransactionError::NotInTransaction if version < PRODUCE_ABORTABLE_FROM => {
            ErrorCode::INVALID_TXN_STATE
        }
        // A code that older producers retry.
        TransactionError::ConcurrentTransactions if version < PRODUCE_ADDS_FROM => {
            ErrorCode::NOT_ENOUGH_REPLICAS
        }
        error => of_transaction(error, false),
    }
}

pub(super) fn of_features(error: &FeatureError) -> ErrorCode {
    match error {
        FeatureError::Unknown(_)
        | FeatureError::Unsupported { .. }
        | FeatureError::Lower { .. }
        | FeatureError::Higher { .. } => ErrorCode::INVALID_UPDATE_VERSION,
        FeatureError::Catalog(error) => of_catalog(error),
        FeatureError::Interrupted => ErrorCode::NOT_CONTROLLER,
    }
}

pub(super) fn of_quota_change(error: &QuotaError) -> ErrorCode {
    match error {
        QuotaError::Invalid(_) => ErrorCode::INVALID_REQUEST,
        QuotaError::Catalog(error) => of_catalog(error),
        QuotaError::Interrupted => ErrorCode::NOT_CONTROLLER,
    }
}

pub(super) fn of_topic_change(error: &TopicError) -> ErrorCode {
    match error {
        TopicError::InvalidName(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        // Kafka's code for the creation of __cluster_metadata.
        TopicError::Internal(_) => ErrorCode::INVALID_REQUEST,
        TopicError::AlreadyExists(_) => ErrorCode::TOPIC_ALREADY_EXISTS,
        TopicError::Unknown(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        TopicError::InvalidPartitions(_) => ErrorCode::INVALID_PARTITIONS,
        TopicError::LimitReached(_) => ErrorCode::POLICY_VIOLATION,
        TopicError::InvalidConfig(_) => ErrorCode::INVALID_CONFIG,
        TopicError::InvalidRequest(_) => ErrorCode::INVALID_REQUEST,
        TopicError::Catalog(error) => of_catalog(error),
        TopicError::Storage(error) => of_storage(error),
        TopicError::Interrupted => ErrorCode::NOT_CONTROLLER,
    }
}
