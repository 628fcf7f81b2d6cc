//! Lookup of the topic and partition that a request names.

use std::sync::Arc;

use uuid::Uuid;

use super::error;
use crate::broker::Broker;
use crate::protocol::kafka::ErrorCode;
use crate::storage::{PartitionLog, Topic};

/// Returns the topic that a request names: by id if its version has ids, by name otherwise.
pub(super) fn topic(
    broker: &Broker,
    by_id: bool,
    name: &str,
    id: Uuid,
) -> Result<Arc<Topic>, ErrorCode> {
    if by_id {
        broker
            .topics
            .get_by_id(id)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
    } else {
        topic_by_name(broker, name)
    }
}

pub(super) fn topic_by_name(broker: &Broker, name: &str) -> Result<Arc<Topic>, ErrorCode> {
    broker
        .topics
        .get(name)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// Returns a partition of a topic looked up before.
pub(super) fn partition(
    topic: &Result<Arc<Topic>, ErrorCode>,
    index: i32,
) -> Result<Arc<dyn PartitionLog>, ErrorCode> {
    topic
        .as_ref()
        .map_err(|error| *error)?
        .partition(index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// Compares the client's leader epoch with the current one (KIP-320); −1 means that it has none.
pub(super) fn check_leader_epoch(
    partition: &dyn PartitionLog,
    epoch: i32,
) -> Result<(), ErrorCode> {
    if epoch == -1 {
        return Ok(());
    }
    let current = partition
        .leader_epoch()
        .map_err(|error| error::of_storage(&error))?;
    match epoch {
        epoch if epoch < current => Err(ErrorCode::FENCED_LEADER_EPOCH),
        epoch if epoch > current => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}
