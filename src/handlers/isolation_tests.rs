//! Tests of what clients with each isolation level see of transactions.

use std::sync::Arc;

use super::harness::{TOPIC, connect, exchange, open};
use super::session::Session;
use crate::protocol::messages::fetch::{
    AbortedTransaction, FetchPartition, FetchRequest, FetchTopic, PartitionData,
};
use crate::protocol::messages::list_offsets::{
    LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::record::{BatchBuilder, Compression, RecordBatch, Records};
use crate::storage::{Acks, AppendOptions, PartitionLog, TransactionMarker, TransactionOutcome};

const OPTIONS: AppendOptions = AppendOptions { acks: Acks::Leader };

const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

async fn append(log: &dyn PartitionLog, id: i64, now_ms: i64) {
    let mut batch = BatchBuilder::new(Compression::None)
        .producer(id, 0, 0)
        .transactional();
    batch.push(now_ms, None, Some(b"value"), &[]);
    let batches = vec![batch.build().unwrap()];
    log.append(batches, OPTIONS).await.unwrap();
}

async fn abort(log: &dyn PartitionLog, producer_id: i64) {
    let marker = TransactionMarker {
        producer_id,
        producer_epoch: 0,
        coordinator_epoch: 0,
        outcome: TransactionOutcome::Abort,
    };
    log.end_transaction(marker, OPTIONS).await.unwrap();
}

async fn fetch(session: &Arc<Session>, isolation_level: i8) -> PartitionData {
    let request = FetchRequest {
        isolation_level,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic: TOPIC.to_owned(),
            partitions: vec![FetchPartition {
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    let (mut response, _) = exchange(session, 12, &request).await;
    response.responses.remove(0).partitions.remove(0)
}

fn batches(data: &PartitionData) -> usize {
    match &data.records {
        Some(Records::Bytes(bytes)) if !bytes.is_empty() => {
            RecordBatch::split(bytes.clone()).unwrap().len()
        }
        _ => 0,
    }
}

async fn latest(session: &Arc<Session>, isolation_level: i8) -> i64 {
    let request = ListOffsetsRequest {
        isolation_level,
        topics: vec![ListOffsetsTopic {
            name: TOPIC.to_owned(),
            partitions: vec![ListOffsetsPartition {
                timestamp: LATEST_TIMESTAMP,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let (response, _) = exchange(session, 7, &request).await;
    response.topics[0].partitions[0].offset
}

#[tokio::test]
async fn committed_readers_see_what_is_decided_and_which_of_it_was_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(&dir).await;
    let session = connect(&broker);
    let log = broker.topics.get(TOPIC).unwrap().partition(0).unwrap();
    let now_ms = broker.clock.now_ms();
    append(&*log, 1, now_ms).await;
    append(&*log, 2, now_ms).await;
    abort(&*log, 1).await;

    let all = fetch(&session, READ_UNCOMMITTED).await;
    assert_eq!((all.high_watermark, all.last_stable_offset), (3, 1));
    assert_eq!((batches(&all), all.aborted_transactions), (3, None));
    let decided = fetch(&session, READ_COMMITTED).await;
    assert_eq!((decided.high_watermark, decided.last_stable_offset), (3, 1));
    let first = AbortedTransaction {
        producer_id: 1,
        first_offset: 0,
    };
    let second = AbortedTransaction {
        producer_id: 2,
        first_offset: 1,
    };
    assert_eq!(batches(&decided), 1);
    assert_eq!(decided.aborted_transactions, Some(vec![first.clone()]));
    assert_eq!(latest(&session, READ_UNCOMMITTED).await, 3);
    assert_eq!(latest(&session, READ_COMMITTED).await, 1);

    abort(&*log, 2).await;
    let decided = fetch(&session, READ_COMMITTED).await;
    assert_eq!(batches(&decided), 4);
    assert_eq!(decided.aborted_transactions, Some(vec![first, second]));
    assert_eq!(latest(&session, READ_COMMITTED).await, 4);
}
