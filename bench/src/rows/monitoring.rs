//! Cost of a scrape, against one of the JMX exporter agent in Kafka.

use std::thread;
use std::time::{Duration, Instant};

use ::streamline::protocol::messages::find_coordinator::FindCoordinatorRequest;
use ::streamline::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use anyhow::{Context as _, Result, ensure};

use super::{Part, Row};
use crate::context::Context;
use crate::loads::http;
use crate::loads::lean::frames::{Produce, batch};
use crate::loads::lean::{Connection, pipeline};
use crate::outcome::{Comparison, Findings, Side, Target};
use crate::peers::{Server, kafka, streamline};
use crate::quantity::Unit;
use crate::stats::median;

pub const ROW: Row = Row {
    name: "monitoring-kafka",
    part: Part::Seeing,
    about: "a scrape at 1,000 partitions and 50 groups, against the Prometheus JMX exporter agent in Apache Kafka",
    quick: false,
    run,
};

const TOPICS: usize = 10;
const PARTITIONS: i32 = 100;
const GROUPS: usize = 50;
/// Topics with committed offsets of a group.
const GROUP_TOPICS: usize = 2;
const SCRAPES: u64 = 10;
/// Maximum time until a coordinator is available.
const COORDINATOR_LIMIT: Duration = Duration::from_secs(60);

fn run(context: &Context) -> Result<Findings> {
    let ours = streamline::start(context, &["--durability", "os"])?;
    let theirs = kafka::start_observed(context)?;
    for server in [&ours, &theirs] {
        context.say(format!("{}: topics and groups", server.name));
        fill(server)?;
    }
    let before = [ours.process.resident()?, theirs.process.resident()?];
    let turn = |server: &Server| {
        let address = server.http.context("it shows its metrics")?;
        let scrapes = context.effort.count(SCRAPES);
        let cpu = server.process.cpu()?;
        let times = (0..scrapes)
            .map(|_| Ok(http::get(address, "/metrics")?.elapsed.as_secs_f64()))
            .collect::<Result<Vec<f64>>>()?;
        let spent = server.process.cpu()? - cpu;
        Ok((median(&times), spent.as_secs_f64() / scrapes as f64))
    };
    let pairs = context.pairs("monitoring-kafka", || turn(&ours), || turn(&theirs))?;
    let after = [ours.process.resident()?, theirs.process.resident()?];

    let mut findings = Findings::default();
    let name = format!("JMX exporter in {}", theirs.name);
    findings.compare(Comparison::ratio(
        "scrape, 1,000 partitions, 50 groups",
        Unit::Seconds,
        Side::new("Streamline", pairs.iter().map(|(ours, _)| ours.0)),
        Side::new(&name, pairs.iter().map(|(_, theirs)| theirs.0)),
        Target::AtMost(1.0 / 20.0),
    ));
    findings.compare(Comparison::ratio(
        "CPU of that scrape",
        Unit::Seconds,
        Side::new("Streamline", pairs.iter().map(|(ours, _)| ours.1)),
        Side::new(&name, pairs.iter().map(|(_, theirs)| theirs.1)),
        Target::AtMost(1.0 / 20.0),
    ));
    let grown = |side: usize| after[side].saturating_sub(before[side]) as f64;
    findings.compare(Comparison::ratio(
        "memory gained by being scraped",
        Unit::Bytes,
        Side::new("Streamline", [grown(0)]),
        Side::new(&name, [grown(1)]),
        Target::AtMost(1.0 / 10.0),
    ));
    for server in [&ours, &theirs] {
        let got = http::get(server.http.context("it shows its metrics")?, "/metrics")?;
        let series = got
            .text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        findings.remark(format!(
            "{} exposes {} series.",
            server.name,
            series.count()
        ));
    }
    findings.remark(
        "The agent does not expose the lag of groups; that needs kafka_exporter, whose cost is not included.",
    );
    Ok(findings)
}

/// Creates topics with a record in each partition, and groups with committed offsets.
fn fill(server: &Server) -> Result<()> {
    let mut connection = Connection::open(server.address)?;
    let batch = batch(100, 1)?;
    let topics: Vec<String> = (0..TOPICS)
        .map(|topic| format!("watched-{topic}"))
        .collect();
    for topic in &topics {
        connection.create_topic(topic, PARTITIONS, &[])?;
        let produce = (0..PARTITIONS)
            .map(|partition| Produce::new(topic, partition, 1, &batch))
            .collect::<Result<Vec<_>>>()?;
        pipeline::produce(server.address, &produce, produce.len(), 8)?;
    }
    for group in 0..GROUPS {
        let chosen = (0..GROUP_TOPICS).map(|nth| &topics[(group + nth) % TOPICS]);
        commit(&mut connection, &format!("group-{group}"), chosen)?;
    }
    Ok(())
}

/// Commits offset 0 of every partition of the topics, for a group without members.
fn commit<'a>(
    connection: &mut Connection,
    group: &str,
    topics: impl Iterator<Item = &'a String>,
) -> Result<()> {
    let request = OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: -1,
        topics: topics
            .map(|topic| OffsetCommitRequestTopic {
                name: topic.clone(),
                partitions: (0..PARTITIONS)
                    .map(|partition_index| OffsetCommitRequestPartition {
                        partition_index,
                        committed_offset: 0,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let coordinator = FindCoordinatorRequest {
        key: group.to_owned(),
        ..Default::default()
    };
    let deadline = Instant::now() + COORDINATOR_LIMIT;
    loop {
        // Kafka creates the topic of offsets on the first request.
        connection.call(2, &coordinator)?;
        let response = connection.call(7, &request)?;
        let refused = response
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .find(|partition| partition.error_code.is_error());
        if refused.is_none() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "commit for {group}: {refused:?}");
        thread::sleep(Duration::from_millis(50));
    }
}
