//! A blocking connection, with the administrative requests that measurements need.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use streamline::protocol::kafka::{self, Request, Wire};
use streamline::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use streamline::protocol::messages::delete_topics::DeleteTopicsRequest;
use streamline::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};

use super::frames::encode;

/// Maximum time for a response.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes per read of a skipped response.
const SKIP_BYTES: usize = 1 << 20;

pub struct Connection {
    pub stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Result<Connection> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection {
            stream,
            answer: Vec::new(),
        })
    }

    /// Returns a handle to the same socket for another thread.
    pub fn split(&self) -> Result<Connection> {
        Ok(Connection {
            stream: self.stream.try_clone()?,
            answer: Vec::new(),
        })
    }

    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.stream.write_all(frame).context("send a request")
    }

    /// Reads the next response, without its length prefix. Valid until the next one is read.
    pub fn receive(&mut self) -> Result<&[u8]> {
        let length = self.receive_length()?;
        if self.answer.len() < length {
            self.answer.resize(length, 0);
        }
        self.stream
            .read_exact(&mut self.answer[..length])
            .context("read a response")?;
        Ok(&self.answer[..length])
    }

    /// Reads the length of the next response; its bytes follow.
    pub fn receive_length(&mut self) -> Result<usize> {
        let mut length = [0; 4];
        self.stream
            .read_exact(&mut length)
            .context("await a response")?;
        Ok(usize::try_from(i32::from_be_bytes(length))?)
    }

    /// Skips `bytes` bytes.
    pub fn skip(&mut self, bytes: usize) -> Result<()> {
        self.answer.resize(SKIP_BYTES, 0);
        let mut left = bytes;
        while left > 0 {
            let next = left.min(SKIP_BYTES);
            let read = self.stream.read(&mut self.answer[..next])?;
            ensure!(
                read > 0,
                "the server closed the connection during a response"
            );
            left -= read;
        }
        Ok(())
    }

    /// Sends a request and decodes the response.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        self.send(&encode(version, request)?)?;
        let answer = Bytes::copy_from_slice(self.receive()?);
        let (_, response) = kafka::decode_response::<R>(answer, version)?;
        Ok(response)
    }

    /// Creates a topic and waits until it is writable. `file.delete.delay.ms` is 0, so that deleting a topic frees its space
    /// at once.
    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let delay = ("file.delete.delay.ms", "0");
        let configs = configs.iter().chain([&delay]);
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.to_owned(),
                num_partitions: partitions,
                replication_factor: 1,
                configs: configs
                    .map(|(name, value)| CreatableTopicConfig {
                        name: (*name).to_owned(),
                        value: Some((*value).to_owned()),
                    })
                    .collect(),
                ..Default::default()
            }],
            timeout_ms: PATIENCE.as_millis() as i32,
            ..Default::default()
        };
        let response = self.call(5, &request)?;
        ensure!(!response.has_error(), "create {name}: {response:?}");
        self.wait_for_topic(name, partitions)
    }

    /// Waits until every partition has a leader that responds.
    pub fn wait_for_topic(&mut self, topic: &str, partitions: i32) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.every_partition_answers(topic, partitions)? {
            ensure!(
                Instant::now() < deadline,
                "the {partitions} partitions of {topic} are not available after {PATIENCE:?}"
            );
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    pub fn delete_topic(&mut self, name: &str) -> Result<()> {
        let request = DeleteTopicsRequest {
            topic_names: vec![name.to_owned()],
            timeout_ms: PATIENCE.as_millis() as i32,
            ..Default::default()
        };
        let response = self.call(5, &request)?;
        ensure!(!response.has_error(), "delete {name}: {response:?}");
        Ok(())
    }

    /// Requests the end offset of every partition.
    fn every_partition_answers(&mut self, topic: &str, partitions: i32) -> Result<bool> {
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic.to_owned(),
                partitions: (0..partitions)
                    .map(|partition_index| ListOffsetsPartition {
                        partition_index,
                        timestamp: -1,
                        ..Default::default()
                    })
                    .collect(),
            }],
            ..Default::default()
        };
        let response = self.call(6, &request)?;
        let answered = response
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .filter(|partition| !partition.error_code.is_error());
        Ok(answered.count() == partitions as usize)
    }
}
