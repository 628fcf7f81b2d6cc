//! AlterReplicaLogDirs: moves partitions to another data directory of the broker (KIP-113).

use crate::protocol::error_code::ErrorCode;

api!(AlterReplicaLogDirs: AlterReplicaLogDirsRequest => AlterReplicaLogDirsResponse, versions 1..=2);

messages! {
    AlterReplicaLogDirsRequest {
        dirs: Vec<AlterReplicaLogDir>;
    }

    AlterReplicaLogDir {
        path: String;
        topics: Vec<AlterReplicaLogDirTopic>;
    }

    AlterReplicaLogDirTopic {
        name: String;
        partitions: Vec<i32>;
    }
}

messages! {
    AlterReplicaLogDirsResponse {
        throttle_time_ms: i32;
        results: Vec<AlterReplicaLogDirTopicResult>;
    }

    AlterReplicaLogDirTopicResult {
        topic_name: String;
        partitions: Vec<AlterReplicaLogDirPartitionResult>;
    }

    AlterReplicaLogDirPartitionResult {
        partition_index: i32;
        error_code: ErrorCode;
    }
}
