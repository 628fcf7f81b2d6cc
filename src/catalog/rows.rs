//! Topics, groups and feature levels as the catalog stores them.

use std::collections::BTreeMap;

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
