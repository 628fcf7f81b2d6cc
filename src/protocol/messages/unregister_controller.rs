//! UnregisterController: removes the registration of a controller.

use crate::protocol::error_code::ErrorCode;

api!(UnregisterController: UnregisterControllerRequest => UnregisterControllerResponse, versions 0..=0);

messages! {
    UnregisterControllerRequest {
        controller_id: i32;
    }
}

messages! {
    UnregisterControllerResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<String> = Some(String::new());
    }
}
