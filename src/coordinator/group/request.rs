//! What is asked of the coordinator and what it answers, free of wire versions.

use bytes::Bytes;

/// A member asks to take part in the next generation.
#[derive(Debug, Clone)]
pub struct JoinGroup {
    pub group_id: String,
    /// Empty for a member that does not have an id yet.
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    /// How long the group waits for its members to join again. Clients of the first version have no such
    /// setting: theirs is the session timeout.
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    /// Assignors with their metadata, in the member's order of preference.
    pub protocols: Vec<(String, Bytes)>,
    /// Whether a new dynamic member must come back with the id it is given (JoinGroup 4 and later).
    pub requires_member_id: bool,
    /// Whether the client understands being told to keep the assignment (JoinGroup 9 and later).
    pub supports_skipping_assignment: bool,
    /// Why the client joins, for the log.
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
    /// For the leader: everyone, to assign partitions to. Empty for the others.
    pub members: Vec<JoinedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub metadata: Bytes,
}

/// Who is asking, in which generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberIdentity {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub generation: i32,
}

/// A member asks for its assignment; the leader brings everyone's.
#[derive(Debug, Clone)]
pub struct SyncGroup {
    pub group_id: String,
    pub member: MemberIdentity,
    /// Checked against the group's when given (SyncGroup 5 and later).
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

/// One of the members that leave, or are removed by an operator, who knows only the instance id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub reason: Option<String>,
}

#[derive(Debug, Clone)]
pub struct CommitOffsets {
    pub group_id: String,
    /// A consumer that manages its partitions itself has an empty member id and a negative generation.
    pub member: MemberIdentity,
    /// A lifetime other than the server's retention (OffsetCommit 2 to 4).
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
    /// No members; offsets may be kept.
    Empty,
    /// Waiting for the members to join the next generation.
    PreparingRebalance,
    /// The generation is fixed; waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
    /// Deleted. Seen from outside only in the description of a group that does not exist.
    Dead,
}

impl GroupState {
    /// Every state that a group which exists can be in.
    pub const LIVE: [GroupState; 4] = [
        GroupState::Empty,
        GroupState::PreparingRebalance,
        GroupState::CompletingRebalance,
        GroupState::Stable,
    ];

    /// Kafka's name.
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
    /// Empty for a group that only ever had offsets committed.
    pub protocol_type: String,
    pub state: GroupState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    pub group_id: String,
    pub state: GroupState,
    pub protocol_type: String,
    /// The chosen assignor, once the group is stable.
    pub protocol: String,
    pub members: Vec<MemberDescription>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// Metadata and assignment are shown once the group is stable.
    pub metadata: Bytes,
    pub assignment: Bytes,
}
