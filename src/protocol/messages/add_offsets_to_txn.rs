//! AddOffsetsToTxn: adds the offsets of a group to a producer's transaction.
//!
//! * 2: PRODUCER_FENCED
//! * 4: TRANSACTION_ABORTABLE (KIP-890)

use crate::protocol::error_code::ErrorCode;

api!(AddOffsetsToTxn: AddOffsetsToTxnRequest => AddOffsetsToTxnResponse, versions 0..=4);

messages! {
    AddOffsetsToTxnRequest {
        transactional_id: String;
        producer_id: i64;
        producer_epoch: i16;
        group_id: String;
    }
}

messages! {
    AddOffsetsToTxnResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
    }
}
