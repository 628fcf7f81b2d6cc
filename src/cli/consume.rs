//! `streamline consume`: prints the records of a topic to standard output.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::client::{Client, Connect, check};
use super::error::CliError;
use super::output::{OutputFormat, print};
use super::position::{self, Position};
use super::record_view;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use crate::record::{DecompressLimit, Record, RecordBatch};

/// Longest time the server may delay a fetch response while there are no new records.
const MAX_WAIT_MS: i32 = 500;
/// Fetch response size in bytes; a larger first batch is still returned whole.
const FETCH_BYTES_MAX: i32 = 8 << 20;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("start").multiple(false)))]
pub struct Consume {
    /// Topic to read
    topic: String,

    /// Read only this partition (repeatable)
    #[arg(short, long = "partition", value_name = "N")]
    partitions: Vec<i32>,

    /// Start at the log start; by default only new records are read
    #[arg(long, group = "start")]
    from_beginning: bool,

    /// Start at this offset; a negative number counts back from the log end
    #[arg(long, group = "start", value_parser = Position::parse_offset, allow_hyphen_values = true)]
    offset: Option<Position>,

    /// Start at the first record at or after this time (RFC 3339 or Unix ms) or age (such as 15m)
    #[arg(long, group = "start", value_name = "TIME", value_parser = Position::parse_time)]
    since: Option<Position>,

    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "N")]
    max_messages: Option<u64>,

    /// Stop at the log end of each partition as of the start of the command
    #[arg(short, long)]
    exit_at_end: bool,

    /// Print partition and offset before each record
    #[arg(long)]
    print_offset: bool,

    /// Print the timestamp (Unix ms) before each record
    #[arg(long)]
    print_timestamp: bool,

    /// Print the headers before each record
    #[arg(long)]
    print_headers: bool,

    /// Print the key before each record
    #[arg(long)]
    print_key: bool,

    #[command(flatten)]
    connect: Connect,
}

impl Consume {
    fn start(&self) -> Position {
        match (self.offset.or(self.since), self.from_beginning) {
            (Some(position), _) => position,
            (None, true) => Position::Earliest,
            (None, false) => Position::Latest,
        }
    }
}

/// Read position in one partition.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    next: i64,
    /// Log end offset when reading began.
    end: i64,
}

pub async fn run(args: Consume, output: OutputFormat) -> Result<(), CliError> {
    let mut client = Client::connect(&args.connect).await?;
    let mut partitions = client.partitions(&args.topic).await?;
    if let Some(missing) = args.partitions.iter().find(|it| !partitions.contains(it)) {
        return Err(CliError::Usage(format!(
            "topic '{}' has no partition {missing}: it has {} partitions, numbered from 0",
            args.topic,
            partitions.len()
        )));
    }
    // Filtering keeps each partition once, even if it was named twice.
    if !args.partitions.is_empty() {
        partitions.retain(|it| args.partitions.contains(it));
    }
    let bounds = position::bounds(&mut client, &args.topic, &partitions).await?;
    let starts = position::resolve(&mut client, &args.topic, &bounds, args.start()).await?;
    let cursors = bounds
        .iter()
        .zip(starts)
        .map(|(it, next)| {
            (
                it.partition,
                Cursor {
                    next,
                    end: it.latest,
                },
            )
        })
        .collect();
    let mut reader = Reader {
        left: args.max_messages.unwrap_or(u64::MAX),
        cursors,
        output,
        args,
    };
    while !reader.done() {
        reader.poll(&mut client).await?;
    }
    Ok(())
}

struct Reader {
    args: Consume,
    output: OutputFormat,
    cursors: BTreeMap<i32, Cursor>,
    /// Number of records that may still be printed.
    left: u64,
}

impl Reader {
    fn done(&self) -> bool {
        let at_end = || self.cursors.values().all(|it| it.next >= it.end);
        self.left == 0 || (self.args.exit_at_end && at_end())
    }

