//! Topics, groups, transactional ids and feature levels as the catalog stores them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use uuid::Uuid;

/// A topic in the catalog. `configs` holds only the topic's own settings, by Kafka's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRow {
    pub name: String,
    pub id: Uuid,
    pub partitions: i32,
    pub configs: BTreeMap<String, String>,
}

/// The feature levels that were set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeatureLevels {
    /// By the feature's name.
    pub levels: BTreeMap<String, i16>,
    /// Number of changes made to them.
    pub epoch: i64,
}

/// A group with members, or an empty one that had members: its state after the last completed rebalance, or when it
/// became empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    pub id: String,
    pub protocol_type: Option<String>,
    pub generation: i32,
    /// The chosen assignor; absent in an empty group.
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// When the group entered this state; for an empty group, the time from which its offsets' retention counts.
    pub state_since_ms: i64,
    pub members: Vec<MemberRow>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    /// The member's metadata for the chosen protocol.
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// A transactional id: its producer, and its current or last transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRow {
    pub id: String,
    pub producer_id: i64,
    /// Epoch of the producer; −1 before its first initialisation.
    pub producer_epoch: i16,
    /// The producer id before the current one, −1 if there was none.
    pub previous_producer_id: i64,
    /// The epoch before the current one if a retry with it is to be recognised, otherwise −1.
    pub last_producer_epoch: i16,
    /// Producer id that replaces the current one, whose epochs are exhausted, when the ending transaction is complete; −1
    /// if there is none.
    pub next_producer_id: i64,
    pub timeout_ms: i32,
    pub state: TransactionState,
    /// Set if the epoch was incremented with the last decision (KIP-890), so that records of the decided transaction have
    /// an older epoch than the producer.
    pub epoch_incremented: bool,
    /// Start of the transaction, −1 if there was none.
    pub started_ms: i64,
    pub updated_ms: i64,
    /// Partitions of the transaction: topic id and partition number.
    pub partitions: BTreeSet<(Uuid, i32)>,
    /// Groups whose offsets the transaction commits.
    pub groups: BTreeSet<String>,
}

/// The states of a transactional id, with Kafka's meaning and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionState {
    /// No transaction since the producer was initialised.
    Empty = 0,
    Ongoing = 1,
    /// The commit is decided; markers are being written.
    PrepareCommit = 2,
    /// The abort is decided; markers are being written.
    PrepareAbort = 3,
    CompleteCommit = 4,
    CompleteAbort = 5,
}

impl TransactionState {
    /// Every state, by its number.
    pub const ALL: [TransactionState; 6] = [
        TransactionState::Empty,
        TransactionState::Ongoing,
        TransactionState::PrepareCommit,
        TransactionState::PrepareAbort,
        TransactionState::CompleteCommit,
        TransactionState::CompleteAbort,
    ];

    /// Returns Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            TransactionState::Empty => "Empty",
            TransactionState::Ongoing => "Ongoing",
            TransactionState::PrepareCommit => "PrepareCommit",
            TransactionState::PrepareAbort => "PrepareAbort",
            TransactionState::CompleteCommit => "CompleteCommit",
            TransactionState::CompleteAbort => "CompleteAbort",
        }
    }
}
