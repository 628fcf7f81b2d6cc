//! UpdateFeatures: changes the finalized levels of features (KIP-584).
//!
//! * 1: kinds of downgrade, and validation only
//! * 2: one error for all features

use crate::protocol::error_code::ErrorCode;

api!(UpdateFeatures: UpdateFeaturesRequest => UpdateFeaturesResponse, versions 0..=2);

messages! {
    UpdateFeaturesRequest {
        timeout_ms: i32 = 60000;
        feature_updates: Vec<FeatureUpdateKey>;
        validate_only: bool, only 1..;
    }

    FeatureUpdateKey {
        feature: String;
        max_version_level: i16;
        allow_downgrade: bool, only ..=0;
        upgrade_type: i8 = 1, only 1..;
    }
}

messages! {
    UpdateFeaturesResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
        results: Vec<UpdatableFeatureResult>, in ..=1;
    }

    UpdatableFeatureResult {
        feature: String;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
    }
}
