//! Requests of the classic protocol and their answers, independent of versions.

use bytes::Bytes;

use crate::coordinator::group::MemberIdentity;

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
