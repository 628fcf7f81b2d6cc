//! Offsets that a transaction commits. They are pending until it ends.

use super::{ProducerIdentity, TransactionError, Transactions, require_id, state};
use crate::coordinator::group::{CommitOffsets, GroupError, Groups};

/// Reasons for which offsets cannot be added to a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OffsetsError {
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    #[error(transparent)]
    Group(#[from] GroupError),
}

impl Transactions {
    /// Adds offsets to the producer's transaction and returns one result per offset, in the order of the request, once they
    /// are flushed to disk. By version 2 of the protocol, for which `is_added` is set, the group is added as well.
    pub async fn commit_offsets(
        &self,
        id: &str,
        producer: ProducerIdentity,
        groups: &Groups,
        commit: CommitOffsets,
        is_added: bool,
    ) -> Result<Vec<Result<(), GroupError>>, OffsetsError> {
        require_id(id)?;
        let group = commit.group_id.clone();
        let pending = groups.commit_in_transaction(commit, |offsets| {
            let now_ms = self.clock.now_ms();
            // Queued under the row's lock, so that the decision comes after them.
            let queued = self.with_row(id, |row| {
                match is_added {
                    true => state::add(row, producer, &[], Some(&group), now_ms)?,
                    false => state::check_group(row, producer, &group)?,
                }
                Ok(self.catalog.add_pending_offsets(id, &group, offsets))
            });
            queued.map_err(OffsetsError::from)
        });
        pending.await
    }
}
