//! Tests of UpdateFeatures, and of the features that ApiVersions lists.

use streamline::protocol::kafka::{ErrorCode, Request};
use streamline::protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use streamline::protocol::messages::metadata::MetadataRequest;
use streamline::protocol::messages::update_features::{
    FeatureUpdateKey, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

use crate::support::{Client, Server};

/// A feature that can be off.
const ELR: &str = "eligible.leader.replicas.version";

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

const REFUSED: ErrorCode = ErrorCode::INVALID_UPDATE_VERSION;

fn features(client: &mut Client, version: i16) -> ApiVersionsResponse {
    let request = ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1".to_owned(),
        ..ApiVersionsRequest::default()
    };
    client.call(version, &request)
}

/// Returns the finalized level, 0 for a feature that is off, and the epoch.
fn level(client: &mut Client, name: &str) -> (i16, i64) {
    let listed = features(client, 4);
    let feature = listed.finalized_features.iter().find(|it| it.name == name);
    let level = feature.map_or(0, |it| it.max_version_level);
    (level, listed.finalized_features_epoch)
}

fn update(
    client: &mut Client,
    updates: &[(&str, i16, i8)],
    validate_only: bool,
) -> UpdateFeaturesResponse {
    let update = |(feature, level, kind): &(&str, i16, i8)| FeatureUpdateKey {
        feature: (*feature).to_owned(),
        max_version_level: *level,
        upgrade_type: *kind,
        ..FeatureUpdateKey::default()
    };
    let request = UpdateFeaturesRequest {
        feature_updates: updates.iter().map(update).collect(),
        validate_only,
        ..UpdateFeaturesRequest::default()
    };
    client.call(2, &request)
}

#[test]
fn features_are_listed_from_version_3_on_and_those_with_a_level_of_0_from_4_on() {
    let server = Server::start();
    let mut client = server.connect();
    for version in ApiVersionsRequest::VERSIONS {
        let listed = features(&mut client, version);
        let names: Vec<&str> = listed
            .supported_features
            .iter()
            .map(|it| &*it.name)
            .collect();
        match version {
            ..3 => assert!(names.is_empty()),
            3 => assert_eq!(names, ["metadata.version"]),
            _ => assert_eq!(names.len(), 7, "{names:?}"),
        }
        let finalized = listed.finalized_features.iter();
        let finalized: Vec<_> = finalized
            .map(|it| (&*it.name, it.max_version_level))
            .collect();
        match version {
            ..3 => assert!(finalized.is_empty()),
            _ => assert_eq!(
                finalized,
                [
                    (ELR, 1),
                    ("metadata.version", 33),
                    ("transaction.version", 2)
                ]
            ),
        }
    }
}

#[test]
fn levels_that_were_set_survive_a_restart() {
    let mut server = Server::start();
    let mut client = server.connect();
    assert_eq!(level(&mut client, ELR), (1, 0));
    let checked = update(&mut client, &[(ELR, 0, SAFE_DOWNGRADE)], true);
    assert_eq!(
        (checked.error_code, checked.error_message),
        (ErrorCode::NONE, None)
    );
    assert_eq!(level(&mut client, ELR), (1, 0));
    let done = update(&mut client, &[(ELR, 0, UNSAFE_DOWNGRADE)], false);
    assert_eq!(done.error_code, ErrorCode::NONE);
    assert_eq!(level(&mut client, ELR), (0, 1));
    assert!(server.log().contains("features changed"), "no audit line");
    drop(client);
    server.terminate();
    server.restart();
    let mut client = server.connect();
    assert_eq!(level(&mut client, ELR), (0, 1));
    let done = update(&mut client, &[(ELR, 1, UPGRADE)], false);
    assert_eq!(done.error_code, ErrorCode::NONE);
    assert_eq!(level(&mut client, ELR), (1, 2));
}

#[test]
fn unsupported_levels_and_wrong_directions_are_refused_and_change_nothing() {
    let server = Server::start();
    let mut client = server.connect();
    for wrong in [
        ("nope", 1, UPGRADE),
        ("nope", 0, SAFE_DOWNGRADE),
        ("metadata.version", 34, UPGRADE),
        ("metadata.version", 32, UNSAFE_DOWNGRADE),
        (ELR, 0, UPGRADE),
        (ELR, -1, SAFE_DOWNGRADE),
        (ELR, 0, 9),
    ] {
        let updates = [(ELR, 0, SAFE_DOWNGRADE), wrong];
        let refused = update(&mut client, &updates, false);
        assert_eq!(refused.error_code, REFUSED, "{wrong:?}");
        assert!(refused.error_message.is_some());
    }
    assert_eq!(level(&mut client, ELR), (1, 0));
    let same = [("metadata.version", 33, SAFE_DOWNGRADE), (ELR, 1, UPGRADE)];
    assert_eq!(
        update(&mut client, &same, false).error_code,
        ErrorCode::NONE
    );
    assert_eq!(level(&mut client, ELR), (1, 0));
}

#[test]
fn before_version_1_a_flag_allows_downgrades_and_successes_are_listed() {
    let server = Server::start();
    let mut client = server.connect();
    for (allow_downgrade, expected, listed) in [(false, REFUSED, 0), (true, ErrorCode::NONE, 1)] {
        let request = UpdateFeaturesRequest {
            feature_updates: vec![FeatureUpdateKey {
                feature: ELR.to_owned(),
                max_version_level: 0,
                allow_downgrade,
                ..FeatureUpdateKey::default()
            }],
            ..UpdateFeaturesRequest::default()
        };
        let response = client.call(0, &request);
        assert_eq!(
            (response.error_code, response.results.len()),
            (expected, listed)
        );
    }
    assert_eq!(level(&mut client, ELR), (0, 1));
}

#[test]
fn a_client_that_means_another_cluster_or_node_is_told_to_bootstrap_again() {
    let server = Server::start();
    let mut client = server.connect();
    let all = MetadataRequest::default();
    let own = client.call(12, &all).cluster_id;
    for (cluster_id, node_id, expected) in [
        (own.as_deref(), 1, ErrorCode::NONE),
        (own.as_deref(), 2, ErrorCode::REBOOTSTRAP_REQUIRED),
        (own.as_deref(), -1, ErrorCode::REBOOTSTRAP_REQUIRED),
        (Some("other"), 1, ErrorCode::REBOOTSTRAP_REQUIRED),
        // The node is compared only together with the cluster.
        (None, 2, ErrorCode::NONE),
    ] {
        let request = ApiVersionsRequest {
            client_software_name: "test".to_owned(),
            client_software_version: "1".to_owned(),
            cluster_id: cluster_id.map(str::to_owned),
            node_id,
        };
        let response = client.call(5, &request);
        assert_eq!(response.error_code, expected, "{cluster_id:?} {node_id}");
        let is_answered = expected == ErrorCode::NONE;
        assert_eq!(!response.api_keys.is_empty(), is_answered);
    }
}
