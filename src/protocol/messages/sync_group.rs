//! SyncGroup: the group's leader submits the assignments, and every member receives its own.
//!
//! * 3: static members (KIP-345)
//! * 5: the protocol type and name that the member expects, to be checked

use bytes::Bytes;

use crate::protocol::error_code::ErrorCode;

api!(SyncGroup: SyncGroupRequest => SyncGroupResponse, versions 0..=5);

messages! {
    SyncGroupRequest {
        group_id: String;
        generation_id: i32;
        member_id: String;
        group_instance_id: Option<String>, only 3..;
        protocol_type: Option<String>, in 5..;
        protocol_name: Option<String>, in 5..;
        assignments: Vec<SyncGroupRequestAssignment>;
    }

    SyncGroupRequestAssignment {
        member_id: String;
        assignment: Bytes;
    }
}

messages! {
    SyncGroupResponse {
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode;
        protocol_type: Option<String>, in 5..;
        protocol_name: Option<String>, in 5..;
        assignment: Bytes;
    }
}
