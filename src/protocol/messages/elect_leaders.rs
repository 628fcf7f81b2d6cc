//! ElectLeaders: has partitions elect a leader.
//!
//! * 1: the kind of election (KIP-460); error code for the whole request

use crate::protocol::error_code::ErrorCode;

api!(ElectLeaders: ElectLeadersRequest => ElectLeadersResponse, versions 0..=2);

messages! {
    ElectLeadersRequest {
        election_type: i8, only 1..;
        topic_partitions: Option<Vec<TopicPartitions>> = Some(Vec::new());
        timeout_ms: i32 = 60000;
    }

    TopicPartitions {
        topic: String;
        partitions: Vec<i32>;
    }
}

messages! {
    ElectLeadersResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode, in 1..;
        replica_election_results: Vec<ReplicaElectionResult>;
    }

    ReplicaElectionResult {
        topic: String;
        partition_result: Vec<PartitionResult>;
    }

    PartitionResult {
        partition_id: i32;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
    }
}
