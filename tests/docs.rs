//! Documents generated from the code. A test fails if a document does not match the code;
//! `UPDATE_DOCS=1 cargo test --test docs` regenerates them.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use streamline::config::TOPIC_CONFIGS;
use streamline::handlers::{APIS, Api};
use streamline::metrics::catalog::{
    self, ConnectionRejection, HttpRejection, Kind, LabelValues, Metric, ProduceRefusal,
    RequestRejection,
};
use streamline::metrics::{COUNT, LATENCY, SIZE};
use streamline::protocol::kafka::ApiKey;

/// Compares a document with its expected text, or writes it if `UPDATE_DOCS` is set.
#[track_caller]
fn check(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    if found != expected {
        let difference = found
            .lines()
            .zip(expected.lines())
            .find(|(found, expected)| found != expected);
        panic!(
            "docs/{name} is out of date; run UPDATE_DOCS=1 cargo test --test docs\n\
             first difference (document, code): {difference:#?}"
        );
    }
}

#[test]
fn documented_metrics_match_the_catalogue() {
    check("METRICS.md", &metrics_document());
}

const INTRODUCTION: &str = "\
# Metrics

<!-- Generated from src/metrics/catalog.rs: UPDATE_DOCS=1 cargo test --test docs -->

`GET /metrics` on the HTTP port (`:9094` unless `http_addr` says otherwise) answers in Prometheus text 0.0.4, or in
OpenMetrics 1.0 when `Accept` prefers it, as Prometheus itself does. Every metric the server has is listed here.

How to read them:

- Counters start at 0 with the process. Gauges are read at the moment of the scrape, the first one included.
- A series lives as long as what it describes: those of a deleted topic, partition or group are gone at the next scrape,
  and a topic created again under the same name starts at 0.
- `api_key` is Kafka's name of the API in snake case (`produce`, `fetch`, `list_offsets`, …), and `unknown` for keys
  Kafka does not have. An API has series once its first request has arrived; from then on both values of `error`
  are there, so that a ratio of errors is 0 and not absent.
- `error` is `true` when the request could not be parsed, or its response carries any Kafka error code, be it for one
  partition of many.
- Bytes of topics are those of record batches as they stood on the wire, compressed if the producer compressed them.
  Received are those that were appended: what was refused and what was a producer's retry is in neither records nor bytes.
  Sent are those of responses that went out whole.
- `_count` and `_sum` of a histogram are those of exactly the values in its buckets.
- Four gauges end in `_total` (`streamline_topics_total`, `streamline_partitions_total`, `streamline_segments_total`,
  `streamline_consumer_groups_total`). `promtool check metrics` remarks on these names and on no others.
- With the setting `metrics = \"off\"` nothing is recorded and `/metrics` says so.
";

fn metrics_document() -> String {
    let mut out = INTRODUCTION.to_string();
    for section in catalog::SECTIONS {
        write!(
            out,
            "\n## {}\n\n| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n",
            section.title
        )
        .unwrap();
        for metric in section.metrics {
            let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
            writeln!(
                out,
                "| `{}` | {} | {} | {} |",
                metric.name,
                metric.kind.as_str(),
                labels.join(", "),
                metric.help
            )
            .unwrap();
        }
    }
    out.push_str("\n## Values of `reason`\n\n");
    values::<ConnectionRejection>(&catalog::CONNECTIONS_REJECTED_TOTAL, &mut out);
    values::<RequestRejection>(&catalog::REQUESTS_REJECTED_TOTAL, &mut out);
    values::<HttpRejection>(&catalog::HTTP_REJECTED_TOTAL, &mut out);
    values::<ProduceRefusal>(&catalog::PRODUCE_REFUSED_TOTAL, &mut out);
    out.push_str("\n## Buckets\n\n");
    let shown: Vec<_> = LATENCY
        .bounds
        .iter()
        .map(|bound| (*bound as f64 / LATENCY.per_unit).to_string())
        .collect();
    writeln!(out, "- Times, in seconds: {}.", shown.join(", ")).unwrap();
    for (what, buckets) in [("Sizes, in bytes", &SIZE), ("Batches", &COUNT)] {
        let shown: Vec<_> = buckets.bounds.iter().map(u64::to_string).collect();
        writeln!(out, "- {what}: {}.", shown.join(", ")).unwrap();
    }
    out
}

