//! ExpireDelegationToken: ends the life of a delegation token (KIP-48).

use bytes::Bytes;

use crate::protocol::error_code::ErrorCode;

api!(ExpireDelegationToken: ExpireDelegationTokenRequest => ExpireDelegationTokenResponse, versions 1..=2);

messages! {
    ExpireDelegationTokenRequest {
        hmac: Bytes;
        expiry_time_period_ms: i64;
    }
}

messages! {
    ExpireDelegationTokenResponse {
        error_code: ErrorCode;
        expiry_timestamp_ms: i64;
        throttle_time_ms: i32;
    }
}
