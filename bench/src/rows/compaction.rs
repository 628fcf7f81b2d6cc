//! Compaction of a log of small updates, against Apache Kafka's cleaner.

use std::time::{Duration, Instant};

use ::streamline::protocol::kafka::ErrorCode;
use ::streamline::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ::streamline::record::{BatchBuilder, Compression, RecordBatch};
use anyhow::{Context as _, Result, bail, ensure};

use super::{Part, Row};
use crate::clock::now_ms;
use crate::context::Context;
use crate::loads::lean::frames::Produce;
use crate::loads::lean::{Connection, pipeline};
use crate::loads::{Moved, Turn};
use crate::outcome::{Findings, MovingTargets, Target};
use crate::peers::{Server, kafka, streamline};

pub const ROW: Row = Row {
    name: "compaction-kafka",
    part: Part::Speed,
    about: "compaction of a log of 100 B updates, against Apache Kafka's cleaner",
    quick: false,
    run,
};

const SEGMENT_BYTES: u64 = 64 << 20;
const SEGMENTS: u64 = 8;
const VALUE_BYTES: usize = 100;
const KEYS: u32 = 100_000;
const BATCH_BYTES: usize = 16_000;
/// Different batches, which are sent in turn.
const BATCHES: usize = 1_000;
const BACKOFF_MS: &str = "50";
const TIME_LIMIT: Duration = Duration::from_secs(300);

fn run(context: &Context) -> Result<Findings> {
    let ours = streamline::start(context, &["--log-cleaner-backoff-ms", BACKOFF_MS])?;
    let backoff = format!("log.cleaner.backoff.ms={BACKOFF_MS}");
    let theirs = kafka::start(context, &[&backoff])?;
    let updates = updates()?;
    let pairs = context.pairs(
        ROW.name,
        || turn(context, &ours, &updates),
        || turn(context, &theirs, &updates),
    )?;
    let mut findings = Findings::default();
    let targets = MovingTargets {
        speed: Target::AtLeast(2.0),
        cpu: Target::AtMost(0.5),
    };
    findings.compare_moving("compaction", "Apache Kafka", &pairs, targets);
    findings.remark(format!(
        "{SEGMENTS} closed segments of {} MiB with uncompressed batches of {} KB: values of {VALUE_BYTES} B for {KEYS} random \
         keys. The topic gets cleanup.policy=compact once it is written; the time is from there until the cleaner's checkpoint \
         names the log, with log.cleaner.backoff.ms={BACKOFF_MS}. CPU time is that of the whole server, which does nothing \
         else.",
        SEGMENT_BYTES >> 20,
        BATCH_BYTES / 1000,
    ));
    Ok(findings)
}

/// Builds batches of updates of random keys.
fn updates() -> Result<Vec<RecordBatch>> {
    let mut state: u32 = 1;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let now_ms = now_ms();
    let mut batches = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let mut builder = BatchBuilder::new(Compression::None);
        while builder.size_bytes() + VALUE_BYTES < BATCH_BYTES {
            let key = format!("key-{:06}", random() % KEYS);
            let value: Vec<u8> = (0..VALUE_BYTES)
                .map(|_| b'a' + (random() % 26) as u8)
                .collect();
            builder.push(now_ms, Some(key.as_bytes()), Some(&value), &[]);
        }
        batches.push(builder.build()?);
    }
    Ok(batches)
}

/// Writes a log, has it compacted, and returns the bytes compacted with the CPU time of the server.
fn turn(context: &Context, server: &Server, updates: &[RecordBatch]) -> Result<Turn> {
    let topic = context.topic();
    let mut admin = Connection::open(server.address)?;
    let segment_bytes = SEGMENT_BYTES.to_string();
    let configs = [("segment.bytes", segment_bytes.as_str())];
    admin.create_topic(&topic, 1, &configs)?;
    let updates = updates
        .iter()
        .map(|batch| Produce::new(&topic, 0, 1, batch));
    let updates = updates.collect::<Result<Vec<_>>>()?;
    let segments = context.effort.count(SEGMENTS).max(1);
    // The last segment stays active.
    let batches = (segments * SEGMENT_BYTES + SEGMENT_BYTES / 4) as usize / BATCH_BYTES;
    pipeline::produce(server.address, &updates, batches, 32)?;
    let spent_before = server.process.cpu()?;
    let began = Instant::now();
    compact(&mut admin, &topic)?;
    wait_until_compacted(server, &topic, began)?;
    let elapsed = began.elapsed();
    let spent = server.process.cpu()? - spent_before;
    admin.delete_topic(&topic)?;
    let bytes = segments * SEGMENT_BYTES;
    Ok((Moved { bytes, elapsed }, spent))
}

/// Makes a topic a compacted one.
fn compact(admin: &mut Connection, topic: &str) -> Result<()> {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: topic.to_owned(),
            configs: vec![AlterableConfig {
                name: "cleanup.policy".to_owned(),
                config_operation: 0,
                value: Some("compact".to_owned()),
            }],
        }],
        validate_only: false,
    };
    let response = admin.call(1, &request)?;
    let altered = response.responses.first().context("no response")?;
    ensure!(
        altered.error_code == ErrorCode::NONE,
        "the topic's policy was not changed: {altered:?}"
    );
    Ok(())
}

/// Waits until the checkpoint of the cleaner names the topic.
fn wait_until_compacted(server: &Server, topic: &str, began: Instant) -> Result<()> {
    let checkpoint = server.data_dir().join("cleaner-offset-checkpoint");
    let line_start = format!("{topic} 0 ");
    loop {
        let text = std::fs::read_to_string(&checkpoint).unwrap_or_default();
        if text.lines().any(|line| line.starts_with(&line_start)) {
            return Ok(());
        }
        if began.elapsed() > TIME_LIMIT {
            bail!("{} has not compacted the log", server.name);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
