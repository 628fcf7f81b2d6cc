//! `streamline dump-log` on a server's logs: intact after a kill, and exit code 1 if they are damaged.

use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::{PATIENCE, Server, server};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const RECORDS: usize = 200;

fn fill(server: &Server, topic: &str) {
    for codec in CODECS {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", server.kafka_addr().to_string())
            .set("compression.type", codec)
            // Long enough for batches of several blocks of a codec.
            .set("linger.ms", "100")
            .create()
            .unwrap();
        for number in 0..RECORDS {
            let value = format!("{codec} {number} {}", "x".repeat(10 * number));
            let record = BaseRecord::to(topic).key(codec).payload(&value);
            producer.send(record).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }
}

/// Returns the exit code and the printed objects.
fn dump(flags: &[&str], path: &Path) -> (Option<i32>, Vec<serde_json::Value>) {
    let output = server::binary()
        .args(["dump-log", "--output", "json"])
        .args(flags)
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let objects = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (output.status.code(), objects.collect())
}

fn first_segment(server: &Server, topic: &str) -> PathBuf {
    let partition = server.data_dir().join(format!("{topic}-0"));
    partition.join(format!("{:020}.log", 0))
}

#[test]
fn all_records_of_a_killed_server_are_read_in_every_codec() {
    let mut server = Server::with(&["--default-partitions", "1"]);
    fill(&server, "dumped");
    server.kill9();
    let (code, objects) = dump(&["--deep"], &server.data_dir());
    assert_eq!(code, Some(0), "{:?}", objects.last());
    let of = |kind: &str| -> Vec<_> { objects.iter().filter(|it| it["type"] == kind).collect() };
    let records = of("record");
    assert_eq!(records.len(), CODECS.len() * RECORDS);
    for (offset, record) in records.iter().enumerate() {
        let (codec, number) = (CODECS[offset / RECORDS], offset % RECORDS);
        assert_eq!(record["offset"], offset);
        assert_eq!(record["key"], codec);
        let value = format!("{codec} {number} {}", "x".repeat(10 * number));
        assert_eq!(record["value"], value);
    }
    for codec in CODECS {
        let batches = of("batch");
        assert!(
            batches.iter().any(|it| it["compression"] == codec),
            "{codec}"
        );
    }
    assert_eq!(of("summary")[0]["damages"], 0);
}

#[test]
fn damage_has_a_position_a_reason_and_exit_code_1() {
    let mut server = Server::with(&["--default-partitions", "1"]);
    fill(&server, "damaged");
    server.terminate();
    let segment = first_segment(&server, "damaged");
    let (code, objects) = dump(&[], &segment);
    assert_eq!(code, Some(0));
    let second = objects
        .iter()
        .filter(|it| it["type"] == "batch")
        .nth(1)
        .unwrap();
    let position = second["position"].as_u64().unwrap();

    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[position as usize + 65] ^= 0x10;
    std::fs::write(&segment, bytes).unwrap();
    let (code, objects) = dump(&["--verify-only"], &segment);
    assert_eq!(code, Some(1));
    let damages: Vec<_> = objects.iter().filter(|it| it["type"] == "damage").collect();
    assert_eq!(damages.len(), 1, "{damages:?}");
    assert_eq!(damages[0]["position"], position);
    assert_eq!(damages[0]["length"], second["size_bytes"]);
    assert!(damages[0]["reason"].as_str().unwrap().contains("CRC"));
}

#[test]
fn a_file_that_is_not_a_segment_is_a_usage_error() {
    let server = Server::start();
    let (code, objects) = dump(&[], &server.data_dir().join("run.json"));
    assert_eq!(code, Some(2));
    assert!(objects.is_empty());
}
