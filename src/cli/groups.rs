//! `streamline groups`: lists, describes and deletes consumer groups and resets their offsets.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use serde_json::{Value, json};

use super::client::{Client, Connect, check};
use super::error::CliError;
use super::output::{OutputFormat, Table, cell, counted, print, print_json};
use super::position::{self, Bounds, Position};
use crate::coordinator::group::Lag;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::consumer_protocol::ConsumerProtocolAssignment;
use crate::protocol::messages::delete_groups::DeleteGroupsRequest;
use crate::protocol::messages::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use crate::protocol::messages::list_groups::ListGroupsRequest;
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};

/// The newest version of OffsetCommit and OffsetFetch in which topics have names.
const TOPICS_BY_NAME_UP_TO: i16 = 9;

#[derive(Debug, clap::Args)]
pub struct Groups {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List consumer groups
    List,
    /// Show members, committed offsets, lag and records deleted before they were read
    Describe {
        /// Groups to show [default: all]
        groups: Vec<String>,
    },
    /// Delete groups without members, and their committed offsets
    Delete {
        /// Groups to delete
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Reset the committed offsets of a group without members
    ResetOffsets(ResetOffsets),
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("to").required(true).multiple(false)))]
struct ResetOffsets {
    /// Group whose offsets to reset
    group: String,
    /// Topic to reset, or TOPIC:PARTITION,PARTITION (repeatable)
    #[arg(
        short,
        long = "topic",
        value_name = "TOPIC[:PARTITIONS]",
        required_unless_present = "all_topics"
    )]
    topics: Vec<String>,
    /// Reset every topic for which the group has committed offsets
    #[arg(long, conflicts_with = "topics")]
    all_topics: bool,
    /// Reset to the log start
    #[arg(long, group = "to")]
    to_earliest: bool,
    /// Reset to the log end, skipping all existing records
    #[arg(long, group = "to")]
    to_latest: bool,
    /// Reset to this offset; a negative number counts back from the log end
    #[arg(long, group = "to", value_name = "OFFSET", value_parser = Position::parse_offset, allow_hyphen_values = true)]
    to_offset: Option<Position>,
    /// Reset to the first record at or after this time (RFC 3339 or Unix ms) or age (such as 15m)
    #[arg(long, group = "to", value_name = "TIME", value_parser = Position::parse_time)]
    to_time: Option<Position>,
    /// Shift the committed offset by this many records; negative moves back
    #[arg(long, group = "to", value_name = "RECORDS", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// Commit the new offsets instead of only showing them
    #[arg(long)]
    execute: bool,
}

pub async fn run(args: Groups, output: OutputFormat) -> Result<(), CliError> {
    let mut client = Client::connect(&args.connect).await?;
    match args.command {
        Command::List => list(&mut client, output).await,
        Command::Describe { groups } => describe(&mut client, groups, output).await,
        Command::Delete { groups } => delete(&mut client, groups, output).await,
        Command::ResetOffsets(args) => reset_offsets(&mut client, args, output).await,
    }
}

async fn list(client: &mut Client, output: OutputFormat) -> Result<(), CliError> {
    let response = client.call(&ListGroupsRequest::default()).await?;
    check("ListGroups", response.error_code, None)?;
    let mut groups = response.groups;
    groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    if output == OutputFormat::Json {
        let groups: Vec<Value> = groups
            .iter()
            .map(|it| json!({ "group": it.group_id, "state": it.group_state, "protocol_type": it.protocol_type }))
            .collect();
        return print_json(&json!({ "groups": groups }));
    }
    let mut table = Table::new(["GROUP", "STATE", "PROTOCOL TYPE"]);
    for group in groups {
        table.row([group.group_id, group.group_state, group.protocol_type]);
    }
    table.print()
}

/// Partition with a committed offset or an assigned member, and the bounds of its log.
struct Committed {
    topic: String,
    partition: i32,
    /// `None` if no offset was committed.
    offset: Option<i64>,
    /// `None` if the partition no longer exists.
    bounds: Option<Bounds>,
    member: Option<String>,
}

impl Committed {
    fn lag(&self) -> Option<Lag> {
        let (offset, bounds) = self.offset.zip(self.bounds)?;
        Some(Lag::of(offset, bounds.earliest, bounds.latest))
    }
}

/// Sum of the lag of all partitions; `None` if no partition has a lag.
fn total_lag(committed: &[Committed]) -> Option<Lag> {
    committed
        .iter()
        .filter_map(Committed::lag)
        .reduce(|sum, lag| Lag {
            records: sum.records + lag.records,
            lost: sum.lost + lag.lost,
        })
}

