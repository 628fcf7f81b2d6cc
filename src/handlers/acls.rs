//! DescribeAcls, CreateAcls, DeleteAcls. There is no authorizer that has access control lists, which Kafka reports by the
//! error that follows.

use super::Call;
use super::refusal::{Refusal, error_fields};
use crate::broker::{Operation, Resource};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::create_acls::{
    AclCreationResult, CreateAclsRequest, CreateAclsResponse,
};
use crate::protocol::messages::delete_acls::{
    DeleteAclsFilterResult, DeleteAclsRequest, DeleteAclsResponse,
};
use crate::protocol::messages::describe_acls::{DescribeAclsRequest, DescribeAclsResponse};

/// Returns the refusal of an operation on access control lists.
fn refusal(call: &Call, operation: Operation) -> (ErrorCode, Option<String>) {
    let refusal = match call.authorize(operation, Resource::Cluster) {
        Ok(()) => Refusal::new(ErrorCode::SECURITY_DISABLED, "no authorizer is configured"),
        Err(denied) => Refusal::denied(denied),
    };
    error_fields(Some(refusal))
}

pub(super) async fn describe(call: Call, _: DescribeAclsRequest) -> DescribeAclsResponse {
    let (error_code, error_message) = refusal(&call, Operation::Describe);
    DescribeAclsResponse {
        error_code,
        error_message,
        ..DescribeAclsResponse::default()
    }
}

pub(super) async fn create(call: Call, request: CreateAclsRequest) -> CreateAclsResponse {
    let (error_code, error_message) = refusal(&call, Operation::Alter);
    let refused = |_| AclCreationResult {
        error_code,
        error_message: error_message.clone(),
    };
    CreateAclsResponse {
        results: request.creations.iter().map(refused).collect(),
        ..CreateAclsResponse::default()
    }
}

pub(super) async fn delete(call: Call, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let (error_code, error_message) = refusal(&call, Operation::Alter);
    let refused = |_| DeleteAclsFilterResult {
        error_code,
        error_message: error_message.clone(),
        matching_acls: Vec::new(),
    };
    DeleteAclsResponse {
        filter_results: request.filters.iter().map(refused).collect(),
        ..DeleteAclsResponse::default()
    }
}
