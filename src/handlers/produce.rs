//! Produce: appends batches to the logs of their partitions.
//!
//! Partitions of a request are independent: a refused batch does not affect the others. All appends happen before the
//! handler first waits, hence in the order of a connection's requests; afterwards it waits only for the durability that
//! acks=all or the topic's `flush.messages` requires. acks=0 gets no response: if a batch was refused the connection
//! closes, which is how such a producer learns of it. Refused batches are counted by reason and logged here and nowhere
//! else.

mod refused_batch;
mod transactional;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::{Instant, timeout_at};

use refused_batch::{RecordErrors, RefusedBatch};

use super::refusal::Refusal;
use super::{Answer, Call, CloseReason, lookup};
use crate::broker::{Operation, RefusedBatches};
use crate::config::CompressionType;
use crate::metrics::ProduceRefusal;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData, TopicProduceResponse,
};
use crate::record::{Compression, RecordBatch};
use crate::storage::{self, Acks, AppendOptions, Appended, PartitionLog, Ticket, Topic};

/// The first version that names topics by id instead of by name.
const TOPIC_IDS_FROM: i16 = 13;

/// The first version whose clients are known to read zstd (KIP-110).
const ZSTD_FROM: i16 = 7;

/// Shortest time for the flush before acks=all is answered with a time-out. A request's time-out is for other replicas, of
/// which there are none: a single Kafka broker answers as soon as it has written, whatever the time-out, and no producer
/// expects one that is shorter than a flush.
const FLUSH_MIN: Duration = Duration::from_secs(5);

/// Time after which the rest of a request's appends run in a blocking section.
const LONG: Duration = Duration::from_millis(2);

/// Time spent on a request's appends. Starts with the second one, so that the many requests with a single append do not
/// read the clock.
#[derive(Default)]
struct Work {
    appends: usize,
    began: Option<Instant>,
}

impl Work {
    /// Returns whether the appends have taken [`LONG`]. Called before each of them.
    fn is_long(&mut self) -> bool {
        self.appends += 1;
        self.appends > 1 && self.began.get_or_insert_with(Instant::now).elapsed() >= LONG
    }
}

/// A batch that has been appended.
enum Written {
    Done(Appended),
    /// The result of the append is not known yet, or must not be acknowledged yet.
    Pending(
        Arc<dyn PartitionLog>,
        BoxFuture<'static, Result<Appended, storage::Error>>,
    ),
}

/// Outcome of one partition of the request.
struct Outcome {
    index: i32,
    result: Result<Written, Box<RefusedBatch>>,
}

impl Outcome {
    fn refused(&self) -> Option<&RefusedBatch> {
        self.result.as_ref().err().map(Box::as_ref)
    }

    fn is_refused(&self) -> bool {
        self.result.is_err()
    }

    fn is_pending(&self) -> bool {
        matches!(self.result, Ok(Written::Pending(..)))
    }
}

pub(super) async fn handle(call: Call, request: ProduceRequest) -> Answer<ProduceResponse> {
    let acks = check_request(&request);
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let mut work = Work::default();
    let mut errors = RecordErrors::of_request(call.version, request.acks != 0);
    // Appends everything before the first await, which keeps the order of a connection's requests.
    let mut topics = request.topic_data;
    let mut outcomes = Vec::with_capacity(topics.len());
    for data in &mut topics {
        let partitions = std::mem::take(&mut data.partition_data);
        outcomes.push(append_all(
            &call,
            request.transactional_id.as_deref(),
            data,
            partitions,
            &acks,
            &mut work,
            &mut errors,
        ));
    }
    // Waits for all partitions at once.
    if request.acks != 0 && outcomes.iter().flatten().any(Outcome::is_pending) {
        let deadline = Instant::now() + timeout.max(FLUSH_MIN);
        let pending = outcomes.iter_mut().flatten();
        let pending = pending.filter(|outcome| outcome.is_pending());
        let by_id = call.version >= TOPIC_IDS_FROM;
        join_all(pending.map(|outcome| await_append(outcome, by_id, deadline))).await;
    }
    let is_refused = outcomes.iter().flatten().any(Outcome::is_refused);
    if is_refused {
        note_refused(&call, request.acks, refused_of(&topics, &outcomes));
    }
    if request.acks == 0 {
        return Answer {
            response: None,
            bytes_out: Vec::new(),
            close: is_refused.then_some(CloseReason::UnacknowledgedProduceFailed),
        };
    }
    Answer::from(ProduceResponse {
        // Into the memory of the request's topics.
        responses: topics
            .into_iter()
            .zip(outcomes)
            .map(|(data, outcomes)| topic_response(data, outcomes))
            .collect(),
        ..ProduceResponse::default()
    })
}

