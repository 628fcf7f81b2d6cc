//! DescribeTopicPartitions: describes topics in order of their names, up to a number of partitions, from where a cursor points.

use std::collections::BTreeSet;

use super::{Call, error};
use crate::broker::{NODE_ID, Operation, Resource, check_name, is_internal};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use crate::storage::{PartitionLog, Topic};

/// Largest number of partitions in a response: the default of Kafka's `max.request.partition.size.limit`.
const PARTITIONS_MAX: usize = 2000;

pub(super) async fn handle(
    call: Call,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let Some(names) = names(&call, &request) else {
        return invalid(request);
    };
    let mut page = Page {
        call: &call,
        asks_for_all: request.topics.is_empty(),
        left: usize::try_from(request.response_partition_limit)
            .unwrap_or(0)
            .clamp(1, PARTITIONS_MAX),
        response: DescribeTopicPartitionsResponse::default(),
        denied: Vec::new(),
    };
    let start = request.cursor.unwrap_or_default();
    for name in names {
        let from = match name == start.topic_name {
            true => usize::try_from(start.partition_index).unwrap_or(0),
            false => 0,
        };
        if !page.add(name, from) {
            break;
        }
    }
    let mut response = page.response;
    response.topics.extend(page.denied);
    response
}

/// Returns the names of the topics from the cursor on, each once, or `None` if the cursor is not valid.
fn names(call: &Call, request: &DescribeTopicPartitionsRequest) -> Option<BTreeSet<String>> {
    let first = request.cursor.as_ref().map_or("", |it| &*it.topic_name);
    let names: BTreeSet<String> = match request.topics.is_empty() {
        true => {
            let all = call.broker.topics.list();
            all.iter().map(|topic| topic.name().to_string()).collect()
        }
        false => request.topics.iter().map(|it| it.name.clone()).collect(),
    };
    let is_valid = request.cursor.as_ref().is_none_or(|cursor| {
        cursor.partition_index >= 0
            && (request.topics.is_empty() || names.contains(&cursor.topic_name))
    });
    is_valid.then(|| {
        names
            .into_iter()
            .filter(|name| name.as_str() >= first)
            .collect()
    })
}

fn invalid(request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let topics: BTreeSet<String> = request.topics.into_iter().map(|it| it.name).collect();
    let refused = topics
        .into_iter()
        .map(|name| refuse(name, ErrorCode::INVALID_REQUEST));
    DescribeTopicPartitionsResponse {
        topics: refused.collect(),
        ..DescribeTopicPartitionsResponse::default()
    }
}

fn refuse(name: String, error_code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code,
        is_internal: is_internal(&name),
        name: Some(name),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

/// A response that is being filled.
struct Page<'a> {
    call: &'a Call,
    asks_for_all: bool,
    /// Number of partitions that still fit.
    left: usize,
    response: DescribeTopicPartitionsResponse,
    /// Topics that the client may not describe; they come last.
    denied: Vec<DescribeTopicPartitionsResponseTopic>,
}

impl Page<'_> {
    /// Adds a topic from a partition on. Returns false once the response is full.
    fn add(&mut self, name: String, from: usize) -> bool {
        let resource = Resource::Topic(&name);
        if self.asks_for_all && !self.call.allows(Operation::Describe, resource) {
            return true;
        }
        if let Err(denied) = self.call.authorize(Operation::Describe, resource) {
            self.denied.push(refuse(name, denied));
            return true;
        }
        if self.left == 0 {
            self.end_before(name, 0);
            return false;
        }
        let Some(topic) = self.call.broker.topics.get(&name) else {
            self.add_unknown(name);
            return true;
        };
        let count = topic.partitions().len();
        let to = count.min(from.saturating_add(self.left));
        let described = self.describe(&topic, from, to);
        self.left -= described.partitions.len();
        self.response.topics.push(described);
        if to < count {
            self.end_before(name, to);
        }
        to == count
    }

    fn end_before(&mut self, topic_name: String, partition: usize) {
        self.response.next_cursor = Some(Cursor {
            topic_name,
            partition_index: partition as i32,
        });
    }

    /// Adds a topic that does not exist, unless all topics were asked for and it was deleted just now.
    fn add_unknown(&mut self, name: String) {
        if !self.asks_for_all {
            let code = match check_name(&name) {
                Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                Err(invalid) => error::of_topic_change(&invalid),
            };
            let operations = self.call.operations(Resource::Topic(&name));
            self.response
                .topics
                .push(DescribeTopicPartitionsResponseTopic {
                    topic_authorized_operations: operations,
                    ..refuse(name, code)
                });
        }
    }

    fn describe(
        &self,
        topic: &Topic,
        from: usize,
        to: usize,
    ) -> DescribeTopicPartitionsResponseTopic {
        let partitions = topic.partitions();
        let described = (0..).zip(partitions.iter());
        let described = described.take(to).skip(from);
        DescribeTopicPartitionsResponseTopic {
            name: Some(topic.name().to_string()),
            topic_id: topic.id(),
            is_internal: is_internal(topic.name()),
            partitions: described
                .map(|(index, log)| describe_partition(index, &**log))
                .collect(),
            topic_authorized_operations: self.call.operations(Resource::Topic(topic.name())),
            ..DescribeTopicPartitionsResponseTopic::default()
        }
    }
}

fn describe_partition(
    partition_index: i32,
    log: &dyn PartitionLog,
) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition {
        partition_index,
        leader_id: NODE_ID,
        // −1 means unknown, as for a checkpoint that cannot be read.
        leader_epoch: log.leader_epoch().unwrap_or(-1),
        replica_nodes: vec![NODE_ID],
        isr_nodes: vec![NODE_ID],
        // No other replica could become the leader, which is not the same as a broker that does not know.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        ..DescribeTopicPartitionsResponsePartition::default()
    }
}
