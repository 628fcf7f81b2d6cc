//! A batch refused by Produce, with the details for its producer, the log line and the metrics.

use crate::coordinator::transaction::TransactionError;
use crate::handlers::error;
use crate::handlers::refusal::Refusal;
use crate::metrics::ProduceRefusal;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::produce::BatchIndexAndErrorMessage;
use crate::storage::TimestampsOutOfRange;
use crate::{record, storage};

/// The first version whose responses list the invalid records (KIP-467).
const RECORD_ERRORS_FROM: i16 = 8;

/// Reason for which a batch was refused. Boxed, since refusals are rare.
#[derive(Debug, Clone)]
pub(super) struct RefusedBatch {
    pub(super) reason: ProduceRefusal,
    pub(super) refusal: Refusal,
    /// −1 unless the partition is known.
    pub(super) log_start_offset: i64,
    /// Invalid records, if the refusal concerns single ones.
    pub(super) record_errors: Vec<BatchIndexAndErrorMessage>,
}

/// Limits the number of invalid records that a response lists. A few bytes of compressed records could make it list
/// millions.
#[derive(Debug)]
pub(super) struct RecordErrors {
    left: usize,
}

impl RecordErrors {
    /// Creates the limit for a request of this version, and whether it gets a response.
    pub(super) fn of_request(version: i16, is_answered: bool) -> Self {
        let named = version >= RECORD_ERRORS_FROM && is_answered;
        RecordErrors {
            left: if named {
                TimestampsOutOfRange::LISTED_MAX
            } else {
                0
            },
        }
    }

    fn named(
        &mut self,
        records: impl Iterator<Item = (usize, String)>,
    ) -> Vec<BatchIndexAndErrorMessage> {
        let named: Vec<_> = records
            .take(self.left)
            .map(|(index, message)| BatchIndexAndErrorMessage {
                // A batch counts its records with 31 bits.
                batch_index: index as i32,
                batch_index_error_message: Some(message),
            })
            .collect();
        self.left -= named.len();
        named
    }
}

impl RefusedBatch {
    pub(super) fn new(
        reason: ProduceRefusal,
        code: ErrorCode,
        message: impl Into<String>,
    ) -> Box<Self> {
        RefusedBatch::from_refusal(reason, Refusal::new(code, message))
    }

    /// Creates the refusal of a transactional batch in a request without a transactional id, with Kafka's code.
    pub(super) fn without_transactional_id() -> Box<Self> {
        RefusedBatch::new(
            ProduceRefusal::Transactional,
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "a batch of a transaction requires a transactional id",
        )
    }

    /// Creates the refusal of a batch that its producer's transaction does not allow.
    pub(super) fn not_in_transaction(error: &TransactionError, version: i16) -> Box<Self> {
        let reason = match error {
            TransactionError::ProducerFenced => ProduceRefusal::ProducerEpoch,
            _ => ProduceRefusal::Transactional,
        };
        let code = error::of_transactional_produce(error, version);
        RefusedBatch::new(reason, code, error.to_string())
    }

    /// Creates the refusal of a batch that the client may not write.
    pub(super) fn denied(code: ErrorCode) -> Box<Self> {
        RefusedBatch::from_refusal(ProduceRefusal::Unauthorized, Refusal::denied(code))
    }

    /// Creates the refusal of a batch whose topic or partition was not found, or may not be written.
    pub(super) fn not_found(code: ErrorCode) -> Box<Self> {
        match code {
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => RefusedBatch::denied(code),
            code => {
                let message = "this server has no such topic or partition";
                RefusedBatch::new(ProduceRefusal::UnknownTopic, code, message)
            }
        }
    }

    fn from_refusal(reason: ProduceRefusal, refusal: Refusal) -> Box<Self> {
        Box::new(RefusedBatch {
            reason,
            refusal,
            log_start_offset: -1,
            record_errors: Vec::new(),
        })
    }