/// Returns the acks of the request, or why all of it is refused.
fn check_request(request: &ProduceRequest) -> Result<Acks, Box<RefusedBatch>> {
    match request.acks {
        0 => Ok(Acks::None),
        1 => Ok(Acks::Leader),
        -1 => Ok(Acks::All),
        other => Err(RefusedBatch::new(
            ProduceRefusal::InvalidAcks,
            ErrorCode::INVALID_REQUIRED_ACKS,
            format!("invalid acks {other}: must be -1 (all), 0 or 1"),
        )),
    }
}

fn append_all(
    call: &Call,
    transactional_id: Option<&str>,
    data: &TopicProduceData,
    partitions: Vec<PartitionProduceData>,
    acks: &Result<Acks, Box<RefusedBatch>>,
    work: &mut Work,
    errors: &mut RecordErrors,
) -> Vec<Outcome> {
    let by_id = call.version >= TOPIC_IDS_FROM;
    let topic = lookup::topic(call, Operation::Write, by_id, &data.name, data.topic_id);
    let recompresses = topic.as_ref().is_ok_and(|topic| {
        let kept_as_it_is = CompressionType::Producer;
        topic.config().compression_type != kept_as_it_is
    });
    partitions
        .into_iter()
        .map(|partition| Outcome {
            index: partition.index,
            result: match acks {
                Ok(acks) => block_in_place_if(recompresses || work.is_long(), || {
                    append(call, transactional_id, &topic, partition, *acks, errors)
                }),
                Err(refusal) => Err(refusal.clone()),
            },
        })
        .collect()
}

/// Runs `work`, and if it is `long` lets the runtime move this thread's other tasks to another thread. A request of some
/// hundred KiB may hold batches that decompress to GiBs, and all appends have to precede the first await.
fn block_in_place_if<T>(long: bool, work: impl FnOnce() -> T) -> T {
    match long && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        true => tokio::task::block_in_place(work),
        false => work(),
    }
}

fn append(
    call: &Call,
    transactional_id: Option<&str>,
    topic: &Result<Arc<Topic>, ErrorCode>,
    data: PartitionProduceData,
    acks: Acks,
    errors: &mut RecordErrors,
) -> Result<Written, Box<RefusedBatch>> {
    let (version, options) = (call.version, AppendOptions { acks });
    let partition = lookup::partition(topic, data.index).map_err(RefusedBatch::not_found)?;
    let refused = match parse(data.records, version) {
        Ok(batches) => {
            let ticket = match batches[0].header().attributes.is_transactional() {
                false => partition.append(batches, options),
                true => {
                    transactional::append(call, transactional_id, &*partition, batches, options)
                        .map_err(|refused| refused_by(&*partition, refused))?
                }
            };
            match ticket {
                Ticket::Ready(Ok(appended)) => return Ok(Written::Done(appended)),
                Ticket::Pending(waiting) => return Ok(Written::Pending(partition, waiting)),
                Ticket::Ready(Err(failure)) => {
                    RefusedBatch::by_storage(failure, version >= TOPIC_IDS_FROM, errors)
                }
            }
        }
        Err(invalid) => invalid,
    };
    Err(refused_by(&*partition, refused))
}

/// Adds the log start offset of the partition to a refused batch.
fn refused_by(partition: &dyn PartitionLog, mut refused: Box<RefusedBatch>) -> Box<RefusedBatch> {
    refused.log_start_offset = partition.offsets().log_start;
    refused
}

