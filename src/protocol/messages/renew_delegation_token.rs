//! RenewDelegationToken: extends the life of a delegation token (KIP-48).

use bytes::Bytes;

use crate::protocol::error_code::ErrorCode;

api!(RenewDelegationToken: RenewDelegationTokenRequest => RenewDelegationTokenResponse, versions 1..=2);

messages! {
    RenewDelegationTokenRequest {
        hmac: Bytes;
        renew_period_ms: i64;
    }
}

messages! {
    RenewDelegationTokenResponse {
        error_code: ErrorCode;
        expiry_timestamp_ms: i64;
        throttle_time_ms: i32;
    }
}
