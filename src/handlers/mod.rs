//! Request handlers: one file per API family, and the table of supported APIs.
//!
//! [`APIS`] is the only list of APIs and versions; ApiVersions, [`dispatch`] and `docs/COMPATIBILITY.md` derive from it.
//! A handler is an async function from a request to a response. It makes its decisions by calls to the [`Broker`]'s
//! components, and knows nothing of frames, sockets or request metrics. Everything a handler does before it first waits
//! happens in the order in which a connection's requests arrived, since the connection polls each handler once before it
//! reads the next request.

mod api_versions;
mod audit;
mod cluster;
mod configs;
mod delete_records;
mod error;
mod fetch;
mod groups;
mod init_producer_id;
mod leader_epoch;
mod list_offsets;
mod log_dirs;
mod lookup;
mod metadata;
mod offsets;
mod operations;
mod produce;
mod refusal;
mod repetition;
mod sasl_handshake;
mod topics;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{self, BoxFuture};

use crate::broker::{Broker, CONSUMER_OFFSETS, shortened};
use crate::metrics::TopicCounters;
use crate::protocol::kafka::{
    ApiKey, DecodeError, Request, RequestHeader, ResponseFrame, Wire, decode_request,
    encode_response,
};
use crate::protocol::messages;

/// Isolation level of a client that excludes records of open and aborted transactions.
const READ_COMMITTED: i8 = 1;

/// Returns whether requests of this API may wait for other clients for minutes. Their handlers hold none of the request's
/// bytes by then, so their memory can be released.
pub fn waits_for_other_clients(api_key: i16) -> bool {
    [ApiKey::JoinGroup, ApiKey::SyncGroup]
        .iter()
        .any(|api| *api as i16 == api_key)
}

/// Connection data that handlers may use.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext {
    pub peer: SocketAddr,
    /// Server address to which the client connected.
    pub local: SocketAddr,
}

/// The outcome of a request.
pub struct Reply {
    /// `None` if no response is sent: a produce with acks=0, or a request that closes the connection.
    pub frame: Option<ResponseFrame>,
    /// True if the request could not be decoded or its response carries any error code.
    pub error: bool,
    /// Record-batch bytes in the frame by topic, counted once the frame has been handed to the socket.
    pub bytes_out: Vec<(Arc<TopicCounters>, u64)>,
    /// Reason to close the connection, after sending the frame if there is one.
    pub close: Option<CloseReason>,
}

/// Reason for which a request closes its connection.
#[derive(Debug, Clone)]
pub enum CloseReason {
    /// No API has this key.
    UnknownApi { api_key: i16 },
    /// The API is supported, but not this version of it.
    UnsupportedVersion { api: ApiKey, version: i16 },
    Malformed {
        api: ApiKey,
        version: i16,
        error: DecodeError,
    },
    /// A produce with acks=0 failed, which only closing can signal. Its handler has logged the reason.
    UnacknowledgedProduceFailed,
    /// The response cannot be encoded: a bug, or a size beyond the range of a length field.
    Unencodable {
        api: ApiKey,
        version: i16,
        reason: String,
    },
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::UnknownApi { api_key } => write!(f, "unknown API key {api_key}"),
            CloseReason::UnsupportedVersion { api, version } => {
                write!(f, "unsupported {} version {version}", api.name())
            }
            CloseReason::Malformed {
                api,
                version,
                error,
            } => write!(
                f,
                "malformed {} request, version {version}: {error}",
                api.name()
            ),
            CloseReason::UnacknowledgedProduceFailed => f.write_str("a produce with acks=0 failed"),
            CloseReason::Unencodable {
                api,
                version,
                reason,
            } => write!(
                f,
                "{} version {version}: response cannot be encoded: {reason}",
                api.name()
            ),
        }
    }
}

impl Reply {
    fn closing(reason: CloseReason) -> Reply {
        Reply {
            frame: None,
            error: true,
            bytes_out: Vec::new(),
            close: Some(reason),
        }
    }
}

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