/// Parses the only batch of a partition of a request; Kafka requires exactly one since message format 2.
fn parse(records: Option<Bytes>, version: i16) -> Result<Vec<RecordBatch>, Box<RefusedBatch>> {
    let invalid = |message: &str| {
        RefusedBatch::new(
            ProduceRefusal::InvalidRecord,
            ErrorCode::INVALID_RECORD,
            message,
        )
    };
    let batches = RecordBatch::split(records.unwrap_or_default())?;
    let [batch] = batches.as_slice() else {
        let count = batches.len();
        return Err(invalid(&format!(
            "expected exactly one record batch per partition, got {count}"
        )));
    };
    let attributes = batch.header().attributes;
    if attributes.is_control() {
        return Err(invalid("clients must not write control records"));
    }
    if version < ZSTD_FROM && batch.compression() == Compression::Zstd {
        return Err(RefusedBatch::new(
            ProduceRefusal::Compression,
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            format!("zstd requires Produce version {ZSTD_FROM} or later"),
        ));
    }
    Ok(batches)
}

/// Waits until the append may be acknowledged, and turns the outcome into a refusal on failure or at the deadline.
async fn await_append(outcome: &mut Outcome, by_id: bool, deadline: Instant) {
    let Ok(Written::Pending(partition, waiting)) = &mut outcome.result else {
        return;
    };
    let refused = match timeout_at(deadline, waiting).await {
        Ok(Ok(appended)) => {
            outcome.result = Ok(Written::Done(appended));
            return;
        }
        Ok(Err(failure)) => RefusedBatch::of_storage(&failure, by_id),
        Err(_) => RefusedBatch::new(
            ProduceRefusal::FlushTimeout,
            ErrorCode::REQUEST_TIMED_OUT,
            "the records were appended, but not flushed to disk in time",
        ),
    };
    outcome.result = Err(refused_by(&**partition, refused));
}

/// Returns every refused batch, with its topic and partition.
fn refused_of<'a>(
    topics: &'a [TopicProduceData],
    outcomes: &'a [Vec<Outcome>],
) -> impl Iterator<Item = (&'a TopicProduceData, i32, &'a RefusedBatch)> {
    topics.iter().zip(outcomes).flat_map(|(data, outcomes)| {
        outcomes
            .iter()
            .filter_map(move |outcome| Some((data, outcome.index, outcome.refused()?)))
    })
}

/// Counts the refused batches and logs them once for each reason.
fn note_refused<'a>(
    call: &Call,
    acks: i16,
    batches: impl Iterator<Item = (&'a TopicProduceData, i32, &'a RefusedBatch)>,
) {
    let mut noted: Vec<(u64, &TopicProduceData, i32, &RefusedBatch)> = Vec::new();
    for (data, partition, refused) in batches {
        match noted
            .iter_mut()
            .find(|(.., first)| first.reason == refused.reason)
        {
            Some((count, ..)) => *count += 1,
            None => noted.push((1, data, partition, refused)),
        }
    }
    for (count, data, partition, refused) in noted {
        let Refusal { code, message } = &refused.refusal;
        call.broker.produce_refusals.note(RefusedBatches {
            reason: refused.reason,
            count,
            client_id: call.client_id.as_deref(),
            peer: call.peer,
            acks,
            topic: &name_of(call, data),
            partition,
            message: &format!("{}: {message}", code.name()),
        });
    }
}

/// Returns the name of a topic of the request, or its id if no topic has it.
fn name_of<'a>(call: &Call, data: &'a TopicProduceData) -> Cow<'a, str> {
    if call.version < TOPIC_IDS_FROM {
        return Cow::Borrowed(&data.name);
    }
    match call.broker.topics.get_by_id(data.topic_id) {
        Some(topic) => Cow::Owned(topic.name().to_string()),
        None => Cow::Owned(data.topic_id.to_string()),
    }
}

fn topic_response(data: TopicProduceData, outcomes: Vec<Outcome>) -> TopicProduceResponse {
    TopicProduceResponse {
        name: data.name,
        topic_id: data.topic_id,
        partition_responses: outcomes.into_iter().map(partition_response).collect(),
    }
}

