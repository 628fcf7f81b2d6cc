//! CreateDelegationToken: issues a token with which to authenticate (KIP-48).
//!
//! * 3: the token's owner

use bytes::Bytes;

use crate::protocol::error_code::ErrorCode;

api!(CreateDelegationToken: CreateDelegationTokenRequest => CreateDelegationTokenResponse, versions 1..=3);

messages! {
    CreateDelegationTokenRequest {
        owner_principal_type: Option<String> = Some(String::new()), only 3..;
        owner_principal_name: Option<String> = Some(String::new()), only 3..;
        renewers: Vec<CreatableRenewers>;
        max_lifetime_ms: i64;
    }

    CreatableRenewers {
        principal_type: String;
        principal_name: String;
    }
}

messages! {
    CreateDelegationTokenResponse {
        error_code: ErrorCode;
        principal_type: String;
        principal_name: String;
        token_requester_principal_type: String, in 3..;
        token_requester_principal_name: String, in 3..;
        issue_timestamp_ms: i64;
        expiry_timestamp_ms: i64;
        max_timestamp_ms: i64;
        token_id: String;
        hmac: Bytes;
        throttle_time_ms: i32;
    }
}
