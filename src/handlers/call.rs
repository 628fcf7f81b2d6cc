//! The vocabulary of handlers: a request with its surroundings, its answer, and the encoded reply.

use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Session;
use super::metering::RequestMeter;
use crate::broker::CONSUMER_OFFSETS;
use crate::metrics::TopicCounters;
use crate::protocol::kafka::{
    ApiKey, DecodeError, Message, Request, ResponseFrame, Wire, decode_request, encode_response,
};
use crate::storage::Isolation;

/// Returns the isolation that a request's level stands for.
pub(super) fn isolation(level: i8) -> Isolation {
    match level {
        1 => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    }
}

/// Input of a handler besides the request itself.
pub(super) struct Call {
    pub(super) session: Arc<Session>,
    pub(super) api: ApiKey,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
    pub(super) client_id: Option<String>,
    /// `None` if the client has no quotas.
    pub(super) meter: Option<Arc<RequestMeter>>,
}

/// A call has the properties of its session.
impl Deref for Call {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Call {
    /// Logs that an internal topic of Kafka was requested, and what to use instead, once a minute for each address and
    /// topic.
    pub(super) fn log_missing_internal_topic(&self, topic: &str) {
        let (throttle, peer) = (&self.broker.missing_internal_topics, self.peer);
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
pub(super) struct Answer<T> {
    /// `None` if no response is sent.
    pub(super) response: Option<T>,
    pub(super) bytes_out: Vec<(Arc<TopicCounters>, u64)>,
    pub(super) close: Option<CloseReason>,
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
    /// Time for which nothing more is read from the client, because it has exceeded a quota.
    pub throttled: Duration,
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
    pub(super) fn closing(reason: CloseReason) -> Reply {
        Reply {
            frame: None,
            error: true,
            bytes_out: Vec::new(),
            close: Some(reason),
            throttled: Duration::ZERO,
        }
    }
}

/// Decodes a request, runs its handler and encodes the response.
pub(super) async fn serve<R, F, Fut, A>(call: Call, body: Bytes, handle: F) -> Reply
where
    R: Request,
    F: FnOnce(Call, R) -> Fut,
    Fut: Future<Output = A>,
    A: Into<Answer<R::Response>>,
{
    let (version, correlation_id) = (call.version, call.correlation_id);
    let meter = call.meter.clone();
    let request = match metered(&meter, || decode_request::<R>(body, version)) {
        Ok(request) => request,
        Err(error) => {
            return Reply::closing(CloseReason::Malformed {
                api: R::KEY,
                version,
                error,
            });
        }
    };
    let mut handling = pin!(handle(call, request));
    let answer = match &meter {
        None => handling.await,
        Some(meter) => poll_fn(|cx| meter.time(|| handling.as_mut().poll(cx))).await,
    };
    let answer = answer.into();
    match meter {
        None => encode::<R>(answer, correlation_id, version),
        Some(meter) => encode_metered::<R>(&meter, answer, correlation_id, version),
    }
}

/// Encodes the response to a client that has quotas, with the time for which it is throttled.
fn encode_metered<R: Request>(
    meter: &RequestMeter,
    mut answer: Answer<R::Response>,
    correlation_id: i32,
    version: i16,
) -> Reply {
    let has_response = answer.response.is_some();
    let throttled = meter.finish(has_response);
    if let Some(response) = &mut answer.response {
        response.set_throttle_time_ms(millis(throttled));
    }
    let mut reply = meter.time(|| encode::<R>(answer, correlation_id, version));
    if has_response {
        meter.charge_rest();
    }
    reply.throttled = throttled;
    reply
}

/// Runs a part of the work on a request, and adds the time that it takes if the client has quotas.
fn metered<T>(meter: &Option<Arc<RequestMeter>>, work: impl FnOnce() -> T) -> T {
    match meter {
        None => work(),
        Some(meter) => meter.time(work),
    }
}

/// Converts the time for which a client is throttled; Kafka's field for it ends at 24 days.
fn millis(throttled: Duration) -> i32 {
    i32::try_from(throttled.as_millis()).unwrap_or(i32::MAX)
}

pub(super) fn encode<R: Request>(
    answer: Answer<R::Response>,
    correlation_id: i32,
    version: i16,
) -> Reply {
    let Some(response) = answer.response else {
        return Reply {
            frame: None,
            error: answer.close.is_some(),
            bytes_out: answer.bytes_out,
            close: answer.close,
            throttled: Duration::ZERO,
        };
    };
    match encode_response::<R>(correlation_id, version, &response) {
        Ok(frame) => Reply {
            frame: Some(frame),
            error: response.has_error(),
            bytes_out: answer.bytes_out,
            close: answer.close,
            throttled: Duration::ZERO,
        },
        Err(error) => Reply::closing(CloseReason::Unencodable {
            api: R::KEY,
            version,
            reason: error.to_string(),
        }),
    }
}
