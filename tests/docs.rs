//! Documents generated from the code. The tests fail if a document is out of date; `UPDATE_DOCS=1 cargo test --test docs`
//! regenerates them.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use streamline::config::TOPIC_CONFIGS;
use streamline::handlers::{APIS, Api};
use streamline::metrics::catalog::{
    self, ConnectionRejection, HttpRejection, Kind, LabelValues, Metric, ProduceRefusal,
    RequestRejection, TransactionEnd,
};
use streamline::metrics::{COUNT, LATENCY, SIZE};
use streamline::protocol::kafka::ApiKey;

/// Compares a document with its generated text, or writes it if `UPDATE_DOCS` is set.
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
fn metrics_document_is_up_to_date() {
    check("METRICS.md", &metrics_document());
}

const INTRODUCTION: &str = "\
# Metrics

<!-- Generated from src/metrics/catalog.rs: UPDATE_DOCS=1 cargo test --test docs -->

`GET /metrics` on the HTTP port (`:9094` by default, see `http_addr`) returns Prometheus text 0.0.4, or OpenMetrics 1.0 if the
`Accept` header prefers it, as Prometheus does. This page lists every metric of the server.

General rules:

- Counters start at 0 when the process starts. Gauges are read at scrape time, including the first scrape.
- A series exists as long as its topic, partition or group: after deletion it disappears at the next scrape, and a topic
  created again under the same name starts at 0.
- `api_key` is Kafka's API name in snake case (`produce`, `fetch`, `list_offsets`, …), or `unknown` for keys that Kafka does
  not define. The series of an API appear with its first request, for both values of `error`, so that an error ratio is 0
  rather than absent.
- `error` is `true` if the request could not be parsed, or if its response contains any Kafka error code, even for a single
  partition.
- Bytes of topics are bytes of record batches as sent on the wire, compressed if the producer compressed them. Bytes and
  records received count appended batches only, without rejected batches and producer retries. Bytes sent count responses
  that were sent completely.
- `_count` and `_sum` of a histogram always match its buckets.
- Four gauges end in `_total` (`streamline_topics_total`, `streamline_partitions_total`, `streamline_segments_total`,
  `streamline_consumer_groups_total`). `promtool check metrics` warns about these names and no others.
