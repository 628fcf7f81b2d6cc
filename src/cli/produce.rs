//! `streamline produce`: writes records from standard input or the command line to a topic.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::client::{Client, Connect, check};
use super::error::CliError;
use super::output::{OutputFormat, counted, print, print_json};
use super::partitioner::partition_for_key;
use super::topics::TOPIC_RESOURCE;
use crate::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use crate::protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use crate::record::{BatchBuilder, BatchHeader, Compression, Header};

/// A batch is sent when it reaches this many bytes, or when the input pauses. Lowered to the topic's limit.
const BATCH_BYTES: usize = 256 << 10;
/// Input bytes per piece; at least one line. A piece is handed over early when the input pauses.
const PIECE_BYTES: usize = 64 << 10;
/// Number of pieces read ahead of the sender.
const PIECES_AHEAD: usize = 16;
/// Longest line accepted: the default `socket_request_max_bytes`.
const LINE_BYTES_MAX: usize = 100 << 20;

#[derive(Debug, clap::Args)]
pub struct Produce {
    /// Topic to write to
    topic: String,

    /// Write this one record instead of reading standard input
    #[arg(short, long)]
    value: Option<String>,

    /// Key of the record given with --value
    #[arg(short, long, requires = "value")]
    key: Option<String>,

    /// Add a header to every record (repeatable)
    #[arg(short = 'H', long = "header", value_name = "KEY=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,

    /// Split each line into key and value at the first occurrence of this separator
    #[arg(long, value_name = "TEXT", conflicts_with = "format")]
    key_separator: Option<String>,

    /// Format of standard input: one value per line, or one JSON object per line as written by consume --output json
    #[arg(long, value_enum, default_value = "lines")]
    format: InputFormat,

    /// Write to this partition [default: by key hash; records without a key rotate among partitions]
    #[arg(short, long)]
    partition: Option<i32>,

    /// Compression codec: none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none")]
    compression: Compression,

