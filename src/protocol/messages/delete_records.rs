//! DeleteRecords: advances the log start offset of a partition, which deletes the records before it.

use crate::protocol::error_code::ErrorCode;

api!(DeleteRecords: DeleteRecordsRequest => DeleteRecordsResponse, versions 0..=2);

messages! {
    DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic>;
        timeout_ms: i32;
    }

    DeleteRecordsTopic {
        name: String;
        partitions: Vec<DeleteRecordsPartition>;
    }

    DeleteRecordsPartition {
        partition_index: i32;
        /// The new log start offset; −1 for the high watermark.
        offset: i64;
    }
}

messages! {
    DeleteRecordsResponse {
        throttle_time_ms: i32;
        topics: Vec<DeleteRecordsTopicResult>;
    }

    DeleteRecordsTopicResult {
        name: String;
        partitions: Vec<DeleteRecordsPartitionResult>;
    }

    DeleteRecordsPartitionResult {
        partition_index: i32;
        low_watermark: i64;
        error_code: ErrorCode;
    }
}
