//! FindCoordinator: the broker that coordinates a group or a transactional id.
//!
//! * 1: key types; error message
//! * 4: several keys in one request

use crate::protocol::error_code::ErrorCode;

api!(FindCoordinator: FindCoordinatorRequest => FindCoordinatorResponse, versions 0..=6);

messages! {
    FindCoordinatorRequest {
        key: String, only ..=3;
        /// 0: group; 1: transactional id; 2: share group.
        key_type: i8, only 1..;
        coordinator_keys: Vec<String>, only 4..;
    }
}

messages! {
    FindCoordinatorResponse {
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode, in ..=3;
        error_message: Option<String> = Some(String::new()), in 1..=3;
        node_id: i32, in ..=3;
        host: String, in ..=3;
        port: i32, in ..=3;
        coordinators: Vec<Coordinator>, in 4..;
    }

    Coordinator {
        key: String;
        node_id: i32;
        host: String;
        port: i32;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
    }
}