async fn describe(
    client: &mut Client,
    mut groups: Vec<String>,
    output: OutputFormat,
) -> Result<(), CliError> {
    if groups.is_empty() {
        let listed = client.call(&ListGroupsRequest::default()).await?;
        groups = listed.groups.into_iter().map(|it| it.group_id).collect();
        groups.sort();
    }
    let request = DescribeGroupsRequest {
        groups,
        ..Default::default()
    };
    let mut documents = Vec::new();
    for group in client.call(&request).await?.groups {
        check(
            &format!("group '{}'", group.group_id),
            group.error_code,
            group.error_message.as_deref(),
        )?;
        let committed = committed(client, &group).await?;
        match output {
            OutputFormat::Json => documents.push(describe_json(&group, &committed)),
            OutputFormat::Text => describe_text(&group, &committed)?,
        }
    }
    match output {
        OutputFormat::Json => print_json(&json!({ "groups": documents })),
        OutputFormat::Text => Ok(()),
    }
}

fn describe_text(group: &DescribedGroup, committed: &[Committed]) -> Result<(), CliError> {
    let total = total_lag(committed);
    print(&format!(
        "{}  state {}, assignor {}, {}, lag {}, lost {}\n",
        group.group_id,
        group.group_state,
        cell((!group.protocol_data.is_empty()).then_some(&group.protocol_data)),
        counted(group.members.len() as u64, "member", "members"),
        cell(total.map(|it| it.records)),
        cell(total.map(|it| it.lost)),
    ))?;
    let mut members = Table::new(["MEMBER", "INSTANCE", "CLIENT", "HOST", "ASSIGNED"]);
    for member in &group.members {
        let assigned = assignment(&member.member_assignment)
            .into_iter()
            .map(|(topic, partitions)| format!("{topic}:{partitions:?}").replace(' ', ""))
            .collect::<Vec<_>>()
            .join(" ");
        members.row([
            member.member_id.clone(),
            cell(member.group_instance_id.as_ref()),
            member.client_id.clone(),
            member.client_host.clone(),
            assigned,
        ]);
    }
    if !group.members.is_empty() {
        members.print()?;
        print("\n")?;
    }
    let mut offsets = Table::new([
        "TOPIC",
        "PARTITION",
        "COMMITTED",
        "START",
        "END",
        "LAG",
        "LOST",
        "MEMBER",
    ]);
    for it in committed {
        let lag = it.lag();
        offsets.row([
            it.topic.clone(),
            it.partition.to_string(),
            cell(it.offset),
            cell(it.bounds.map(|bounds| bounds.earliest)),
            cell(it.bounds.map(|bounds| bounds.latest)),
            cell(lag.map(|lag| lag.records)),
            cell(lag.map(|lag| lag.lost)),
            cell(it.member.as_ref()),
        ]);
    }
    offsets.print()?;
    print("\n")
}

fn describe_json(group: &DescribedGroup, committed: &[Committed]) -> Value {
    let members: Vec<Value> = group
        .members
        .iter()
        .map(|it| {
            json!({
                "member_id": it.member_id,
                "group_instance_id": it.group_instance_id,
                "client_id": it.client_id,
                "client_host": it.client_host,
                "assignment": assignment(&it.member_assignment),
            })
        })
        .collect();
    let offsets: Vec<Value> = committed
        .iter()
        .map(|it| {
            json!({
                "topic": it.topic,
                "partition": it.partition,
                "committed_offset": it.offset,
                "log_start_offset": it.bounds.map(|bounds| bounds.earliest),
                "log_end_offset": it.bounds.map(|bounds| bounds.latest),
                "lag": it.lag().map(|lag| lag.records),
                "lost": it.lag().map(|lag| lag.lost),
                "member_id": it.member,
            })
        })
        .collect();
    json!({
        "group": group.group_id,
        "state": group.group_state,
        "protocol_type": group.protocol_type,
        "assignor": group.protocol_data,
        "members": members,
        "offsets": offsets,
        "lag": total_lag(committed).map(|total| total.records),
        "lost": total_lag(committed).map(|total| total.lost),
    })
}

/// Decodes the partitions assigned to a member, by topic. Empty for protocols other than the consumer protocol.
fn assignment(bytes: &Bytes) -> BTreeMap<String, Vec<i32>> {
    ConsumerProtocolAssignment::decode_versioned(bytes.clone())
        .map(|it| {
            it.assigned_partitions
                .into_iter()
                .map(|it| (it.topic, it.partitions))
                .collect()
        })
        .unwrap_or_default()
}

