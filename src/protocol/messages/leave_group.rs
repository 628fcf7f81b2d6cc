//! LeaveGroup: removes members from their group before their sessions expire.
//!
//! * 3: several members at once, static ones by instance id (KIP-345)
//! * 5: the members' reasons for leaving

use crate::protocol::error_code::ErrorCode;

api!(LeaveGroup: LeaveGroupRequest => LeaveGroupResponse, versions 0..=5);

messages! {
    LeaveGroupRequest {
        group_id: String;
        member_id: String, only ..=2;
        members: Vec<MemberIdentity>, only 3..;
    }

    MemberIdentity {
        member_id: String;
        group_instance_id: Option<String>;
        reason: Option<String>, in 5..;
    }
}

messages! {
    LeaveGroupResponse {
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode;
        members: Vec<MemberResponse>, in 3..;
    }

    MemberResponse {
        member_id: String;
        group_instance_id: Option<String> = Some(String::new());
        error_code: ErrorCode;
    }
}