- With the setting `metrics = \"off\"` nothing is recorded, and `/metrics` says so.
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
    out.push_str("\n## Values of `reason` and `outcome`\n\n");
    values::<ConnectionRejection>(&catalog::CONNECTIONS_REJECTED_TOTAL, &mut out);
    values::<RequestRejection>(&catalog::REQUESTS_REJECTED_TOTAL, &mut out);
    values::<HttpRejection>(&catalog::HTTP_REJECTED_TOTAL, &mut out);
    values::<ProduceRefusal>(&catalog::PRODUCE_REFUSED_TOTAL, &mut out);
    values::<TransactionEnd>(&catalog::TRANSACTIONS_ENDED_TOTAL, &mut out);
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
fn metric_help_fits_into_a_table() {
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
fn compatibility_document_is_up_to_date() {
    check("COMPATIBILITY.md", &compatibility_document());
}

const COMPATIBILITY: &str = "\
# Compatibility with Kafka

<!-- Generated from src/handlers/mod.rs and src/config/topic.rs: UPDATE_DOCS=1 cargo test --test docs -->

Streamline implements the protocol of Kafka 4.4 and stores records in Kafka's own format. Clients discover the supported APIs
with ApiVersions; this page has the same list.

## APIs

All versions in each range are supported.
";

const DIFFERENCES: &str = "
## Differences from a Kafka cluster

- There is a single node with id 1, which is also the controller. It is the leader and only replica of every partition: a
  replication factor other than 1 (or -1, the default) is rejected. Requests about replicas, elections, reassignments, log
  directories and the quorum get the answers of a Kafka cluster with one broker.
- Metadata is not in a log: DescribeQuorum returns offsets of 0. A running node is not unregistered; Kafka does so on request,
  and then serves no client.
- Feature levels are stored as in Kafka (`kafka-features`). Those of features that do not exist here have only level 0.
- Record batches must have format 2, the only one since Kafka 4.0. A Produce request has exactly one batch per partition.
- An LZ4 batch must be one frame of independent blocks. Kafka's clients cannot read anything else, so other batches are
  rejected with `INVALID_RECORD` and a message that names the setting to change; Kafka returns `UNKNOWN_SERVER_ERROR`. If a
  client uses the defaults of an LZ4 library, configure it for independent (not linked) blocks.
- Transactions follow versions 1 and 2 of the protocol (KIP-890). Their state is in the server's catalog, and a commit is
  durable when it is acknowledged. InitProducerId aborts an ongoing transaction and answers afterwards, where Kafka answers
  `CONCURRENT_TRANSACTIONS` and has the client repeat its request. Two-phase commit (KIP-939) is not supported.
- Fetch sessions belong to the principal that created them, and take at most 128 MiB together. A response also contains a
  partition if only its last stable offset changed.
- Consumer groups use the classic protocol. The consumer group protocol of KIP-848 and share groups are not supported. A
  consumer with `group.protocol=consumer` cannot join: the Java client fails with the reason, librdkafka keeps looking for a
  coordinator and reports it only in its debug log (`debug=cgrp`).
- Tiered storage, TLS, SASL and ACLs are not supported; settings for them are rejected with a reason. A client that starts to
  authenticate gets `ILLEGAL_SASL_STATE`, as on a Kafka listener without SASL.
- Compacted topics work as in Kafka: the same records are kept and dropped, at the same times, by the same settings, and
  `cleaner-offset-checkpoint` has the same content. One log is compacted at a time (`log.cleaner.threads` is 1), and keys are
  told apart by a keyed hash of 128 bits instead of MD5. The last batch of each rewritten segment is kept, if need be without
  records; Kafka does so for the last one of each compaction. With `storage = \"memory\"` all records are kept.
- Client quotas are those of Kafka. Changes of topics are measured over the window of the other quotas, `quota.window.num` and
  `quota.window.size.seconds`: there are no `controller.quota.window.…`.
- A broker's config can be changed at run time if the change takes effect at once. Others, and names that are not settings here,
  are rejected with `INVALID_REQUEST`; Kafka accepts names that it does not know. Loggers are areas of this server's code, such
  as `streamline.storage`.
- `acks=all` is more durable by default: it is acknowledged once the records survive a power failure. With
  `durability = \"os\"` it is acknowledged from the page cache, as in Kafka by default. A request's `timeout_ms`, but at least
  5 seconds, limits the wait; in Kafka it limits the wait for other replicas, and never fails a write on a single broker. If
  the disk takes longer, the response is `REQUEST_TIMED_OUT`; the records are written and may become visible later.
- A metadata request creates a topic that does not exist, if `auto_create_topics` is on and the client allows it. The topic
  exists when the request is answered.
- Kafka's internal topics (`__consumer_offsets`, `__transaction_state`, `__share_group_state`) do not exist. Metadata requests
  do not create them, but return `UNKNOWN_TOPIC_OR_PARTITION`, and are logged; CreateTopics returns `INVALID_REQUEST`, as Kafka
  does for `__cluster_metadata`.
- A request that names the same thing several times gets a response for each entry, as in Kafka, until the repeated responses
  exceed 1 MiB; further entries are rejected with `INVALID_REQUEST`.
- A request with an unsupported API or version closes the connection, as in Kafka; only ApiVersions returns the supported
  versions instead (KIP-511).
- The response for a rejected batch has the log start offset, if the partition exists, and an error message; Kafka omits both
  for some errors. Records that violate the format are listed one by one, like those with invalid timestamps.
- Committed offsets are stored in the server's catalog. Tools that use the protocol (OffsetFetch,
  `Admin.listConsumerGroupOffsets`, kafka-consumer-groups) work. Tools that read the topic `__consumer_offsets` do not: Burrow,
  kminion with `scrapeMode: offsetsTopic`, kafka-console-consumer with the offsets formatter. Set kminion to
  `scrapeMode: adminApi`, or use the server's metric `streamline_consumer_lag`.

## Differences in responses

A test sends the same requests to Kafka 4.4 and to Streamline, in every version, and compares the responses field by field
(`tests/interop/differential.sh`). Apart from ids, addresses, sizes, times and the texts of messages, there are these
differences:

";

const TOPIC_SETTINGS: &str = "
## Topic settings

For CreateTopics, AlterConfigs and IncrementalAlterConfigs, by Kafka's names. A LIST may be empty; repeated items are dropped.
Deleting a setting that is unset or unknown has no effect.

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
    for difference in response_differences() {
        let (apis, reason) = (text(&difference, "api"), text(&difference, "reason"));
        // Names; a pattern for many APIs is not for readers.
        let is_list = apis.chars().all(|c| c.is_alphanumeric() || c == '|');
        match is_list {
            true => writeln!(out, "- {}: {reason}", apis.replace('|', ", ")).unwrap(),
            false => writeln!(out, "- {reason}").unwrap(),
        }
    }
    out.push_str(TOPIC_SETTINGS);
    for definition in TOPIC_CONFIGS.iter().filter(|each| !each.is_internal()) {
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

fn text<'a>(difference: &'a toml::Table, name: &str) -> &'a str {
    difference[name].as_str().unwrap()
}

/// Returns the intended differences that the comparison with Kafka checks.
fn response_differences() -> Vec<toml::Table> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/interop/differential/differences.toml"
    );
    let mut list: toml::Table = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    list.remove("difference").unwrap().try_into().unwrap()
}

fn remark(api: &Api) -> &'static str {
    match api.key {
        ApiKey::Produce if api.advertised_min == Some(0) => {
            "Advertised from 0, because older versions of librdkafka require it for compression"
        }
        ApiKey::DescribeConfigs | ApiKey::IncrementalAlterConfigs => {
            "Topics, brokers, their loggers, client metrics"
        }
        ApiKey::AlterConfigs => "Topics, brokers, client metrics",
        ApiKey::ListConfigResources => "Groups have no configs, so none is listed",
        _ => "",
    }
}
