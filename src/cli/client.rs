//! A small Kafka client for the command line: one connection, one request at a time.
//!
//! It speaks through the same message declarations as the server and picks, for each API, the newest version both
//! sides know. It talks to the bootstrap address alone, which on a Streamline server is where everything is.

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

/// The name this client gives of itself in every request header.
const CLIENT_ID: &str = "streamline-cli";

/// The largest response this client is willing to hold, in bytes.
const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// How to reach the server, shared by every subcommand that does.
#[derive(Debug, Clone, clap::Args)]
pub struct Connect {
    /// The server's address, `host:port`
    #[arg(
        short,
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092",
        env = "STREAMLINE_BOOTSTRAP_SERVER",
        global = true
    )]
    pub bootstrap_server: String,

    /// Give up on a connection or an answer after this long
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
    /// The versions the server offers of each API key.
    offered: HashMap<i16, (i16, i16)>,
    /// Ids of topics asked for before.
    topic_ids: HashMap<String, uuid::Uuid>,
}

impl Client {
    /// Connects and learns which versions the server offers.
    pub async fn connect(to: &Connect) -> Result<Client, CliError> {
        let address = to.bootstrap_server.clone();
        let unreachable = |reason: String| CliError::Unreachable {
            address: address.clone(),
            reason,
        };
        let stream = tokio::time::timeout(to.timeout, TcpStream::connect(&address))
            .await
            .map_err(|_| unreachable("no connection in time".into()))?
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

    /// Connects again if the server has closed the connection, as it does with those that are idle for long.
    pub async fn reopen_if_closed(&mut self, to: &Connect) -> Result<(), CliError> {
        match self.stream.try_read(&mut [0]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // The end, or bytes that answer nothing.
            _ => *self = Client::connect(to).await?,
        }
        Ok(())
    }

    async fn learn_versions(&mut self) -> Result<(), CliError> {
        let request = ApiVersionsRequest {
            client_software_name: CLIENT_ID.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
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

    /// Sends `request` at the newest version both sides know and waits for its response.
    pub async fn call<R: Request>(&mut self, request: &R) -> Result<R::Response, CliError> {
        let version = self.version_of::<R>()?;
        self.exchange(version, request).await
    }

    /// The newest version of an API that both sides know.
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
        let (correlation_id, response) =
            kafka::decode_response::<R>(body, version).map_err(|error| CliError::Protocol {
                api: R::KEY.name(),
                reason: error.to_string(),
            })?;
        if correlation_id != self.correlation_id {
            return Err(CliError::Protocol {
                api: R::KEY.name(),
                reason: format!(
                    "the response answers request {correlation_id}, not {}",
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
                "a response of {len} bytes was announced; is this a Kafka port?"
            )));
        }
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

    /// What the server says of these topics, or of every topic when `names` is `None`; sorted by name, their
    /// partitions by index. A topic that is not there is an error.
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

    /// The partition indexes of one topic, which the server creates if it is not there and it may.
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

    /// The id the server knows a topic by.
    pub async fn topic_id(&mut self, topic: &str) -> Result<uuid::Uuid, CliError> {
        if let Some(id) = self.topic_ids.get(topic) {
            return Ok(*id);
        }
        let topics = self.topics(Some(&[topic.to_owned()])).await?;
        let id = topics.first().map_or(uuid::Uuid::nil(), |it| it.topic_id);
        self.topic_ids.insert(topic.to_owned(), id);
        Ok(id)
    }

    /// The partition indexes of one topic, ascending.
    pub async fn partitions(&mut self, topic: &str) -> Result<Vec<i32>, CliError> {
        let topics = self.topics(Some(&[topic.to_owned()])).await?;
        Ok(topics
            .into_iter()
            .flat_map(|topic| topic.partitions)
            .map(|partition| partition.partition_index)
            .collect())
    }
}

/// Turns a Kafka error code into an error that names `what` it befell.
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
