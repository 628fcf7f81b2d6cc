//! OffsetFetch: the committed offsets of groups.
//!
//! * 2: null requests all topics; error code for the whole request
//! * 5: leader epochs
//! * 7: the client may require stable offsets, without pending transactions
//! * 8: several groups in one request, everything nested under `groups`
//! * 9: members of the new group protocol (KIP-848)
//! * 10: topics by id instead of by name
//!
//! Kafka's schema declares topics and partitions twice, for versions up to 7 and from 8 on, although the encoding is the
//! same. Here they are declared once, under the later names.

use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;

api!(OffsetFetch: OffsetFetchRequest => OffsetFetchResponse, versions 1..=10);

messages! {
    OffsetFetchRequest {
        group_id: String, only ..=7;
        /// Null: all topics (from version 2).
        topics: Option<Vec<OffsetFetchRequestTopics>> = Some(Vec::new()), only ..=7, null 2..=7;
        groups: Vec<OffsetFetchRequestGroup>, only 8..;
        require_stable: bool, only 7..;
    }

    OffsetFetchRequestGroup {
        group_id: String;
        member_id: Option<String>, in 9..;
        member_epoch: i32 = -1, in 9..;
        /// Null: all topics.
        topics: Option<Vec<OffsetFetchRequestTopics>> = Some(Vec::new());
    }

    OffsetFetchRequestTopics {
        name: String, in ..=9;
        topic_id: Uuid, in 10..;
        partition_indexes: Vec<i32>;
    }
}

messages! {
    OffsetFetchResponse {
        throttle_time_ms: i32, in 3..;
        topics: Vec<OffsetFetchResponseTopics>, in ..=7;
        error_code: ErrorCode, in 2..=7;
        groups: Vec<OffsetFetchResponseGroup>, in 8..;
    }

    OffsetFetchResponseGroup {
        group_id: String;
        topics: Vec<OffsetFetchResponseTopics>;
        error_code: ErrorCode;
    }

    OffsetFetchResponseTopics {
        name: String, in ..=9;
        topic_id: Uuid, in 10..;
        partitions: Vec<OffsetFetchResponsePartitions>;
    }

    OffsetFetchResponsePartitions {
        partition_index: i32;
        /// −1: none.
        committed_offset: i64;
        committed_leader_epoch: i32 = -1, in 5..;
        metadata: Option<String> = Some(String::new());
        error_code: ErrorCode;
    }
}