async fn committed(
    client: &mut Client,
    group: &DescribedGroup,
) -> Result<Vec<Committed>, CliError> {
    let owners: HashMap<(String, i32), &str> = group
        .members
        .iter()
        .flat_map(|member| {
            assignment(&member.member_assignment).into_iter().flat_map(
                move |(topic, partitions)| {
                    let owned = move |it| ((topic.clone(), it), member.member_id.as_str());
                    partitions.into_iter().map(owned)
                },
            )
        })
        .collect();
    // One row per partition that is assigned or has a committed offset.
    let mut all = Vec::new();
    let offsets = committed_offsets(client, &group.group_id).await?;
    let mut rows: BTreeMap<String, BTreeMap<i32, Option<i64>>> = BTreeMap::new();
    for (topic, partition) in owners.keys() {
        let of_topic = rows.entry(topic.clone()).or_default();
        of_topic.insert(*partition, None);
    }
    for (topic, offsets) in offsets {
        let offsets = offsets
            .into_iter()
            .map(|(partition, it)| (partition, Some(it)));
        rows.entry(topic).or_default().extend(offsets);
    }
    for (topic, offsets) in rows {
        let partitions: Vec<i32> = offsets.keys().copied().collect();
        // A deleted topic has no bounds; its offsets are still shown.
        let bounds: HashMap<i32, Bounds> = position::bounds(client, &topic, &partitions)
            .await
            .map(|bounds| bounds.into_iter().map(|it| (it.partition, it)).collect())
            .unwrap_or_default();
        all.extend(offsets.into_iter().map(|(partition, offset)| {
            Committed {
                member: owners
                    .get(&(topic.clone(), partition))
                    .map(|it| (*it).to_owned()),
                topic: topic.clone(),
                partition,
                offset,
                bounds: bounds.get(&partition).copied(),
            }
        }));
    }
    Ok(all)
}

/// Fetches all committed offsets of a group, by topic and partition.
async fn committed_offsets(
    client: &mut Client,
    group: &str,
) -> Result<BTreeMap<String, BTreeMap<i32, i64>>, CliError> {
    // From version 8 on, a request covers several groups.
    let request = if client.version_of::<OffsetFetchRequest>()? < 8 {
        OffsetFetchRequest {
            group_id: group.to_owned(),
            topics: None,
            ..Default::default()
        }
    } else {
        OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: group.to_owned(),
                topics: None,
                ..Default::default()
            }],
            ..Default::default()
        }
    };
    let response = client.call_up_to(TOPICS_BY_NAME_UP_TO, &request).await?;
    check("OffsetFetch", response.error_code, None)?;
    for group in &response.groups {
        let what = format!("group '{}'", group.group_id);
        check(&what, group.error_code, None)?;
    }
    let of_several = response.groups.iter().flat_map(|group| &group.topics);
    let mut all: BTreeMap<String, BTreeMap<i32, i64>> = BTreeMap::new();
    for topic in response.topics.iter().chain(of_several) {
        for it in &topic.partitions {
            let what = format!("offset of {}-{}", topic.name, it.partition_index);
            check(&what, it.error_code, None)?;
            if it.committed_offset >= 0 {
                all.entry(topic.name.clone())
                    .or_default()
                    .insert(it.partition_index, it.committed_offset);
            }
        }
    }
    Ok(all)
}