fn values<L: LabelValues>(metric: &Metric, out: &mut String) {
    let values: Vec<_> = L::ALL
        .iter()
        .map(|value| format!("`{}`", value.as_str()))
        .collect();
    writeln!(out, "- `{}`: {}.", metric.name, values.join(", ")).unwrap();
}

#[test]
fn help_texts_fit_into_a_table() {
    for metric in catalog::ALL {
        assert!(!metric.help.contains(['|', '\n']), "{}", metric.name);
        assert!(
            metric.kind != Kind::Histogram || metric.unit().is_some(),
            "{}",
            metric.name
        );
    }
}

#[test]
fn documented_apis_match_the_dispatcher() {
    check("COMPATIBILITY.md", &compatibility_document());
}

const COMPATIBILITY: &str = "\
# Compatibility with Kafka

<!-- Generated from src/handlers/mod.rs and src/config/topic.rs: UPDATE_DOCS=1 cargo test --test docs -->

Streamline speaks Kafka's protocol as Kafka 4.1 does, and stores records in Kafka's own format. Clients find out what is
served by asking (ApiVersions); this page is the same list for people.

## APIs

Every version from the lowest to the highest is served.
";

const DIFFERENCES: &str = "
## How it differs from a Kafka cluster

- There is one node, number 1, which is the controller too. Every partition has it as leader and as only replica: a
  replication factor other than 1 (or -1, the default) is refused.
- Record batches have format 2, the only one since Kafka 4.0, and a Produce request holds exactly one per partition.
- An LZ4 batch is one frame of independent blocks. Kafka's clients read nothing else, so anything else is refused with
  `INVALID_RECORD` and a message that says what to set; Kafka answers `UNKNOWN_SERVER_ERROR`. Clients that leave it to an
  LZ4 library's defaults may have to ask it for independent (not linked) blocks.
- Transactions are not offered. A producer with a transactional id is refused with
  `TRANSACTIONAL_ID_AUTHORIZATION_FAILED`, the code that producers take as final at once. Idempotent producers work, and
  their state survives restarts.
- Fetch sessions are not kept: responses carry session id 0, and clients go on naming their partitions in full.
- Groups work by the classic protocol. The newer one (KIP-848) and share groups are not offered. A consumer set to
  `group.protocol=consumer` cannot join: Java's fails and says why, librdkafka's goes on looking for a coordinator and tells
  only its debug log (`debug=cgrp`).
- Log compaction, tiered storage, quotas, TLS, SASL and access rules are not offered; settings that ask for them are refused
  with a reason. A client that begins to authenticate is answered `ILLEGAL_SASL_STATE`, as on a listener of Kafka's without
  SASL.
- What `acks=all` promises is stronger by default: the answer comes once the records survive a loss of power. With
  `durability = \"os\"` it is Kafka's own default, the page cache. A request's `timeout_ms` limits the wait, but not to
  less than 5 seconds: in Kafka it is the time for other replicas, and never fails a write on a single broker. A disk that
  takes longer is answered with `REQUEST_TIMED_OUT`; the records are written and may yet become visible.
- A topic can be created at the first request for its metadata (`auto_create_topics`), when the client allows it. It exists
  when that request is answered.
- Kafka's internal topics (`__consumer_offsets`, `__transaction_state`, `__share_group_state`) do not exist. They are not
  created at a request for their metadata, which is answered `UNKNOWN_TOPIC_OR_PARTITION` and logged, and CreateTopics of
  such a name is `INVALID_REQUEST`, as Kafka answers for `__cluster_metadata`. What groups have committed is read with
  OffsetFetch (`scrapeMode: adminApi` in kminion), or from `/metrics`.
- A request that names the same thing several times is answered entry by entry, as by Kafka, until the answers that repeat
  others exceed 1 MiB; entries beyond are refused with `INVALID_REQUEST`.
- A request of an API or version that is not served closes the connection, as in Kafka; ApiVersions alone answers with the
  versions there are (KIP-511).
- A refused batch is answered with the start of the log wherever the partition exists, and with a message; Kafka leaves
  both out for some errors. Records that break the format are named one by one like those with bad timestamps.