    /// Acknowledgement to wait for: 1 (appended to the log) or all (survives a power failure)
    #[arg(long, value_enum, default_value = "all")]
    acks: Acks,

    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum InputFormat {
    Lines,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Acks {
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

impl Acks {
    fn code(self) -> i16 {
        match self {
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected KEY=VALUE, such as source=cli".to_owned())
}

/// Record read from the input.
#[derive(Debug, Default, PartialEq, Eq)]
struct Input {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
    timestamp_ms: Option<i64>,
}

/// Line of JSON input, as written by `consume --output json`. Fields that are not part of the record are ignored.
#[derive(Debug, Deserialize)]
struct JsonInput {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    #[serde(default)]
    headers: Vec<JsonHeader>,
    timestamp: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct JsonHeader {
    key: String,
    value: Option<String>,
    value_base64: Option<String>,
}

pub async fn run(args: Produce, output: OutputFormat) -> Result<(), CliError> {
    let mut client = Client::connect(&args.connect).await?;
    let partitions = partitions(&mut client, &args).await?;
    let batch_bytes = batch_bytes(&mut client, &args.topic).await;
    let mut input = match &args.value {
        Some(value) => single(Input {
            key: args.key.clone().map(String::into_bytes),
            value: Some(value.clone().into_bytes()),
            ..Default::default()
        }),
        None => read_ahead(std::io::stdin(), args.format, args.key_separator.clone()),
    };
    let mut writer = Writer {
        headers: args
            .headers
            .iter()
            .map(|(key, value)| header(key, Some(value.clone().into_bytes())))
            .collect(),
        partitions,
        batch_bytes,
        round: 0,
        written: BTreeMap::new(),
        progress: Progress::new(output),
        args,
    };
    match writer.write_all(&mut client, &mut input).await {
        Ok(()) => writer.report(output),
        Err(error) => {
            writer.progress.end();
            Err(CliError::Partly {
                written: writer.total(),
                error: Box::new(error),
            })
        }
    }
}

/// Returns the partitions to write to. Requesting the topic creates it if the server allows auto-creation.
async fn partitions(client: &mut Client, args: &Produce) -> Result<Vec<i32>, CliError> {
    let partitions = client.topic_created_on_demand(&args.topic).await?;
    match args.partition {
        None => Ok(partitions),
        Some(partition) if partitions.contains(&partition) => Ok(vec![partition]),
        Some(partition) => Err(CliError::Usage(format!(
            "topic '{}' has no partition {partition}: it has {} partitions, numbered from 0",
            args.topic,
            partitions.len()
        ))),
    }
}

/// Returns the batch size limit, at most the topic's `max.message.bytes` if the server reports it.
async fn batch_bytes(client: &mut Client, topic: &str) -> usize {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: topic.to_owned(),
            configuration_keys: Some(vec!["max.message.bytes".to_owned()]),
        }],
        ..Default::default()
    };
    let configs = client.call(&request).await.into_iter();
    configs
        .flat_map(|it| it.results)
        .flat_map(|it| it.configs)
        .find_map(|it| it.value?.parse().ok())
        .map_or(BATCH_BYTES, |max: usize| max.min(BATCH_BYTES))
}

/// Channel of records read from the input.
type Pieces = mpsc::Receiver<Result<Vec<Input>, CliError>>;

fn single(record: Input) -> Pieces {
    let (send, receive) = mpsc::channel(1);
    send.try_send(Ok(vec![record]))
        .expect("the channel has capacity for one piece");
    receive
}

/// Reads the input on a separate thread, since standard input cannot be awaited.
fn read_ahead(
    input: impl Read + Send + 'static,
    format: InputFormat,
    key_separator: Option<String>,
) -> Pieces {
    let (send, receive) = mpsc::channel(PIECES_AHEAD);
    std::thread::spawn(move || {
        let mut lines = BufReader::with_capacity(PIECE_BYTES, input);
        let mut piece = Vec::new();
        let mut piece_bytes = 0;
        for number in 1u64.. {
            let record = match read_line(&mut lines) {
                Ok(None) => break,
                Ok(Some(line)) => {
                    piece_bytes += line.len() + 1;
                    parse(line, format, key_separator.as_deref())
                        .map_err(|reason| CliError::Usage(format!("line {number}: {reason}")))
                }
                Err(error) => Err(CliError::io(format!("standard input, line {number}"))(
                    error,
                )),
            };
            match record {
                Ok(record) => piece.push(record),
                Err(error) => {
                    let _ = send.blocking_send(Ok(piece));
                    let _ = send.blocking_send(Err(error));
                    return;
                }
            }
            // Hand over complete lines now instead of waiting for the rest of a partial one.
            let pauses = !lines.buffer().contains(&b'\n');
            if piece_bytes >= PIECE_BYTES || pauses {
                piece_bytes = 0;
                if send.blocking_send(Ok(std::mem::take(&mut piece))).is_err() {
                    return;
                }
            }
        }
    });
    receive
}

/// Reads the next line without its newline; `None` at the end of the input.
fn read_line(lines: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let limit = LINE_BYTES_MAX as u64 + 1;
    if lines.take(limit).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > LINE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "the line is longer than {LINE_BYTES_MAX} bytes"
        )));
    }
    Ok(Some(line))
}

fn parse(line: Vec<u8>, format: InputFormat, separator: Option<&str>) -> Result<Input, String> {
    match (format, separator) {
        (InputFormat::Json, _) => parse_json(&line),
        (InputFormat::Lines, None) => Ok(Input {
            value: Some(line),
            ..Default::default()
        }),
        (InputFormat::Lines, Some(separator)) => {
            let width = separator.len();
            let at = line
                .windows(width.max(1))
                .position(|it| it == separator.as_bytes())
                .ok_or_else(|| format!("the key separator '{separator}' is missing"))?;
            Ok(Input {
                key: Some(line[..at].to_vec()),
                value: Some(line[at + width..].to_vec()),
                ..Default::default()
            })
        }
    }
}

fn parse_json(line: &[u8]) -> Result<Input, String> {
    let record: JsonInput = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let headers = record
        .headers
        .into_iter()
        .map(|it| Ok(header(&it.key, bytes_of(it.value, it.value_base64)?)))
        .collect::<Result<_, String>>()?;
    Ok(Input {
        key: bytes_of(record.key, record.key_base64)?,
        value: bytes_of(record.value, record.value_base64)?,
        headers,
        timestamp_ms: record.timestamp,
    })
}

