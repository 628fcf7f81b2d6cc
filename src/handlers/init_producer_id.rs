//! InitProducerId: allocates a producer id for an idempotent producer.
//!
//! A producer without a transactional id always gets a new id with epoch 0, whatever it had before, as in Kafka: such a
//! producer increments its epoch by itself.

use super::refusal::Refusal;
use super::{Call, error};
use crate::broker::{Operation, Resource};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

pub(super) async fn handle(call: Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    if let Err(error_code) = check(&request) {
        return refuse(error_code);
    }
    if let Some(transactional_id) = &request.transactional_id {
        call.log_refused_transaction(transactional_id);
        return refuse(Refusal::transactional().code);
    }
    // As in Kafka, whoever may write to some topic may do so idempotently.
    let denied = match call.allows(Operation::Write, Resource::AnyTopic) {
        true => Ok(()),
        false => call.authorize(Operation::IdempotentWrite, Resource::Cluster),
    };
    if let Err(error_code) = denied {
        return refuse(error_code);
    }
    match call.broker.catalog.next_producer_id().await {
        Ok(producer_id) => InitProducerIdResponse {
            producer_id,
            producer_epoch: 0,
            ..InitProducerIdResponse::default()
        },
        Err(failure) => {
            tracing::error!(error = %failure, "cannot allocate a producer id");
            refuse(error::of_catalog(&failure))
        }
    }
}

/// Checks as Kafka does that id and epoch are both set or both −1, and that the transactional id is not empty.
fn check(request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
    let half_known = (request.producer_id == -1) != (request.producer_epoch == -1);
    let empty = request.transactional_id.as_deref() == Some("");
    if half_known || empty {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    Ok(())
}

fn refuse(error_code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    }
}
