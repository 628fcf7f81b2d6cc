//! DescribeAcls: the access control lists that match a filter.
//!
//! * 3: resources of type user

use crate::protocol::error_code::ErrorCode;

api!(DescribeAcls: DescribeAclsRequest => DescribeAclsResponse, versions 1..=3);

messages! {
    DescribeAclsRequest {
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
    DescribeAclsResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
        resources: Vec<DescribeAclsResource>;
    }

    DescribeAclsResource {
        resource_type: i8;
        resource_name: String;
        pattern_type: i8 = 3;
        acls: Vec<AclDescription>;
    }

    AclDescription {
        principal: String;
        host: String;
        operation: i8;
        permission_type: i8;
    }
}
