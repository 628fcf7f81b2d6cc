//! `streamline topics`: create, list, describe, alter and delete topics.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::{Value, json};

use super::client::{Client, Connect, check};
use super::error::CliError;
use super::output::{OutputFormat, Table, cell, print, print_json};
use super::position::{self, Bounds};
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use crate::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use crate::protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use crate::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use crate::protocol::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsRequest,
};
use crate::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

/// Kafka's resource type of a topic in the config APIs.
pub(super) const TOPIC_RESOURCE: i8 = 2;
/// DescribeConfigs' config source of a value set on the topic itself.
const SOURCE_TOPIC: i8 = 1;

#[derive(Debug, clap::Args)]
pub struct Topics {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create a topic
    Create(Create),
    /// List topics
    List,
    /// Show the partitions, offsets, sizes and configs of topics
    Describe {
        /// Topics to show [default: all]
        topics: Vec<String>,
    },
    /// Add partitions, set or unset configs of a topic
    Alter(Alter),
    /// Delete topics and all their records
    Delete {
        /// Topics to delete
        #[arg(required = true)]
        topics: Vec<String>,
        /// Ignore topics that do not exist
        #[arg(long)]
        if_exists: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Name of the topic
    topic: String,
    /// Number of partitions [default: the server's default_partitions]
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Replication factor, for compatibility with Kafka's tools: 1, or -1 for the server's default (also 1)
    #[arg(long, value_name = "COPIES", default_value_t = -1, allow_negative_numbers = true)]
    replication_factor: i16,
    /// Set a topic config, such as retention.ms=86400000 (repeatable)
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = parse_config)]
    configs: Vec<(String, String)>,
    /// Succeed if the topic already exists
    #[arg(long)]
    if_not_exists: bool,
    /// Validate the request without creating the topic
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
struct Alter {
    /// Topic to change
    topic: String,
    /// New number of partitions; it cannot be reduced
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Set a topic config (repeatable)
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = parse_config)]
    configs: Vec<(String, String)>,
    /// Reset a topic config to the server's default (repeatable)
    #[arg(long = "delete-config", value_name = "KEY")]
    delete_configs: Vec<String>,
}

fn parse_config(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.trim().to_owned(), value.to_owned()))
        .ok_or_else(|| "expected KEY=VALUE, such as retention.ms=86400000".to_owned())
}

pub async fn run(args: Topics, output: OutputFormat) -> Result<(), CliError> {
    let mut client = Client::connect(&args.connect).await?;
    match args.command {
        Command::Create(args) => create(&mut client, args, output).await,
        Command::List => list(&mut client, output).await,
        Command::Describe { topics } => describe(&mut client, &topics, output).await,
        Command::Alter(args) => alter(&mut client, args, output).await,
        Command::Delete { topics, if_exists } => {
            delete(&mut client, topics, if_exists, output).await
        }
    }
}

async fn create(client: &mut Client, args: Create, output: OutputFormat) -> Result<(), CliError> {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: args.topic.clone(),
            num_partitions: args.partitions.unwrap_or(-1),
            replication_factor: args.replication_factor,
            configs: args
                .configs
                .into_iter()
                .map(|(name, value)| CreatableTopicConfig {
                    name,
                    value: Some(value),
                })
                .collect(),
            ..Default::default()
        }],
        timeout_ms: 30_000,
        validate_only: args.dry_run,
    };
    let mut created = false;
    for topic in client.call(&request).await?.topics {
        let already_exists = topic.error_code == ErrorCode::TOPIC_ALREADY_EXISTS;
        if !(args.if_not_exists && already_exists) {
            check(
                &format!("topic '{}'", topic.name),
                topic.error_code,
                topic.error_message.as_deref(),
            )?;
        }
        created = !already_exists && !args.dry_run;
    }
    let text = match (created, args.dry_run) {
        (true, _) => format!("created topic {}\n", args.topic),
        (false, true) => format!("topic {} could be created\n", args.topic),
        (false, false) => format!("topic {} already exists\n", args.topic),
    };
    match output {
        OutputFormat::Text => print(&text),
        OutputFormat::Json => print_json(&json!({ "topic": args.topic, "created": created })),
    }
}

