//! A group of any type, and what the protocols have in common.

use super::classic::ClassicGroup;
use super::now::Now;
use super::{GroupDescription, GroupError, GroupListing, GroupState, Groups, MemberIdentity};
use crate::catalog::GroupRow;

/// A group with its protocol.
pub(super) enum Group {
    Classic(ClassicGroup),
}

impl Group {
    /// Returns the group for a request of the classic protocol.
    pub(super) fn as_classic(&mut self) -> &mut ClassicGroup {
        let Self::Classic(group) = self;
        group
    }

    pub(super) fn protocol(&self) -> &dyn Protocol {
        match self {
            Self::Classic(group) => group.protocol(),
        }
    }

    pub(super) fn protocol_mut(&mut self) -> &mut dyn Protocol {
        match self {
            Self::Classic(group) => group.protocol_mut(),
        }
    }

    /// Handles the deadlines that have passed, and carries out the effects of this and of earlier events.
    pub(super) fn settle(&mut self, now: Now, groups: &Groups) {
        match self {
            Self::Classic(group) => group.settle(now, groups),
        }
    }

    /// Fails every waiting request.
    pub(super) fn close(&mut self) {
        match self {
            Self::Classic(group) => group.close(),
        }
    }
}

/// The part of a group's state machine that offsets, retention, deletion, listings, metrics and timers need. These are the
/// same for all groups.
pub(super) trait Protocol {
    fn id(&self) -> &str;

    fn state(&self) -> GroupState;

    /// Returns the generation, which grows with each change of the membership.
    fn generation(&self) -> i32;

    fn member_count(&self) -> usize;

    /// Returns the rebalances completed since the server started.
    fn completed_rebalances(&self) -> u64;

    /// Returns whether the group has no members and expects none to join.
    fn is_abandoned(&self) -> bool;

    /// Returns whether the group was ever stored.
    fn is_stored(&self) -> bool;

    /// Returns the row that restores the group in its current state.
    fn row(&self) -> GroupRow;

    fn listing(&self) -> GroupListing;

    fn describe(&self) -> GroupDescription;

    /// Checks that the member, or a consumer that assigns its partitions itself, may commit now. A member's commit renews
    /// its session like a heartbeat.
    fn begin_commit(&mut self, member: &MemberIdentity, now: Now) -> Result<(), GroupError>;

    /// Checks that offsets of the group may be committed by a transaction, for a member if the producer names one. Unlike a
    /// member's own commit, it may come during a rebalance.
    fn check_transactional_commit(&self, member: &MemberIdentity) -> Result<(), GroupError>;

    /// Fails unless offsets of topics that no member is [subscribed to](Self::is_subscribed_to) may be deleted.
    fn check_offset_deletion(&self) -> Result<(), GroupError>;

    /// Returns whether a consumer in the group subscribes to the topic, or may.
    fn is_subscribed_to(&self, topic: &str) -> bool;

    fn offset_retention(&self) -> OffsetRetention;

    /// Returns the earliest deadline, in monotonic milliseconds, at which the group has work to do.
    fn next_deadline_ms(&self) -> Option<u64>;

    /// Marks the group as deleted. No event may follow.
    fn kill(&mut self, now: Now);
}

/// Time from which the retention of a group's offsets counts, for topics that no member is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OffsetRetention {
    /// No offset expires now.
    Suspended,
    /// From the last commit of each offset.
    SinceCommit,
    /// From the time at which the group became empty, or from the last commit if that is later: a tool may have committed
    /// an offset after the group became empty.
    SinceEmpty(i64),
}
