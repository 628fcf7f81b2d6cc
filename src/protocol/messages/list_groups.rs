//! ListGroups: the groups a broker coordinates.
//!
//! * 4: filtered by state (KIP-518)
//! * 5: filtered by type (KIP-848)

use crate::protocol::error_code::ErrorCode;

api!(ListGroups: ListGroupsRequest => ListGroupsResponse, versions 0..=5);

messages! {
    ListGroupsRequest {
        states_filter: Vec<String>, only 4..;
        types_filter: Vec<String>, only 5..;
    }
}

messages! {
    ListGroupsResponse {
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode;
        groups: Vec<ListedGroup>;
    }

    ListedGroup {
        group_id: String;
        protocol_type: String;
        group_state: String, in 4..;
        group_type: String, in 5..;
    }
}
