//! InitProducerId: allocates an id and epoch for an idempotent or transactional producer.
//!
//! * 3: a producer with an id may request its next epoch (KIP-360)

use crate::protocol::error_code::ErrorCode;

api!(InitProducerId: InitProducerIdRequest => InitProducerIdResponse, versions 0..=5);

messages! {
    InitProducerIdRequest {
        transactional_id: Option<String> = Some(String::new());
        transaction_timeout_ms: i32;
        producer_id: i64 = -1, only 3..;
        producer_epoch: i16 = -1, only 3..;
    }
}

messages! {
    InitProducerIdResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        producer_id: i64 = -1;
        producer_epoch: i16;
    }
}
