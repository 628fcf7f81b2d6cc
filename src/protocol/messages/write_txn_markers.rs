//! WriteTxnMarkers: ends a producer's transaction in some partitions. Sent by Kafka's transaction coordinators, and by tools
//! that abort a transaction that no coordinator knows.

use crate::protocol::error_code::ErrorCode;

api!(WriteTxnMarkers: WriteTxnMarkersRequest => WriteTxnMarkersResponse, versions 1..=1);

messages! {
    WriteTxnMarkersRequest {
        markers: Vec<WritableTxnMarker>;
    }

    WritableTxnMarker {
        producer_id: i64;
        producer_epoch: i16;
        /// True to commit, false to abort.
        transaction_result: bool;
        topics: Vec<WritableTxnMarkerTopic>;
        coordinator_epoch: i32;
    }

    WritableTxnMarkerTopic {
        name: String;
        partition_indexes: Vec<i32>;
    }
}

messages! {
    WriteTxnMarkersResponse {
        markers: Vec<WritableTxnMarkerResult>;
    }

    WritableTxnMarkerResult {
        producer_id: i64;
        topics: Vec<WritableTxnMarkerTopicResult>;
    }

    WritableTxnMarkerTopicResult {
        name: String;
        partitions: Vec<WritableTxnMarkerPartitionResult>;
    }

    WritableTxnMarkerPartitionResult {
        partition_index: i32;
        error_code: ErrorCode;
    }
}