/// Input of a handler besides the request itself.
struct Call {
    broker: Arc<Broker>,
    context: RequestContext,
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: Option<String>,
}

impl Call {
    /// Logs that a transactional producer was refused, once a minute for each address.
    fn log_refused_transaction(&self, transactional_id: &str) {
        let (throttle, peer) = (&self.broker.refused_transactions, self.context.peer);
        if let Some(silenced) = throttle.allow(peer.ip(), self.broker.clock.monotonic()) {
            tracing::info!(
                %peer,
                client_id = self.client_id.as_deref().map(shortened),
                transactional_id = shortened(transactional_id),
                silenced,
                "transactional producer refused: transactions are not supported"
            );
        }
    }

    /// Logs that an internal topic of Kafka was requested, and what to use instead, once a minute for each address and
    /// topic.
    fn log_missing_internal_topic(&self, topic: &str) {
        let (throttle, peer) = (&self.broker.missing_internal_topics, self.context.peer);
        let now = self.broker.clock.monotonic();
        let Some(silenced) = throttle.allow((peer.ip(), topic.to_owned()), now) else {
            return;
        };
        let instead = match topic {
            CONSUMER_OFFSETS => {
                "OffsetFetch (scrapeMode adminApi of kminion), or streamline_consumer_lag and \
                 streamline_consumer_group_committed_offset of /metrics"
            }
            _ => "none",
        };
        tracing::warn!(
            topic,
            instead,
            %peer,
            client_id = self.client_id.as_deref(),
            silenced,
            "internal Kafka topic requested, not available on this server"
        );
    }
}

/// Result of a handler; a bare response converts into it.
struct Answer<T> {
    /// `None` if no response is sent.
    response: Option<T>,
    bytes_out: Vec<(Arc<TopicCounters>, u64)>,
    close: Option<CloseReason>,
}

impl<T> From<T> for Answer<T> {
    fn from(response: T) -> Self {
        Answer {
            response: Some(response),
            bytes_out: Vec::new(),
            close: None,
        }
    }
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

/// Creates the handler's future for a request. It makes progress only when polled.
pub fn dispatch(
    broker: &Arc<Broker>,
    context: RequestContext,
    header: RequestHeader,
    body: Bytes,
) -> BoxFuture<'static, Reply> {
    let Some(api) = APIS.iter().find(|api| api.key as i16 == header.api_key) else {
        let api_key = header.api_key;
        return closing(CloseReason::UnknownApi { api_key });
    };
    let call = Call {
        broker: Arc::clone(broker),
        context,
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

/// Decodes a request, runs its handler and encodes the response.
async fn serve<R, F, Fut, A>(call: Call, body: Bytes, handle: F) -> Reply
where
    R: Request,
    F: FnOnce(Call, R) -> Fut,
    Fut: Future<Output = A>,
    A: Into<Answer<R::Response>>,
{
    let (version, correlation_id) = (call.version, call.correlation_id);
    let request = match decode_request::<R>(body, version) {
        Ok(request) => request,
        Err(error) => {
            return Reply::closing(CloseReason::Malformed {
                api: R::KEY,
                version,
                error,
            });
        }
    };
    let answer = handle(call, request).await.into();
    encode::<R>(answer, correlation_id, version)
}

fn encode<R: Request>(answer: Answer<R::Response>, correlation_id: i32, version: i16) -> Reply {
    let Some(response) = answer.response else {
        return Reply {
            frame: None,
            error: answer.close.is_some(),
            bytes_out: answer.bytes_out,
            close: answer.close,
        };
    };
    match encode_response::<R>(correlation_id, version, &response) {
        Ok(frame) => Reply {
            frame: Some(frame),
            error: response.has_error(),
            bytes_out: answer.bytes_out,
            close: answer.close,
        },
        Err(error) => Reply::closing(CloseReason::Unencodable {
            api: R::KEY,
            version,
            reason: error.to_string(),
        }),
    }
}
