//! Errors of transactions.

use crate::catalog;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    #[error("the transactional id is empty")]
    EmptyId,
    #[error("the transaction timeout is not between 1 and transaction_max_timeout_ms")]
    InvalidTimeout,
    /// Also for a transactional id that does not exist, or has expired.
    #[error("the producer id is not the one assigned to the transactional id")]
    InvalidProducerIdMapping,
    #[error("a newer producer with the same transactional id has replaced this one")]
    ProducerFenced,
    /// The previous transaction is still being completed. The client should retry.
    #[error("the previous transaction of the transactional id is not complete yet")]
    ConcurrentTransactions,
    #[error("the request is not allowed in the transaction's state")]
    InvalidState,
    /// The producer should abort the transaction, and may go on with the next one.
    #[error("the partition was not added to the transaction")]
    NotInTransaction,
    #[error("the transaction coordinator is not available")]
    CoordinatorNotAvailable,
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
}
