//! A disk without room refuses records, is reported, and heals.

use serde_json::Value;
use streamline::protocol::kafka::ErrorCode;
use streamline::protocol::messages::create_topics::CreateTopicsRequest;

use crate::disk::SmallDisk;
use crate::kafka::{
    CREATE_TOPICS, PRODUCE, batch, creatable, create, only_partition, produce, produce_request,
    try_produce,
};
use crate::numbers::{numbered, read_numbers};
use crate::support::{Server, until};

const BATCH_BYTES: usize = 100_000;

/// Status and reason of the check of that name.
fn check(server: &Server, name: &str) -> (u16, String, String) {
    let (status, body) = server.get("/health");
    let report: Value = serde_json::from_str(&body).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name).unwrap();
    let text = |field: &str| check[field].as_str().unwrap_or_default().to_owned();
    (status, text("status"), text("reason"))
}

#[test]
#[ignore = "needs root, to mount a file system"]
fn a_full_disk_refuses_records_is_reported_and_heals_without_a_restart() {
    let disk = SmallDisk::mount(12);
    disk.occupy(6 << 20);
    let mut server = Server::stopped(&["--log-segment-bytes", "1048576"]);
    std::os::unix::fs::symlink(disk.path(), server.data_dir()).unwrap();
    server.restart();
    let mut client = server.connect();
    let topic = create(&mut client, "numbers", 1);

    let mut acknowledged = 0;
    let refused = loop {
        let response = try_produce(
            &mut client,
            &topic,
            0,
            &batch(&[&numbered(acknowledged, BATCH_BYTES)]),
        );
        if response.error_code != ErrorCode::NONE {
            break response;
        }
        assert_eq!(response.base_offset, acknowledged as i64);
        acknowledged += 1;
        assert!(acknowledged * BATCH_BYTES < 12 << 20, "it is never full");
    };
    assert!(acknowledged > 10, "{acknowledged}");
    assert_eq!(refused.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
    let message = refused.error_message.unwrap();
    assert!(message.contains("full"), "{message}");
    until("it is unhealthy", || server.get("/health").0 == 503);
    let (_, status, reason) = check(&server, "storage");
    assert_eq!(status, "unhealthy");
    assert!(reason.contains("full"), "{reason}");
    assert_eq!(check(&server, "listener").1, "healthy");
    let (status, body) = server.get("/health/ready");
    assert_eq!(status, 503);
    assert!(body.contains("storage"), "{body}");
    assert_eq!(server.get("/health/live").0, 200);
    server.until_metric("streamline_ready", &[], Some(0.0));

    // Without a single block left nothing is promised either, and what is there can be read.
    disk.occupy_the_rest();
    for acks in [1, -1] {
        let records = batch(&[&numbered(999, BATCH_BYTES)]).bytes().clone();
        let request = produce_request(&topic, acks, &[(0, records)]);
        let answered = only_partition(client.call(PRODUCE, &request));
        assert_eq!(answered.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
    }
    let request = CreateTopicsRequest {
        topics: vec![creatable("more", 1, &[])],
        ..CreateTopicsRequest::default()
    };
    let created = &client.call(CREATE_TOPICS, &request).topics[0];
    assert_eq!(created.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
    let expected: Vec<usize> = (0..acknowledged).collect();
    assert_eq!(read_numbers(&mut client, &topic, 0), expected);
    let labels = [("api_key", "produce"), ("error", "true")];
    server.until_metric("streamline_requests_total", &labels, Some(3.0));
    assert_eq!(server.get("/health/live").0, 200);

    disk.clean_up();
    until("it is healthy again", || server.get("/health").0 == 200);
    assert_eq!(server.get("/health/ready").0, 200);
    let produced = produce(
        &mut client,
        &topic,
        0,
        &batch(&[&numbered(acknowledged, BATCH_BYTES)]),
    );
    assert_eq!(produced, acknowledged as i64);
    create(&mut client, "more", 1);
    let expected: Vec<usize> = (0..=acknowledged).collect();
    assert_eq!(read_numbers(&mut client, &topic, 0), expected);
    server.until_metric("streamline_ready", &[], Some(1.0));

    server.kill9();
    server.restart();
    assert_eq!(read_numbers(&mut server.connect(), &topic, 0), expected);
    println!(
        "figures: full after {acknowledged} records; 3 refused, health 503 and 200 again; {} acknowledged and found again",
        expected.len()
    );
}
