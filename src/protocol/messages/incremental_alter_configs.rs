//! IncrementalAlterConfigs: changes individual settings of a topic (KIP-339).

use crate::protocol::error_code::ErrorCode;

api!(IncrementalAlterConfigs: IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse, versions 0..=1);

messages! {
    IncrementalAlterConfigsRequest {
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
        /// 0: set; 1: delete; 2: append; 3: subtract.
        config_operation: i8;
        value: Option<String> = Some(String::new());
    }
}

messages! {
    IncrementalAlterConfigsResponse {
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
