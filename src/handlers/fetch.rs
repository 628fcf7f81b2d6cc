//! Fetch: reads batches from the logs of partitions, and waits if there are none yet.
//!
//! A fetch is answered as soon as it has `min_bytes` or a partition has an error or a diverging epoch, and at `max_wait_ms`
//! at the latest, with every partition it named; earlier when the server is shutting down, other requests need the memory of
//! waiting fetches, or the next fetch of its session has begun. Batches are always whole: the first of the first partition that has any is returned even if it
//! exceeds the limits (KIP-74), since a consumer could never get past it.
//!
//! Partitions are read in the order in which the client names them, or in that of its session (KIP-227), where those that
//! returned records go last.

mod session;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{Answer, Call, error, isolation, lookup};
use crate::broker::{Broker, Operation};
use crate::config::{CompressionType, TopicConfig};
use crate::metrics::TopicCounters;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchRequest, FetchResponse,
    FetchableTopicResponse, PartitionData,
};
use crate::record::Records;
use crate::storage::{
    self, FetchWaiter, Fetched, Isolation, PartitionLog, ReadOptions, ReadTicket,
};
use session::SessionUse;

/// The first version that names topics by id instead of by name.
const TOPIC_IDS_FROM: i16 = 13;

/// The first version whose clients are known to read zstd (KIP-110).
const ZSTD_FROM: i16 = 10;

/// Largest number of partitions that is read on a thread of the runtime.
const READ_INLINE_MAX: usize = 500;

/// Bytes copied into memory for one response, after which records are sent from files. A client that reads no responses
/// may cause many of them.
const COPIED_BYTES_MAX: usize = 512 * 1024;

/// Bytes of one partition in a response, besides its records.
const PARTITION_BYTES: usize = 40;

pub(super) async fn handle(call: Call, request: FetchRequest) -> Answer<FetchResponse> {
    let plan = match Plan::new(&call, request) {
        Ok(plan) => Arc::new(plan),
        Err(error_code) => {
            return Answer::from(FetchResponse {
                error_code,
                ..FetchResponse::default()
            });
        }
    };
    match plan.fetch(&call.broker).await {
        Some(round) if call.is_fetch_throttled(plan.response_bytes(&round)) => {
            plan.answer_throttled().into()
        }
        Some(round) => plan.answer(&call, round),
        None => plan.answer(&call, plan.read_failed()),
    }
}

/// A request with its partitions looked up.
struct Plan {
    max_wait: Duration,
    min_bytes: usize,
    max_bytes: usize,
    isolation: Isolation,
    by_id: bool,
    partitions: Vec<PartitionPlan>,
    /// The topics of the partitions, in the same order; none if the fetch continues a session.
    topics: Vec<TopicPlan>,
    session: SessionUse,
}

struct TopicPlan {
    /// Response that names the topic, without partitions.
    response: FetchableTopicResponse,
    counters: Option<Arc<TopicCounters>>,
    /// Number of partitions.
    partitions: usize,
}

struct PartitionPlan {
    asked: FetchPartition,
    partition: Result<Arc<dyn PartitionLog>, ErrorCode>,
}

/// Result of reading one partition.
enum Found {
    Records(Fetched),
    /// The client's log diverges after this point.
    Diverged(EpochEndOffset, storage::Offsets),
    Error(ErrorCode),
}

