//! AddPartitionsToTxn: adds partitions to a producer's transaction.
//!
//! * 2: PRODUCER_FENCED
//! * 4: from broker to broker: several transactions in one request, which may only verify their partitions
//! * 5: TRANSACTION_ABORTABLE (KIP-890)
//!
//! Kafka's schema prefixes the fields of the earlier versions with `v3_and_below`.

use crate::protocol::error_code::ErrorCode;

api!(AddPartitionsToTxn: AddPartitionsToTxnRequest => AddPartitionsToTxnResponse, versions 0..=5);

messages! {
    AddPartitionsToTxnRequest {
        transactions: Vec<AddPartitionsToTxnTransaction>, only 4..;
        v3_and_below_transactional_id: String, only ..=3;
        v3_and_below_producer_id: i64, only ..=3;
        v3_and_below_producer_epoch: i16, only ..=3;
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic>, only ..=3;
    }

    AddPartitionsToTxnTransaction {
        transactional_id: String;
        producer_id: i64;
        producer_epoch: i16;
        verify_only: bool;
        topics: Vec<AddPartitionsToTxnTopic>;
    }

    AddPartitionsToTxnTopic {
        name: String;
        partitions: Vec<i32>;
    }
}

messages! {
    AddPartitionsToTxnResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode, in 4..;
        results_by_transaction: Vec<AddPartitionsToTxnResult>, in 4..;
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult>, in ..=3;
    }

    AddPartitionsToTxnResult {
        transactional_id: String;
        topic_results: Vec<AddPartitionsToTxnTopicResult>;
    }

    AddPartitionsToTxnTopicResult {
        name: String;
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult>;
    }

    AddPartitionsToTxnPartitionResult {
        partition_index: i32;
        partition_error_code: ErrorCode;
    }
}
