//! DeleteAcls: removes the entries of access control lists that match filters.
//!
//! * 3: resources of type user

use crate::protocol::error_code::ErrorCode;

api!(DeleteAcls: DeleteAclsRequest => DeleteAclsResponse, versions 1..=3);

messages! {
    DeleteAclsRequest {
        filters: Vec<DeleteAclsFilter>;
    }

    DeleteAclsFilter {
        resource_type_filter: i8;
        resource_name_filter: Option<String> = Some(String::new());
        pattern_type_filter: i8 = 3;
        principal_filter: Option<String> = Some(String::new());
        host_filter: Option<String> = Some(String::new());
        operation: i8;
        permission_type: i8;
    }
}

messages! {
    DeleteAclsResponse {
        throttle_time_ms: i32;
        filter_results: Vec<DeleteAclsFilterResult>;
    }

    DeleteAclsFilterResult {
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
        matching_acls: Vec<DeleteAclsMatchingAcl>;
    }

    DeleteAclsMatchingAcl {
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
        resource_type: i8;
        resource_name: String;
        pattern_type: i8 = 3;
        principal: String;
        host: String;
        operation: i8;
        permission_type: i8;
    }
}
