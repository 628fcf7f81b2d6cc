//! DescribeGroups: state, members and assignments of groups of the classic protocol.
//!
//! * 3: authorized operations
//! * 4: static members (KIP-345)
//! * 6: error message, and GROUP_ID_NOT_FOUND for groups that do not exist

use bytes::Bytes;

use crate::protocol::error_code::ErrorCode;

api!(DescribeGroups: DescribeGroupsRequest => DescribeGroupsResponse, versions 0..=6);

messages! {
    DescribeGroupsRequest {
        groups: Vec<String>;
        include_authorized_operations: bool, only 3..;
    }
}

messages! {
    DescribeGroupsResponse {
        throttle_time_ms: i32, in 1..;
        groups: Vec<DescribedGroup>;
    }

    DescribedGroup {
        error_code: ErrorCode;
        error_message: Option<String>, in 6..;
        group_id: String;
        group_state: String;
        protocol_type: String;
        protocol_data: String;
        members: Vec<DescribedGroupMember>;
        authorized_operations: i32 = i32::MIN, in 3..;
    }

    DescribedGroupMember {
        member_id: String;
        group_instance_id: Option<String>, in 4..;
        client_id: String;
        client_host: String;
        member_metadata: Bytes;
        member_assignment: Bytes;
    }
}
