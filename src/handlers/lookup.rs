//! Lookup of the topic and partition that a request names.

use std::sync::Arc;

use uuid::Uuid;

use super::{Session, error};
use crate::broker::{Operation, Resource};
use crate::protocol::kafka::ErrorCode;
use crate::storage::{PartitionLog, Topic};

/// Returns the topic that a request names, by id if its version has ids and by name otherwise, for an operation on it.
pub(super) fn topic(
    session: &Session,
    operation: Operation,
    by_id: bool,
    name: &str,
    id: Uuid,
) -> Result<Arc<Topic>, ErrorCode> {
    match by_id {
        true => topic_by_id(session, operation, id),
        false => topic_by_name(session, operation, name),
    }
}

pub(super) fn topic_by_id(
    session: &Session,
    operation: Operation,
    id: Uuid,
) -> Result<Arc<Topic>, ErrorCode> {
    let topic = session.broker.topics.get_by_id(id);
    let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
    session.authorize(operation, Resource::Topic(topic.name()))?;
    Ok(topic)
}

pub(super) fn topic_by_name(
    session: &Session,
    operation: Operation,
    name: &str,
) -> Result<Arc<Topic>, ErrorCode> {
    session.authorize(operation, Resource::Topic(name))?;
    authorized_topic(session, name)
}

/// Returns a topic for an operation that the client may perform on it.
pub(super) fn authorized_topic(session: &Session, name: &str) -> Result<Arc<Topic>, ErrorCode> {
    let topic = session.broker.topics.get(name);
    topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
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
