//! CreateTopics.
//!
//! * 4: −1 for the broker's default partition count and replication factor
//! * 5: the response has the topic's effective settings
//! * 7: topic ids

use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;

api!(CreateTopics: CreateTopicsRequest => CreateTopicsResponse, versions 2..=7);

messages! {
    CreateTopicsRequest {
        topics: Vec<CreatableTopic>;
        timeout_ms: i32 = 60000;
        validate_only: bool;
    }

    CreatableTopic {
        name: String;
        /// −1: the broker's default, or the number of manual assignments.
        num_partitions: i32;
        replication_factor: i16;
        assignments: Vec<CreatableReplicaAssignment>;
        configs: Vec<CreatableTopicConfig>;
    }

    CreatableReplicaAssignment {
        partition_index: i32;
        broker_ids: Vec<i32>;
    }

    CreatableTopicConfig {
        name: String;
        value: Option<String> = Some(String::new());
    }
}

messages! {
    CreateTopicsResponse {
        throttle_time_ms: i32;
        topics: Vec<CreatableTopicResult>;
    }

    CreatableTopicResult {
        name: String;
        topic_id: Uuid, in 7..;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
        topic_config_error_code: i16, in 5.., tag 0;
        num_partitions: i32 = -1, in 5..;
        replication_factor: i16 = -1, in 5..;
        configs: Option<Vec<CreatableTopicConfigs>> = Some(Vec::new()), in 5..;
    }

    CreatableTopicConfigs {
        name: String;
        value: Option<String> = Some(String::new());
        read_only: bool;
        config_source: i8 = -1;
        is_sensitive: bool;
    }
}
