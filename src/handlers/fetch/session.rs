//! The use that a fetch makes of an incremental fetch session (KIP-227).

use std::sync::Arc;

use uuid::Uuid;

use super::{Found, PartitionPlan, Plan, Round, TOPIC_IDS_FROM, check_compression};
use crate::broker::{
    Continued, FetchPosition, FetchSession, Operation, Resource, SessionPartition, SessionSize,
    SessionTopic, SessionUpdate, Told, memory_bytes,
};
use crate::handlers::{Answer, Call, error, lookup};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use crate::record::Records;
use crate::storage::PartitionLog;

/// Session epoch of a request that ends its session, if it has one, and wants none.
const NO_SESSION: i32 = -1;

/// Session epoch of a request that ends its session, if it has one, and wants a new one.
const NEW_SESSION: i32 = 0;

/// A fetch's relation to a session.
pub(super) enum SessionUse {
    None,
    /// The response creates a session.
    New,
    Continued(ContinuedSession),
}

impl SessionUse {
    /// Resolves once the response will be refused because the session has ended or gone on.
    pub(super) async fn is_overtaken(&self) {
        match self {
            SessionUse::None | SessionUse::New => std::future::pending().await,
            SessionUse::Continued(continued) => {
                continued.session.is_overtaken(continued.next_epoch).await;
            }
        }
    }
}

/// The session that a fetch continues.
pub(super) struct ContinuedSession {
    session: Arc<FetchSession>,
    next_epoch: i32,
    /// The topic of each partition.
    topics: Vec<SessionTopic>,
}

impl Plan {
    /// Plans a fetch of all partitions that the request names, or of the session that it continues.
    pub(super) fn new(call: &Call, request: FetchRequest) -> Result<Plan, ErrorCode> {
        let sessions = &call.broker.fetch_sessions;
        match request.session_epoch {
            NO_SESSION | NEW_SESSION => {
                if request.session_id != 0 {
                    sessions.close(request.session_id, &call.principal);
                }
                let session = match request.session_epoch {
                    NEW_SESSION => SessionUse::New,
                    _ => SessionUse::None,
                };
                Ok(Plan::full(call, request, session))
            }
            _ => Plan::incremental(call, request),
        }
    }

    fn incremental(call: &Call, mut request: FetchRequest) -> Result<Plan, ErrorCode> {
        let by_id = call.version >= TOPIC_IDS_FROM;
        let forgotten = std::mem::take(&mut request.forgotten_topics_data);
        let update = SessionUpdate {
            epoch: request.session_epoch,
            by_id,
            wanted: request
                .topics
                .iter()
                .flat_map(|asked| wanted(asked, by_id))
                .collect(),
            forgotten: forgotten
                .into_iter()
                .flat_map(|forgotten| {
                    let topic = session_topic(by_id, &forgotten.topic, forgotten.topic_id);
                    let numbers = forgotten.partitions.into_iter();
                    numbers.map(move |number| (topic.clone(), number))
                })
                .collect(),
        };
        let continued = call
            .broker
            .fetch_sessions
            .resume(request.session_id, &call.principal, update)
            .map_err(error::of_fetch_session)?;
        match continued {
            Some(continued) => Ok(Plan::continued(call, &request, continued)),
            // As in Kafka, a session without partitions has ended.
            None => Ok(Plan::full(call, request, SessionUse::None)),
        }
    }

    fn continued(call: &Call, request: &FetchRequest, continued: Continued) -> Plan {
        let mut partitions = Vec::with_capacity(continued.partitions.len());
        let mut topics = Vec::with_capacity(continued.partitions.len());
        for SessionPartition {
            topic,
            number,
            position,
            log,
        } in continued.partitions
        {
            partitions.push(PartitionPlan {
                partition: match log {
                    Some(log) => still_allowed(call, log),
                    None => look_up(call, &topic, number),
                },
                asked: FetchPartition {
                    partition: number,
                    current_leader_epoch: position.current_leader_epoch,
                    fetch_offset: position.fetch_offset,
                    last_fetched_epoch: position.last_fetched_epoch,
                    partition_max_bytes: position.max_bytes,
                    ..FetchPartition::default()
                },
            });
            topics.push(topic);
        }
        let session = SessionUse::Continued(ContinuedSession {
            session: continued.session,
            next_epoch: continued.next_epoch,
            topics,
        });
        Plan::of(call, request, partitions, Vec::new(), session)
    }

    /// Creates a session of the partitions in a response, if there is room for one. Returns its id or 0.
    pub(super) fn create_session(&self, call: &Call, responses: &[FetchableTopicResponse]) -> i32 {
        if self.partitions.is_empty() {
            return 0;
        }
        let topics = self
            .topics
            .iter()
            .map(|topic| session_topic(self.by_id, &topic.response.topic, topic.response.topic_id));
        let topics: Vec<SessionTopic> = topics.collect();
        let size = SessionSize {
            partitions: self.partitions.len(),
            memory_bytes: (self.topics.iter().zip(&topics))
                .map(|(plan, topic)| plan.partitions * memory_bytes(topic))
                .sum(),
        };
        let partitions = || {
            let of_topics = self.topics.iter().zip(topics);
            let topics =
                of_topics.flat_map(|(plan, topic)| std::iter::repeat_n(topic, plan.partitions));
            let answered = responses.iter().flat_map(|topic| &topic.partitions);
            (self.partitions.iter().zip(topics).zip(answered))
                .map(|((plan, topic), data)| {
                    let partition = SessionPartition {
                        topic,
                        number: plan.asked.partition,
                        position: position(&plan.asked),
                        log: plan.log_after(data).cloned(),
                    };
                    (partition, told(data))
                })
                .collect()
        };
        let sessions = &call.broker.fetch_sessions;
        let created = sessions.create(&call.principal, self.by_id, size, partitions);
        created.unwrap_or(0)
    }

