//! Pre-built requests, and the positions of fields in their responses.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use streamline::protocol::kafka::{self, Request};
use streamline::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use streamline::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use streamline::record::{BatchBuilder, Compression, RecordBatch};

use crate::clock::now_ms;

/// Versions that every peer supports and that identify topics by name.
pub const PRODUCE_VERSION: i16 = 9;
pub const FETCH_VERSION: i16 = 12;
const CLIENT_ID: &str = "bench";
/// Placeholder for an offset that is patched in later.
const OFFSET_MARK: i64 = 0x0BAD_CAFE_F00D_5EED;

pub fn encode<R: Request>(version: i16, request: &R) -> Result<Bytes> {
    Ok(kafka::encode_request(1, version, Some(CLIENT_ID), request)?)
}

/// Builds a batch of records of the same size, at most `batch_bytes` large, with at least one record.
pub fn batch(record_bytes: usize, batch_bytes: usize) -> Result<RecordBatch> {
    // Letters that differ between records, so that nothing on the way can compress them.
    let now_ms = now_ms();
    let mut builder = BatchBuilder::new(Compression::None);
    let mut value = vec![0; record_bytes];
    let mut state: u32 = 1;
    loop {
        for byte in &mut value {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = b'a' + (state >> 24) as u8 % 26;
        }
        // Size of a record without its value: lengths, deltas, a null key.
        const RECORD_OVERHEAD_MAX: usize = 24;
        let next = builder.size_bytes() + record_bytes + RECORD_OVERHEAD_MAX;
        if !builder.is_empty() && next > batch_bytes {
            return Ok(builder.build()?);
        }
        builder.push(now_ms, None, Some(&value), &[]);
    }
}

/// A Produce request and the layout of its response.
#[derive(Debug, Clone)]
pub struct Produce {
    pub frame: Bytes,
    /// Size of its batch, which counts as throughput.
    pub batch_bytes: usize,
    pub records: usize,
    /// Position of the response's error code after the length prefix.
    error_at: usize,
}

impl Produce {
    pub fn new(topic: &str, partition: i32, acks: i16, batch: &RecordBatch) -> Result<Produce> {
        let request = ProduceRequest {
            acks,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: topic.to_owned(),
                partition_data: vec![PartitionProduceData {
                    index: partition,
                    records: Some(batch.bytes().clone()),
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        // Correlation id, tags, one topic, its name, one partition, its index.
        ensure!(
            topic.len() < 127,
            "the length of a longer name takes two bytes"
        );
        let error_at = 4 + 1 + 1 + (1 + topic.len()) + 1 + 4;
        Ok(Produce {
            frame: encode(PRODUCE_VERSION, &request)?,
            batch_bytes: batch.size_bytes(),
            records: batch.header().record_count as usize,
            error_at,
        })
    }

    /// Checks a response without decoding it, and returns the offset of the batch.
    pub fn check(&self, answer: &[u8]) -> Result<i64> {
        let (code, rest) = answer
            .get(self.error_at..)
            .and_then(<[u8]>::split_first_chunk::<2>)
            .context("the response is too short")?;
        let code = i16::from_be_bytes(*code);
        ensure!(code == 0, "Produce failed with error {code}");
        let (offset, _) = rest
            .split_first_chunk::<8>()
            .context("the response is too short")?;
        Ok(i64::from_be_bytes(*offset))
    }
}

/// A Fetch request with a placeholder for the offset.
#[derive(Debug, Clone)]
pub struct Fetch {
    frame: Vec<u8>,
    offset_at: usize,
}

/// Waiting time and size limits of a Fetch.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    pub max_wait_ms: i32,
    pub max_bytes: i32,
}

impl Fetch {
    pub fn new(topic: &str, partition: i32, limits: FetchLimits) -> Result<Fetch> {
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: limits.max_wait_ms,
            min_bytes: 1,
            max_bytes: limits.max_bytes,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: topic.to_owned(),
                partitions: vec![FetchPartition {
                    partition,
                    fetch_offset: OFFSET_MARK,
                    partition_max_bytes: limits.max_bytes,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let frame = encode(FETCH_VERSION, &request)?.to_vec();
        let offset_at = frame
            .windows(8)
            .position(|window| window == OFFSET_MARK.to_be_bytes())
            .context("the frame has no placeholder")?;
        Ok(Fetch { frame, offset_at })
    }

    pub fn at(&mut self, offset: i64) -> &[u8] {
        self.frame[self.offset_at..][..8].copy_from_slice(&offset.to_be_bytes());
        &self.frame
    }
}

#[cfg(test)]
mod tests {
    use streamline::protocol::kafka::LENGTH_BYTES;
    use streamline::protocol::messages::produce::{
        PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
    };

    use super::*;

    #[test]
    fn batches_are_nearly_as_large_as_they_may_be() {
        for record_bytes in [100, 1024] {
            let size = batch(record_bytes, 100_000).unwrap().size_bytes();
            assert!(
                size <= 100_000 && size > 100_000 - record_bytes - 50,
                "{size}"
            );
        }
        assert_eq!(batch(1_000, 10).unwrap().header().record_count, 1);
    }

    #[test]
    fn error_and_offset_are_found_in_an_answer_of_produce() {
        let batch = batch(100, 1).unwrap();
        let produce = Produce::new("bench-000001", 0, 1, &batch).unwrap();
        let mut response = ProduceResponse {
            responses: vec![TopicProduceResponse {
                name: "bench-000001".to_owned(),
                partition_responses: vec![PartitionProduceResponse {
                    base_offset: 77,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let encode = |response: &ProduceResponse| {
            let frame =
                kafka::encode_response::<ProduceRequest>(1, PRODUCE_VERSION, response).unwrap();
            let chunks = frame
                .chunks
                .iter()
                .flat_map(|chunk| chunk.to_bytes().unwrap());
            chunks.skip(LENGTH_BYTES).collect::<Vec<u8>>()
        };
        assert_eq!(produce.check(&encode(&response)).unwrap(), 77);
        response.responses[0].partition_responses[0].error_code = kafka::ErrorCode::CORRUPT_MESSAGE;
        let refused = produce.check(&encode(&response)).unwrap_err();
        assert!(refused.to_string().contains("error 2"), "{refused}");
        assert!(produce.check(&[0; 4]).is_err());
    }

    #[test]
    fn the_offset_of_a_fetch_is_patched_in_place() {
        let limits = FetchLimits {
            max_wait_ms: 1,
            max_bytes: 1,
        };
        let mut fetch = Fetch::new("t", 0, limits).unwrap();
        let frame = Bytes::copy_from_slice(fetch.at(42));
        let mut body = frame.slice(LENGTH_BYTES..);
        kafka::decode_request_header(&mut body).unwrap();
        let request = kafka::decode_request::<FetchRequest>(body, FETCH_VERSION).unwrap();
        assert_eq!(request.topics[0].partitions[0].fetch_offset, 42);
    }
}
