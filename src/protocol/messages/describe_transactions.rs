//! DescribeTransactions: the transactions of transactional ids (KIP-664).

use crate::protocol::error_code::ErrorCode;

api!(DescribeTransactions: DescribeTransactionsRequest => DescribeTransactionsResponse, versions 0..=0);

messages! {
    DescribeTransactionsRequest {
        transactional_ids: Vec<String>;
    }
}

messages! {
    DescribeTransactionsResponse {
        throttle_time_ms: i32;
        transaction_states: Vec<TransactionState>;
    }

    TransactionState {
        error_code: ErrorCode;
        transactional_id: String;
        transaction_state: String;
        transaction_timeout_ms: i32;
        transaction_start_time_ms: i64;
        producer_id: i64;
        producer_epoch: i16;
        topics: Vec<TopicData>;
    }

    TopicData {
        topic: String;
        partitions: Vec<i32>;
    }
}
