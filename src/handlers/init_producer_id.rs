//! InitProducerId: allocates an id and epoch for an idempotent or transactional producer.
//!
//! A producer without a transactional id always gets a new id with epoch 0, whatever it had before, as in Kafka: such a
//! producer increments its epoch by itself.

use super::{Call, error};
use crate::broker::{Operation, Resource};
use crate::coordinator::transaction::{InitProducer, ProducerIdentity};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_FROM: i16 = 4;

pub(super) async fn handle(call: Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    if let Err(error_code) = check(&request) {
        return refuse(error_code);
    }
    let producer = match &request.transactional_id {
        Some(id) => initialise(&call, id, &request).await,
        None => allocate(&call).await,
    };
    match producer {
        Ok(producer) => InitProducerIdResponse {
            producer_id: producer.producer_id,
            producer_epoch: producer.producer_epoch,
            ..InitProducerIdResponse::default()
        },
        Err(error_code) => refuse(error_code),
    }
}

async fn initialise(
    call: &Call,
    id: &str,
    request: &InitProducerIdRequest,
) -> Result<ProducerIdentity, ErrorCode> {
    call.authorize(Operation::Write, Resource::TransactionalId(id))?;
    let init = InitProducer {
        timeout_ms: request.transaction_timeout_ms,
        expected: (request.producer_id != -1).then_some(ProducerIdentity {
            producer_id: request.producer_id,
            producer_epoch: request.producer_epoch,
        }),
    };
    let initialised = call.broker.transactions.initialise(id, init).await;
    initialised.map_err(|error| error::of_transaction(&error, call.version >= FENCED_FROM))
}

async fn allocate(call: &Call) -> Result<ProducerIdentity, ErrorCode> {
    // As in Kafka, whoever may write to some topic may do so idempotently.
    if !call.allows(Operation::Write, Resource::AnyTopic) {
        call.authorize(Operation::IdempotentWrite, Resource::Cluster)?;
    }
    match call.broker.catalog.next_producer_id().await {
        Ok(producer_id) => Ok(ProducerIdentity {
            producer_id,
            producer_epoch: 0,
        }),
        Err(failure) => {
            tracing::error!(error = %failure, "cannot allocate a producer id");
            Err(error::of_catalog(&failure))
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
