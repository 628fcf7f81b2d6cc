//! Administration of transactions: DescribeTransactions, ListTransactions, WriteTxnMarkers.

use futures_util::future::join_all;
use regex::{Regex, RegexBuilder};

use super::audit::Name;
use super::repetition::answer_each;
use super::{Call, error, lookup};
use crate::broker::{Operation, Resource};
use crate::coordinator::transaction::{
    TransactionDescription, TransactionFilter, TransactionState as State,
};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TopicData, TransactionState,
};
use crate::protocol::messages::list_transactions::{
    self, ListTransactionsRequest, ListTransactionsResponse,
};
use crate::protocol::messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerPartitionResult, WritableTxnMarkerResult,
    WritableTxnMarkerTopic, WritableTxnMarkerTopicResult, WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
};
use crate::storage::{Acks, AppendOptions, TransactionMarker, TransactionOutcome};

/// Limit on the memory of a compiled regular expression.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// States of Kafka in which no transactional id can be observed here.
const PASSING_STATES: [&str; 2] = ["Dead", "PrepareEpochFence"];

pub(super) async fn describe(
    call: Call,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    DescribeTransactionsResponse {
        transaction_states: answer_each(
            request.transactional_ids,
            String::clone,
            |id| match describe_one(&call, id) {
                Ok(found) => described(&call, id, found),
                Err(code) => not_described(id.clone(), code),
            },
            size_of_description,
            |id| not_described(id, ErrorCode::INVALID_REQUEST),
        ),
        ..DescribeTransactionsResponse::default()
    }
}

fn describe_one(call: &Call, id: &str) -> Result<TransactionDescription, ErrorCode> {
    call.authorize(Operation::Describe, Resource::TransactionalId(id))?;
    let found = call.broker.transactions.describe(id);
    let found = found.map_err(|error| error::of_transaction(&error, true))?;
    found.ok_or(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND)
}

fn not_described(transactional_id: String, error_code: ErrorCode) -> TransactionState {
    TransactionState {
        error_code,
        transactional_id,
        ..TransactionState::default()
    }
}

/// Converts a description, without the topics that the client may not describe.
fn described(call: &Call, id: &str, found: TransactionDescription) -> TransactionState {
    let topics = found.partitions.into_iter();
    let visible =
        topics.filter(|(topic, _)| call.allows(Operation::Describe, Resource::Topic(topic)));
    TransactionState {
        error_code: ErrorCode::NONE,
        transactional_id: id.to_owned(),
        transaction_state: found.state.name().to_owned(),
        transaction_timeout_ms: found.timeout_ms,
        transaction_start_time_ms: found.started_ms,
        producer_id: found.producer.producer_id,
        producer_epoch: found.producer.producer_epoch,
        topics: visible
            .map(|(topic, partitions)| TopicData { topic, partitions })
            .collect(),
    }
}

fn size_of_description(state: &TransactionState) -> usize {
    let topics = state
        .topics
        .iter()
        .map(|topic| size_of::<TopicData>() + topic.topic.len() + size_of_val(&*topic.partitions));
    size_of::<TransactionState>() + state.transactional_id.len() + topics.sum::<usize>()
}

pub(super) async fn list(call: Call, request: ListTransactionsRequest) -> ListTransactionsResponse {
    let Ok(pattern) = pattern_of(request.transactional_id_pattern) else {
        return ListTransactionsResponse {
            error_code: ErrorCode::INVALID_REGULAR_EXPRESSION,
            ..ListTransactionsResponse::default()
        };
    };
    let (states, unknown_state_filters) = states_of(request.state_filters);
    let filter = TransactionFilter {
        states,
        producer_ids: match request.producer_id_filters.is_empty() {
            true => None,
            false => Some(request.producer_id_filters.into_iter().collect()),
        },
        older_than_ms: Some(request.duration_filter).filter(|age_ms| *age_ms >= 0),
        pattern,
    };
    let found = call.broker.transactions.list(&filter).into_iter();
    let visible = found
        .filter(|listing| call.allows(Operation::Describe, Resource::TransactionalId(&listing.id)));
    ListTransactionsResponse {
        unknown_state_filters,
        transaction_states: visible
            .map(|listing| list_transactions::TransactionState {
                transactional_id: listing.id,
                producer_id: listing.producer_id,
                transaction_state: listing.state.name().to_owned(),
            })
            .collect(),
        ..ListTransactionsResponse::default()
    }
}

