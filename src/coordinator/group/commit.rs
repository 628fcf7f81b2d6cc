//! Requests to commit offsets, independent of protocol versions.

/// Identifies a member in one generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberIdentity {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub generation: i32,
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
