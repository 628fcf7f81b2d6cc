//! DescribeLogDirs: the data directories and the size of each partition in them.
//!
//! * 3: error code for the whole request
//! * 4: size of the disk (KIP-827)
//! * 5: cordoned directories

use crate::protocol::error_code::ErrorCode;

api!(DescribeLogDirs: DescribeLogDirsRequest => DescribeLogDirsResponse, versions 1..=5);

messages! {
    DescribeLogDirsRequest {
        topics: Option<Vec<DescribableLogDirTopic>> = Some(Vec::new());
    }

    DescribableLogDirTopic {
        topic: String;
        partitions: Vec<i32>;
    }
}

messages! {
    DescribeLogDirsResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode, in 3..;
        results: Vec<DescribeLogDirsResult>;
    }

    DescribeLogDirsResult {
        error_code: ErrorCode;
        log_dir: String;
        topics: Vec<DescribeLogDirsTopic>;
        total_bytes: i64 = -1, in 4..;
        usable_bytes: i64 = -1, in 4..;
        is_cordoned: bool, in 5..;
    }

    DescribeLogDirsTopic {
        name: String;
        partitions: Vec<DescribeLogDirsPartition>;
    }

    DescribeLogDirsPartition {
        partition_index: i32;
        partition_size: i64;
        offset_lag: i64;
        is_future_key: bool;
    }
}
