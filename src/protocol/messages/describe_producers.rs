//! DescribeProducers: lists the producers that write to a partition, with their open transactions.

use crate::protocol::error_code::ErrorCode;

api!(DescribeProducers: DescribeProducersRequest => DescribeProducersResponse, versions 0..=0);

messages! {
    DescribeProducersRequest {
        topics: Vec<TopicRequest>;
    }

    TopicRequest {
        name: String;
        partition_indexes: Vec<i32>;
    }
}

messages! {
    DescribeProducersResponse {
        throttle_time_ms: i32;
        topics: Vec<TopicResponse>;
    }

    TopicResponse {
        name: String;
        partitions: Vec<PartitionResponse>;
    }

    PartitionResponse {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<String> = None;
        active_producers: Vec<ProducerState>;
    }

    ProducerState {
        producer_id: i64;
        /// Not 16 bits, as elsewhere.
        producer_epoch: i32;
        last_sequence: i32 = -1;
        last_timestamp: i64 = -1;
        /// Epoch of the transaction coordinator that wrote the last marker.
        coordinator_epoch: i32;
        /// First offset of the open transaction; −1 if there is none.
        current_txn_start_offset: i64 = -1;
    }
}
