//! CreateDelegationToken, RenewDelegationToken, ExpireDelegationToken, DescribeDelegationToken.
//!
//! Kafka allows these requests only to clients that have authenticated by other means, which none can here, and checks this
//! before anything else.

use super::Call;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::create_delegation_token::{
    CreateDelegationTokenRequest, CreateDelegationTokenResponse,
};
use crate::protocol::messages::describe_delegation_token::{
    DescribeDelegationTokenRequest, DescribeDelegationTokenResponse,
};
use crate::protocol::messages::expire_delegation_token::{
    ExpireDelegationTokenRequest, ExpireDelegationTokenResponse,
};
use crate::protocol::messages::renew_delegation_token::{
    RenewDelegationTokenRequest, RenewDelegationTokenResponse,
};

const NOT_ALLOWED: ErrorCode = ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED;

/// Time of a token that does not exist.
const NEVER_MS: i64 = -1;

pub(super) async fn create(
    call: Call,
    request: CreateDelegationTokenRequest,
) -> CreateDelegationTokenResponse {
    let requester = call.principal.to_string();
    let (kind, name) = requester.split_once(':').unwrap_or_default();
    // Without an owner the token would belong to its requester; a null or empty type or name stands for none.
    let owner_type = request.owner_principal_type.filter(|it| !it.is_empty());
    let owner_name = request.owner_principal_name.filter(|it| !it.is_empty());
    let (owner_type, owner_name) = owner_type
        .zip(owner_name)
        .unwrap_or_else(|| (kind.to_owned(), name.to_owned()));
    CreateDelegationTokenResponse {
        error_code: NOT_ALLOWED,
        principal_type: owner_type,
        principal_name: owner_name,
        token_requester_principal_type: kind.to_owned(),
        token_requester_principal_name: name.to_owned(),
        issue_timestamp_ms: NEVER_MS,
        expiry_timestamp_ms: NEVER_MS,
        max_timestamp_ms: NEVER_MS,
        ..CreateDelegationTokenResponse::default()
    }
}

pub(super) async fn renew(_: Call, _: RenewDelegationTokenRequest) -> RenewDelegationTokenResponse {
    RenewDelegationTokenResponse {
        error_code: NOT_ALLOWED,
        expiry_timestamp_ms: NEVER_MS,
        ..RenewDelegationTokenResponse::default()
    }
}

pub(super) async fn expire(
    _: Call,
    _: ExpireDelegationTokenRequest,
) -> ExpireDelegationTokenResponse {
    ExpireDelegationTokenResponse {
        error_code: NOT_ALLOWED,
        expiry_timestamp_ms: NEVER_MS,
        ..ExpireDelegationTokenResponse::default()
    }
}

pub(super) async fn describe(
    _: Call,
    _: DescribeDelegationTokenRequest,
) -> DescribeDelegationTokenResponse {
    DescribeDelegationTokenResponse {
        error_code: NOT_ALLOWED,
        ..DescribeDelegationTokenResponse::default()
    }
}
