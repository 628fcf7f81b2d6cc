//! ListConfigResources: lists the resources that have configs (KIP-1142).
//!
//! * 0: subscriptions to the metrics of clients
//! * 1: the types of resources to list; with none, all

use crate::protocol::error_code::ErrorCode;

api!(
    ListConfigResources: ListConfigResourcesRequest => ListConfigResourcesResponse,
    versions 0..=1
);

messages! {
    ListConfigResourcesRequest {
        resource_types: Vec<i8>, only 1..;
    }
}

messages! {
    ListConfigResourcesResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        config_resources: Vec<ConfigResource>;
    }

    ConfigResource {
        resource_name: String;
        resource_type: i8 = 16, in 1..;
    }
}
