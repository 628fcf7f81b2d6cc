//! SaslHandshake: refused, with the error that a Kafka broker gives on a listener without SASL.
//!
//! ApiVersions does not list it. Java clients that are set to authenticate send it all the same; they take this error as
//! final and show it, but a connection that closes for trouble of the network, and try again until their time is up.

use super::Call;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};

pub(super) async fn refuse(call: Call, request: SaslHandshakeRequest) -> SaslHandshakeResponse {
    let (quiet, peer) = (&call.broker.refused_authentications, call.context.peer);
    if let Some(silenced) = quiet.allow(peer.ip(), call.broker.clock.monotonic()) {
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
