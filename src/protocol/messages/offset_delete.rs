//! OffsetDelete: deletes a group's committed offsets of some partitions (KIP-496). Has no flexible version.

use crate::protocol::error_code::ErrorCode;

api!(OffsetDelete: OffsetDeleteRequest => OffsetDeleteResponse, versions 0..=0);

messages! {
    OffsetDeleteRequest {
        group_id: String;
        topics: Vec<OffsetDeleteRequestTopic>;
    }

    OffsetDeleteRequestTopic {
        name: String;
        partitions: Vec<OffsetDeleteRequestPartition>;
    }

    OffsetDeleteRequestPartition {
        partition_index: i32;
    }
}

messages! {
    OffsetDeleteResponse {
        error_code: ErrorCode;
        throttle_time_ms: i32;
        topics: Vec<OffsetDeleteResponseTopic>;
    }

    OffsetDeleteResponseTopic {
        name: String;
        partitions: Vec<OffsetDeleteResponsePartition>;
    }

    OffsetDeleteResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
    }
}
