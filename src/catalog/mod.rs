//! The small transactional state: topics, their configs, committed offsets, groups, producer ids, transactional ids,
//! feature levels, client quotas, settings changed at run time.
//!
//! [`Catalog`] is the contract, which the tests in `conformance` check for every implementation; [`sqlite`] keeps the
//! catalog of a single server. The database is read only at start; data read while serving (committed offsets) is kept
//! in memory.
//!
//! The catalog knows nothing of log files, protocols or clients. It stores what it is given; only an offset belongs to
//! a topic and is deleted with it, in the same transaction.

mod error;
mod offsets;
mod pending_offsets;
mod quotas;
mod rows;
mod server_configs;
mod sqlite;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use uuid::Uuid;

pub use error::Error;
pub use offsets::{CommittedOffset, GroupOffsets, OffsetCommit, TopicPartition};
pub use pending_offsets::PendingOffset;
pub use quotas::{QuotaEntity, QuotaName, QuotaRow};
pub use rows::{FeatureLevels, GroupRow, MemberRow, TopicRow, TransactionRow, TransactionState};
pub use server_configs::{ConfigResource, ServerConfigRow};
pub use sqlite::Sqlite;

/// A change of the catalog that is queued already. Resolves when the change is durable; dropping it does not cancel the
/// change.
pub type Change<T = ()> = BoxFuture<'static, Result<T, Error>>;

/// The catalog of one server. Changes apply in the order of the calls, each completely or not at all.
pub trait Catalog: Send + Sync {
    /// Returns the cluster's id: a random UUID in URL-safe base64, as Kafka writes it. Fixed when the catalog is
    /// created.
    fn cluster_id(&self) -> &str;

    /// Returns all topics, by name. Reads the database and blocks: for use at start.
    fn topics(&self) -> Result<Vec<TopicRow>, Error>;

    /// Returns the ids of deleted topics that were not forgotten yet: directories with such an id are leftovers of the
    /// topic. Reads the database and blocks: for use at start.
    fn deleted_topics(&self) -> Result<HashSet<Uuid>, Error>;

    /// Returns all stored groups, by id. Reads the database and blocks: for use at start.
    fn groups(&self) -> Result<Vec<GroupRow>, Error>;

    /// Returns all transactional ids, in order. Reads the database and blocks: for use at start.
    fn transactions(&self) -> Result<Vec<TransactionRow>, Error>;

    /// Returns the feature levels that were set. Reads the database and blocks: for use at start.
    fn feature_levels(&self) -> Result<FeatureLevels, Error>;

    /// Returns all client quotas, by entity. Reads the database and blocks: for use at start.
    fn client_quotas(&self) -> Result<Vec<QuotaRow>, Error>;

    /// Returns the configs of all resources other than topics. Reads the database and blocks: for use at start.
    fn server_configs(&self) -> Result<Vec<ServerConfigRow>, Error>;

    /// Creates a topic; fails with [`Error::TopicExists`] if the name is taken.
    fn create_topic(&self, topic: TopicRow) -> Change;

    /// Deletes the topic together with its configs and every group's offsets in it; fails with [`Error::NoSuchTopic`].
    /// Its id is kept among the [deleted](Catalog::deleted_topics) ones until it is forgotten.
    fn delete_topic(&self, name: &str) -> Change;

    /// Forgets a deleted topic, once its files are removed.
    fn forget_deleted_topic(&self, id: Uuid) -> Change;

    /// Sets the number of partitions; fails with [`Error::NoSuchTopic`].
    fn set_partitions(&self, name: &str, partitions: i32) -> Change;

    /// Replaces all configs of the topic by `configs`; fails with [`Error::NoSuchTopic`].
    fn set_topic_configs(&self, name: &str, configs: BTreeMap<String, String>) -> Change;

    /// Sets levels of features, all or none; others keep theirs. Returns the new epoch of the levels.
    fn set_feature_levels(&self, levels: BTreeMap<String, i16>) -> Change<i64>;

    /// Returns a producer id that was never assigned before, across restarts and crashes.
    fn next_producer_id(&self) -> Change<i64>;

    /// Ensures that no producer id up to this one is assigned. For use at start: ids claimed before are not returned.
    fn skip_producer_ids(&self, up_to: i64) -> Change;

    /// Stores a group's offsets, all or none, except those in topics that do not exist. Returns the names of those
    /// topics.
    fn commit_offsets(&self, group: &str, commits: Vec<OffsetCommit>) -> Change<HashSet<String>>;

    /// Deletes offsets of a group, pending ones included; missing ones are ignored.
    fn delete_offsets(&self, group: &str, partitions: Vec<TopicPartition>) -> Change;

    /// Deletes those of the offsets whose last commit is still the one at the given time. Returns the deleted ones.
    fn expire_offsets(
        &self,
        group: &str,
        expired: Vec<(TopicPartition, i64)>,
    ) -> Change<Vec<TopicPartition>>;

    /// Stores a group, replacing its previous state.
    fn store_group(&self, group: GroupRow) -> Change;

    /// Deletes a group together with its offsets, pending ones included. A missing group is not an error.
    fn delete_group(&self, group: &str) -> Change;

    /// Deletes a group unless it has offsets, committed or pending, when this change is applied, including those of commits queued before it.
    /// A missing group is not an error.
    fn delete_group_without_offsets(&self, group: &str) -> Change;

    /// Replaces all quotas of an entity; without values it is deleted.
    fn set_client_quotas(&self, quotas: QuotaRow) -> Change;

    /// Replaces all configs of a resource other than a topic; without configs it is deleted.
    fn set_server_configs(&self, row: ServerConfigRow) -> Change;

    /// Returns a group's committed offsets, from memory; `None` if it has none. Only durable commits are visible.
    fn offsets(&self, group: &str) -> Option<Arc<RwLock<GroupOffsets>>>;

    /// Returns the groups that have committed offsets, in no particular order.
    fn groups_with_offsets(&self) -> Vec<String>;

    /// Stores a transactional id, replacing its previous state.
    fn store_transaction(&self, transaction: TransactionRow) -> Change;

    /// Stores the decision to commit or to abort a transaction: its new state, together with its pending offsets, which
    /// are committed or dropped.
    fn decide_transaction(&self, transaction: TransactionRow, commits: bool) -> Change;

    /// Deletes a transactional id together with its pending offsets. A missing one is not an error.
    fn delete_transaction(&self, id: &str) -> Change;

    /// Stores offsets that a transaction will commit, all or none, except those in topics that do not exist. Returns the
    /// names of those topics. Fails if the transactional id is not stored.
    fn add_pending_offsets(
        &self,
        transaction_id: &str,
        group: &str,
        commits: Vec<OffsetCommit>,
    ) -> Change<HashSet<String>>;

    /// Returns the partitions in which open transactions will commit offsets of the group, from memory.
    fn pending_offsets(&self, group: &str) -> BTreeSet<TopicPartition>;

    /// Returns the transactional ids with pending offsets, each with its groups, from memory.
    fn transactions_with_offsets(&self) -> BTreeMap<String, BTreeSet<String>>;

    /// Checks that the last change succeeded; the error says why not. After a failure each call tries again in the
    /// background, so that health recovers with the database and not only with the next client.
    fn health(&self) -> Result<(), Error>;

    /// Applies queued changes and closes the database. Blocks; later changes fail with [`Error::Closed`].
    fn close(&self);
}

#[cfg(test)]
mod conformance;
