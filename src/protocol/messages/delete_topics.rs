//! DeleteTopics.
//!
//! * 5: error message
//! * 6: topics by name or id

use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;

api!(DeleteTopics: DeleteTopicsRequest => DeleteTopicsResponse, versions 1..=6);

messages! {
    DeleteTopicsRequest {
        topics: Vec<DeleteTopicState>, only 6..;
        topic_names: Vec<String>, in ..=5;
        timeout_ms: i32;
    }

    DeleteTopicState {
        name: Option<String>;
        topic_id: Uuid;
    }
}

messages! {
    DeleteTopicsResponse {
        throttle_time_ms: i32;
        responses: Vec<DeletableTopicResult>;
    }

    DeletableTopicResult {
        name: Option<String> = Some(String::new()), null 6..;
        topic_id: Uuid, in 6..;
        error_code: ErrorCode;
        error_message: Option<String>, in 5..;
    }
}