/// Returns the bytes of a field given as text or as base64.
fn bytes_of(text: Option<String>, base64: Option<String>) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (text, None) => Ok(text.map(String::into_bytes)),
        (_, Some(base64)) => BASE64_STANDARD
            .decode(base64)
            .map(Some)
            .map_err(|error| format!("not base64: {error}")),
    }
}

fn header(key: &str, value: Option<Vec<u8>>) -> Header {
    Header {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.map(Bytes::from),
    }
}

/// Batches being built, one per partition.
#[derive(Default)]
struct Batches {
    by_partition: BTreeMap<i32, BatchBuilder>,
    bytes: usize,
}

struct Writer {
    args: Produce,
    headers: Vec<Header>,
    partitions: Vec<i32>,
    /// Limit on the size of all batches of one request, in bytes.
    batch_bytes: usize,
    /// Number of requests sent so far; selects the partition for records without a key.
    round: usize,
    written: BTreeMap<i32, u64>,
    progress: Progress,
}

impl Writer {
    async fn write_all(&mut self, client: &mut Client, input: &mut Pieces) -> Result<(), CliError> {
        let mut batches = Batches::default();
        while let Some(piece) = input.recv().await {
            let records = match piece {
                Ok(records) => records,
                Err(error) => {
                    // Send the records before the bad line, so that the user can resume from there.
                    self.send(client, batches).await?;
                    return Err(error);
                }
            };
            for record in records {
                if batches.bytes + self.size_bytes_max(&record) > self.batch_bytes {
                    self.send(client, std::mem::take(&mut batches)).await?;
                }
                self.add(&mut batches, record);
            }
            if input.is_empty() {
                self.send(client, std::mem::take(&mut batches)).await?;
            }
        }
        Ok(())
    }

    /// Upper bound on the growth of a batch by this record, in bytes, including a new batch header.
    fn size_bytes_max(&self, record: &Input) -> usize {
        /// Lengths, deltas and counts at their maximum encoded size.
        const NUMBERS: usize = 40;
        let len = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = record.headers.iter().chain(&self.headers);
        let headers: usize = headers
            .map(|it| it.key.len() + len(it.value.as_deref()) + NUMBERS)
            .sum();
        BatchHeader::LEN
            + NUMBERS
            + len(record.key.as_deref())
            + len(record.value.as_deref())
            + headers
    }

    /// Number of acknowledged records.
    fn total(&self) -> u64 {
        self.written.values().sum()
    }

    fn add(&self, batches: &mut Batches, record: Input) {
        let index = match &record.key {
            Some(key) => partition_for_key(key, self.partitions.len()),
            None => self.round % self.partitions.len(),
        };
        let builder = batches
            .by_partition
            .entry(self.partitions[index])
            .or_insert_with(|| BatchBuilder::new(self.args.compression));
        let before = builder.size_bytes();
        let headers = [&record.headers[..], &self.headers[..]].concat();
        builder.push(
            record.timestamp_ms.unwrap_or_else(now_ms),
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
        batches.bytes += builder.size_bytes() - before;
    }

    async fn send(&mut self, client: &mut Client, batches: Batches) -> Result<(), CliError> {
        if batches.by_partition.is_empty() {
            return Ok(());
        }
        self.round += 1;
        client.reopen_if_closed(&self.args.connect).await?;
        let mut counts = BTreeMap::new();
        let mut partition_data = Vec::new();
        for (index, builder) in batches.by_partition {
            counts.insert(index, builder.record_count() as u64);
            let batch = builder.build().map_err(|error| {
                CliError::Usage(format!("cannot build a batch from these records: {error}"))
            })?;
            partition_data.push(PartitionProduceData {
                index,
                records: Some(batch.bytes().clone()),
            });
        }
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.args.acks.code(),
            timeout_ms: i32::try_from(self.args.connect.timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data: vec![TopicProduceData {
                name: self.args.topic.clone(),
                topic_id: client.topic_id(&self.args.topic).await?,
                partition_data,
            }],
        };
        for topic in client.call(&request).await?.responses {
            for it in topic.partition_responses {
                check(
                    &format!("{}-{}", self.args.topic, it.index),
                    it.error_code,
                    it.error_message.as_deref(),
                )?;
                let count = counts.get(&it.index).copied().unwrap_or(0);
                *self.written.entry(it.index).or_default() += count;
                self.progress.add(count);
            }
        }
        Ok(())
    }

    fn report(mut self, output: OutputFormat) -> Result<(), CliError> {
        self.progress.end();
        let total = self.total();
        match output {
            OutputFormat::Json => print_json(&json!({
                "topic": self.args.topic,
                "records": total,
                "by_partition": self.written,
            })),
            OutputFormat::Text => print(&format!(
                "wrote {} to {} ({})\n",
                counted(total, "record", "records"),
                self.args.topic,
                counted(self.written.len() as u64, "partition", "partitions")
            )),
        }
    }
}

/// Progress display on a terminal, updated once a second.
struct Progress {
    shown: bool,
    records: u64,
    started: Instant,
    last: Instant,
}

impl Progress {
    fn new(output: OutputFormat) -> Progress {
        let now = Instant::now();
        Progress {
            shown: output == OutputFormat::Text
                && std::io::stderr().is_terminal()
                && !std::io::stdin().is_terminal(),
            records: 0,
            started: now,
            last: now,
        }
    }

