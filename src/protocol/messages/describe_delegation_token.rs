//! DescribeDelegationToken: the delegation tokens of owners (KIP-48).
//!
//! * 3: who requested the token

use bytes::Bytes;

use crate::protocol::error_code::ErrorCode;

api!(DescribeDelegationToken: DescribeDelegationTokenRequest => DescribeDelegationTokenResponse, versions 1..=3);

messages! {
    DescribeDelegationTokenRequest {
        owners: Option<Vec<DescribeDelegationTokenOwner>> = Some(Vec::new());
    }

    DescribeDelegationTokenOwner {
        principal_type: String;
        principal_name: String;
    }
}

messages! {
    DescribeDelegationTokenResponse {
        error_code: ErrorCode;
        tokens: Vec<DescribedDelegationToken>;
        throttle_time_ms: i32;
    }

    DescribedDelegationToken {
        principal_type: String;
        principal_name: String;
        token_requester_principal_type: String, in 3..;
        token_requester_principal_name: String, in 3..;
        issue_timestamp: i64;
        expiry_timestamp: i64;
        max_timestamp: i64;
        token_id: String;
        hmac: Bytes;
        renewers: Vec<DescribedDelegationTokenRenewer>;
    }

    DescribedDelegationTokenRenewer {
        principal_type: String;
        principal_name: String;
    }
}
