//! CreatePartitions: adds partitions to topics.

use crate::protocol::error_code::ErrorCode;

api!(CreatePartitions: CreatePartitionsRequest => CreatePartitionsResponse, versions 0..=3);

messages! {
    CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic>;
        timeout_ms: i32;
        validate_only: bool;
    }

    CreatePartitionsTopic {
        name: String;
        /// The new total number of partitions, not the number to add.
        count: i32;
        assignments: Option<Vec<CreatePartitionsAssignment>> = Some(Vec::new());
    }

    CreatePartitionsAssignment {
        broker_ids: Vec<i32>;
    }
}

messages! {
    CreatePartitionsResponse {
        throttle_time_ms: i32;
        results: Vec<CreatePartitionsTopicResult>;
    }

    CreatePartitionsTopicResult {
        name: String;
        error_code: ErrorCode;
        error_message: Option<String>;
    }
}
