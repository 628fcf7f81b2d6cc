//! One member of a group.

use bytes::Bytes;

use super::request::{JoinGroup, JoinedMember};
use super::state::Ticket;
use crate::catalog::MemberRow;
use crate::coordinator::group::MemberDescription;
use crate::coordinator::group::now::Now;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) group_instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    /// Assignors with their metadata, in the member's order of preference.
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    pub(super) waiting_join: Option<Ticket>,
    pub(super) waiting_sync: Option<Ticket>,
    /// True until the member's first generation is complete. A new member can expire even while its join is waiting: nothing
    /// has shown yet that its client is still alive.
    pub(super) is_new: bool,
    /// Monotonic time at which the session expires. `None` while a waiting request takes the place of heartbeats.
    pub(super) expires_at_ms: Option<u64>,
}

impl Member {
    pub(super) fn new(id: String, join: JoinGroup) -> Self {
        Self {
            id,
            group_instance_id: join.group_instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols,
            assignment: Bytes::new(),
            waiting_join: None,
            waiting_sync: None,
            is_new: true,
            expires_at_ms: None,
        }
    }

    /// Restores a stored member. Only its metadata for the selected protocol was stored.
    pub(super) fn restore(row: MemberRow, protocol: &str, now: Now) -> Self {
        let mut member = Self {
            id: row.member_id,
            group_instance_id: row.group_instance_id,
            client_id: row.client_id,
            client_host: row.client_host,
            session_timeout_ms: row.session_timeout_ms,
            rebalance_timeout_ms: row.rebalance_timeout_ms,
            protocols: vec![(protocol.to_owned(), row.subscription)],
            assignment: row.assignment,
            waiting_join: None,
            waiting_sync: None,
            is_new: false,
            expires_at_ms: None,
        };
        member.renew_session(now);
        member
    }

    pub(super) fn is_static(&self) -> bool {
        self.group_instance_id.is_some()
    }

    pub(super) fn renew_session(&mut self, now: Now) {
        self.expire_after(now, self.session_timeout_ms);
    }

    pub(super) fn expire_after(&mut self, now: Now, timeout_ms: i32) {
        self.expires_at_ms = Some(now.after(timeout_ms));
    }

    /// Returns whether a request of the member is waiting for its answer, which takes the place of heartbeats.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting_join.is_some() || self.waiting_sync.is_some()
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(super) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| Some(name.as_str()) == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    pub(super) fn as_joined(&self, protocol: Option<&str>) -> JoinedMember {
        JoinedMember {
            member_id: self.id.clone(),
            group_instance_id: self.group_instance_id.clone(),
            metadata: self.metadata(protocol),
        }
    }

    pub(super) fn as_row(&self, protocol: Option<&str>, assignment: Bytes) -> MemberRow {
        MemberRow {
            member_id: self.id.clone(),
            group_instance_id: self.group_instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }

    /// Describes the member. Metadata and assignment are shown only if `protocol` is given, which is when the group is
    /// stable.
    pub(super) fn describe(&self, protocol: Option<&str>) -> MemberDescription {
        MemberDescription {
            member_id: self.id.clone(),
            group_instance_id: self.group_instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: self.metadata(protocol),
            assignment: match protocol {
                Some(_) => self.assignment.clone(),
                None => Bytes::new(),
            },
        }
    }
}