/// A read of one partition that has begun.
enum Reading {
    Done(Found),
    /// The read has to be made on a thread that may block.
    WouldBlock,
    Pending(BoxFuture<'static, Result<Fetched, storage::Error>>),
}

/// Result of reading all partitions of a plan once, in the plan's order.
struct Round {
    found: Vec<Found>,
    size_bytes: usize,
    /// Bytes in memory, as opposed to regions of files.
    copied_bytes: usize,
    /// True if waiting would not add to the result: an error, a diverging epoch, or a read that ended early.
    is_final: bool,
}

impl Plan {
    /// Plans a fetch of the partitions that the request names.
    fn full(call: &Call, mut request: FetchRequest, session: SessionUse) -> Plan {
        let by_id = call.version >= TOPIC_IDS_FROM;
        // A topic without partitions needs no response, and must not be kept while the fetch waits.
        request.topics.retain(|asked| !asked.partitions.is_empty());
        let count = request.topics.iter().map(|asked| asked.partitions.len());
        let mut partitions = Vec::with_capacity(count.sum());
        let mut topics = Vec::with_capacity(request.topics.len());
        for asked in std::mem::take(&mut request.topics) {
            let topic = lookup::topic(call, Operation::Read, by_id, &asked.topic, asked.topic_id)
                .and_then(|topic| {
                    check_compression(|| topic.config(), call.version)?;
                    Ok(topic)
                });
            topics.push(TopicPlan {
                counters: topic
                    .as_ref()
                    .ok()
                    .map(|topic| Arc::clone(topic.counters())),
                partitions: asked.partitions.len(),
                response: FetchableTopicResponse {
                    topic: asked.topic,
                    topic_id: asked.topic_id,
                    ..FetchableTopicResponse::default()
                },
            });
            partitions.extend(asked.partitions.into_iter().map(|asked| PartitionPlan {
                partition: lookup::partition(&topic, asked.partition),
                asked,
            }));
        }
        Plan::of(call, &request, partitions, topics, session)
    }

    fn of(
        call: &Call,
        request: &FetchRequest,
        partitions: Vec<PartitionPlan>,
        topics: Vec<TopicPlan>,
        session: SessionUse,
    ) -> Plan {
        let max_bytes = request
            .max_bytes
            .clamp(0, call.broker.config.fetch_max_bytes) as usize;
        let max_bytes = max_bytes.min(call.fetch_bytes_max());
        Plan {
            max_wait: Duration::from_millis(request.max_wait_ms.max(0) as u64),
            min_bytes: (request.min_bytes.max(0) as usize).min(max_bytes),
            max_bytes,
            isolation: isolation(request.isolation_level),
            by_id: call.version >= TOPIC_IDS_FROM,
            partitions,
            topics,
            session,
        }
    }

    /// Reads the partitions, and waits for more if there is not enough. `None` if a blocking read panicked or was cancelled
    /// by the runtime's shutdown.
    async fn fetch(self: &Arc<Self>, broker: &Broker) -> Option<Round> {
        // A result that is not enough is dropped at once, so that waiting fetches hold no records.
        match self.read().await? {
            round if self.is_enough(&round) || self.max_wait.is_zero() => return Some(round),
            _ => {}
        }
        let _counted = broker.waiting_fetches.enter();
        let deadline = Instant::now() + self.max_wait;
        let waiter = Arc::new(Notify::new());
        // Each watch ends when it is dropped, so a client that disconnects leaves nothing behind.
        let _watches = self.watch(&waiter);
        loop {
            // Subscribe, read, then wait: in any other order a notification could be missed.
            let news = waiter.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            match self.read().await? {
                round if self.is_enough(&round) => return Some(round),
                _ => {}
            }
            let waited = tokio::select! {
                waited = timeout_at(deadline, news) => waited.is_ok(),
                () = broker.ends_waiting() => false,
                () = self.session.is_overtaken() => false,
            };
            if !waited {
                return self.read().await;
            }
        }
    }

    /// Watches each partition once, however often it is named: an append notifies every waiter of its partition.
    fn watch(&self, waiter: &Arc<Notify>) -> Vec<FetchWaiter> {
        let mut watched = HashSet::new();
        self.partitions
            .iter()
            .filter_map(|plan| plan.partition.as_ref().ok())
            .filter(|partition| watched.insert(Arc::as_ptr(partition).cast::<()>()))
            .map(|partition| partition.watch(waiter))
            .collect()
    }

    /// Returns the size of a response, without the names of topics. A session leaves out most partitions without records.
    fn response_bytes(&self, round: &Round) -> usize {
        let partitions = match self.session {
            SessionUse::Continued(_) => 0,
            SessionUse::None | SessionUse::New => round.found.len(),
        };
        round.size_bytes + partitions * PARTITION_BYTES
    }

    fn is_enough(&self, round: &Round) -> bool {
        round.is_final || round.size_bytes >= self.min_bytes || round.found.is_empty()
    }

