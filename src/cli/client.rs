//! A small Kafka client for the command line: one connection, one request at a time.
//!
//! It uses the server's own message declarations and, for each API, the newest version both sides support. It connects
//! to the bootstrap address only: a Streamline cluster is a single broker, which leads every partition.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::error::CliError;
use crate::protocol::kafka::{self, ErrorCode, Request};
use crate::protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponseTopic,
};

/// Client id in every request header.
const CLIENT_ID: &str = "streamline-cli";

/// Largest response accepted, in bytes.
const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// Connection arguments, shared by all subcommands that talk to a server.
#[derive(Debug, Clone, clap::Args)]
pub struct Connect {
    /// Address of the server
    #[arg(
        short,
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092",
        env = "STREAMLINE_BOOTSTRAP_SERVER",
        global = true
    )]
    pub bootstrap_server: String,

    /// Timeout for connecting and for each response
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration, global = true)]
    pub timeout: Duration,
}

/// A connection to one server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    address: String,
    timeout: Duration,
    correlation_id: i32,
    /// Version range the server supports for each API key.
    offered: HashMap<i16, (i16, i16)>,
    /// Cached topic ids.
    topic_ids: HashMap<String, uuid::Uuid>,
}

impl Client {
    /// Connects and fetches the API versions the server supports.
    pub async fn connect(to: &Connect) -> Result<Client, CliError> {
        let address = to.bootstrap_server.clone();
        let unreachable = |reason: String| CliError::Unreachable {
            address: address.clone(),
            reason,
        };
        let stream = tokio::time::timeout(to.timeout, TcpStream::connect(&address))
            .await
            .map_err(|_| unreachable("connection timed out".into()))?
            .map_err(|error| unreachable(error.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|error| unreachable(error.to_string()))?;
        let mut client = Client {
            stream,
            address,
            timeout: to.timeout,
            correlation_id: 0,
            offered: HashMap::new(),
            topic_ids: HashMap::new(),
        };
        client.learn_versions().await?;
        Ok(client)
    }

    /// Reconnects if the server has closed the connection, as it does when one is idle for too long.
    pub async fn reopen_if_closed(&mut self, to: &Connect) -> Result<(), CliError> {
        match self.stream.try_read(&mut [0]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // End of stream, or unsolicited bytes.
            _ => *self = Client::connect(to).await?,
        }
        Ok(())
    }

    async fn learn_versions(&mut self) -> Result<(), CliError> {
        let request = ApiVersionsRequest {
            client_software_name: CLIENT_ID.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        let newest = *ApiVersionsRequest::VERSIONS.end();
        let mut response = self.exchange(newest, &request).await?;
        // KIP-511: a server that does not know the version answers with version 0 and its range.
        if response.error_code == ErrorCode::UNSUPPORTED_VERSION {
            response = self.exchange(0, &request).await?;
        }
        check("ApiVersions", response.error_code, None)?;
        let ApiVersionsResponse { api_keys, .. } = response;
        self.offered = api_keys
            .into_iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect();
        Ok(())
    }

    /// Sends `request` at the newest version both sides support and waits for its response.
    pub async fn call<R: Request>(&mut self, request: &R) -> Result<R::Response, CliError> {
        let version = self.version_of::<R>()?;
        self.exchange(version, request).await
    }

    /// Sends `request` at the newest version up to `max` that both sides support and waits for its response.
    pub async fn call_up_to<R: Request>(
        &mut self,
        max: i16,
        request: &R,
    ) -> Result<R::Response, CliError> {
        let version = self.version_of::<R>()?.min(max);
        self.exchange(version, request).await
    }

    /// Newest version of an API that both sides support.
    pub fn version_of<R: Request>(&self) -> Result<i16, CliError> {
        let ours = R::VERSIONS;
        self.offered
            .get(&(R::KEY as i16))
            .map(|&(min, max)| (min.max(*ours.start()), max.min(*ours.end())))
            .filter(|(min, max)| min <= max)
            .map(|(_, newest)| newest)
            .ok_or_else(|| CliError::NotOffered {
                address: self.address.clone(),
                api: R::KEY.name(),
            })
    }

    async fn exchange<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<R::Response, CliError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame =
            kafka::encode_request::<R>(self.correlation_id, version, Some(CLIENT_ID), request)
                .map_err(|error| CliError::Protocol {
                    api: R::KEY.name(),
                    reason: error.to_string(),
                })?;
        let timeout = self.timeout;
        let body = tokio::time::timeout(timeout, self.round_trip(&frame))
            .await
            .map_err(|_| CliError::TimedOut {
                api: R::KEY.name(),
                after: timeout,
            })?
            .map_err(|error| CliError::Disconnected {
                address: self.address.clone(),
                api: R::KEY.name(),
                reason: error.to_string(),
            })?;
        // With one request at a time, any other correlation id is a protocol error.
        let (correlation_id, response) =
            kafka::decode_response::<R>(body, version).map_err(|error| CliError::Protocol {
                api: R::KEY.name(),
                reason: error.to_string(),
            })?;
        if correlation_id != self.correlation_id {
            return Err(CliError::Protocol {
                api: R::KEY.name(),
                reason: format!(
                    "the response has correlation id {correlation_id}, expected {}",
                    self.correlation_id
                ),
            });
        }
        Ok(response)
    }

    async fn round_trip(&mut self, frame: &[u8]) -> std::io::Result<Bytes> {
        self.stream.write_all(frame).await?;
        let len = self.stream.read_u32().await? as usize;
        if len > RESPONSE_BYTES_MAX {
            return Err(std::io::Error::other(format!(
                "the response claims to be {len} bytes long; check that the address is a Kafka port"
            )));
        }
        // The buffer grows with the bytes received, not with the announced length.
        let mut body = Vec::new();
        (&mut self.stream)
            .take(len as u64)
            .read_to_end(&mut body)
            .await?;
        if body.len() < len {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(body.into())
    }

    /// Metadata of these topics, or of all topics if `names` is `None`, sorted by name and partition index. Fails if a
    /// topic does not exist.
    pub async fn topics(
        &mut self,
        names: Option<&[String]>,
    ) -> Result<Vec<MetadataResponseTopic>, CliError> {
        let request = MetadataRequest {
            topics: names.map(|names| {
                names
                    .iter()
                    .map(|name| MetadataRequestTopic {
                        name: Some(name.clone()),
                        ..Default::default()
                    })
                    .collect()
            }),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let mut topics = self.call(&request).await?.topics;
        for topic in &mut topics {
            check(
                &format!("topic '{}'", topic.name.as_deref().unwrap_or("?")),
                topic.error_code,
                None,
            )?;
            topic.partitions.sort_by_key(|it| it.partition_index);
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Partition indexes of one topic, which the server creates first if it does not exist and auto-creation is on.
    pub async fn topic_created_on_demand(&mut self, topic: &str) -> Result<Vec<i32>, CliError> {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(topic.to_owned()),
                ..Default::default()
            }]),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        self.call(&request).await?;
        self.partitions(topic).await
    }

    /// The topic's id, cached after the first lookup.
    pub async fn topic_id(&mut self, topic: &str) -> Result<uuid::Uuid, CliError> {
        if let Some(id) = self.topic_ids.get(topic) {
            return Ok(*id);
        }
        let topics = self.topics(Some(&[topic.to_owned()])).await?;
        let id = topics.first().map_or(uuid::Uuid::nil(), |it| it.topic_id);
        self.topic_ids.insert(topic.to_owned(), id);
        Ok(id)
    }

    /// Partition indexes of one topic, ascending.
    pub async fn partitions(&mut self, topic: &str) -> Result<Vec<i32>, CliError> {
        let topics = self.topics(Some(&[topic.to_owned()])).await?;
        Ok(topics
            .into_iter()
            .flat_map(|topic| topic.partitions)
            .map(|partition| partition.partition_index)
            .collect())
    }
}

/// Turns a Kafka error code into an error about `what`.
pub fn check(what: &str, code: ErrorCode, message: Option<&str>) -> Result<(), CliError> {
    if !code.is_error() {
        return Ok(());
    }
    Err(CliError::Refused {
        what: what.to_owned(),
        code,
        message: message.map(str::to_owned),
    })
}