async fn list(client: &mut Client, output: OutputFormat) -> Result<(), CliError> {
    let topics = client.topics(None).await?;
    if output == OutputFormat::Json {
        let topics: Vec<Value> = topics
            .iter()
            .map(|it| json!({ "name": it.name, "id": show_id(it.topic_id), "partitions": it.partitions.len() }))
            .collect();
        return print_json(&json!({ "topics": topics }));
    }
    let mut table = Table::new(["TOPIC", "PARTITIONS", "ID"]);
    for topic in topics {
        table.row([
            topic.name.unwrap_or_default(),
            topic.partitions.len().to_string(),
            show_id(topic.topic_id),
        ]);
    }
    table.print()
}

async fn describe(
    client: &mut Client,
    names: &[String],
    output: OutputFormat,
) -> Result<(), CliError> {
    let topics = client.topics((!names.is_empty()).then_some(names)).await?;
    let mut documents = Vec::new();
    for topic in topics {
        let name = topic.name.unwrap_or_default();
        let indexes: Vec<i32> = topic
            .partitions
            .iter()
            .map(|it| it.partition_index)
            .collect();
        let bounds = position::bounds(client, &name, &indexes).await?;
        let sizes = sizes(client, &name, &indexes).await?;
        let configs = configs(client, &name).await?;
        match output {
            OutputFormat::Json => {
                let partitions: Vec<Value> = bounds
                    .iter()
                    .map(|it| {
                        json!({
                            "partition": it.partition,
                            "log_start_offset": it.earliest,
                            "log_end_offset": it.latest,
                            "size_bytes": sizes.get(&it.partition),
                        })
                    })
                    .collect();
                documents.push(json!({
                    "name": name,
                    "id": show_id(topic.topic_id),
                    "partitions": partitions,
                    "configs": configs,
                }));
            }
            OutputFormat::Text => {
                print(&describe_heading(&name, topic.topic_id, &configs))?;
                partition_table(&bounds, &sizes).print()?;
                print("\n")?;
            }
        }
    }
    match output {
        OutputFormat::Json => print_json(&json!({ "topics": documents })),
        OutputFormat::Text => Ok(()),
    }
}

/// Topic id in the encoding of Kafka's tools.
fn show_id(id: uuid::Uuid) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(id.as_bytes())
}

fn describe_heading(
    name: &str,
    id: uuid::Uuid,
    configs: &BTreeMap<String, Option<String>>,
) -> String {
    let mut text = format!("{name}  (id {})\n", show_id(id));
    for (key, value) in configs {
        text.push_str(&format!("  {key}={}\n", cell(value.as_deref())));
    }
    text
}

fn partition_table(bounds: &[Bounds], sizes: &BTreeMap<i32, i64>) -> Table {
    let mut table = Table::new(["PARTITION", "START", "END", "RECORDS", "BYTES"]);
    for it in bounds {
        table.row([
            it.partition.to_string(),
            it.earliest.to_string(),
            it.latest.to_string(),
            (it.latest - it.earliest).to_string(),
            cell(sizes.get(&it.partition)),
        ]);
    }
    table
}

/// Size on disk of each partition, in bytes.
async fn sizes(
    client: &mut Client,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, i64>, CliError> {
    let request = DescribeLogDirsRequest {
        topics: Some(vec![DescribableLogDirTopic {
            topic: topic.to_owned(),
            partitions: partitions.to_vec(),
        }]),
    };
    let mut sizes = BTreeMap::new();
    for dir in client.call(&request).await?.results {
        check("DescribeLogDirs", dir.error_code, None)?;
        let partitions = dir.topics.into_iter().flat_map(|it| it.partitions);
        sizes.extend(partitions.map(|it| (it.partition_index, it.partition_size)));
    }
    Ok(sizes)
}

/// Configs set on the topic itself.
async fn configs(
    client: &mut Client,
    topic: &str,
) -> Result<BTreeMap<String, Option<String>>, CliError> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: topic.to_owned(),
            configuration_keys: None,
        }],
        ..Default::default()
    };
    let mut configs = BTreeMap::new();
    for result in client.call(&request).await?.results {
        check(
            &format!("configs of '{topic}'"),
            result.error_code,
            result.error_message.as_deref(),
        )?;
        let own = result
            .configs
            .into_iter()
            .filter(|it| it.config_source == SOURCE_TOPIC);
        configs.extend(own.map(|it| (it.name, it.value)));
    }
    Ok(configs)
}

