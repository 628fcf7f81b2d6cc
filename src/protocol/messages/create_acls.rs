//! CreateAcls: adds entries to access control lists.
//!
//! * 3: resources of type user

use crate::protocol::error_code::ErrorCode;

api!(CreateAcls: CreateAclsRequest => CreateAclsResponse, versions 1..=3);

messages! {
    CreateAclsRequest {
        creations: Vec<AclCreation>;
    }

    AclCreation {
        resource_type: i8;
        resource_name: String;
        resource_pattern_type: i8 = 3;
        principal: String;
        host: String;
        operation: i8;
        permission_type: i8;
    }
}

messages! {
    CreateAclsResponse {
        throttle_time_ms: i32;
        results: Vec<AclCreationResult>;
    }

    AclCreationResult {
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
    }
}
