//! Heartbeat: renews a member's session; the response tells it of rebalances.
//!
//! * 3: static members (KIP-345)

use crate::protocol::error_code::ErrorCode;

api!(Heartbeat: HeartbeatRequest => HeartbeatResponse, versions 0..=4);

messages! {
    HeartbeatRequest {
        group_id: String;
        generation_id: i32;
        member_id: String;
        group_instance_id: Option<String>, only 3..;
    }
}

messages! {
    HeartbeatResponse {
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode;
    }
}
