//! UpdateFeatures: changes the finalized levels of features, all or none.

use super::audit::{Change, Name};
use super::refusal::{Refusal, error_fields};
use super::{Call, error};
use crate::broker::{FeatureUpdate, Operation, Resource, UpdateDirection};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

/// Kafka's numbers of the kinds of updates. A lossy downgrade is the same as a safe one here.
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

/// The first version with kinds of updates. Before it, an update may go down if its flag says so.
const UPGRADE_TYPES_FROM: i16 = 1;

pub(super) async fn handle(call: Call, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    // The response to a successful request lists the features, up to version 1.
    let results = request
        .feature_updates
        .iter()
        .map(|update| UpdatableFeatureResult {
            feature: update.feature.clone(),
            error_code: ErrorCode::NONE,
            error_message: None,
        });
    let results = results.collect();
    let done = update(&call, request).await;
    let results = if done.is_ok() { results } else { Vec::new() };
    let (error_code, error_message) = error_fields(done.err());
    UpdateFeaturesResponse {
        error_code,
        error_message,
        results,
        ..UpdateFeaturesResponse::default()
    }
}

async fn update(call: &Call, request: UpdateFeaturesRequest) -> Result<(), Refusal> {
    call.authorize(Operation::Alter, Resource::Cluster)
        .map_err(Refusal::denied)?;
    let updates = request.feature_updates.into_iter();
    let updates = updates.map(|update| asked(update, call.version));
    let updates = updates.collect::<Result<Vec<_>, _>>()?;
    let mut audit = call.audit("features changed").unless(request.validate_only);
    // Listed before the change, which completes even if this future is dropped, and corrected by its outcome.
    for update in &updates {
        audit.list(format_args!("{}→{}", Name(&update.name), update.level));
    }
    let changed = call
        .broker
        .features
        .update(updates, request.validate_only)
        .await;
    audit.clear();
    let changed =
        changed.map_err(|error| Refusal::new(error::of_features(&error), error.to_string()))?;
    for change in changed {
        let (before, after) = (Some(change.before), Some(change.after));
        audit.list(format_args!("{} {}", change.name, Change(before, after)));
    }
    Ok(())
}

fn asked(update: FeatureUpdateKey, version: i16) -> Result<FeatureUpdate, Refusal> {
    let direction = match update.upgrade_type {
        _ if version < UPGRADE_TYPES_FROM && update.allow_downgrade => UpdateDirection::Downgrade,
        UPGRADE => UpdateDirection::Upgrade,
        SAFE_DOWNGRADE | UNSAFE_DOWNGRADE => UpdateDirection::Downgrade,
        other => {
            return Err(Refusal::new(
                ErrorCode::INVALID_UPDATE_VERSION,
                format!("{}: unknown type of update {other}", update.feature),
            ));
        }
    };
    Ok(FeatureUpdate {
        name: update.feature,
        level: update.max_version_level,
        direction,
    })
}