    async fn poll(&mut self, client: &mut Client) -> Result<(), CliError> {
        let topic_id = client.topic_id(&self.args.topic).await?;
        let partitions = self
            .cursors
            .iter()
            .map(|(&partition, cursor)| FetchPartition {
                partition,
                current_leader_epoch: -1,
                fetch_offset: cursor.next,
                partition_max_bytes: FETCH_BYTES_MAX,
                ..Default::default()
            });
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: MAX_WAIT_MS,
            min_bytes: 1,
            max_bytes: FETCH_BYTES_MAX,
            session_id: 0,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: self.args.topic.clone(),
                topic_id,
                partitions: partitions.collect(),
            }],
            ..Default::default()
        };
        let response = client.call(&request).await?;
        check("Fetch", response.error_code, None)?;
        for data in response.responses.into_iter().flat_map(|it| it.partitions) {
            let partition = data.partition_index;
            if data.error_code == ErrorCode::OFFSET_OUT_OF_RANGE {
                self.skip_to_start(client, partition).await?;
                continue;
            }
            check(
                &format!("{}-{partition}", self.args.topic),
                data.error_code,
                None,
            )?;
            let Some(records) = data.records else {
                continue;
            };
            let bytes = records
                .to_bytes()
                .map_err(CliError::io("the fetched records"))?;
            // A response without new records has empty or null data.
            if bytes.is_empty() {
                continue;
            }
            self.show(partition, bytes)?;
        }
        Ok(())
    }

    /// Continues at the log start after retention deleted the next offset, and reports the skipped offsets.
    async fn skip_to_start(&mut self, client: &mut Client, partition: i32) -> Result<(), CliError> {
        let bounds = position::bounds(client, &self.args.topic, &[partition]).await?;
        for it in bounds {
            if let Some(cursor) = self.cursors.get_mut(&partition) {
                eprintln!(
                    "{}-{partition}: offsets {} up to {} were deleted; continuing at {}",
                    self.args.topic, cursor.next, it.earliest, it.earliest
                );
                cursor.next = it.earliest;
            }
        }
        Ok(())
    }

    fn show(&mut self, partition: i32, bytes: Bytes) -> Result<(), CliError> {
        let corrupt = |error: crate::record::Error| CliError::Protocol {
            api: "Fetch",
            reason: format!("{}-{partition}: corrupt batch: {error}", self.args.topic),
        };
        let mut text = String::new();
        let batches = RecordBatch::split(bytes).map_err(corrupt)?;
        for batch in batches {
            let header = batch.header();
            let next = header.next_offset();
            let Some(cursor) = self.cursors.get_mut(&partition) else {
                return Ok(());
            };
            // Advance past the whole batch, even if it has no records to print.
            let from = cursor.next;
            cursor.next = next;
            if header.attributes.is_control() {
                continue;
            }
            for record in batch.records(DecompressLimit::default()).map_err(corrupt)? {
                let record = record.map_err(corrupt)?;
                // A fetch returns whole batches, which may begin before the requested offset.
                if record.offset < from || self.left == 0 {
                    continue;
                }
                self.left -= 1;
                match self.output {
                    OutputFormat::Json => text.push_str(&self.json(partition, &record).to_string()),
                    OutputFormat::Text => self.push_text(&mut text, partition, &record),
                }
                text.push('\n');
            }
        }
        print(&text)
    }

    fn push_text(&self, text: &mut String, partition: i32, record: &Record) {
        if self.args.print_offset {
            text.push_str(&format!("{partition}:{}\t", record.offset));
        }
        if self.args.print_timestamp {
            text.push_str(&format!("{}\t", record.timestamp_ms));
        }
        if self.args.print_headers {
            text.push_str(&record_view::headers_text(record));
            text.push('\t');
        }
        if self.args.print_key {
            text.push_str(&record_view::text(record.key.as_ref()));
            text.push('\t');
        }
        text.push_str(&record_view::text(record.value.as_ref()));
    }

    fn json(&self, partition: i32, record: &Record) -> Value {
        let mut object = Map::new();
        object.insert("topic".into(), json!(self.args.topic));
        object.insert("partition".into(), json!(partition));
        object.extend(record_view::json(record));
        Value::Object(object)
    }
}