    /// Reads all partitions once, in their order, up to the limits. Continues on a blocking thread from the first
    /// one that may block, and uses it for all if there are many partitions.
    async fn read(self: &Arc<Self>) -> Option<Round> {
        let many = self.partitions.len() > READ_INLINE_MAX;
        let mut round = Round::with_capacity(self.partitions.len());
        if !many && self.read_without_blocking(&mut round).await {
            return Some(round);
        }
        let plan = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            plan.read_blocking(&mut round);
            round
        })
        .await
        .ok()
    }

    /// Reads partitions until a read would block. Returns whether all were read.
    async fn read_without_blocking(&self, round: &mut Round) -> bool {
        for plan in &self.partitions {
            let found = match plan.begin(self.options(round, plan, false), self.by_id) {
                Reading::Done(found) => found,
                Reading::WouldBlock => return false,
                Reading::Pending(reading) => plan.found(reading.await, self.by_id),
            };
            round.add(found);
        }
        true
    }

    /// Reads the partitions that were not read yet. Blocks.
    fn read_blocking(&self, round: &mut Round) {
        for plan in &self.partitions[round.found.len()..] {
            let found = match plan.begin(self.options(round, plan, true), self.by_id) {
                Reading::Done(found) => found,
                Reading::WouldBlock => unreachable!("the thread may block"),
                Reading::Pending(reading) => {
                    plan.found(Handle::current().block_on(reading), self.by_id)
                }
            };
            round.add(found);
        }
    }

    /// Returns the options of a partition's read, within what is left of the response.
    fn options(&self, round: &Round, plan: &PartitionPlan, may_block: bool) -> ReadOptions {
        let left = self.max_bytes.saturating_sub(round.size_bytes);
        ReadOptions {
            offset: plan.asked.fetch_offset,
            max_bytes: left.min(plan.asked.partition_max_bytes.max(0) as usize),
            at_least_one: round.size_bytes == 0,
            isolation: self.isolation,
            in_place: round.copied_bytes >= COPIED_BYTES_MAX,
            may_block,
        }
    }

    /// Returns an error for every partition, for a read that panicked or was cancelled.
    fn read_failed(&self) -> Round {
        let failed = |_| Found::Error(error::TASK_FAILED);
        Round {
            found: self.partitions.iter().map(failed).collect(),
            size_bytes: 0,
            copied_bytes: 0,
            is_final: true,
        }
    }

    fn answer(&self, call: &Call, round: Round) -> Answer<FetchResponse> {
        if let SessionUse::Continued(continued) = &self.session {
            return self.answer_incremental(round, continued);
        }
        let mut answer = self.answer_in_full(round);
        if let (SessionUse::New, Some(response)) = (&self.session, &mut answer.response) {
            response.session_id = self.create_session(call, &response.responses);
        }
        answer
    }

    /// Answers with all partitions.
    fn answer_in_full(&self, round: Round) -> Answer<FetchResponse> {
        let mut read = self.partitions.iter().zip(round.found);
        let mut bytes_out = Vec::new();
        let mut responses = Vec::with_capacity(self.topics.len());
        for topic in &self.topics {
            let partitions: Vec<PartitionData> = read
                .by_ref()
                .take(topic.partitions)
                .map(|(plan, found)| plan.response(found, self.isolation))
                .collect();
            let size_bytes: usize = partitions
                .iter()
                .map(|partition| partition.records.as_ref().map_or(0, Records::len))
                .sum();
            if let Some(counters) = &topic.counters
                && size_bytes > 0
            {
                bytes_out.push((Arc::clone(counters), size_bytes as u64));
            }
            responses.push(FetchableTopicResponse {
                partitions,
                ..topic.response.clone()
            });
        }
        Answer {
            response: Some(FetchResponse {
                responses,
                ..FetchResponse::default()
            }),
            bytes_out,
            close: None,
        }
    }
}

impl Round {
    fn with_capacity(partitions: usize) -> Self {
        Round {
            found: Vec::with_capacity(partitions),
            size_bytes: 0,
            copied_bytes: 0,
            is_final: false,
        }
    }

    /// Adds the result of the next partition.
    fn add(&mut self, found: Found) {
        match &found {
            Found::Records(fetched) => {
                let size_bytes = fetched.records.as_ref().map_or(0, Records::len);
                self.size_bytes += size_bytes;
                if let Some(Records::Bytes(_)) = fetched.records {
                    self.copied_bytes += size_bytes;
                }
                self.is_final |= fetched.ends_early;
            }
            Found::Diverged(..) | Found::Error(..) => self.is_final = true,
        }
        self.found.push(found);
    }
}

