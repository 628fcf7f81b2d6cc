//! ApiVersions: lists the supported APIs, derived from the table.
//!
//! An unsupported version of ApiVersions itself is answered in version 0 with its supported versions (KIP-511), since a
//! client cannot know them before it has asked.

use super::session::ClientSoftware;
use super::{APIS, Answer, Api, Call, Reply, encode};
use crate::broker::shortened;
use crate::coordinator::transaction::TRANSACTION_VERSION;
use crate::metrics::RequestRejection;
use crate::metrics::catalog::LabelValues;
use crate::protocol::kafka::{ApiKey, ErrorCode};
use crate::protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};

/// The first version in which clients name their software.
const CLIENT_SOFTWARE_FROM: i16 = 3;

/// The first version whose clients can read that a feature is supported from level 0 on.
const FEATURE_LEVEL_0_FROM: i16 = 4;

/// Kafka's feature by which producers learn the version of the transaction protocol.
const TRANSACTION_VERSION_FEATURE: &str = "transaction.version";

pub(super) async fn handle(call: Call, request: ApiVersionsRequest) -> ApiVersionsResponse {
    let named = [
        &request.client_software_name,
        &request.client_software_version,
    ];
    if call.version >= CLIENT_SOFTWARE_FROM && !named.into_iter().all(|name| is_valid(name)) {
        note_refused(&call, &request);
        return ApiVersionsResponse {
            error_code: ErrorCode::INVALID_REQUEST,
            ..ApiVersionsResponse::default()
        };
    }
    tracing::debug!(
        peer = %call.peer,
        client_id = call.client_id.as_deref(),
        software = request.client_software_name,
        version = request.client_software_version,
        "client software identified"
    );
    if call.version >= CLIENT_SOFTWARE_FROM {
        call.identify(ClientSoftware {
            name: request.client_software_name,
            version: request.client_software_version,
        });
    }
    ApiVersionsResponse {
        api_keys: advertised(APIS),
        supported_features: vec![SupportedFeatureKey {
            name: TRANSACTION_VERSION_FEATURE.to_owned(),
            // Clients of older versions cannot read a level of 0 (KAFKA-17011).
            min_version: i16::from(call.version < FEATURE_LEVEL_0_FROM),
            max_version: TRANSACTION_VERSION,
        }],
        finalized_features_epoch: 0,
        finalized_features: vec![FinalizedFeatureKey {
            name: TRANSACTION_VERSION_FEATURE.to_owned(),
            max_version_level: TRANSACTION_VERSION,
            min_version_level: TRANSACTION_VERSION,
        }],
        ..ApiVersionsResponse::default()
    }
}

/// Counts a client with an invalid software name or version, and logs it once a minute for each address.
fn note_refused(call: &Call, request: &ApiVersionsRequest) {
    let reason = RequestRejection::ClientSoftware;
    let (broker, peer) = (&call.broker, call.peer);
    broker.metrics.requests_rejected.get(reason).inc();
    let now = broker.clock.monotonic();
    if let Some(silenced) = broker.refused_software.allow(peer.ip(), now) {
        tracing::warn!(
            %peer,
            reason = reason.as_str(),
            client_id = call.client_id.as_deref().map(shortened),
            software = shortened(&request.client_software_name),
            version = shortened(&request.client_software_version),
            silenced,
            "ApiVersions refused: client software name and version must consist of letters, digits, '-' and '.', and \
             begin and end with a letter or digit"
        );
    }
}

/// Returns the response to an unsupported version.
pub(super) fn unsupported(call: &Call) -> Reply {
    let own = APIS.iter().filter(|api| api.key == ApiKey::ApiVersions);
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: advertised(own),
        ..ApiVersionsResponse::default()
    };
    encode::<ApiVersionsRequest>(Answer::from(response), call.correlation_id, 0)
}

fn advertised<'a>(apis: impl IntoIterator<Item = &'a Api>) -> Vec<ApiVersion> {
    let mut versions: Vec<ApiVersion> = apis
        .into_iter()
        .filter_map(|api| {
            Some(ApiVersion {
                api_key: api.key as i16,
                min_version: api.advertised_min?,
                max_version: *api.versions.end(),
            })
        })
        .collect();
    versions.sort_by_key(|version| version.api_key);
    versions
}

/// Applies Kafka's rule: letters, digits, '-' and '.', the latter two not at either end.
fn is_valid(name: &str) -> bool {
    let bytes = name.as_bytes();
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::harness::{connect, exchange, open};

    #[test]
    fn produce_is_advertised_from_version_0_and_supported_from_3() {
        let produce = &advertised(APIS)[0];
        assert_eq!((produce.api_key, produce.min_version), (0, 0));
        assert_eq!(*APIS[0].versions.start(), 3);
    }

    #[test]
    fn apis_are_listed_once_in_the_order_of_their_keys() {
        let keys: Vec<i16> = advertised(APIS).iter().map(|each| each.api_key).collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
    }

    #[test]
    fn software_names_follow_kafkas_pattern() {
        for name in ["librdkafka", "apache-kafka-java", "4.1.0", "a", "1.0-rc.1"] {
            assert!(is_valid(name), "{name:?}");
        }
        for name in ["", "-a", "a-", ".1", "a b", "a_b", "ä"] {
            assert!(!is_valid(name), "{name:?}");
        }
    }

    #[tokio::test]
    async fn the_session_keeps_the_software_that_a_client_names_first() {
        let dir = tempfile::tempdir().unwrap();
        let session = connect(&open(&dir).await);
        let named = |name: &str| ApiVersionsRequest {
            client_software_name: name.to_owned(),
            client_software_version: "4.1.0".to_owned(),
        };
        // Before version 3 a client names none.
        for (version, name, known) in [
            (2, "apache-kafka-java", None),
            (3, "not valid", None),
            (3, "apache-kafka-java", Some("apache-kafka-java 4.1.0")),
            (4, "other", Some("apache-kafka-java 4.1.0")),
        ] {
            exchange(&session, version, &named(name)).await;
            let software = session.software().map(ToString::to_string);
            assert_eq!(software.as_deref(), known);
        }
    }
}