    /// Returns the response without records of a throttled fetch. Its session continues.
    pub(super) fn answer_throttled(&self) -> FetchResponse {
        FetchResponse {
            session_id: match &self.session {
                SessionUse::Continued(continued) => continued.session.id(),
                SessionUse::None | SessionUse::New => 0,
            },
            ..FetchResponse::default()
        }
    }

    /// Answers a fetch that continues a session with the partitions about which there is something to tell.
    pub(super) fn answer_incremental(
        &self,
        round: Round,
        continued: &ContinuedSession,
    ) -> Answer<FetchResponse> {
        let session = &continued.session;
        let mut response = FetchResponse {
            session_id: session.id(),
            ..FetchResponse::default()
        };
        let Some(mut report) = session.report(continued.next_epoch) else {
            response.error_code = ErrorCode::INVALID_FETCH_SESSION_EPOCH;
            return response.into();
        };
        let mut bytes_out = Vec::new();
        for ((plan, topic), found) in self
            .partitions
            .iter()
            .zip(&continued.topics)
            .zip(round.found)
        {
            let has_diverged = matches!(found, Found::Diverged(..));
            let data = plan.response(found, self.isolation);
            let size_bytes = data.records.as_ref().map_or(0, Records::len);
            let has_news = report.note(plan.log_after(&data), told(&data), size_bytes > 0);
            if !has_news && !has_diverged && size_bytes == 0 && data.error_code == ErrorCode::NONE {
                continue;
            }
            if size_bytes > 0
                && let Ok(log) = &plan.partition
            {
                bytes_out.push((Arc::clone(&log.topic().counters), size_bytes as u64));
            }
            add(&mut response.responses, topic, data);
        }
        report.end();
        Answer {
            response: Some(response),
            bytes_out,
            close: None,
        }
    }
}

impl PartitionPlan {
    /// Returns the log if the next fetch of a session may use it without looking it up.
    fn log_after(&self, data: &PartitionData) -> Option<&Arc<dyn PartitionLog>> {
        match data.error_code {
            ErrorCode::NONE => self.partition.as_ref().ok(),
            _ => None,
        }
    }
}

/// Adds a partition to a response. Consecutive partitions of a topic share an entry.
fn add(responses: &mut Vec<FetchableTopicResponse>, topic: &SessionTopic, data: PartitionData) {
    let is_last = |last: &FetchableTopicResponse| match topic {
        SessionTopic::Id(id) => last.topic_id == *id,
        SessionTopic::Name(name) => last.topic == **name,
    };
    if let Some(last) = responses.last_mut()
        && is_last(last)
    {
        last.partitions.push(data);
        return;
    }
    let (topic, topic_id) = match topic {
        SessionTopic::Id(id) => (String::new(), *id),
        SessionTopic::Name(name) => (name.to_string(), Uuid::nil()),
    };
    responses.push(FetchableTopicResponse {
        topic,
        topic_id,
        partitions: vec![data],
    });
}

/// Returns the offsets that a response tells its client.
fn told(data: &PartitionData) -> Told {
    match data.error_code {
        ErrorCode::NONE => Told {
            high_watermark: data.high_watermark,
            last_stable: data.last_stable_offset,
            log_start: data.log_start_offset,
        },
        _ => Told::NOTHING,
    }
}

fn wanted(asked: &FetchTopic, by_id: bool) -> impl Iterator<Item = SessionPartition> {
    let topic = session_topic(by_id, &asked.topic, asked.topic_id);
    asked.partitions.iter().map(move |asked| SessionPartition {
        topic: topic.clone(),
        number: asked.partition,
        position: position(asked),
        log: None,
    })
}

fn session_topic(by_id: bool, name: &str, id: Uuid) -> SessionTopic {
    match by_id {
        true => SessionTopic::Id(id),
        false => SessionTopic::Name(name.into()),
    }
}

fn position(asked: &FetchPartition) -> FetchPosition {
    FetchPosition {
        current_leader_epoch: asked.current_leader_epoch,
        fetch_offset: asked.fetch_offset,
        last_fetched_epoch: asked.last_fetched_epoch,
        max_bytes: asked.partition_max_bytes,
    }
}

/// Checks a log that the session holds like one that is looked up.
fn still_allowed(
    call: &Call,
    log: Arc<dyn PartitionLog>,
) -> Result<Arc<dyn PartitionLog>, ErrorCode> {
    let topic = log.topic();
    call.authorize(Operation::Read, Resource::Topic(&topic.name))?;
    check_compression(|| topic.config(), call.version)?;
    Ok(log)
}

fn look_up(
    call: &Call,
    topic: &SessionTopic,
    number: i32,
) -> Result<Arc<dyn PartitionLog>, ErrorCode> {
    let topic = match topic {
        SessionTopic::Id(id) => lookup::topic_by_id(call, Operation::Read, *id),
        SessionTopic::Name(name) => lookup::topic_by_name(call, Operation::Read, name),
    }?;
    check_compression(|| topic.config(), call.version)?;
    lookup::partition(&Ok(topic), number)
}
