//! Errors of group operations.

use crate::catalog;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The coordinator cannot answer now. The client should find the coordinator again and retry.
    #[error("the group coordinator is not available")]
    CoordinatorNotAvailable,
    #[error("the group id is empty or not allowed here")]
    InvalidGroupId,
    #[error("the group does not exist")]
    GroupIdNotFound,
    #[error("the group still has members")]
    NonEmptyGroup,
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    #[error("the group has reached its maximum size (group_max_size)")]
    GroupMaxSizeReached,
    /// The member must join again with this id (KIP-394).
    #[error("the member must join again with its assigned id {member_id:?}")]
    MemberIdRequired { member_id: String },
    #[error("the member is not in the group")]
    UnknownMemberId,
    /// Another member has taken over the group instance id (KIP-345).
    #[error("the group instance id is in use by another member")]
    FencedInstanceId,
    #[error("the generation is not the group's current generation")]
    IllegalGeneration,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("the protocol type or protocols do not match the group's")]
    InconsistentGroupProtocol,
    #[error("the session timeout is outside the allowed range")]
    InvalidSessionTimeout,
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    #[error("the offset's metadata is too large")]
    OffsetMetadataTooLarge,
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
}
