//! Appends of batches that belong to a transaction.

use super::RefusedBatch;
use crate::broker::{Operation, Resource};
use crate::coordinator::transaction::{PartitionToAppend, ProducerIdentity};
use crate::handlers::Call;
use crate::record::RecordBatch;
use crate::storage::{AppendOptions, Appended, PartitionLog, Ticket};

/// The first version in which an append adds its partition to the transaction (KIP-890).
const ADDS_PARTITIONS_FROM: i16 = 12;

/// Appends a batch of a transaction, while the transaction is ongoing. By the later versions, the append adds the partition
/// to the transaction.
#[cold]
pub(super) fn append(
    call: &Call,
    transactional_id: Option<&str>,
    partition: &dyn PartitionLog,
    batches: Vec<RecordBatch>,
    options: AppendOptions,
) -> Result<Ticket<Appended>, Box<RefusedBatch>> {
    let id = transactional_id.ok_or_else(RefusedBatch::without_transactional_id)?;
    call.authorize(Operation::Write, Resource::TransactionalId(id))
        .map_err(RefusedBatch::denied)?;
    let header = batches[0].header();
    let producer = ProducerIdentity {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
    };
    let target = PartitionToAppend {
        topic_id: partition.topic().id,
        number: partition.number(),
        is_added: call.version >= ADDS_PARTITIONS_FROM,
    };
    let transactions = &call.broker.transactions;
    let appended = transactions.append(id, producer, target, || partition.append(batches, options));
    appended.map_err(|error| RefusedBatch::not_in_transaction(&error, call.version))
}
