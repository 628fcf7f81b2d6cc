//! ListTransactions: the transactional ids of a coordinator (KIP-664).
//!
//! * 1: filter by age (KIP-994)
//! * 2: filter by a regular expression for the id (KIP-1152)

use crate::protocol::error_code::ErrorCode;

api!(ListTransactions: ListTransactionsRequest => ListTransactionsResponse, versions 0..=2);

messages! {
    ListTransactionsRequest {
        state_filters: Vec<String>;
        producer_id_filters: Vec<i64>;
        duration_filter: i64 = -1, only 1..;
        transactional_id_pattern: Option<String>, only 2..;
    }
}

messages! {
    ListTransactionsResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        unknown_state_filters: Vec<String>;
        transaction_states: Vec<TransactionState>;
    }

    TransactionState {
        transactional_id: String;
        producer_id: i64;
        transaction_state: String;
    }
}
