//! UnregisterBroker: removes a broker from the cluster.

use crate::protocol::error_code::ErrorCode;

api!(UnregisterBroker: UnregisterBrokerRequest => UnregisterBrokerResponse, versions 0..=0);

messages! {
    UnregisterBrokerRequest {
        broker_id: i32;
    }
}

messages! {
    UnregisterBrokerResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
    }
}
