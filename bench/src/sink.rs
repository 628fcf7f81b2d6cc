//! A no-op server with just enough of the protocol for librdkafka: it acknowledges records without storing them, and
//! responds to every Fetch with the same batch. A client's throughput with it is the client's limit.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use streamline::protocol::kafka::{
    ApiKey, ErrorCode, LENGTH_BYTES, Request, decode_request, decode_request_header,
    encode_response,
};
use streamline::protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse,
};
use streamline::protocol::messages::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use streamline::protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use streamline::protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use streamline::protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use streamline::record::Records;

use crate::loads::lean::frames::batch;

const NODE: i32 = 1;
/// Default size of librdkafka's batches.
const BATCH_BYTES: usize = 1_000_000;
/// High watermark that no test reaches.
const END: i64 = 1 << 60;

/// Prints the address and serves until the process is killed.
pub fn serve(record_bytes: usize) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let batch = batch(record_bytes, BATCH_BYTES)?;
    println!("{address}");
    loop {
        let (stream, _) = listener.accept()?;
        let sink = Sink {
            address,
            batch: batch.bytes().to_vec(),
            records: i64::from(batch.header().record_count),
        };
        thread::spawn(move || {
            if let Err(error) = sink.answer_all(stream) {
                eprintln!("sink: {error:#}");
            }
        });
    }
}

/// A connection.
struct Sink {
    address: SocketAddr,
    /// Records of every Fetch response; the offset is patched in.
    batch: Vec<u8>,
    records: i64,
}

/// A request without its header.
struct Call {
    version: i16,
    correlation_id: i32,
    body: Bytes,
}

impl Call {
    fn decode<R: Request>(&self) -> Result<R> {
        Ok(decode_request::<R>(self.body.clone(), self.version)?)
    }
}

impl Sink {
    fn answer_all(mut self, mut stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut length = [0; LENGTH_BYTES];
        while stream.read_exact(&mut length).is_ok() {
            let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length))?];
            stream.read_exact(&mut frame)?;
            let mut body = Bytes::from(frame);
            let header = decode_request_header(&mut body)?;
            let call = Call {
                version: header.api_version,
                correlation_id: header.correlation_id,
                body,
            };
            for chunk in self.answer(header.api_key, &call)? {
                match chunk {
                    Records::Bytes(bytes) => stream.write_all(&bytes)?,
                    Records::File(_) => bail!("a sink has no files"),
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, api_key: i16, call: &Call) -> Result<Vec<Records>> {
        let key = ApiKey::try_from(api_key)
            .ok()
            .with_context(|| format!("API key {api_key}"))?;
        match key {
            ApiKey::ApiVersions => encode::<ApiVersionsRequest>(call, &versions()),
            ApiKey::Metadata => encode::<MetadataRequest>(call, &self.metadata(&call.decode()?)),
            ApiKey::ListOffsets => encode::<ListOffsetsRequest>(call, &offsets(call.decode()?)),
            ApiKey::Produce => encode::<ProduceRequest>(call, &acknowledgement(call.decode()?)),
            ApiKey::Fetch => {
                let response = self.fetched(&call.decode()?);
                encode::<FetchRequest>(call, &response)
            }
            other => bail!("a sink does not serve {}", other.name()),
        }
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let topic = |name: Option<String>| MetadataResponseTopic {
            name,
            partitions: vec![MetadataResponsePartition {
                leader_id: NODE,
                replica_nodes: vec![NODE],
                isr_nodes: vec![NODE],
                ..Default::default()
            }],
            ..Default::default()
        };
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: NODE,
                host: self.address.ip().to_string(),
                port: i32::from(self.address.port()),
                ..Default::default()
            }],
            controller_id: NODE,
            topics: request
                .topics
                .iter()
                .flatten()
                .map(|asked| topic(asked.name.clone()))
                .collect(),
            ..Default::default()
        }
    }

    fn fetched(&mut self, request: &FetchRequest) -> FetchResponse {
        let responses = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let first = asked.fetch_offset - asked.fetch_offset % self.records;
                self.batch[..8].copy_from_slice(&first.to_be_bytes());
                PartitionData {
                    partition_index: asked.partition,
                    high_watermark: END,
                    last_stable_offset: END,
                    log_start_offset: 0,
                    records: Some(Records::Bytes(Bytes::copy_from_slice(&self.batch))),
                    ..Default::default()
                }
            });
            FetchableTopicResponse {
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
                partitions: partitions.collect(),
            }
        });
        FetchResponse {
            responses: responses.collect(),
            ..Default::default()
        }
    }
}

fn encode<R: Request>(call: &Call, response: &R::Response) -> Result<Vec<Records>> {
    Ok(encode_response::<R>(call.correlation_id, call.version, response)?.chunks)
}

fn versions() -> ApiVersionsResponse {
    fn range<R: Request>() -> ApiVersion {
        ApiVersion {
            api_key: R::KEY as i16,
            min_version: *R::VERSIONS.start(),
            max_version: *R::VERSIONS.end(),
        }
    }
    ApiVersionsResponse {
        api_keys: vec![
            // With a higher minimum librdkafka assumes a broker without message format 2.
            ApiVersion {
                min_version: 0,
                ..range::<ProduceRequest>()
            },
            ApiVersion {
                // Later versions use topic ids, which the sink does not have.
                max_version: 12,
                ..range::<FetchRequest>()
            },
            range::<ListOffsetsRequest>(),
            ApiVersion {
                max_version: 9,
                ..range::<MetadataRequest>()
            },
            range::<ApiVersionsRequest>(),
        ],
        ..Default::default()
    }
}

fn offsets(request: ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|asked| ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                error_code: ErrorCode::NONE,
                offset: 0,
                ..Default::default()
            });
        ListOffsetsTopicResponse {
            name: topic.name,
            partitions: partitions.collect(),
        }
    });
    ListOffsetsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn acknowledgement(request: ProduceRequest) -> ProduceResponse {
    let responses = request.topic_data.into_iter().map(|topic| {
        let partitions = topic
            .partition_data
            .iter()
            .map(|data| PartitionProduceResponse {
                index: data.index,
                ..Default::default()
            });
        TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses: partitions.collect(),
        }
    });
    ProduceResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}
