//! States, listings and descriptions of groups, independent of protocol versions.

use bytes::Bytes;

/// The states of a group, with Kafka's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GroupState {
    /// No members; committed offsets may remain.
    Empty,
    /// Waiting for the members to join the next generation.
    PreparingRebalance,
    /// The members of the generation are fixed; waiting for the leader's assignment.
    CompletingRebalance,
    /// The assignment is stored and available to every member.
    Stable,
    /// Deleted. Clients see it only in the description of a group that does not exist.
    Dead,
}

impl GroupState {
    /// The states of an existing group.
    pub const LIVE: [GroupState; 4] = [
        GroupState::Empty,
        GroupState::PreparingRebalance,
        GroupState::CompletingRebalance,
        GroupState::Stable,
    ];

    /// Returns Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

/// The protocols that the members of a group may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupType {
    Classic,
}

impl GroupType {
    /// Returns Kafka's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            GroupType::Classic => "classic",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    pub group_id: String,
    pub group_type: GroupType,
    /// Empty for a group that never had members, only committed offsets.
    pub protocol_type: String,
    pub state: GroupState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    pub group_id: String,
    pub state: GroupState,
    pub protocol_type: String,
    /// The selected assignor. Empty unless the group is stable.
    pub protocol: String,
    pub members: Vec<MemberDescription>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// Empty unless the group is stable, as is the assignment.
    pub metadata: Bytes,
    pub assignment: Bytes,
}
