//! Requests to the coordinator and its answers, independent of protocol versions.

use bytes::Bytes;

/// A member's request to join the next generation.
#[derive(Debug, Clone)]
pub struct JoinGroup {
    pub group_id: String,
    /// Empty for a member without an id.
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    /// Time that the group waits for its members to join again. JoinGroup 0 has no such field: the session timeout is
    /// used instead.
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    /// Assignors with their metadata, in the member's order of preference.
    pub protocols: Vec<(String, Bytes)>,
    /// True if a new dynamic member must join again with the id assigned to it (JoinGroup 4 and later).
    pub requires_member_id: bool,
    /// True if the client supports `skip_assignment` (JoinGroup 9 and later).
    pub supports_skipping_assignment: bool,
    /// The client's reason for joining, for the log.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedGroup {
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub leader: String,
    pub member_id: String,
    /// True when the leader must not compute a new assignment.
    pub skip_assignment: bool,
    /// All members, for the leader to assign partitions to. Empty for followers.
    pub members: Vec<JoinedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub metadata: Bytes,
}

/// Identifies a member in one generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberIdentity {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub generation: i32,
}

/// A member's request for its assignment. The leader's request carries the assignments of all members.
#[derive(Debug, Clone)]
pub struct SyncGroup {
    pub group_id: String,
    pub member: MemberIdentity,
    /// Compared with the group's protocol type if present (SyncGroup 5 and later).
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    /// Member ids with their assignments.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncedGroup {
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub assignment: Bytes,
}

/// A member that leaves, or that an operator removes by its group instance id alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub reason: Option<String>,
}

#[derive(Debug, Clone)]
pub struct CommitOffsets {
    pub group_id: String,
    /// A consumer that assigns its partitions itself has an empty member id and a negative generation.
    pub member: MemberIdentity,
    /// Overrides the server's offset retention (OffsetCommit 2 to 4).
    pub retention_ms: Option<i64>,
    pub offsets: Vec<OffsetToCommit>,
}

#[derive(Debug, Clone)]
pub struct OffsetToCommit {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
}

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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    pub group_id: String,
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
