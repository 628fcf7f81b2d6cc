//! DescribeConfigs: settings of topics and brokers, with their sources and documentation.
//!
//! * 1: synonyms, and the source instead of a flag
//! * 3: types and documentation

use crate::protocol::error_code::ErrorCode;

api!(DescribeConfigs: DescribeConfigsRequest => DescribeConfigsResponse, versions 1..=4);

messages! {
    DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource>;
        include_synonyms: bool;
        include_documentation: bool, only 3..;
    }

    DescribeConfigsResource {
        /// 2: topic; 4: broker.
        resource_type: i8;
        resource_name: String;
        /// Null: all settings.
        configuration_keys: Option<Vec<String>> = Some(Vec::new());
    }
}

messages! {
    DescribeConfigsResponse {
        throttle_time_ms: i32;
        results: Vec<DescribeConfigsResult>;
    }

    DescribeConfigsResult {
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
        resource_type: i8;
        resource_name: String;
        configs: Vec<DescribeConfigsResourceResult>;
    }

    DescribeConfigsResourceResult {
        name: String;
        value: Option<String> = Some(String::new());
        read_only: bool;
        config_source: i8 = -1;
        is_sensitive: bool;
        synonyms: Vec<DescribeConfigsSynonym>;
        config_type: i8, in 3..;
        documentation: Option<String> = Some(String::new()), in 3..;
    }

    DescribeConfigsSynonym {
        name: String;
        value: Option<String> = Some(String::new());
        source: i8;
    }
}
