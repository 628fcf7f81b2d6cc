//! Consumer groups: lookup of the coordinator (FindCoordinator), membership (JoinGroup, SyncGroup, Heartbeat, LeaveGroup),
//! and administration (ListGroups, DescribeGroups, DeleteGroups).
//!
//! The coordinator returns types of its own; the handlers convert them to the versions of the wire.

use bytes::Bytes;

use super::audit::Name;
use super::refusal::{Refusal, error_fields};
use super::repetition::{answer_each, once_each};
use super::{Call, error, operations};
use crate::broker::{NODE_ID, Operation, Resource};
use crate::coordinator::group::{
    GroupDescription, GroupError, GroupState, JoinGroup, JoinedGroup, LeavingMember,
    MemberIdentity, SyncGroup,
};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use crate::protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use crate::protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use crate::protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
};
use crate::protocol::messages::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberResponse,
};
use crate::protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use crate::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};

/// The first version of FindCoordinator with several keys.
const FIND_COORDINATOR_BATCHED_FROM: i16 = 4;
/// The first version of JoinGroup in which a new dynamic member has to rejoin with the id it is given (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// The first version of JoinGroup whose response may have a null protocol name.
const NULL_PROTOCOL_FROM: i16 = 7;
/// The first version of JoinGroup that can ask the leader to skip the assignment (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;
/// The first version of JoinGroup with a rebalance timeout of its own.
const REBALANCE_TIMEOUT_FROM: i16 = 1;
/// The first version of SyncGroup that names the protocol that the member believes was chosen.
const SYNC_NAMES_PROTOCOL_FROM: i16 = 5;
/// The first version of LeaveGroup with several members, each with a result of its own.
const LEAVE_BATCHED_FROM: i16 = 3;
/// The first version of DescribeGroups with an error for a group that does not exist; before, its state is Dead.
const DESCRIBE_NOT_FOUND_FROM: i16 = 6;

/// Kafka's message for success.
const NO_ERROR: &str = "NONE";

const KEY_TYPE_GROUP: i8 = 0;
const KEY_TYPE_TRANSACTION: i8 = 1;

pub(super) async fn find_coordinator(
    call: Call,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let find = |key: String| match request.key_type {
        KEY_TYPE_GROUP => match call.authorize(Operation::Describe, Resource::Group(&key)) {
            Ok(()) => this_node(&call, key),
            Err(code) => no_coordinator(key, Refusal::denied(code)),
        },
        KEY_TYPE_TRANSACTION => {
            let id = Resource::TransactionalId(&key);
            match call.authorize(Operation::Describe, id) {
                Ok(()) => this_node(&call, key),
                Err(code) => no_coordinator(key, Refusal::denied(code)),
            }
        }
        _ => {
            let reason = "unsupported coordinator key type";
            no_coordinator(key, Refusal::new(ErrorCode::INVALID_REQUEST, reason))
        }
    };
    if call.version >= FIND_COORDINATOR_BATCHED_FROM {
        let size = |found: &Coordinator| {
            let message = found.error_message.as_ref().map_or(0, String::len);
            size_of::<Coordinator>() + found.key.len() + found.host.len() + message
        };
        return FindCoordinatorResponse {
            coordinators: answer_each(
                request.coordinator_keys,
                String::clone,
                |key| find(key.clone()),
                size,
                |key| no_coordinator(key, Refusal::new(ErrorCode::INVALID_REQUEST, "")),
            ),
            ..FindCoordinatorResponse::default()
        };
    }
    let found = find(request.key);
    let error_message = match found.error_code {
        // As in Kafka, since clients test for it. From version 4 on Kafka leaves the message of a success empty.
        ErrorCode::NONE => Some(NO_ERROR.to_owned()),
        _ => found.error_message,
    };
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..FindCoordinatorResponse::default()
    }
}

fn this_node(call: &Call, key: String) -> Coordinator {
    let (host, port) = call.advertised();
    Coordinator {
        key,
        node_id: NODE_ID,
        host,
        port: i32::from(port),
        ..Coordinator::default()
    }
}

fn no_coordinator(key: String, refusal: Refusal) -> Coordinator {
    Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code: refusal.code,
        error_message: Some(refusal.message),
        ..Coordinator::default()
    }
}

