//! RemoveRaftVoter: removes a controller from the metadata quorum (KIP-853).

use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;

api!(RemoveRaftVoter: RemoveRaftVoterRequest => RemoveRaftVoterResponse, versions 0..=0);

messages! {
    RemoveRaftVoterRequest {
        cluster_id: Option<String> = Some(String::new());
        voter_id: i32;
        voter_directory_id: Uuid;
    }
}

messages! {
    RemoveRaftVoterResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
    }
}
