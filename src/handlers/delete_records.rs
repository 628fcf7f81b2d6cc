//! DeleteRecords: advances the log start offset of partitions, which deletes the records before it.

use std::sync::Arc;

use super::{Call, error, lookup};
use crate::broker::Operation;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use crate::storage::PartitionLog;

/// Requests the high watermark as the new log start offset: deletes all records that can be read.
const UP_TO_HIGH_WATERMARK: i64 = -1;

pub(super) async fn handle(call: Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut audit = call.audit("records deleted");
    for asked in request.topics {
        let topic = lookup::topic_by_name(&call, Operation::Delete, &asked.name);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for each in &asked.partitions {
            let low_watermark = match lookup::partition(&topic, each.partition_index) {
                Ok(partition) => {
                    let (name, before) = (partition.to_string(), partition.offsets().log_start);
                    let deleted = audit.attempt(name, delete(partition, each.offset)).await;
                    match deleted {
                        Ok(start) if start > before => {
                            audit.amend(format_args!("log start {before}→{start}"));
                        }
                        Ok(_) => audit.withdraw(),
                        Err(_) => {}
                    }
                    deleted
                }
                Err(code) => Err(code),
            };
            partitions.push(result(each, low_watermark));
        }
        topics.push(DeleteRecordsTopicResult {
            name: asked.name,
            partitions,
        });
    }
    DeleteRecordsResponse {
        topics,
        ..DeleteRecordsResponse::default()
    }
}

/// Deletes records and returns the new log start offset.
async fn delete(partition: Arc<dyn PartitionLog>, offset: i64) -> Result<i64, ErrorCode> {
    // As in Kafka: the records of a compacted topic are deleted by tombstones only.
    let policy = partition.topic().config().cleanup_policy;
    if policy.compact && !policy.delete {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let before = match offset {
        UP_TO_HIGH_WATERMARK => partition.offsets().high_watermark,
        offset => offset,
    };
    let deleted = partition.delete_before(before).await;
    deleted.map_err(|error| error::of_storage(&error))
}

fn result(
    asked: &DeleteRecordsPartition,
    low_watermark: Result<i64, ErrorCode>,
) -> DeleteRecordsPartitionResult {
    DeleteRecordsPartitionResult {
        partition_index: asked.partition_index,
        low_watermark: *low_watermark.as_ref().unwrap_or(&-1),
        error_code: low_watermark.err().unwrap_or(ErrorCode::NONE),
    }
}