    /// Converts a failed append, with the invalid records that it names.
    pub(super) fn by_storage(
        failure: storage::Error,
        by_id: bool,
        errors: &mut RecordErrors,
    ) -> Box<Self> {
        let record_errors = match &failure {
            storage::Error::TimestampsOutOfRange(found) => {
                let listed = found.listed.iter();
                errors.named(
                    listed.map(|(index, timestamp_ms)| (*index, found.describe(*timestamp_ms))),
                )
            }
            storage::Error::RecordsWithoutKey(found) => {
                let message = "the record has no key, which a compacted topic requires";
                let listed = found.listed.iter();
                errors.named(listed.map(|index| (*index, message.to_owned())))
            }
            storage::Error::InvalidBatch(invalid) => match &**invalid {
                record::Error::InvalidRecord { index, reason } => {
                    errors.named([(*index, (*reason).to_owned())].into_iter())
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        let mut refused = Self::of_storage(&failure, by_id);
        refused.record_errors = record_errors;
        refused
    }

    /// Converts an error of the storage. `by_id` is true if the request names its topics by id.
    pub(super) fn of_storage(failure: &storage::Error, by_id: bool) -> Box<Self> {
        let code = match by_id {
            true => error::of_storage_by_id(failure),
            false => error::of_storage(failure),
        };
        RefusedBatch::new(reason_of_storage(failure), code, failure.to_string())
    }
}

impl From<record::Error> for Box<RefusedBatch> {
    fn from(invalid: record::Error) -> Self {
        RefusedBatch::from_refusal(reason_of_record(&invalid), Refusal::from(invalid))
    }
}

fn reason_of_storage(failure: &storage::Error) -> ProduceRefusal {
    use storage::Error;
    match failure {
        Error::UnknownTopic { .. } | Error::Deleted => ProduceRefusal::UnknownTopic,
        Error::BatchTooLarge { .. } => ProduceRefusal::TooLarge,
        Error::TimestampsOutOfRange(_) => ProduceRefusal::Timestamp,
        Error::RecordsWithoutKey(_) | Error::NotAClientBatch => ProduceRefusal::InvalidRecord,
        Error::InvalidBatch(invalid) => reason_of_record(invalid),
        Error::OutOfOrderSequence { .. } => ProduceRefusal::OutOfOrderSequence,
        Error::ProducerFenced { .. } => ProduceRefusal::ProducerEpoch,
        Error::TransactionOpen { .. } => ProduceRefusal::Transactional,
        Error::DiskFull { .. } | Error::NoSpace { .. } => ProduceRefusal::DiskFull,
        Error::Io { .. } | Error::Corrupt { .. } | Error::Poisoned { .. } => {
            ProduceRefusal::Storage
        }
        // An append never returns these errors.
        Error::TopicExists { .. }
        | Error::InvalidPartitionCount { .. }
        | Error::OffsetOutOfRange { .. }
        | Error::CoordinatorFenced { .. }
        | Error::Interrupted => ProduceRefusal::Storage,
        Error::Closed => ProduceRefusal::Closing,
    }
}

fn reason_of_record(invalid: &record::Error) -> ProduceRefusal {
    use record::Error;
    match invalid {
        Error::Truncated { .. }
        | Error::TrailingBytes { .. }
        | Error::InvalidLength(_)
        | Error::Crc { .. } => ProduceRefusal::Corrupt,
        Error::UnsupportedMagic(_)
        | Error::UnknownAttributes(_)
        | Error::InvalidCount { .. }
        | Error::InvalidRecord { .. }
        | Error::Empty => ProduceRefusal::InvalidRecord,
        Error::Codec { .. } => ProduceRefusal::Compression,
        Error::DecompressedTooLarge { .. } | Error::TooLarge => ProduceRefusal::TooLarge,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn storage_errors_map_to_error_code_and_metric_reason() {
        let path = || PathBuf::from("orders-0");
        let poisoned = storage::Error::Poisoned {
            topic: "orders".to_owned(),
            partition: 0,
            reason: "its disk failed".to_owned(),
        };
        let full = storage::Error::DiskFull {
            data_dir: path(),
            shortage: "100 bytes are free, 5000 are needed".to_owned(),
        };
        let corrupt = storage::Error::Corrupt {
            path: path(),
            position: 0,
            reason: "unreadable".to_owned(),
        };
        for (failure, code, reason) in [
            (
                full,
                ErrorCode::KAFKA_STORAGE_ERROR,
                ProduceRefusal::DiskFull,
            ),
            (
                poisoned,
                ErrorCode::KAFKA_STORAGE_ERROR,
                ProduceRefusal::Storage,
            ),
            (
                corrupt,
                ErrorCode::KAFKA_STORAGE_ERROR,
                ProduceRefusal::Storage,
            ),
            (
                storage::Error::Deleted,
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ProduceRefusal::UnknownTopic,
            ),
            (
                storage::Error::Closed,
                ErrorCode::NOT_LEADER_OR_FOLLOWER,
                ProduceRefusal::Closing,
            ),
        ] {
            let refused = RefusedBatch::of_storage(&failure, false);
            assert_eq!((refused.refusal.code, refused.reason), (code, reason));
        }
    }

    #[test]
    fn a_deleted_topic_is_unknown_by_what_the_request_names() {
        let mut errors = RecordErrors::of_request(13, true);
        for (by_id, code) in [
            (true, ErrorCode::UNKNOWN_TOPIC_ID),
            (false, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ] {
            let refused = RefusedBatch::by_storage(storage::Error::Deleted, by_id, &mut errors);
            assert_eq!(refused.refusal.code, code);
            assert_eq!(refused.reason, ProduceRefusal::UnknownTopic);
        }
    }
}
