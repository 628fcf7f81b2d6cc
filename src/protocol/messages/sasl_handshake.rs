//! SaslHandshake: selects the mechanism for authentication.

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
        /// The supported mechanisms.
        mechanisms: Vec<String>;
    }
}
