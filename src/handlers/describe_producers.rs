//! DescribeProducers: lists the producers that a partition knows, by which hanging transactions are found.

use std::collections::HashSet;
use std::sync::Arc;

use super::repetition::Repetitions;
use super::{Call, error, lookup};
use crate::broker::{Operation, check_name};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState,
    TopicResponse,
};
use crate::storage::{PartitionLog, ProducerInfo, Topic};

/// Bytes of a producer in a response.
const PRODUCER_BYTES: usize = 37;

/// A topic of the request, with its partitions looked up.
struct Asked {
    name: String,
    partitions: Vec<AskedPartition>,
}

struct AskedPartition {
    index: i32,
    partition: Result<Arc<dyn PartitionLog>, ErrorCode>,
}

pub(super) async fn handle(
    call: Call,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let asked = request.topics.into_iter().map(|asked| {
        let topic = topic(&call, &asked.name);
        let partitions = asked.partition_indexes.iter();
        Asked {
            partitions: partitions
                .map(|index| AskedPartition {
                    index: *index,
                    partition: lookup::partition(&topic, *index),
                })
                .collect(),
            name: asked.name,
        }
    });
    let asked: Vec<Asked> = asked.collect();
    // The producers may have to be read from a file.
    let describing = tokio::task::spawn_blocking(move || describe_all(asked));
    DescribeProducersResponse {
        topics: describing.await.unwrap_or_default(),
        ..DescribeProducersResponse::default()
    }
}

fn topic(call: &Call, name: &str) -> Result<Arc<Topic>, ErrorCode> {
    check_name(name).map_err(|invalid| error::of_topic_change(&invalid))?;
    lookup::topic_by_name(call, Operation::Read, name)
}

fn describe_all(asked: Vec<Asked>) -> Vec<TopicResponse> {
    let mut seen = HashSet::new();
    let mut repetitions = Repetitions::default();
    let topics = asked.into_iter().map(|asked| {
        let partitions = asked.partitions.into_iter().map(|each| {
            let described = each.partition.and_then(|partition| {
                if seen.insert(Arc::as_ptr(&partition).cast::<()>()) {
                    return describe(&*partition);
                }
                let bytes = |described: &Result<Vec<_>, _>| {
                    described.as_ref().map_or(0, Vec::len) * PRODUCER_BYTES
                };
                let repeated = repetitions.repeat(|| describe(&*partition), bytes);
                repeated.unwrap_or(Err(ErrorCode::INVALID_REQUEST))
            });
            response(each.index, described)
        });
        TopicResponse {
            partitions: partitions.collect(),
            name: asked.name,
        }
    });
    topics.collect()
}

fn describe(partition: &dyn PartitionLog) -> Result<Vec<ProducerState>, ErrorCode> {
    let producers = partition.producers();
    let mut producers = producers.map_err(|error| error::of_storage(&error))?;
    producers.sort_unstable_by_key(|producer| producer.producer_id);
    Ok(producers.iter().map(state).collect())
}

fn state(producer: &ProducerInfo) -> ProducerState {
    ProducerState {
        producer_id: producer.producer_id,
        producer_epoch: i32::from(producer.producer_epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp_ms,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_start_offset.unwrap_or(-1),
    }
}

fn response(
    partition_index: i32,
    described: Result<Vec<ProducerState>, ErrorCode>,
) -> PartitionResponse {
    let (error_code, active_producers) = match described {
        Ok(producers) => (ErrorCode::NONE, producers),
        Err(code) => (code, Vec::new()),
    };
    PartitionResponse {
        partition_index,
        error_code,
        error_message: None,
        active_producers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::harness::{TOPIC, connect, exchange, open};
    use crate::protocol::messages::describe_producers::TopicRequest;
    use crate::record::{BatchBuilder, Compression};
    use crate::storage::{Acks, AppendOptions, TransactionMarker, TransactionOutcome};

    const OPTIONS: AppendOptions = AppendOptions { acks: Acks::Leader };

    async fn append(log: &dyn PartitionLog, id: i64, now_ms: i64) {
        let mut batch = BatchBuilder::new(Compression::None)
            .producer(id, 2, 0)
            .transactional();
        batch.push(now_ms, None, Some(b"value"), &[]);
        let batches = vec![batch.build().unwrap()];
        log.append(batches, OPTIONS).await.unwrap();
    }

    #[tokio::test]
    async fn producers_are_described_with_their_open_transactions() {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(&dir).await;
        let log = broker.topics.get(TOPIC).unwrap().partition(0).unwrap();
        let now_ms = broker.clock.now_ms();
        append(&*log, 9, now_ms).await;
        append(&*log, 7, now_ms).await;
        let marker = TransactionMarker {
            producer_id: 9,
            producer_epoch: 3,
            coordinator_epoch: 5,
            outcome: TransactionOutcome::Abort,
        };
        log.end_transaction(marker, OPTIONS).await.unwrap();
        let topic = |name: &str, indexes: &[i32]| TopicRequest {
            name: name.to_owned(),
            partition_indexes: indexes.to_vec(),
        };
        let request = DescribeProducersRequest {
            topics: vec![
                topic(TOPIC, &[0, 0, 1]),
                topic("none", &[0]),
                topic("a/b", &[0]),
            ],
        };
        let (response, _) = exchange(&connect(&broker), 0, &request).await;
        let partitions = &response.topics[0].partitions;
        let open = ProducerState {
            producer_id: 7,
            producer_epoch: 2,
            last_sequence: 0,
            last_timestamp: now_ms,
            coordinator_epoch: -1,
            current_txn_start_offset: 1,
        };
        let ended = &partitions[0].active_producers[1];
        assert_eq!(partitions[0].active_producers[0], open);
        assert_eq!((ended.producer_id, ended.producer_epoch), (9, 3));
        assert_eq!((ended.coordinator_epoch, ended.last_sequence), (5, -1));
        assert_eq!(ended.current_txn_start_offset, -1);
        assert_eq!(partitions[1], partitions[0]);
        let codes: Vec<_> = response
            .topics
            .iter()
            .flat_map(|it| &it.partitions)
            .collect();
        let codes: Vec<_> = codes.iter().map(|it| it.error_code).collect();
        let expected = [
            ErrorCode::NONE,
            ErrorCode::NONE,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
        ];
        assert_eq!(codes, expected);
    }

    #[tokio::test]
    async fn a_partition_repeated_without_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(&dir).await;
        let log = broker.topics.get(TOPIC).unwrap().partition(0).unwrap();
        for id in 0..100 {
            append(&*log, id, broker.clock.now_ms()).await;
        }
        let request = DescribeProducersRequest {
            topics: vec![TopicRequest {
                name: TOPIC.to_owned(),
                partition_indexes: vec![0; 1_000],
            }],
        };
        let (response, _) = exchange(&connect(&broker), 0, &request).await;
        let partitions = &response.topics[0].partitions;
        let refused = |it: &&PartitionResponse| it.error_code == ErrorCode::INVALID_REQUEST;
        assert_eq!(partitions.len(), 1_000);
        let count = partitions.iter().filter(refused).count();
        assert!((600..900).contains(&count), "{count}");
    }
}
