//! DescribeQuorum: leader and voters of the metadata quorum (KIP-595).
//!
//! * 1: time of the last fetch of each replica (KIP-836)
//! * 2: directory ids, nodes and error messages (KIP-853)

use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;

api!(DescribeQuorum: DescribeQuorumRequest => DescribeQuorumResponse, versions 0..=2);

messages! {
    DescribeQuorumRequest {
        topics: Vec<TopicRequest>;
    }

    TopicRequest {
        topic_name: String;
        partitions: Vec<PartitionRequest>;
    }

    PartitionRequest {
        partition_index: i32;
    }
}

messages! {
    DescribeQuorumResponse {
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new()), in 2..;
        topics: Vec<TopicData>;
        nodes: Vec<Node>, in 2..;
    }

    TopicData {
        topic_name: String;
        partitions: Vec<PartitionData>;
    }

    PartitionData {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new()), in 2..;
        leader_id: i32;
        leader_epoch: i32;
        high_watermark: i64;
        current_voters: Vec<ReplicaState>;
        observers: Vec<ReplicaState>;
    }

    Node {
        node_id: i32, in 2..;
        listeners: Vec<Listener>, in 2..;
    }

    Listener {
        name: String, in 2..;
        host: String, in 2..;
        port: u16, in 2..;
    }

    ReplicaState {
        replica_id: i32;
        replica_directory_id: Uuid, in 2..;
        log_end_offset: i64;
        last_fetch_timestamp: i64 = -1, in 1..;
        last_caught_up_timestamp: i64 = -1, in 1..;
    }
}