    fn add(&mut self, records: u64) {
        self.records += records;
        if self.shown && self.last.elapsed() >= Duration::from_secs(1) {
            self.last = Instant::now();
            let rate = self.records as f64 / self.started.elapsed().as_secs_f64();
            eprint!("\r{} records, {rate:.0} a second ", self.records);
        }
    }

    fn end(&mut self) {
        if self.shown && self.last > self.started {
            eprintln!();
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn lines_are_parsed_with_and_without_a_key() {
        let plain = parse(b"a:b".to_vec(), InputFormat::Lines, None).unwrap();
        assert_eq!((plain.key, plain.value), (None, Some(b"a:b".to_vec())));
        let keyed = parse(b"a::b".to_vec(), InputFormat::Lines, Some("::")).unwrap();
        assert_eq!(
            (keyed.key, keyed.value),
            (Some(b"a".to_vec()), Some(b"b".to_vec()))
        );
        assert!(parse(b"ab".to_vec(), InputFormat::Lines, Some(":")).is_err());
    }

    #[test]
    fn read_ahead_is_bounded() {
        /// Endless input in lines of 100 kB; counts the bytes read.
        struct Endless(Arc<AtomicUsize>);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let read = self.0.fetch_add(buffer.len(), Ordering::Relaxed);
                for (i, byte) in buffer.iter_mut().enumerate() {
                    *byte = if (read + i).is_multiple_of(100_000) {
                        b'\n'
                    } else {
                        b'x'
                    };
                }
                Ok(buffer.len())
            }
        }
        let read = Arc::new(AtomicUsize::new(1));
        let pieces = read_ahead(Endless(Arc::clone(&read)), InputFormat::Lines, None);
        while pieces.len() < PIECES_AHEAD {
            std::thread::yield_now();
        }
        let ahead = read.load(Ordering::Relaxed);
        assert!(ahead <= (PIECES_AHEAD + 3) * 200_000, "{ahead}");
    }

    #[test]
    fn complete_lines_are_handed_over_before_the_next_arrives() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut pieces = read_ahead(reader, InputFormat::Lines, None);
        let mut values = || -> Vec<_> {
            let records = pieces.blocking_recv().unwrap().unwrap();
            records.into_iter().filter_map(|it| it.value).collect()
        };
        writer.write_all(b"a\nb\nc").unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(values());
        }
        assert_eq!(seen, [b"a", b"b"]);
        drop(writer);
        assert_eq!(values(), [b"c"]);
    }

    #[test]
    fn json_lines_carry_text_bytes_and_headers() {
        let line = br#"{"topic":"t","offset":4,"key":null,"value_base64":"/w==","headers":[{"key":"h","value":"x"}],"timestamp":7}"#;
        let record = parse_json(line).unwrap();
        assert_eq!(record.key, None);
        assert_eq!(record.value, Some(vec![0xff]));
        assert_eq!(record.headers, [header("h", Some(b"x".to_vec()))]);
        assert_eq!(record.timestamp_ms, Some(7));
    }
}
