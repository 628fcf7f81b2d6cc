//! SaslHandshake: a client that wants to authenticate names the mechanism.

use crate::protocol::error_code::ErrorCode;

api!(SaslHandshake: SaslHandshakeRequest => SaslHandshakeResponse, versions 0..=1);

messages! {
    SaslHandshakeRequest {
        mechanism: String;
    }
}

messages! {
    SaslHandshakeResponse {
        error_code: ErrorCode;
        /// The mechanisms that could be asked for instead.
        mechanisms: Vec<String>;
    }
}