/// Parses a regular expression that has to match a whole id. An empty one selects all.
fn pattern_of(pattern: Option<String>) -> Result<Option<Regex>, regex::Error> {
    let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) else {
        return Ok(None);
    };
    let compile = |pattern: &str| {
        let mut builder = RegexBuilder::new(pattern);
        builder.size_limit(PATTERN_BYTES_MAX).build()
    };
    // Valid by itself, and not only with the parentheses around it.
    compile(&pattern)?;
    compile(&format!("^(?:{pattern})$")).map(Some)
}

/// Parses the names of states. Returns those that are no names of states beside them, and `None` if all are selected.
fn states_of(names: Vec<String>) -> (Option<Vec<State>>, Vec<String>) {
    if names.is_empty() {
        return (None, Vec::new());
    }
    let mut states = Vec::new();
    let mut unknown = Vec::new();
    for name in names {
        match State::ALL.into_iter().find(|state| state.name() == name) {
            Some(state) => states.push(state),
            None if PASSING_STATES.contains(&&*name) => {}
            None => unknown.push(name),
        }
    }
    (Some(states), unknown)
}

/// Writes markers for a transaction that the client wants to end, whether or not the coordinator knows it.
pub(super) async fn write_markers(
    call: Call,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    let allowed = match call.allows(Operation::Alter, Resource::Cluster) {
        true => Ok(()),
        false => call.authorize(Operation::ClusterAction, Resource::Cluster),
    };
    let mut audit = call.audit("transaction markers written");
    let mut markers = Vec::new();
    for marker in request.markers {
        let result = match allowed {
            Ok(()) => write_marker(&call, marker).await,
            Err(code) => refused(marker, code),
        };
        for topic in &result.topics {
            let is_written = |it: &WritableTxnMarkerPartitionResult| !it.error_code.is_error();
            for partition in topic.partitions.iter().filter(|it| is_written(it)) {
                audit.list(format_args!(
                    "{}-{} producer {}",
                    Name(&topic.name),
                    partition.partition_index,
                    result.producer_id
                ));
            }
        }
        markers.push(result);
    }
    WriteTxnMarkersResponse { markers }
}

fn refused(marker: WritableTxnMarker, error_code: ErrorCode) -> WritableTxnMarkerResult {
    let topics = marker
        .topics
        .into_iter()
        .map(|topic| WritableTxnMarkerTopicResult {
            name: topic.name,
            partitions: topic
                .partition_indexes
                .into_iter()
                .map(|partition_index| WritableTxnMarkerPartitionResult {
                    partition_index,
                    error_code,
                })
                .collect(),
        });
    WritableTxnMarkerResult {
        producer_id: marker.producer_id,
        topics: topics.collect(),
    }
}

async fn write_marker(call: &Call, request: WritableTxnMarker) -> WritableTxnMarkerResult {
    let marker = TransactionMarker {
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
        coordinator_epoch: request.coordinator_epoch,
        outcome: match request.transaction_result {
            true => TransactionOutcome::Commit,
            false => TransactionOutcome::Abort,
        },
    };
    let mut topics = Vec::new();
    for topic in request.topics {
        let partitions = write_to_topic(call, marker, &topic).await;
        topics.push(WritableTxnMarkerTopicResult {
            name: topic.name,
            partitions,
        });
    }
    WritableTxnMarkerResult {
        producer_id: request.producer_id,
        topics,
    }
}

async fn write_to_topic(
    call: &Call,
    marker: TransactionMarker,
    topic: &WritableTxnMarkerTopic,
) -> Vec<WritableTxnMarkerPartitionResult> {
    let found = lookup::authorized_topic(call, &topic.name);
    let writes = topic.partition_indexes.iter().map(|&index| {
        let options = AppendOptions { acks: Acks::All };
        let log = lookup::partition(&found, index);
        let ticket = log.map(|log| log.end_transaction(marker, options));
        async move {
            let error_code = match ticket {
                Ok(ticket) => match ticket.await {
                    Ok(_) => ErrorCode::NONE,
                    Err(error) => error::of_storage(&error),
                },
                Err(code) => code,
            };
            WritableTxnMarkerPartitionResult {
                partition_index: index,
                error_code,
            }
        }
    });
    join_all(writes).await
}
