//! ListOffsets: the offset of a partition at a timestamp, or at one of the special positions below.
//!
//! * 2: isolation level
//! * 4: leader epochs
//! * 7: the record with the largest timestamp
//! * 8: the local log start offset
//! * 9: the end of the records moved to remote storage
//! * 10: timeout for look-ups in remote storage
//! * 11: the first record that is not yet in remote storage

use crate::protocol::error_code::ErrorCode;

/// `timestamp`: the end of the partition, or the last stable offset for a read-committed consumer.
pub const LATEST_TIMESTAMP: i64 = -1;
/// `timestamp`: the log start offset.
pub const EARLIEST_TIMESTAMP: i64 = -2;
/// `timestamp`: the record with the largest timestamp (version 7).
pub const MAX_TIMESTAMP: i64 = -3;
/// `timestamp`: the first offset on local disk (version 8).
pub const EARLIEST_LOCAL_TIMESTAMP: i64 = -4;
/// `timestamp`: the last offset moved to remote storage (version 9).
pub const LATEST_TIERED_TIMESTAMP: i64 = -5;
/// `timestamp`: the first offset that is still to be moved to remote storage (version 11).
pub const EARLIEST_PENDING_UPLOAD_TIMESTAMP: i64 = -6;

api!(ListOffsets: ListOffsetsRequest => ListOffsetsResponse, versions 1..=11);

messages! {
    ListOffsetsRequest {
        replica_id: i32;
        isolation_level: i8, only 2..;
        topics: Vec<ListOffsetsTopic>;
        timeout_ms: i32, in 10..;
    }

    ListOffsetsTopic {
        name: String;
        partitions: Vec<ListOffsetsPartition>;
    }

    ListOffsetsPartition {
        partition_index: i32;
        current_leader_epoch: i32 = -1, in 4..;
        /// Milliseconds, or one of the special positions of this module.
        timestamp: i64;
    }
}

messages! {
    ListOffsetsResponse {
        throttle_time_ms: i32, in 2..;
        topics: Vec<ListOffsetsTopicResponse>;
    }

    ListOffsetsTopicResponse {
        name: String;
        partitions: Vec<ListOffsetsPartitionResponse>;
    }

    ListOffsetsPartitionResponse {
        partition_index: i32;
        error_code: ErrorCode;
        timestamp: i64 = -1;
        offset: i64 = -1;
        leader_epoch: i32 = -1, in 4..;
    }
}
