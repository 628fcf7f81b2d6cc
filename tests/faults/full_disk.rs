//! With a full disk, records are rejected, health reports it, and the server recovers once there is space.

use bytes::Bytes;
use serde_json::Value;
use streamline::protocol::kafka::ErrorCode;
use streamline::protocol::messages::create_topics::CreateTopicsRequest;
use streamline::protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use streamline::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use streamline::protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use streamline::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};

use crate::disk::SmallDisk;
use crate::kafka::{
    CREATE_TOPICS, PRODUCE, Topic, batch, commit_request, creatable, create, create_with,
    delete_records, only_partition, produce, produce_request, try_produce,
};
use crate::numbers::{numbered, read_numbers};
use crate::support::{Client, Server, until};

const BATCH_BYTES: usize = 100_000;

/// Returns status and reason of a health check.
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
fn a_full_disk_rejects_records_is_reported_and_heals_without_a_restart() {
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

    // With no block left, nothing is acknowledged either, and existing records can be read.
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
        "figures: full after {acknowledged} records; 3 rejected, health 503 and 200 again; {} acknowledged and found",
        expected.len()
    );
}

const DISK_MIB: u32 = 64;
/// Size of the server's reserve on it.
const RESERVE_BYTES: f64 = (DISK_MIB as u64 * 1024 * 1024 / 16) as f64;

/// A server whose disk its own records have filled to the last byte.
struct Filled {
    disk: SmallDisk,
    server: Server,
    topic: Topic,
    /// Records that were acknowledged.
    acknowledged: i64,
}

impl Filled {
    fn new() -> Filled {
        let disk = SmallDisk::mount(DISK_MIB);
        let mut server = Server::stopped(&[]);
        std::os::unix::fs::symlink(disk.path(), server.data_dir()).unwrap();
        server.restart();
        let mut client = server.connect();
        let topic = create(&mut client, "events", 1);
        let mut acknowledged = 0;
        let mut size = 500_000;
        let refused = loop {
            let response = try_produce(&mut client, &topic, 0, &batch(&[&"x".repeat(size)]));
            if response.error_code == ErrorCode::NONE {
                acknowledged += 1;
                continue;
            }
            assert_eq!(response.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
            match size {
                1 => break response,
                _ => size /= 2,
            }
        };
        let message = refused.error_message.unwrap();
        assert!(
            message.contains("is full") && message.contains("delete topics or records"),
            "{message}"
        );
        // The rest of the last page.
        disk.occupy_the_rest();
        assert_eq!(disk.available_bytes(), 0);
        let log = server.log();
        let lines = log.matches("disk full, refusing records").count();
        assert_eq!(lines, 1, "{log}");
        Filled {
            disk,
            server,
            topic,
            acknowledged,
        }
    }

    /// Checks that groups work, and that topics and records are rejected.
    fn work_at_zero(&self) {
        let mut client = self.server.connect();
        for round in 0..20 {
            let (member_id, generation) = join(&mut client, "readers");
            commit(&mut client, "readers", &member_id, generation, round);
            leave(&mut client, "readers", &member_id);
        }
        let request = CreateTopicsRequest {
            topics: vec![creatable("more", 1, &[])],
            ..CreateTopicsRequest::default()
        };
        let created = &client.call(CREATE_TOPICS, &request).topics[0];
        assert_eq!(created.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
        let message = created.error_message.as_deref().unwrap_or_default();
        assert!(message.contains("full"), "{message}");
        let response = try_produce(&mut client, &self.topic, 0, &batch(&["x"]));
        assert_eq!(response.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
        until("it is unhealthy", || self.server.get("/health").0 == 503);
        let (_, status, reason) = check(&self.server, "storage");
        assert_eq!(status, "unhealthy");
        assert!(reason.contains("full"), "{reason}");
    }

    /// Checks that records are accepted again, without a restart.
    fn check_healing(&self) {
        let server = &self.server;
        until("it is healthy again", || server.get("/health").0 == 200);
        let mut client = server.connect();
        let topic = create(&mut client, "after", 1);
        assert_eq!(produce(&mut client, &topic, 0, &batch(&["x"])), 0);
        server.until_metric("streamline_disk_reserve_bytes", &[], Some(RESERVE_BYTES));
        until("the log reports it", || {
            server.log().contains("disk has space again")
        });
    }
}

fn join(client: &mut Client, group: &str) -> (String, i32) {
    let mut request = JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(&[0; 10]),
        }],
        ..JoinGroupRequest::default()
    };
    let asked = client.call(9, &request);
    assert_eq!(asked.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    request.member_id = asked.member_id;
    let joined = client.call(9, &request);
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let sync = SyncGroupRequest {
        group_id: group.to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: Bytes::from_static(&[0; 100]),
        }],
        ..SyncGroupRequest::default()
    };
    assert_eq!(client.call(5, &sync).error_code, ErrorCode::NONE);
    (joined.member_id, joined.generation_id)
}