async fn alter(client: &mut Client, args: Alter, output: OutputFormat) -> Result<(), CliError> {
    if args.partitions.is_none() && args.configs.is_empty() && args.delete_configs.is_empty() {
        return Err(CliError::Usage(
            "nothing to alter; use --partitions, --config or --delete-config".to_owned(),
        ));
    }
    // Configs first: if they are rejected, nothing has changed yet, whereas added partitions cannot be removed.
    alter_configs(client, &args).await?;
    if let Some(count) = args.partitions {
        add_partitions(client, &args.topic, count).await?;
    }
    match output {
        OutputFormat::Text => print(&format!("altered topic {}\n", args.topic)),
        OutputFormat::Json => print_json(&json!({ "topic": args.topic, "altered": true })),
    }
}

async fn alter_configs(client: &mut Client, args: &Alter) -> Result<(), CliError> {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    let set = args.configs.iter().map(|(name, value)| AlterableConfig {
        name: name.clone(),
        config_operation: SET,
        value: Some(value.clone()),
    });
    let delete = args.delete_configs.iter().map(|name| AlterableConfig {
        name: name.clone(),
        config_operation: DELETE,
        value: None,
    });
    let configs: Vec<AlterableConfig> = set.chain(delete).collect();
    if configs.is_empty() {
        return Ok(());
    }
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: args.topic.clone(),
            configs,
        }],
        validate_only: false,
    };
    for answer in client.call(&request).await?.responses {
        check(
            &format!("configs of '{}'", args.topic),
            answer.error_code,
            answer.error_message.as_deref(),
        )?;
    }
    Ok(())
}

async fn add_partitions(client: &mut Client, topic: &str, count: i32) -> Result<(), CliError> {
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: topic.to_owned(),
            count,
            assignments: None,
        }],
        timeout_ms: 30_000,
        validate_only: false,
    };
    for result in client.call(&request).await?.results {
        check(
            &format!("partitions of '{topic}'"),
            result.error_code,
            result.error_message.as_deref(),
        )?;
    }
    Ok(())
}

async fn delete(
    client: &mut Client,
    topics: Vec<String>,
    if_exists: bool,
    output: OutputFormat,
) -> Result<(), CliError> {
    let mut deleted = Vec::new();
    let outcome = delete_each(client, topics, if_exists, output, &mut deleted).await;
    if output == OutputFormat::Json {
        print_json(&json!({ "deleted": deleted }))?;
    }
    outcome
}

/// Deletes the topics one by one, stopping at the first error.
async fn delete_each(
    client: &mut Client,
    topics: Vec<String>,
    if_exists: bool,
    output: OutputFormat,
    deleted: &mut Vec<String>,
) -> Result<(), CliError> {
    // One request per topic, so that the topics deleted before an error can be reported by name in every version.
    for topic in topics {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(topic.clone()),
                ..Default::default()
            }],
            topic_names: vec![topic.clone()],
            timeout_ms: 30_000,
        };
        for answer in client.call(&request).await?.responses {
            if if_exists && answer.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                continue;
            }
            check(
                &format!("topic '{topic}'"),
                answer.error_code,
                answer.error_message.as_deref(),
            )?;
            if output == OutputFormat::Text {
                print(&format!("deleted topic {topic}\n"))?;
            }
            deleted.push(topic.clone());
        }
    }
    Ok(())
}
