//! Why a group operation was refused.

use crate::catalog;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The coordinator cannot answer now; the client should look for it again and retry.
    #[error("the group coordinator is not available")]
    CoordinatorNotAvailable,
    #[error("the group id is empty or otherwise not allowed here")]
    InvalidGroupId,
    #[error("the group does not exist")]
    GroupIdNotFound,
    #[error("the group still has members")]
    NonEmptyGroup,
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    #[error("the group has no room for another member")]
    GroupMaxSizeReached,
    /// The member shall join again under this id (KIP-394).
    #[error("the member must join with the id {member_id:?} that it was given")]
    MemberIdRequired { member_id: String },
    #[error("the group does not know the member")]
    UnknownMemberId,
    /// Another member has taken over the static identity (KIP-345).
    #[error("the group instance id now belongs to another member")]
    FencedInstanceId,
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("the protocol type or protocols do not fit the group's")]
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
