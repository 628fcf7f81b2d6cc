//! Produce: appends record batches. Has no response if `acks` is 0.
//!
//! * 3: transactional id, and only batches of format v2
//! * 5: log start offset
//! * 8: errors of single records; error message
//! * 10: the current leader, on errors that say it has moved (KIP-951)
//! * 12: a producer may omit AddPartitionsToTxn (KIP-890)
//! * 13: topics by id instead of name (KIP-516)

use bytes::Bytes;
use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;

api!(Produce: ProduceRequest => ProduceResponse, versions 3..=13);

messages! {
    ProduceRequest {
        transactional_id: Option<String>;
        /// 0: no response; 1: written by the leader; −1: the strongest durability that the cluster provides.
        acks: i16;
        timeout_ms: i32;
        topic_data: Vec<TopicProduceData>;
    }

    TopicProduceData {
        name: String, in ..=12;
        topic_id: Uuid, in 13..;
        partition_data: Vec<PartitionProduceData>;
    }

    PartitionProduceData {
        index: i32;
        /// Whole batches, a slice of the frame.
        records: Option<Bytes> = Some(Bytes::new());
    }
}

messages! {
    ProduceResponse {
        responses: Vec<TopicProduceResponse>;
        throttle_time_ms: i32;
        node_endpoints: Vec<NodeEndpoint>, in 10.., tag 0;
    }

    TopicProduceResponse {
        name: String, in ..=12;
        topic_id: Uuid, in 13..;
        partition_responses: Vec<PartitionProduceResponse>;
    }

    PartitionProduceResponse {
        index: i32;
        error_code: ErrorCode;
        base_offset: i64;
        /// −1 unless the topic uses log append time.
        log_append_time_ms: i64 = -1;
        log_start_offset: i64 = -1, in 5..;
        record_errors: Vec<BatchIndexAndErrorMessage>, in 8..;
        error_message: Option<String>, in 8..;
        current_leader: LeaderIdAndEpoch, in 10.., tag 0;
    }

    BatchIndexAndErrorMessage {
        batch_index: i32;
        batch_index_error_message: Option<String>;
    }

    LeaderIdAndEpoch {
        leader_id: i32 = -1;
        leader_epoch: i32 = -1;
    }

    NodeEndpoint {
        node_id: i32;
        host: String;
        port: i32;
        rack: Option<String>;
    }
}