pub(super) async fn join(mut call: Call, request: JoinGroupRequest) -> JoinGroupResponse {
    if let Err(code) = call.authorize(Operation::Read, Resource::Group(&request.group_id)) {
        return not_joined(&call, code, String::new());
    }
    let asked_id = request.member_id.clone();
    let join = JoinGroup {
        group_id: request.group_id,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        client_id: call.client_id.take().unwrap_or_default(),
        client_host: format!("/{}", call.peer.ip().to_canonical()),
        session_timeout_ms: request.session_timeout_ms,
        // Version 0 has one timeout for both.
        rebalance_timeout_ms: if call.version >= REBALANCE_TIMEOUT_FROM {
            request.rebalance_timeout_ms
        } else {
            request.session_timeout_ms
        },
        protocol_type: request.protocol_type,
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| (protocol.name, detached(&protocol.metadata)))
            .collect(),
        requires_member_id: call.version >= MEMBER_ID_REQUIRED_FROM,
        supports_skipping_assignment: call.version >= SKIP_ASSIGNMENT_FROM,
        reason: request.reason,
    };
    match call.broker.groups.join(join).await {
        Ok(joined) => joined_response(joined),
        Err(refusal) => {
            let code = error::of_group(&refusal);
            let member_id = match refusal {
                GroupError::MemberIdRequired { member_id } => member_id,
                _ => asked_id,
            };
            not_joined(&call, code, member_id)
        }
    }
}

fn not_joined(call: &Call, error_code: ErrorCode, member_id: String) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code,
        protocol_name: (call.version < NULL_PROTOCOL_FROM).then(String::new),
        member_id,
        ..JoinGroupResponse::default()
    }
}

fn joined_response(joined: JoinedGroup) -> JoinGroupResponse {
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: joined.protocol_type,
        protocol_name: Some(joined.protocol_name.unwrap_or_default()),
        leader: joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id,
        members: joined
            .members
            .into_iter()
            .map(|member| JoinGroupResponseMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                metadata: member.metadata,
            })
            .collect(),
        ..JoinGroupResponse::default()
    }
}

pub(super) async fn sync(call: Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let refuse = |error_code| SyncGroupResponse {
        error_code,
        ..SyncGroupResponse::default()
    };
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if call.version >= SYNC_NAMES_PROTOCOL_FROM && !names_protocol {
        return refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    if let Err(code) = call.authorize(Operation::Read, Resource::Group(&request.group_id)) {
        return refuse(code);
    }
    let sync = SyncGroup {
        group_id: request.group_id,
        member: MemberIdentity {
            member_id: request.member_id,
            group_instance_id: request.group_instance_id,
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type,
        protocol_name: request.protocol_name,
        assignments: request
            .assignments
            .into_iter()
            .map(|each| (each.member_id, detached(&each.assignment)))
            .collect(),
    };
    match call.broker.groups.sync(sync).await {
        Ok(synced) => SyncGroupResponse {
            protocol_type: synced.protocol_type,
            protocol_name: synced.protocol_name,
            assignment: synced.assignment,
            ..SyncGroupResponse::default()
        },
        Err(refusal) => refuse(error::of_group(&refusal)),
    }
}

pub(super) async fn heartbeat(call: Call, request: HeartbeatRequest) -> HeartbeatResponse {
    HeartbeatResponse {
        error_code: beat(&call, request),
        ..HeartbeatResponse::default()
    }
}

fn beat(call: &Call, request: HeartbeatRequest) -> ErrorCode {
    if let Err(code) = call.authorize(Operation::Read, Resource::Group(&request.group_id)) {
        return code;
    }
    let member = MemberIdentity {
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        generation: request.generation_id,
    };
    error::of_group_result(&call.broker.groups.heartbeat(&request.group_id, &member))
}

pub(super) async fn leave(call: Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let of_all = |error_code| LeaveGroupResponse {
        error_code,
        ..LeaveGroupResponse::default()
    };
    if let Err(code) = call.authorize(Operation::Read, Resource::Group(&request.group_id)) {
        return of_all(code);
    }
    let leaving: Vec<_> = if call.version >= LEAVE_BATCHED_FROM {
        request
            .members
            .into_iter()
            .map(|member| LeavingMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                reason: member.reason,
            })
            .collect()
    } else {
        vec![LeavingMember {
            member_id: request.member_id,
            group_instance_id: None,
            reason: None,
        }]
    };
    let answers = match call.broker.groups.leave(&request.group_id, &leaving) {
        Ok(answers) => answers,
        // A group that does not exist has none of the members.
        Err(GroupError::UnknownMemberId) => vec![Err(GroupError::UnknownMemberId); leaving.len()],
        Err(refusal) => return of_all(error::of_group(&refusal)),
    };
    audit_removal(&call, &request.group_id, &leaving, &answers);
    if call.version < LEAVE_BATCHED_FROM {
        let answer = answers.first();
        return of_all(answer.map_or(ErrorCode::NONE, error::of_group_result));
    }
    LeaveGroupResponse {
        members: leaving
            .into_iter()
            .zip(&answers)
            .map(|(member, answer)| MemberResponse {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error_code: error::of_group_result(answer),
            })
            .collect(),
        ..LeaveGroupResponse::default()
    }
}

/// Writes removed static members to the audit log. A member that leaves gives its own id; an operator who removes a static
/// member gives only the instance id.
fn audit_removal(
    call: &Call,
    group_id: &str,
    leaving: &[LeavingMember],
    answers: &[Result<(), GroupError>],
) {
    let mut removed = leaving
        .iter()
        .zip(answers)
        .filter(|(member, answer)| member.member_id.is_empty() && answer.is_ok())
        .filter_map(|(member, _)| member.group_instance_id.as_deref())
        .peekable();
    if removed.peek().is_some() {
        let mut audit = call.audit("members removed").of_group(group_id);
        removed.for_each(|instance| audit.list(Name(instance)));
    }
}

pub(super) async fn list(call: Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let wanted = |filter: &[String], value: &str| {
        filter.is_empty() || filter.iter().any(|each| each.eq_ignore_ascii_case(value))
    };
    let groups = call.broker.groups.list();
    let all = call.allows(Operation::Describe, Resource::Cluster);
    let may_see = |group: &str| all || call.allows(Operation::Describe, Resource::Group(group));
    ListGroupsResponse {
        groups: groups
            .into_iter()
            .filter(|group| may_see(&group.group_id))
            .filter(|group| wanted(&request.states_filter, group.state.name()))
            .filter(|group| wanted(&request.types_filter, group.group_type.name()))
            .map(|group| ListedGroup {
                group_id: group.group_id,
                protocol_type: group.protocol_type,
                group_state: group.state.name().to_owned(),
                group_type: group.group_type.name().to_owned(),
            })
            .collect(),
        ..ListGroupsResponse::default()
    }
}

pub(super) async fn describe(call: Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let describe = |group_id: &String| {
        let resource = Resource::Group(group_id);
        if let Err(error_code) = call.authorize(Operation::Describe, resource) {
            return refused(group_id.clone(), error_code);
        }
        DescribedGroup {
            authorized_operations: match request.include_authorized_operations {
                true => call.operations(resource),
                false => operations::NOT_REQUESTED,
            },
            ..match call.broker.groups.describe(group_id) {
                Some(group) => described(group),
                None => not_found(group_id.clone(), call.version),
            }
        }
    };
    DescribeGroupsResponse {
        groups: answer_each(
            request.groups,
            String::clone,
            describe,
            size_of_description,
            |group_id| refused(group_id, ErrorCode::INVALID_REQUEST),
        ),
        ..DescribeGroupsResponse::default()
    }
}

fn refused(group_id: String, error_code: ErrorCode) -> DescribedGroup {
    DescribedGroup {
        error_code,
        group_id,
        ..DescribedGroup::default()
    }
}

fn described(group: GroupDescription) -> DescribedGroup {
    DescribedGroup {
        group_id: group.group_id,
        group_state: group.state.name().to_owned(),
        protocol_type: group.protocol_type,
        protocol_data: group.protocol,
        members: group
            .members
            .into_iter()
            .map(|member| DescribedGroupMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                member_metadata: member.metadata,
                member_assignment: member.assignment,
            })
            .collect(),
        ..DescribedGroup::default()
    }
}

