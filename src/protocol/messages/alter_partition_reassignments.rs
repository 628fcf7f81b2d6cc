//! AlterPartitionReassignments: moves partitions to other replicas (KIP-455).
//!
//! * 1: the client may forbid a change of the replication factor (KIP-860)

use crate::protocol::error_code::ErrorCode;

api!(AlterPartitionReassignments: AlterPartitionReassignmentsRequest => AlterPartitionReassignmentsResponse, versions 0..=1);

messages! {
    AlterPartitionReassignmentsRequest {
        timeout_ms: i32 = 60000;
        allow_replication_factor_change: bool = true, only 1..;
        topics: Vec<ReassignableTopic>;
    }

    ReassignableTopic {
        name: String;
        partitions: Vec<ReassignablePartition>;
    }

    ReassignablePartition {
        partition_index: i32;
        replicas: Option<Vec<i32>>;
    }
}

messages! {
    AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32;
        allow_replication_factor_change: bool = true, in 1..;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
        responses: Vec<ReassignableTopicResponse>;
    }

    ReassignableTopicResponse {
        name: String;
        partitions: Vec<ReassignablePartitionResponse>;
    }

    ReassignablePartitionResponse {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
    }
}
