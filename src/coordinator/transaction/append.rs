//! Appends of transactional records: the check that precedes each, and its exclusion from the decision.

use parking_lot::RwLockWriteGuard;
use uuid::Uuid;

use super::{ProducerIdentity, TransactionError, Transactions, require_id, state};

/// A partition to which a producer appends.
#[derive(Debug, Clone, Copy)]
pub struct PartitionToAppend {
    pub topic_id: Uuid,
    pub number: i32,
    /// The append adds the partition to the transaction, by version 2 of the protocol.
    pub is_added: bool,
}

impl Transactions {
    /// Runs `append` if the producer's transaction has the partition. The transaction is not decided while it runs.
    pub fn append<T>(
        &self,
        id: &str,
        producer: ProducerIdentity,
        partition: PartitionToAppend,
        append: impl FnOnce() -> T,
    ) -> Result<T, TransactionError> {
        require_id(id)?;
        let key = (partition.topic_id, partition.number);
        let unknown = TransactionError::InvalidProducerIdMapping;
        let slot = self.find(id).ok_or(unknown.clone())?;
        let mut held = slot.read();
        let checked = match &*held {
            Some(row) => state::check_partition(row, producer, key),
            None => Err(unknown.clone()),
        };
        match checked {
            Err(TransactionError::NotInTransaction) if partition.is_added => {
                drop(held);
                let mut adding = slot.write();
                let row = adding.as_mut().ok_or(unknown)?;
                state::add(row, producer, &[key], None, self.clock.now_ms())?;
                held = RwLockWriteGuard::downgrade(adding);
            }
            checked => checked?,
        }
        let appended = append();
        drop(held);
        Ok(appended)
    }
}
