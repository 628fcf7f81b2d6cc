//! Requests and response accessors that wire-level tests use repeatedly.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use streamline::protocol::kafka::ErrorCode;
use streamline::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use streamline::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use streamline::protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use streamline::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use streamline::protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use streamline::record::{
    BatchBuilder, Compression, DecompressLimit, Record, RecordBatch, Records,
};
use uuid::Uuid;

use super::Client;

/// The highest versions, for tests that do not depend on the version.
pub const PRODUCE: i16 = 13;
pub const FETCH: i16 = 18;
pub const CREATE_TOPICS: i16 = 7;

/// A topic's name and id.
#[derive(Debug, Clone)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
}

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is after 1970").as_millis() as i64
}

pub fn create(client: &mut Client, name: &str, partitions: i32) -> Topic {
    create_with(client, name, partitions, &[])
}

pub fn create_with(
    client: &mut Client,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Topic {
    let request = CreateTopicsRequest {
        topics: vec![creatable(name, partitions, configs)],
        ..CreateTopicsRequest::default()
    };
    let response = client.call(CREATE_TOPICS, &request);
    let created = &response.topics[0];
    assert_eq!(created.error_code, ErrorCode::NONE, "{created:?}");
    Topic {
        name: name.to_owned(),
        id: created.topic_id,
    }
}

pub fn creatable(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: -1,
        configs: configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: name.to_string(),
                value: Some(value.to_string()),
            })
            .collect(),
        ..CreatableTopic::default()
    }
}

/// Deletes the records of partition 0 before an offset; −1 stands for all. Returns the new log start.
pub fn delete_records(client: &mut Client, topic: &str, offset: i64) -> i64 {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: topic.to_owned(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset,
            }],
        }],
        timeout_ms: 10_000,
    };
    let deleted = client.call(2, &request);
    let partition = &deleted.topics[0].partitions[0];
    assert_eq!(partition.error_code, ErrorCode::NONE);
    partition.low_watermark
}

/// An offset for partition 0 of a topic, committed by a member, or from outside the group with generation −1.
pub fn commit_request(
    group: &str,
    member_id: &str,
    generation: i32,
    topic: &str,
    offset: i64,
) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: generation,
        member_id: member_id.to_owned(),
        topics: vec![OffsetCommitRequestTopic {
            name: topic.to_owned(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: offset,
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

/// Builds a batch with one record per value, all with the current time.
pub fn batch(values: &[&str]) -> RecordBatch {
    batch_in(Compression::None, values)
}

pub fn batch_in(codec: Compression, values: &[&str]) -> RecordBatch {
    let now = now_ms();
    let timed: Vec<_> = values.iter().map(|value| (now, *value)).collect();
    batch_at(codec, &timed)
}

/// Builds a batch of records with the given timestamps.
pub fn batch_at(codec: Compression, records: &[(i64, &str)]) -> RecordBatch {
    let mut builder = BatchBuilder::new(codec);
    for (timestamp_ms, value) in records {
        builder.push(*timestamp_ms, None, Some(value.as_bytes()), &[]);
    }
    builder.build().expect("a small batch")
}

/// Builds a batch of an idempotent producer.
pub fn batch_of(producer_id: i64, epoch: i16, sequence: i32, values: &[&str]) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None).producer(producer_id, epoch, sequence);
    for value in values {
        builder.push(now_ms(), None, Some(value.as_bytes()), &[]);
    }
    builder.build().expect("a small batch")
}

pub fn produce_request(topic: &Topic, acks: i16, partitions: &[(i32, Bytes)]) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.name.clone(),
            topic_id: topic.id,
            partition_data: partitions
                .iter()
                .map(|(index, records)| PartitionProduceData {
                    index: *index,
                    records: Some(records.clone()),
                })
                .collect(),
        }],
        ..ProduceRequest::default()
    }
}

/// Produces one batch with acks=all and returns the response for its partition.
pub fn try_produce(
    client: &mut Client,
    topic: &Topic,
    partition: i32,
    batch: &RecordBatch,
) -> PartitionProduceResponse {
    let request = produce_request(topic, -1, &[(partition, batch.bytes().clone())]);
    only_partition(client.call(PRODUCE, &request))
}

/// Returns the response for the only partition of a Produce request.
pub fn only_partition(mut response: ProduceResponse) -> PartitionProduceResponse {
    assert_eq!(response.responses.len(), 1);
    let mut partitions = response.responses.remove(0).partition_responses;
    assert_eq!(partitions.len(), 1);
    partitions.remove(0)
}

/// Produces one batch with acks=all and returns its base offset.
pub fn produce(client: &mut Client, topic: &Topic, partition: i32, batch: &RecordBatch) -> i64 {
    let response = try_produce(client, topic, partition, batch);
    assert_eq!(response.error_code, ErrorCode::NONE, "{response:?}");
    response.base_offset
}

/// Builds a fetch of all records from the given offsets that does not wait.
pub fn fetch_request(topic: &Topic, partitions: &[(i32, i64)]) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partitions: partitions
                .iter()
                .map(|(partition, fetch_offset)| FetchPartition {
                    partition: *partition,
                    fetch_offset: *fetch_offset,
                    partition_max_bytes: 10 << 20,
                    ..FetchPartition::default()
                })
                .collect(),
        }],
        ..FetchRequest::default()
    }
}

/// Fetches one partition and returns its part of the response.
pub fn fetch(client: &mut Client, topic: &Topic, partition: i32, offset: i64) -> PartitionData {
    let request = fetch_request(topic, &[(partition, offset)]);
    only(client.call(FETCH, &request))
}

/// Returns the only partition of a response.
pub fn only(mut response: FetchResponse) -> PartitionData {
    assert_eq!(response.error_code, ErrorCode::NONE);
    assert_eq!(response.responses.len(), 1);
    let mut partitions = response.responses.remove(0).partitions;
    assert_eq!(partitions.len(), 1);
    partitions.remove(0)
}

pub fn bytes_of(data: &PartitionData) -> Bytes {
    let records = data.records.clone().unwrap_or_default();
    records
        .to_bytes()
        .expect("records off the wire are in memory")
}

pub fn batches_of(data: &PartitionData) -> Vec<RecordBatch> {
    match bytes_of(data) {
        bytes if bytes.is_empty() => Vec::new(),
        bytes => RecordBatch::split(bytes).expect("a server sends whole batches"),
    }
}

pub fn records_of(data: &PartitionData) -> Vec<Record> {
    let batches = batches_of(data);
    let records = batches.iter().flat_map(|batch| {
        let records = batch.records(DecompressLimit::default());
        records.expect("a readable batch")
    });
    records
        .map(|record| record.expect("a readable record"))
        .collect()
}

pub fn values_of(data: &PartitionData) -> Vec<String> {
    let value = |record: Record| String::from_utf8_lossy(&record.value.unwrap_or_default()).into();
    records_of(data).into_iter().map(value).collect()
}

pub fn size_of(data: &PartitionData) -> usize {
    data.records.as_ref().map_or(0, Records::len)
}