fn size_of_description(group: &DescribedGroup) -> usize {
    let members = group.members.iter().map(|member| {
        size_of::<DescribedGroupMember>()
            + member.member_id.len()
            + member.group_instance_id.as_ref().map_or(0, String::len)
            + member.client_id.len()
            + member.client_host.len()
            + member.member_metadata.len()
            + member.member_assignment.len()
    });
    size_of::<DescribedGroup>()
        + group.group_id.len()
        + group.error_message.as_ref().map_or(0, String::len)
        + members.sum::<usize>()
}

fn not_found(group_id: String, version: i16) -> DescribedGroup {
    let (error_code, error_message) =
        error_fields((version >= DESCRIBE_NOT_FOUND_FROM).then(|| {
            let code = error::of_group(&GroupError::GroupIdNotFound);
            Refusal::new(code, format!("group {group_id:?} does not exist"))
        }));
    DescribedGroup {
        error_code,
        error_message,
        group_id,
        group_state: GroupState::Dead.name().to_owned(),
        ..DescribedGroup::default()
    }
}

pub(super) async fn delete(call: Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::new();
    let mut audit = call.audit("groups deleted");
    // As in Kafka, one result for each name.
    for group_id in once_each(request.groups_names, String::clone) {
        let error_code = match call.authorize(Operation::Delete, Resource::Group(&group_id)) {
            Ok(()) => {
                let deletion = call.broker.groups.delete_group(&group_id);
                let deleted = audit.attempt(Name(&group_id), deletion).await;
                error::of_group_result(&deleted)
            }
            Err(code) => code,
        };
        results.push(DeletableGroupResult {
            error_code,
            group_id,
            error_message: None,
        });
    }
    DeleteGroupsResponse {
        results,
        ..DeleteGroupsResponse::default()
    }
}

/// Copies bytes that are kept for long, so that they do not keep the whole request in memory.
fn detached(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
