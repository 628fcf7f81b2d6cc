//! AlterConfigs: replaces all settings of a topic. Settings not named are reset to their defaults, so clients should
//! prefer IncrementalAlterConfigs.

use crate::protocol::error_code::ErrorCode;

api!(AlterConfigs: AlterConfigsRequest => AlterConfigsResponse, versions 0..=2);

messages! {
    AlterConfigsRequest {
        resources: Vec<AlterConfigsResource>;
        validate_only: bool;
    }

    AlterConfigsResource {
        resource_type: i8;
        resource_name: String;
        configs: Vec<AlterableConfig>;
    }

    AlterableConfig {
        name: String;
        value: Option<String> = Some(String::new());
    }
}

messages! {
    AlterConfigsResponse {
        throttle_time_ms: i32;
        responses: Vec<AlterConfigsResourceResponse>;
    }

    AlterConfigsResourceResponse {
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
        resource_type: i8;
        resource_name: String;
    }
}
