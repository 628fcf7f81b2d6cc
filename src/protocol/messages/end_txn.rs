//! EndTxn: commits or aborts a producer's transaction.
//!
//! * 2: PRODUCER_FENCED
//! * 4: TRANSACTION_ABORTABLE (KIP-890)
//! * 5: increments the producer's epoch, and returns it (KIP-890)

use crate::protocol::error_code::ErrorCode;

api!(EndTxn: EndTxnRequest => EndTxnResponse, versions 0..=5);

messages! {
    EndTxnRequest {
        transactional_id: String;
        producer_id: i64;
        producer_epoch: i16;
        committed: bool;
    }
}

messages! {
    EndTxnResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        producer_id: i64 = -1, in 5..;
        producer_epoch: i16 = -1, in 5..;
    }
}
