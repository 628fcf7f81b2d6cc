//! ListPartitionReassignments: the reassignments in progress (KIP-455).

use crate::protocol::error_code::ErrorCode;

api!(ListPartitionReassignments: ListPartitionReassignmentsRequest => ListPartitionReassignmentsResponse, versions 0..=0);

messages! {
    ListPartitionReassignmentsRequest {
        timeout_ms: i32 = 60000;
        topics: Option<Vec<ListPartitionReassignmentsTopics>>;
    }

    ListPartitionReassignmentsTopics {
        name: String;
        partition_indexes: Vec<i32>;
    }
}

messages! {
    ListPartitionReassignmentsResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
        topics: Vec<OngoingTopicReassignment>;
    }

    OngoingTopicReassignment {
        name: String;
        partitions: Vec<OngoingPartitionReassignment>;
    }

    OngoingPartitionReassignment {
        partition_index: i32;
        replicas: Vec<i32>;
        adding_replicas: Vec<i32>;
        removing_replicas: Vec<i32>;
    }
}
