//! The table of supported APIs, and the dispatch of requests to their handlers.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{self, BoxFuture};

use super::{
    Call, CloseReason, Reply, Session, api_versions, cluster, configs, delete_records,
    describe_producers, fetch, groups, init_producer_id, leader_epoch, list_offsets, log_dirs,
    metadata, offsets, produce, sasl_handshake, serve, topics,
};
use crate::protocol::kafka::{ApiKey, Request, RequestHeader};
use crate::protocol::messages;

/// One API: its versions and its handler.
pub struct Api {
    pub key: ApiKey,
    /// Supported versions.
    pub versions: RangeInclusive<i16>,
    /// Lowest version in ApiVersions. Lower than the supported ones for Produce only; `None` for an API that is answered
    /// without being advertised.
    pub advertised_min: Option<i16>,
    serve: fn(Call, Bytes) -> BoxFuture<'static, Reply>,
}

macro_rules! api {
    ($request:ty, $handle:path) => {
        Api {
            key: <$request as Request>::KEY,
            versions: <$request as Request>::VERSIONS,
            advertised_min: Some(*<$request as Request>::VERSIONS.start()),
            serve: |call, body| Box::pin(serve::<$request, _, _, _>(call, body, $handle)),
        }
    };
}

/// All supported APIs, the frequent ones first.
pub static APIS: &[Api] = &[
    Api {
        // Versions 0 to 2 carry message formats that no longer exist, but librdkafka up to 2.8 assumes that a broker whose
        // range starts later cannot store compressed records (KAFKA-18659).
        advertised_min: Some(0),
        ..api!(messages::produce::ProduceRequest, produce::handle)
    },
    api!(messages::fetch::FetchRequest, fetch::handle),
    api!(
        messages::list_offsets::ListOffsetsRequest,
        list_offsets::handle
    ),
    api!(messages::metadata::MetadataRequest, metadata::handle),
    api!(
        messages::api_versions::ApiVersionsRequest,
        api_versions::handle
    ),
    api!(messages::heartbeat::HeartbeatRequest, groups::heartbeat),
    api!(
        messages::offset_commit::OffsetCommitRequest,
        offsets::commit
    ),
    api!(messages::offset_fetch::OffsetFetchRequest, offsets::fetch),
    api!(
        messages::find_coordinator::FindCoordinatorRequest,
        groups::find_coordinator
    ),
    api!(messages::join_group::JoinGroupRequest, groups::join),
    api!(messages::sync_group::SyncGroupRequest, groups::sync),
    api!(messages::leave_group::LeaveGroupRequest, groups::leave),
    api!(messages::create_topics::CreateTopicsRequest, topics::create),
    api!(messages::delete_topics::DeleteTopicsRequest, topics::delete),
    api!(
        messages::create_partitions::CreatePartitionsRequest,
        topics::create_partitions
    ),
    api!(
        messages::delete_records::DeleteRecordsRequest,
        delete_records::handle
    ),
    api!(
        messages::init_producer_id::InitProducerIdRequest,
        init_producer_id::handle
    ),
    api!(
        messages::offset_for_leader_epoch::OffsetForLeaderEpochRequest,
        leader_epoch::handle
    ),
    api!(
        messages::describe_configs::DescribeConfigsRequest,
        configs::describe
    ),
    api!(messages::alter_configs::AlterConfigsRequest, configs::alter),
    api!(
        messages::incremental_alter_configs::IncrementalAlterConfigsRequest,
        configs::alter_incrementally
    ),
    api!(
        messages::describe_log_dirs::DescribeLogDirsRequest,
        log_dirs::handle
    ),
    api!(
        messages::describe_cluster::DescribeClusterRequest,
        cluster::handle
    ),
    api!(
        messages::describe_producers::DescribeProducersRequest,
        describe_producers::handle
    ),
    api!(messages::list_groups::ListGroupsRequest, groups::list),
    api!(
        messages::describe_groups::DescribeGroupsRequest,
        groups::describe
    ),
    api!(messages::delete_groups::DeleteGroupsRequest, groups::delete),
    api!(
        messages::offset_delete::OffsetDeleteRequest,
        offsets::delete
    ),
    Api {
        advertised_min: None,
        ..api!(
            messages::sasl_handshake::SaslHandshakeRequest,
            sasl_handshake::refuse
        )
    },
];

/// Returns whether requests of this API may wait for other clients for minutes. Their handlers hold none of the request's
/// bytes by then, so their memory can be released.
pub fn waits_for_other_clients(api_key: i16) -> bool {
    [ApiKey::JoinGroup, ApiKey::SyncGroup]
        .iter()
        .any(|api| *api as i16 == api_key)
}

/// Creates the handler's future for a request. It makes progress only when polled.
pub fn dispatch(
    session: &Arc<Session>,
    header: RequestHeader,
    body: Bytes,
) -> BoxFuture<'static, Reply> {
    let Some(api) = APIS.iter().find(|api| api.key as i16 == header.api_key) else {
        let api_key = header.api_key;
        return closing(CloseReason::UnknownApi { api_key });
    };
    let call = Call {
        session: Arc::clone(session),
        api: api.key,
        version: header.api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
    };
    if api.versions.contains(&call.version) {
        (api.serve)(call, body)
    } else if api.key == ApiKey::ApiVersions {
        Box::pin(future::ready(api_versions::unsupported(&call)))
    } else {
        closing(CloseReason::UnsupportedVersion {
            api: api.key,
            version: call.version,
        })
    }
}

fn closing(reason: CloseReason) -> BoxFuture<'static, Reply> {
    Box::pin(future::ready(Reply::closing(reason)))
}
