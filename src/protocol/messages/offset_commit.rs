//! OffsetCommit: stores the offsets up to which a group has consumed.
//!
//! * 2 to 4: retention time of the offsets
//! * 6: leader epoch of the last consumed record
//! * 7: static members (KIP-345)
//! * 9: members of the new group protocol, which have epochs instead of generations (KIP-848)
//! * 10: topics by id instead of by name

use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;

api!(OffsetCommit: OffsetCommitRequest => OffsetCommitResponse, versions 2..=10);

messages! {
    OffsetCommitRequest {
        group_id: String;
        generation_id_or_member_epoch: i32 = -1;
        member_id: String;
        group_instance_id: Option<String>, only 7..;
        retention_time_ms: i64 = -1, in ..=4;
        topics: Vec<OffsetCommitRequestTopic>;
    }

    OffsetCommitRequestTopic {
        name: String, in ..=9;
        topic_id: Uuid, in 10..;
        partitions: Vec<OffsetCommitRequestPartition>;
    }

    OffsetCommitRequestPartition {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 = -1, in 6..;
        committed_metadata: Option<String> = Some(String::new());
    }
}

messages! {
    OffsetCommitResponse {
        throttle_time_ms: i32, in 3..;
        topics: Vec<OffsetCommitResponseTopic>;
    }

    OffsetCommitResponseTopic {
        name: String, in ..=9;
        topic_id: Uuid, in 10..;
        partitions: Vec<OffsetCommitResponsePartition>;
    }

    OffsetCommitResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
    }
}
