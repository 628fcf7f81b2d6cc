//! DeleteGroups: deletes groups without members, together with their committed offsets.
//!
//! * 3: error messages

use crate::protocol::error_code::ErrorCode;

api!(DeleteGroups: DeleteGroupsRequest => DeleteGroupsResponse, versions 0..=3);

messages! {
    DeleteGroupsRequest {
        groups_names: Vec<String>;
    }
}

messages! {
    DeleteGroupsResponse {
        throttle_time_ms: i32;
        results: Vec<DeletableGroupResult>;
    }

    DeletableGroupResult {
        group_id: String;
        error_code: ErrorCode;
        error_message: Option<String>, in 3..;
    }
}
