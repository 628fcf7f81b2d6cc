//! ApiVersions: the APIs and versions that a broker supports. The first request of nearly every client.
//!
//! A broker that does not support the requested version answers in version 0 with UNSUPPORTED_VERSION and the version
//! range of ApiVersions (KIP-511). The response header never has tagged fields.
//!
//! * 3: the client's software name and version; features
//! * 5: the cluster and node that the client means to reach (KIP-1242)

use crate::protocol::error_code::ErrorCode;

api!(ApiVersions: ApiVersionsRequest => ApiVersionsResponse, versions 0..=5);

messages! {
    ApiVersionsRequest {
        client_software_name: String, in 3..;
        client_software_version: String, in 3..;
        cluster_id: Option<String>, in 5..;
        node_id: i32 = -1, in 5..;
    }
}

messages! {
    ApiVersionsResponse {
        error_code: ErrorCode;
        api_keys: Vec<ApiVersion>;
        throttle_time_ms: i32, in 1..;
        supported_features: Vec<SupportedFeatureKey>, in 3.., tag 0;
        finalized_features_epoch: i64 = -1, in 3.., tag 1;
        finalized_features: Vec<FinalizedFeatureKey>, in 3.., tag 2;
        zk_migration_ready: bool, in 3.., tag 3;
    }

    ApiVersion {
        api_key: i16;
        min_version: i16;
        max_version: i16;
    }

    SupportedFeatureKey {
        name: String;
        min_version: i16;
        max_version: i16;
    }

    FinalizedFeatureKey {
        name: String;
        max_version_level: i16;
        min_version_level: i16;
    }
}
