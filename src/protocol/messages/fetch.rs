//! Fetch: reads record batches, waiting for them if necessary.
//!
//! * 5: log start offset
//! * 7: incremental fetch sessions (KIP-227)
//! * 9: the consumer's current leader epoch (KIP-320)
//! * 11: rack and preferred read replica (KIP-392)
//! * 12: epoch of the last fetched record
//! * 13: topics by id instead of name (KIP-516)
//! * 15: the follower's state moved into a tagged field (KIP-903)
//! * 16: current leaders (KIP-951)
//! * 18: the follower's high watermark

use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;
use crate::record::Records;

api!(Fetch: FetchRequest => FetchResponse, versions 4..=18);

messages! {
    FetchRequest {
        cluster_id: Option<String>, in 12.., tag 0;
        replica_id: i32 = -1, only ..=14;
        replica_state: ReplicaState, only 15.., tag 1;
        max_wait_ms: i32;
        min_bytes: i32;
        /// Limit for the whole response; the first batch is sent even if it is larger.
        max_bytes: i32 = i32::MAX;
        /// 0: read uncommitted; 1: read committed.
        isolation_level: i8;
        session_id: i32, in 7..;
        /// −1: no session.
        session_epoch: i32 = -1, in 7..;
        topics: Vec<FetchTopic>;
        forgotten_topics_data: Vec<ForgottenTopic>, only 7..;
        rack_id: String, in 11..;
    }

    ReplicaState {
        replica_id: i32 = -1;
        replica_epoch: i64 = -1;
    }

    FetchTopic {
        topic: String, in ..=12;
        topic_id: Uuid, in 13..;
        partitions: Vec<FetchPartition>;
    }

    FetchPartition {
        partition: i32;
        current_leader_epoch: i32 = -1, in 9..;
        fetch_offset: i64;
        last_fetched_epoch: i32 = -1, only 12..;
        log_start_offset: i64 = -1, in 5..;
        /// Limit for this partition, with the same exception for the first batch.
        partition_max_bytes: i32;
        replica_directory_id: Uuid, in 17.., tag 0;
        high_watermark: i64 = i64::MAX, in 18.., tag 1;
    }

    ForgottenTopic {
        topic: String, in ..=12;
        topic_id: Uuid, in 13..;
        partitions: Vec<i32>;
    }
}

messages! {
    FetchResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode, in 7..;
        session_id: i32, in 7..;
        responses: Vec<FetchableTopicResponse>;
        node_endpoints: Vec<NodeEndpoint>, in 16.., tag 0;
    }

    FetchableTopicResponse {
        topic: String, in ..=12;
        topic_id: Uuid, in 13..;
        partitions: Vec<PartitionData>;
    }

    PartitionData {
        partition_index: i32;
        error_code: ErrorCode;
        high_watermark: i64;
        last_stable_offset: i64 = -1;
        log_start_offset: i64 = -1, in 5..;
        diverging_epoch: EpochEndOffset, in 12.., tag 0;
        current_leader: LeaderIdAndEpoch, in 12.., tag 1;
        snapshot_id: SnapshotId, in 12.., tag 2;
        aborted_transactions: Option<Vec<AbortedTransaction>> = Some(Vec::new());
        preferred_read_replica: i32 = -1, in 11..;
        /// In memory, or a region of a file that is sent to the socket from the page cache.
        records: Option<Records> = Some(Records::default());
    }

    EpochEndOffset {
        epoch: i32 = -1;
        end_offset: i64 = -1;
    }

    LeaderIdAndEpoch {
        leader_id: i32 = -1;
        leader_epoch: i32 = -1;
    }

    SnapshotId {
        end_offset: i64 = -1;
        epoch: i32 = -1;
    }

    AbortedTransaction {
        producer_id: i64;
        first_offset: i64;
    }

    NodeEndpoint {
        node_id: i32;
        host: String;
        port: i32;
        rack: Option<String>;
    }
}
