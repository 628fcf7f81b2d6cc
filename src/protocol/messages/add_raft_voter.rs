//! AddRaftVoter: adds a controller to the metadata quorum (KIP-853).
//!
//! * 1: when to acknowledge

use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;

api!(AddRaftVoter: AddRaftVoterRequest => AddRaftVoterResponse, versions 0..=1);

messages! {
    AddRaftVoterRequest {
        cluster_id: Option<String> = Some(String::new());
        timeout_ms: i32;
        voter_id: i32;
        voter_directory_id: Uuid;
        listeners: Vec<Listener>;
        ack_when_committed: bool = true, only 1..;
    }

    Listener {
        name: String;
        host: String;
        port: u16;
    }
}

messages! {
    AddRaftVoterResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
    }
}