- There is no topic `__consumer_offsets`: committed offsets are in the server's catalog. Tools that ask for them
  (OffsetFetch, `Admin.listConsumerGroupOffsets`, kafka-consumer-groups) work. Tools that read that topic find nothing:
  Burrow, kminion with `scrapeMode: offsetsTopic`, kafka-console-consumer with the offsets formatter. Set kminion to
  `scrapeMode: adminApi`, or use the server's own metric `streamline_consumer_lag`.

## What needs compaction

Topics with `cleanup.policy=compact` cannot be created yet, and some programs create their internal topics so. Most of
them take a topic that exists already: create it before the first start, with the right number of partitions and with an
empty `cleanup.policy`, which keeps its records for ever:

```
streamline topics create connect-configs --partitions 1 --config cleanup.policy=
```

Such a topic holds the same records as a compacted one, and all their older versions as well. It grows with every
change and is read from its start when the program starts, so it suits what changes seldom. `cleanup.policy=delete`
would lose what has not changed for a week. The table was tried with the programs of Kafka 4.2; of the schema registries
it says what their source does.

| Program | Without preparation | What to do |
|---|---|---|
| Kafka Connect, standalone | works: it keeps its offsets in a file | |
| Kafka Connect, distributed | does not start: `Unable to create topic(s)` | create `config.storage.topic` (1 partition), `offset.storage.topic` and `status.storage.topic` first |
| MirrorMaker 2 (`connect-mirror-maker`) to this server | does not start | create `mm2-configs.A.internal` (1 partition), `mm2-offsets.A.internal` (25), `mm2-status.A.internal` (5), `A.checkpoints.internal` (1) and `heartbeats` (1) first, where `A` is the source's alias. Topics, their settings and groups' offsets are then mirrored; topics that are compacted at the source are not: name the others in `topics`, or create `A.name` like the internal ones |
| Kafka Streams without state, or with `withLoggingDisabled()` | works; state that is not logged is lost with the process | |
| Kafka Streams with logged stores | fails at the first changelog | create each `<application.id>-<store>-changelog` first, with as many partitions as the store's input; for a windowed store `cleanup.policy=delete` with a `retention.ms` beyond its window is enough |
| Kafka Streams with `exactly_once_v2`, Connect with exactly-once sources | fail: there are no transactions | `at_least_once` |
| Karapace | goes on trying to create `_schemas` | create `_schemas` (1 partition) first; it does not look at the policy of a topic that exists |
| Confluent Schema Registry | does not start: it insists on `compact` | create `_schemas` (1 partition) first, and set `kafkastore.topic.skip.validation=true` |

## Settings of topics

By Kafka's names, for CreateTopics, AlterConfigs and IncrementalAlterConfigs. A LIST may be empty, and repetitions in it are
dropped. Deleting a setting that is not set or not known does nothing.

| Setting | Default | Allowed | Meaning |
|---|---|---|---|
";

fn compatibility_document() -> String {
    let mut out = COMPATIBILITY.to_string();
    out.push_str("\n| Key | API | Versions | |\n|---:|---|---|---|\n");
    let offered = |api: &&Api| api.advertised_min.is_some();
    let mut apis: Vec<&Api> = APIS.iter().filter(offered).collect();
    apis.sort_by_key(|api| api.key as i16);
    for api in apis {
        let (lowest, highest) = (api.versions.start(), api.versions.end());
        let versions = match lowest == highest {
            true => lowest.to_string(),
            false => format!("{lowest}–{highest}"),
        };
        let (key, name) = (api.key as i16, api.key.name());
        writeln!(out, "| {key} | {name} | {versions} | {} |", remark(api)).unwrap();
    }
    out.push_str(DIFFERENCES);
    for definition in TOPIC_CONFIGS {
        let default = match definition.default {
            "" => "empty".to_owned(),
            default => format!("`{default}`"),
        };
        writeln!(
            out,
            "| `{}` | {default} | {} | {} |",
            definition.name,
            definition.kind.allowed(),
            definition.doc
        )
        .unwrap();
    }
    out
}

fn remark(api: &Api) -> &'static str {
    match api.key {
        ApiKey::Produce if api.advertised_min == Some(0) => {
            "Advertised from 0, which older librdkafka needs to see before it compresses"
        }
        ApiKey::DescribeConfigs => "Topics, and the server's own settings read-only",
        ApiKey::AlterConfigs | ApiKey::IncrementalAlterConfigs => "Topics",
        ApiKey::InitProducerId => "Idempotent producers",
        _ => "",
    }
}
