//! SaslHandshake: refused with the error that a Kafka broker returns on a listener without SASL.
//!
//! ApiVersions does not list it. Java clients configured to authenticate send it all the same. They treat this error as
//! final and report it; a closed connection they would take for a network problem, and retry until they time out.

use super::Call;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};

pub(super) async fn refuse(call: Call, request: SaslHandshakeRequest) -> SaslHandshakeResponse {
    let (throttle, peer) = (&call.broker.refused_authentications, call.peer);
    if let Some(silenced) = throttle.allow(peer.ip(), call.broker.clock.monotonic()) {
        tracing::info!(
            %peer,
            client_id = call.client_id.as_deref(),
            mechanism = request.mechanism,
            silenced,
            "SASL authentication refused: SASL is not supported, set security.protocol=PLAINTEXT"
        );
    }
    SaslHandshakeResponse {
        error_code: ErrorCode::ILLEGAL_SASL_STATE,
        mechanisms: Vec::new(),
    }
}
