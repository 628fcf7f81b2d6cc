//! JoinGroup: joins a consumer group, or rejoins it for the next generation.
//!
//! * 1: rebalance timeout
//! * 4: the first join without a member id is answered with MEMBER_ID_REQUIRED and an id (KIP-394)
//! * 5: static members (KIP-345)
//! * 7: protocol type in the response
//! * 8: the member's reason for joining
//! * 9: the response may tell the leader to keep the assignment (KIP-814)

use bytes::Bytes;

use crate::protocol::error_code::ErrorCode;

api!(JoinGroup: JoinGroupRequest => JoinGroupResponse, versions 0..=9);

messages! {
    JoinGroupRequest {
        group_id: String;
        session_timeout_ms: i32;
        rebalance_timeout_ms: i32 = -1, in 1..;
        member_id: String;
        group_instance_id: Option<String>, only 5..;
        protocol_type: String;
        protocols: Vec<JoinGroupRequestProtocol>;
        reason: Option<String>, in 8..;
    }

    JoinGroupRequestProtocol {
        name: String;
        metadata: Bytes;
    }
}

messages! {
    JoinGroupResponse {
        throttle_time_ms: i32, in 2..;
        error_code: ErrorCode;
        generation_id: i32 = -1;
        protocol_type: Option<String>, in 7..;
        protocol_name: Option<String> = Some(String::new()), null 7..;
        leader: String;
        skip_assignment: bool, in 9..;
        member_id: String;
        members: Vec<JoinGroupResponseMember>;
    }

    JoinGroupResponseMember {
        member_id: String;
        group_instance_id: Option<String>, in 5..;
        metadata: Bytes;
    }
}
