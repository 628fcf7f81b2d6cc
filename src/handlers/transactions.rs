//! Transactions of producers: AddPartitionsToTxn, AddOffsetsToTxn, EndTxn.

use uuid::Uuid;

use super::{Call, error};
use crate::broker::{Operation, Resource};
use crate::coordinator::transaction::{ProducerIdentity, TransactionError};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::add_offsets_to_txn::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse,
};
use crate::protocol::messages::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
};
use crate::protocol::messages::end_txn::{EndTxnRequest, EndTxnResponse};
use crate::storage::TransactionOutcome;

/// The first version of AddPartitionsToTxn that brokers send to each other.
const ADD_PARTITIONS_BATCHED_FROM: i16 = 4;
/// The first version of each API here whose clients know PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;
/// The first version of EndTxn that increments the epoch.
const END_INCREMENTS_FROM: i16 = 5;

pub(super) async fn add_partitions(
    call: Call,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if call.version < ADD_PARTITIONS_BATCHED_FROM {
        let transaction = AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        };
        let id = &transaction.transactional_id;
        let authorized = call.authorize(Operation::Write, Resource::TransactionalId(id));
        let results = match authorized {
            Ok(()) => add_to_one(&call, transaction).await,
            Err(code) => added(transaction.topics, |_, _| code),
        };
        return AddPartitionsToTxnResponse {
            results_by_topic_v3_and_below: results,
            ..AddPartitionsToTxnResponse::default()
        };
    }
    if let Err(error_code) = call.authorize(Operation::ClusterAction, Resource::Cluster) {
        return AddPartitionsToTxnResponse {
            error_code,
            ..AddPartitionsToTxnResponse::default()
        };
    }
    let mut results = Vec::new();
    for transaction in request.transactions {
        results.push(AddPartitionsToTxnResult {
            transactional_id: transaction.transactional_id.clone(),
            topic_results: add_to_one(&call, transaction).await,
        });
    }
    AddPartitionsToTxnResponse {
        results_by_transaction: results,
        ..AddPartitionsToTxnResponse::default()
    }
}

/// Adds all partitions to a transaction, or none if there is one that cannot be added.
async fn add_to_one(
    call: &Call,
    transaction: AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let producer = ProducerIdentity {
        producer_id: transaction.producer_id,
        producer_epoch: transaction.producer_epoch,
    };
    let (id, topics) = (transaction.transactional_id, transaction.topics);
    let found = find_all(call, &topics);
    if found.iter().any(Result::is_err) {
        let mut found = found.into_iter();
        return added(topics, |_, _| match found.next() {
            Some(Err(code)) => code,
            _ => ErrorCode::OPERATION_NOT_ATTEMPTED,
        });
    }
    let partitions: Vec<_> = found.into_iter().flatten().collect();
    let transactions = &call.broker.transactions;
    let code = |outcome: Result<(), TransactionError>| match outcome {
        Ok(()) => ErrorCode::NONE,
        Err(error) => error::of_transaction(&error, call.version >= FENCED_FROM),
    };
    if transaction.verify_only {
        let mut codes = partitions
            .iter()
            .map(|partition| code(transactions.verify(&id, producer, *partition)));
        return added(topics, |_, _| codes.next().unwrap_or(ErrorCode::NONE));
    }
    let code = code(
        transactions
            .add_partitions(&id, producer, &partitions)
            .await,
    );
    added(topics, |_, _| code)
}

/// Returns each partition's topic id and number, or why it cannot be added. Brokers are not asked for permission to write.
fn find_all(
    call: &Call,
    topics: &[AddPartitionsToTxnTopic],
) -> Vec<Result<(Uuid, i32), ErrorCode>> {
    let is_client = call.version < ADD_PARTITIONS_BATCHED_FROM;
    let find = |topic: &AddPartitionsToTxnTopic| {
        if is_client {
            call.authorize(Operation::Write, Resource::Topic(&topic.name))?;
        }
        let found = call.broker.topics.get(&topic.name);
        found.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    };
    topics
        .iter()
        .flat_map(|topic| {
            let found = find(topic);
            topic.partitions.iter().map(move |&number| {
                let topic = found.as_ref().map_err(|code| *code)?;
                match topic.partition(number) {
                    Some(_) => Ok((topic.id(), number)),
                    None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                }
            })
        })
        .collect()
}

/// Pairs the partitions with error codes, in the order of the request.
fn added(
    topics: Vec<AddPartitionsToTxnTopic>,
    mut code: impl FnMut(&str, i32) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let results = topics
        .into_iter()
        .map(|topic| AddPartitionsToTxnTopicResult {
            results_by_partition: topic
                .partitions
                .iter()
                .map(|&partition_index| AddPartitionsToTxnPartitionResult {
                    partition_index,
                    partition_error_code: code(&topic.name, partition_index),
                })
                .collect(),
            name: topic.name,
        });
    results.collect()
}

pub(super) async fn add_offsets(
    call: Call,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let outcome = add_group(&call, &request).await;
    AddOffsetsToTxnResponse {
        error_code: outcome.err().unwrap_or(ErrorCode::NONE),
        ..AddOffsetsToTxnResponse::default()
    }
}

async fn add_group(call: &Call, request: &AddOffsetsToTxnRequest) -> Result<(), ErrorCode> {
    let id = &request.transactional_id;
    call.authorize(Operation::Write, Resource::TransactionalId(id))?;
    call.authorize(Operation::Read, Resource::Group(&request.group_id))?;
    let producer = ProducerIdentity {
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
    };
    let transactions = &call.broker.transactions;
    let added = transactions
        .add_group(id, producer, &request.group_id)
        .await;
    added.map_err(|error| error::of_transaction(&error, call.version >= FENCED_FROM))
}

pub(super) async fn end(call: Call, request: EndTxnRequest) -> EndTxnResponse {
    match end_authorized(&call, &request).await {
        Ok(next) => EndTxnResponse {
            producer_id: next.producer_id,
            producer_epoch: next.producer_epoch,
            ..EndTxnResponse::default()
        },
        Err(error_code) => EndTxnResponse {
            error_code,
            ..EndTxnResponse::default()
        },
    }
}

async fn end_authorized(
    call: &Call,
    request: &EndTxnRequest,
) -> Result<ProducerIdentity, ErrorCode> {
    let id = &request.transactional_id;
    call.authorize(Operation::Write, Resource::TransactionalId(id))?;
    let producer = ProducerIdentity {
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
    };
    let outcome = match request.committed {
        true => TransactionOutcome::Commit,
        false => TransactionOutcome::Abort,
    };
    let increments = call.version >= END_INCREMENTS_FROM;
    let transactions = &call.broker.transactions;
    let ended = transactions.end(id, producer, outcome, increments).await;
    ended.map_err(|error| error::of_transaction(&error, call.version >= FENCED_FROM))
}