fn partition_response(outcome: Outcome) -> PartitionProduceResponse {
    let response = PartitionProduceResponse {
        index: outcome.index,
        ..PartitionProduceResponse::default()
    };
    match outcome.result {
        Ok(Written::Pending(..)) => unreachable!("all appends were awaited"),
        Ok(Written::Done(appended)) => PartitionProduceResponse {
            base_offset: appended.base_offset,
            log_append_time_ms: appended.log_append_time_ms.unwrap_or(-1),
            log_start_offset: appended.log_start_offset,
            ..response
        },
        Err(refused) => PartitionProduceResponse {
            error_code: refused.refusal.code,
            base_offset: -1,
            log_start_offset: refused.log_start_offset,
            record_errors: refused.record_errors,
            error_message: Some(refused.refusal.message),
            ..response
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::broker::{Broker, ConfigEdit, ConfigOperation};
    use crate::handlers::harness::{TOPIC, connect, exchange, open};
    use crate::protocol::kafka::Request;
    use crate::record::BatchBuilder;

    const VERSION: i16 = 12;

    /// Produces one record with acks=all.
    async fn produce(broker: &Arc<Broker>, timeout_ms: i32) -> PartitionProduceResponse {
        produce_with(broker, -1, timeout_ms).await
    }

    async fn produce_with(
        broker: &Arc<Broker>,
        acks: i16,
        timeout_ms: i32,
    ) -> PartitionProduceResponse {
        let mut batch = BatchBuilder::new(Compression::None);
        batch.push(broker.clock.now_ms(), None, Some(b"value"), &[]);
        let request = ProduceRequest {
            acks,
            timeout_ms,
            topic_data: vec![TopicProduceData {
                name: TOPIC.to_owned(),
                partition_data: vec![PartitionProduceData {
                    index: 0,
                    records: Some(batch.build().unwrap().bytes().clone()),
                }],
                ..TopicProduceData::default()
            }],
            ..ProduceRequest::default()
        };
        let (mut response, is_error) = exchange(&connect(broker), VERSION, &request).await;
        assert_eq!(
            is_error,
            response.responses[0].partition_responses[0].error_code != ErrorCode::NONE
        );
        response.responses.remove(0).partition_responses.remove(0)
    }

    #[test]
    fn acks_all_waits_for_the_flush_whatever_the_timeout_but_not_for_ever() {
        assert!(ProduceRequest::VERSIONS.contains(&VERSION));
        // All blocking work runs on one thread, so a task that occupies it acts as a disk that hangs.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let broker = open(&dir).await;
            for timeout_ms in [0, -1, 1] {
                let answered = produce(&broker, timeout_ms).await;
                assert_eq!(answered.error_code, ErrorCode::NONE, "{answered:?}");
            }
            let (release, hangs) = mpsc::channel::<()>();
            let hanging = tokio::task::spawn_blocking(move || hangs.recv());
            let timed_out = produce(&broker, 0).await;
            assert_eq!(timed_out.error_code, ErrorCode::REQUEST_TIMED_OUT);
            assert_eq!(timed_out.base_offset, -1);
            assert!(timed_out.error_message.unwrap().contains("disk"));
            assert_eq!(timed_out.log_start_offset, 0);
            let refused = &broker.metrics.produce_refused;
            assert_eq!(refused.get(ProduceRefusal::FlushTimeout).value(), 1);
            let partition = broker.topics.get(TOPIC).unwrap().partition(0).unwrap();
            assert_eq!(
                partition.offsets().high_watermark,
                3,
                "records are visible only once flushed"
            );
            drop(release);
            hanging.await.unwrap().unwrap_err();
            let answered = produce(&broker, 0).await;
            assert_eq!(
                (answered.error_code, answered.base_offset),
                (ErrorCode::NONE, 4)
            );
            assert_eq!(partition.offsets().high_watermark, 5);
        });
    }

    #[tokio::test]
    async fn the_append_that_reaches_flush_messages_is_flushed_before_it_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(&dir).await;
        let every_third = ConfigEdit {
            name: "flush.messages".to_owned(),
            operation: ConfigOperation::Set("3".to_owned()),
        };
        let edited = broker.edit_configs(TOPIC.to_owned(), vec![every_third], false);
        edited.await.unwrap();
        for (flushes, base_offset) in [(0, 0), (0, 1), (1, 2), (1, 3)] {
            let answered = produce_with(&broker, 1, 0).await;
            assert_eq!(answered.base_offset, base_offset, "{answered:?}");
            let flushed = broker.metrics.log_flush_duration.snapshot();
            assert_eq!(flushed.count(), flushes);
        }
    }
}