fn commit(client: &mut Client, group: &str, member_id: &str, generation: i32, offset: i64) {
    let request = commit_request(group, member_id, generation, "events", offset);
    let committed = client.call(8, &request);
    let partition = &committed.topics[0].partitions[0];
    assert_eq!(partition.error_code, ErrorCode::NONE);
}

fn leave(client: &mut Client, group: &str, member_id: &str) {
    let request = LeaveGroupRequest {
        group_id: group.to_owned(),
        members: vec![MemberIdentity {
            member_id: member_id.to_owned(),
            ..MemberIdentity::default()
        }],
        ..LeaveGroupRequest::default()
    };
    assert_eq!(client.call(5, &request).error_code, ErrorCode::NONE);
}

fn delete_topic(client: &mut Client, topic: &Topic) {
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some(topic.name.clone()),
            ..DeleteTopicState::default()
        }],
        timeout_ms: 10_000,
        ..DeleteTopicsRequest::default()
    };
    let deleted = &client.call(6, &request).responses[0];
    assert_eq!(deleted.error_code, ErrorCode::NONE);
}

#[test]
#[ignore = "needs root, to mount a file system"]
fn a_disk_filled_to_the_last_byte_is_emptied_by_deleting_records() {
    let filled = Filled::new();
    let held = filled.server.metrics();
    assert_eq!(
        held.value("streamline_disk_reserve_bytes", &[]),
        Some(RESERVE_BYTES)
    );
    filled.work_at_zero();
    // The released space is reserved again before other processes can take it.
    filled
        .server
        .until_metric("streamline_disk_full", &[], Some(1.0));
    until("part of the reserve is held again", || {
        let metrics = filled.server.metrics();
        let held = metrics.value("streamline_disk_reserve_bytes", &[]);
        held.is_some_and(|bytes| bytes > RESERVE_BYTES / 2.0)
    });
    filled.disk.occupy_the_rest();
    filled.work_at_zero();
    let start = delete_records(&mut filled.server.connect(), "events", -1);
    assert_eq!(start, filled.acknowledged);
    filled.check_healing();
    println!(
        "figures: 0 bytes left after {} records; 20 joins and commits, all records deleted, records accepted again",
        filled.acknowledged
    );
}

#[test]
#[ignore = "needs root, to mount a file system"]
fn a_disk_filled_to_the_last_byte_is_emptied_by_deleting_the_topic() {
    let filled = Filled::new();
    delete_topic(&mut filled.server.connect(), &filled.topic);
    filled.check_healing();
}

#[test]
#[ignore = "needs root, to mount a file system"]
fn a_server_starts_on_a_full_disk_after_a_kill_and_after_a_stop_and_can_be_emptied() {
    for kill in [true, false] {
        let mut filled = Filled::new();
        match kill {
            true => filled.server.kill9(),
            false => assert!(filled.server.terminate().success()),
        }
        filled.disk.occupy_the_rest();
        assert_eq!(filled.disk.available_bytes(), 0);
        filled.server.restart();
        filled.work_at_zero();
        let mut client = filled.server.connect();
        assert_eq!(
            delete_records(&mut client, "events", -1),
            filled.acknowledged
        );
        filled.check_healing();
        delete_topic(&mut client, &filled.topic);
    }
}

#[test]
#[ignore = "needs root, to mount a file system"]
fn without_a_reserve_a_full_disk_is_emptied_by_deleting_whole_segments() {
    let disk = SmallDisk::mount(DISK_MIB);
    let mut server = Server::stopped(&["--disk-reserve-bytes", "0"]);
    std::os::unix::fs::symlink(disk.path(), server.data_dir()).unwrap();
    server.restart();
    let mut client = server.connect();
    let topic = create_with(&mut client, "events", 1, &[("segment.bytes", "1048576")]);
    let value = "x".repeat(BATCH_BYTES);
    let produces = |client: &mut Client| {
        let response = try_produce(client, &topic, 0, &batch(&[&value]));
        response.error_code == ErrorCode::NONE
    };
    for _ in 0..2 {
        while produces(&mut client) {}
        disk.occupy_the_rest();
        delete_records(&mut client, "events", -1);
        disk.clean_up();
    }
    let metrics = server.metrics();
    assert_eq!(metrics.value("streamline_disk_reserve_bytes", &[]), None);

    // The next start has a reserve, but no space for it yet.
    while produces(&mut client) {}
    disk.occupy_the_rest();
    server.kill9();
    server.set_flags(&[]);
    server.restart();
    let mut client = server.connect();
    assert!(!produces(&mut client));
    server.until_metric("streamline_disk_reserve_bytes", &[], Some(0.0));
    delete_records(&mut client, "events", -1);
    server.until_metric("streamline_disk_reserve_bytes", &[], Some(RESERVE_BYTES));
    assert!(produces(&mut client));
}
