//! Metadata: brokers, topics and partition leaders.
//!
//! * 1: null requests all topics, an empty list none (in version 0 an empty list requests all)
//! * 4: flag that allows missing topics to be created
//! * 8: authorized operations
//! * 10: topic ids
//! * 12: topics by id
//! * 13: error code for the whole request

use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;

api!(Metadata: MetadataRequest => MetadataResponse, versions 0..=13);

messages! {
    MetadataRequest {
        /// Null: all topics (from version 1).
        topics: Option<Vec<MetadataRequestTopic>> = Some(Vec::new()), null 1..;
        allow_auto_topic_creation: bool = true, only 4..;
        include_cluster_authorized_operations: bool, only 8..=10;
        include_topic_authorized_operations: bool, only 8..;
    }

    MetadataRequestTopic {
        topic_id: Uuid, in 10..;
        name: Option<String> = Some(String::new()), null 10..;
    }
}

messages! {
    MetadataResponse {
        throttle_time_ms: i32, in 3..;
        brokers: Vec<MetadataResponseBroker>;
        cluster_id: Option<String>, in 2..;
        controller_id: i32 = -1, in 1..;
        topics: Vec<MetadataResponseTopic>;
        cluster_authorized_operations: i32 = i32::MIN, in 8..=10;
        error_code: ErrorCode, in 13..;
    }

    MetadataResponseBroker {
        node_id: i32;
        host: String;
        port: i32;
        rack: Option<String>, in 1..;
    }

    MetadataResponseTopic {
        error_code: ErrorCode;
        name: Option<String> = Some(String::new()), null 12..;
        topic_id: Uuid, in 10..;
        is_internal: bool, in 1..;
        partitions: Vec<MetadataResponsePartition>;
        /// One bit per operation; `i32::MIN` if not requested.
        topic_authorized_operations: i32 = i32::MIN, in 8..;
    }

    MetadataResponsePartition {
        error_code: ErrorCode;
        partition_index: i32;
        leader_id: i32;
        leader_epoch: i32 = -1, in 7..;
        replica_nodes: Vec<i32>;
        isr_nodes: Vec<i32>;
        offline_replicas: Vec<i32>, in 5..;
    }
}
