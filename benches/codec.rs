//! Cost of decoding requests and encoding responses, compared with the `kafka-protocol` crate on the same bytes.
//!
//! `cargo bench --bench codec`

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, criterion_group, criterion_main};
use kafka_protocol::messages as witness;
use kafka_protocol::protocol::{Decodable, Encodable};
use streamline::protocol::kafka::{
    Request, decode_request, decode_request_header, decode_response, encode_request,
    encode_response,
};
use streamline::protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use streamline::protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use streamline::protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData, TopicProduceResponse,
};
use streamline::record::Records;

const BATCH_BYTES: usize = 16 * 1024;

/// The newest version with topic names, so that strings are part of the work.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
const METADATA_VERSION: i16 = 13;

fn produce() -> (ProduceRequest, ProduceResponse) {
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: "orders".to_owned(),
            partition_data: vec![PartitionProduceData {
                index: 3,
                records: Some(Bytes::from(vec![1; BATCH_BYTES])),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = ProduceResponse {
        responses: vec![TopicProduceResponse {
            name: "orders".to_owned(),
            partition_responses: vec![PartitionProduceResponse {
                index: 3,
                base_offset: 1_000,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    (request, response)
}

fn fetch() -> (FetchRequest, FetchResponse) {
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic: "orders".to_owned(),
            partitions: (0..10)
                .map(|partition| FetchPartition {
                    partition,
                    fetch_offset: 1_000,
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let records = Bytes::from(vec![1; BATCH_BYTES]);
    let response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: "orders".to_owned(),
            partitions: (0..10)
                .map(|partition_index| PartitionData {
                    partition_index,
                    high_watermark: 2_000,
                    records: Some(Records::Bytes(records.clone())),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    (request, response)
}

fn metadata() -> MetadataResponse {
    let partitions = (0..10)
        .map(|partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            replica_nodes: vec![1],
            isr_nodes: vec![1],
            ..Default::default()
        })
        .collect::<Vec<_>>();
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: 1,
            host: "localhost".to_owned(),
            port: 9092,
            ..Default::default()
        }],
        topics: (0..100)
            .map(|topic| MetadataResponseTopic {
                name: Some(format!("topic-{topic}")),
                partitions: partitions.clone(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn body_of<R: Request>(version: i16, request: &R) -> Bytes {
    let mut frame = encode_request(1, version, Some("bench"), request)
        .expect("it encodes")
        .slice(4..);
    decode_request_header(&mut frame).expect("our own header");
    frame
}

fn frame_of<R: Request>(version: i16, response: &R::Response) -> Bytes {
    let frame = encode_response::<R>(1, version, response).expect("it encodes");
    let chunks = frame.chunks.iter();
    let bytes: Vec<u8> = chunks
        .flat_map(|chunk| chunk.to_bytes().expect("in memory"))
        .collect();
    Bytes::from(bytes).slice(4..)
}

/// Decodes `body` and encodes `response`, with our codec and with the reference (the witness).
fn compare<R, W>(c: &mut Criterion, version: i16, body: &Bytes, response: &R::Response)
where
    R: Request,
    W: kafka_protocol::protocol::Request,
{
    let mut group = c.benchmark_group(R::KEY.metric_name());
    group.bench_function("read request", |b| {
        b.iter(|| decode_request::<R>(black_box(body.clone()), version).expect("valid"));
    });
    group.bench_function("read request, witness", |b| {
        b.iter(|| W::decode(&mut black_box(body.clone()), version).expect("valid"));
    });
    group.bench_function("write response", |b| {
        b.iter(|| encode_response::<R>(1, version, black_box(response)).expect("it encodes"));
    });
    // The response header in these versions: a correlation id and one byte of tags.
    let frame = frame_of::<R>(version, response);
    let theirs = W::Response::decode(&mut frame.slice(5..), version).expect("valid");
    group.bench_function("write response, witness", |b| {
        b.iter(|| {
            let mut out = BytesMut::with_capacity(256);
            black_box(&theirs)
                .encode(&mut out, version)
                .expect("it encodes");
            out
        });
    });
    group.bench_function("read response", |b| {
        b.iter(|| decode_response::<R>(black_box(frame.clone()), version).expect("valid"));
    });
    group.finish();
}

fn codec(c: &mut Criterion) {
    let (request, response) = produce();
    let body = body_of(PRODUCE_VERSION, &request);
    compare::<ProduceRequest, witness::ProduceRequest>(c, PRODUCE_VERSION, &body, &response);
    let (request, response) = fetch();
    let body = body_of(FETCH_VERSION, &request);
    compare::<FetchRequest, witness::FetchRequest>(c, FETCH_VERSION, &body, &response);
    let body = body_of(METADATA_VERSION, &MetadataRequest::default());
    let response = metadata();
    compare::<MetadataRequest, witness::MetadataRequest>(c, METADATA_VERSION, &body, &response);
}

criterion_group!(benches, codec);
criterion_main!(benches);
