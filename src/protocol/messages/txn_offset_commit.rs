//! TxnOffsetCommit: adds offsets of a group to a producer's transaction, which commits them.
//!
//! * 2: leader epoch of the last consumed record
//! * 3: the member of the group (KIP-447)
//! * 4: TRANSACTION_ABORTABLE (KIP-890)
//! * 5: a producer may omit AddOffsetsToTxn (KIP-890)

use crate::protocol::error_code::ErrorCode;

api!(TxnOffsetCommit: TxnOffsetCommitRequest => TxnOffsetCommitResponse, versions 0..=5);

messages! {
    TxnOffsetCommitRequest {
        transactional_id: String;
        group_id: String;
        producer_id: i64;
        producer_epoch: i16;
        generation_id: i32 = -1, only 3..;
        member_id: String, only 3..;
        group_instance_id: Option<String>, only 3..;
        topics: Vec<TxnOffsetCommitRequestTopic>;
    }

    TxnOffsetCommitRequestTopic {
        name: String;
        partitions: Vec<TxnOffsetCommitRequestPartition>;
    }

    TxnOffsetCommitRequestPartition {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 = -1, in 2..;
        committed_metadata: Option<String> = Some(String::new());
    }
}

messages! {
    TxnOffsetCommitResponse {
        throttle_time_ms: i32;
        topics: Vec<TxnOffsetCommitResponseTopic>;
    }

    TxnOffsetCommitResponseTopic {
        name: String;
        partitions: Vec<TxnOffsetCommitResponsePartition>;
    }

    TxnOffsetCommitResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
    }
}