async fn delete(
    client: &mut Client,
    groups: Vec<String>,
    output: OutputFormat,
) -> Result<(), CliError> {
    let request = DeleteGroupsRequest {
        groups_names: groups,
    };
    let mut deleted = Vec::new();
    // Report every deleted group, even if another one failed; return the first error.
    let mut outcome = Ok(());
    for result in client.call(&request).await?.results {
        match check(
            &format!("group '{}'", result.group_id),
            result.error_code,
            None,
        ) {
            Ok(()) => deleted.push(result.group_id),
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    match output {
        OutputFormat::Text => {
            for group in &deleted {
                print(&format!("deleted group {group}\n"))?;
            }
        }
        OutputFormat::Json => print_json(&json!({ "deleted": deleted }))?,
    }
    outcome
}

/// Change of one committed offset.
struct Move {
    topic: String,
    partition: i32,
    from: Option<i64>,
    to: i64,
}

async fn reset_offsets(
    client: &mut Client,
    args: ResetOffsets,
    output: OutputFormat,
) -> Result<(), CliError> {
    let current = committed_offsets(client, &args.group).await?;
    let targets = targets(client, &args, &current).await?;
    let mut moves = Vec::new();
    for (topic, partitions) in targets {
        moves.extend(plan(client, &args, &current, topic, partitions).await?);
    }
    if args.execute {
        commit(client, &args.group, &moves).await?;
    }
    if output == OutputFormat::Json {
        let moves: Vec<Value> = moves
            .iter()
            .map(|it| json!({ "topic": it.topic, "partition": it.partition, "from": it.from, "to": it.to }))
            .collect();
        return print_json(
            &json!({ "group": args.group, "executed": args.execute, "offsets": moves }),
        );
    }
    let mut table = Table::new(["TOPIC", "PARTITION", "FROM", "TO"]);
    for it in &moves {
        table.row([
            it.topic.clone(),
            it.partition.to_string(),
            cell(it.from),
            it.to.to_string(),
        ]);
    }
    table.print()?;
    if args.execute {
        return Ok(());
    }
    print("dry run, nothing changed; add --execute to commit these offsets\n")
}

/// Resolves the partitions to reset, by topic.
async fn targets(
    client: &mut Client,
    args: &ResetOffsets,
    current: &BTreeMap<String, BTreeMap<i32, i64>>,
) -> Result<Vec<(String, Vec<i32>)>, CliError> {
    if args.all_topics {
        return Ok(current
            .iter()
            .map(|(topic, it)| (topic.clone(), it.keys().copied().collect()))
            .collect());
    }
    let mut targets: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for text in &args.topics {
        let (topic, partitions) = match text.split_once(':') {
            None => (text.as_str(), client.partitions(text).await?),
            Some((topic, list)) => {
                let partitions = list
                    .split(',')
                    .map(str::parse)
                    .collect::<Result<Vec<i32>, _>>();
                let partitions = partitions.map_err(|_| {
                    CliError::Usage(format!(
                        "'{text}': partitions must be numbers, such as {topic}:0,1"
                    ))
                })?;
                (topic, partitions)
            }
        };
        // A set, because a partition may be named twice.
        let of_topic = targets.entry(topic.to_owned()).or_default();
        of_topic.extend(partitions);
    }
    Ok(targets
        .into_iter()
        .map(|(topic, partitions)| (topic, partitions.into_iter().collect()))
        .collect())
}

/// Computes the new offset of each partition of one topic.
async fn plan(
    client: &mut Client,
    args: &ResetOffsets,
    current: &BTreeMap<String, BTreeMap<i32, i64>>,
    topic: String,
    partitions: Vec<i32>,
) -> Result<Vec<Move>, CliError> {
    let committed = |partition: i32| {
        current
            .get(&topic)
            .and_then(|it| it.get(&partition))
            .copied()
    };
    let bounds = position::bounds(client, &topic, &partitions).await?;
    // Both ways clamp the new offset to the bounds of the log.
    let new_offsets = match (args.shift_by, args.position()) {
        (Some(shift), _) => bounds
            .iter()
            .map(|it| {
                let from = committed(it.partition).ok_or_else(|| {
                    CliError::Usage(format!(
                        "{topic}-{}: --shift-by requires a committed offset, and the group has none",
                        it.partition
                    ))
                })?;
                Ok(from.saturating_add(shift).clamp(it.earliest, it.latest))
            })
            .collect::<Result<Vec<i64>, CliError>>()?,
        (None, position) => position::resolve(client, &topic, &bounds, position).await?,
    };
    Ok(bounds
        .iter()
        .zip(new_offsets)
        .map(|(it, to)| Move {
            topic: topic.clone(),
            partition: it.partition,
            from: committed(it.partition),
            to,
        })
        .collect())
}

impl ResetOffsets {
    fn position(&self) -> Position {
        match (self.to_offset.or(self.to_time), self.to_earliest) {
            (Some(position), _) => position,
            (None, true) => Position::Earliest,
            (None, false) => Position::Latest,
        }
    }
}

async fn commit(client: &mut Client, group: &str, moves: &[Move]) -> Result<(), CliError> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for it in moves {
        let partition = OffsetCommitRequestPartition {
            partition_index: it.partition,
            committed_offset: it.to,
            ..Default::default()
        };
        topics.entry(&it.topic).or_default().push(partition);
    }
    let request = OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: -1,
        topics: topics
            .into_iter()
            .map(|(name, partitions)| OffsetCommitRequestTopic {
                name: name.to_owned(),
                partitions,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let response = client.call_up_to(TOPICS_BY_NAME_UP_TO, &request).await?;
    for topic in response.topics {
        for it in topic.partitions {
            let what = format!("offset of {}-{}", topic.name, it.partition_index);
            // Commits from outside the group fail with this code only while the group has members.
            let in_use = it.error_code == ErrorCode::UNKNOWN_MEMBER_ID;
            let remedy = in_use.then_some("the group has members; stop them first");
            check(&what, it.error_code, remedy)?;
        }
    }
    Ok(())
}
