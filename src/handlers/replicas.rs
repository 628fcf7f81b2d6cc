//! Replicas that a request assigns to a partition. There is one node, so it must be the only one.

use super::refusal::Refusal;
use crate::broker::NODE_ID;
use crate::protocol::kafka::ErrorCode;

/// Refuses an assignment other than to this node alone.
pub(super) fn check_replicas(replicas: &[i32]) -> Result<(), Refusal> {
    let wrong = |message: String| Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    if replicas.is_empty() {
        return wrong("a partition is assigned to no broker".to_owned());
    }
    if let Some(other) = replicas.iter().find(|id| **id != NODE_ID) {
        return wrong(format!(
            "a partition is assigned to broker {other}, but the only broker is {NODE_ID}"
        ));
    }
    if replicas.len() > 1 {
        return wrong(format!(
            "a partition is assigned to broker {NODE_ID} more than once"
        ));
    }
    Ok(())
}