impl PartitionPlan {
    fn begin(&self, options: ReadOptions, by_id: bool) -> Reading {
        let partition = match &self.partition {
            Ok(partition) => &**partition,
            Err(code) => return Reading::Done(Found::Error(*code)),
        };
        if let Err(code) = lookup::check_leader_epoch(partition, self.asked.current_leader_epoch) {
            return Reading::Done(Found::Error(code));
        }
        match self.divergence(partition) {
            Ok(None) => {}
            Ok(Some(end)) => return Reading::Done(Found::Diverged(end, partition.offsets())),
            Err(code) => return Reading::Done(Found::Error(code)),
        }
        match partition.read(options) {
            ReadTicket::Ready(result) => Reading::Done(self.found(result, by_id)),
            ReadTicket::WouldBlock => Reading::WouldBlock,
            ReadTicket::Pending(reading) => Reading::Pending(reading),
        }
    }

    /// Converts the result of a read.
    fn found(&self, result: Result<Fetched, storage::Error>, by_id: bool) -> Found {
        match result {
            Ok(fetched) => Found::Records(fetched),
            Err(error) if by_id => Found::Error(error::of_storage_by_id(&error)),
            Err(error) => Found::Error(error::of_storage(&error)),
        }
    }

    /// Returns the last common epoch and its end offset, if the client's log diverges from this one before its fetch offset
    /// (KIP-595).
    fn divergence(
        &self,
        partition: &dyn PartitionLog,
    ) -> Result<Option<EpochEndOffset>, ErrorCode> {
        let last_fetched = self.asked.last_fetched_epoch;
        if last_fetched < 0 {
            return Ok(None);
        }
        let (epoch, end_offset) = partition
            .end_offset_for_epoch(last_fetched)
            .map_err(|error| error::of_storage(&error))?;
        if end_offset < 0 {
            // This log never had that epoch, so the point of divergence is unknown.
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        let diverged = epoch < last_fetched || end_offset < self.asked.fetch_offset;
        Ok(diverged.then_some(EpochEndOffset { epoch, end_offset }))
    }

    fn response(&self, found: Found, isolation: Isolation) -> PartitionData {
        let partition_index = self.asked.partition;
        // Empty records rather than null: not every client expects null here.
        let (offsets, aborted, records, diverging_epoch) = match found {
            Found::Records(fetched) => (
                fetched.offsets,
                fetched.aborted,
                fetched.records.unwrap_or_default(),
                EpochEndOffset::default(),
            ),
            Found::Diverged(end, offsets) => (offsets, Vec::new(), Records::default(), end),
            // Without offsets, as in Kafka.
            Found::Error(error_code) => {
                return PartitionData {
                    partition_index,
                    error_code,
                    high_watermark: -1,
                    // As in Kafka, empty if the partition was not found, and null otherwise.
                    aborted_transactions: self.partition.is_err().then(Vec::new),
                    records: Some(Records::default()),
                    ..PartitionData::default()
                };
            }
        };
        PartitionData {
            partition_index,
            high_watermark: offsets.high_watermark,
            last_stable_offset: offsets.last_stable,
            log_start_offset: offsets.log_start,
            diverging_epoch,
            // Null for read_uncommitted.
            aborted_transactions: (isolation == Isolation::ReadCommitted)
                .then(|| aborted.into_iter().map(aborted_transaction).collect()),
            records: Some(records),
            ..PartitionData::default()
        }
    }
}

fn aborted_transaction(aborted: storage::AbortedTransaction) -> AbortedTransaction {
    AbortedTransaction {
        producer_id: aborted.producer_id,
        first_offset: aborted.first_offset,
    }
}

/// Refuses a topic that is stored with zstd to a client that does not support it.
fn check_compression(
    config: impl FnOnce() -> Arc<TopicConfig>,
    version: i16,
) -> Result<(), ErrorCode> {
    if version < ZSTD_FROM && config().compression_type == CompressionType::Zstd {
        return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    }
    Ok(())
}
