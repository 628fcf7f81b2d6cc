//! A wall clock that jumps: no duration changes and no data is lost.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use streamline::protocol::kafka::ErrorCode;
use streamline::protocol::messages::fetch::FetchRequest;
use streamline::protocol::messages::heartbeat::HeartbeatRequest;
use streamline::protocol::messages::init_producer_id::InitProducerIdRequest;
use streamline::protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use streamline::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use streamline::protocol::messages::sync_group::SyncGroupRequest;

use crate::kafka::{
    FETCH, Topic, batch, batch_of, commit_request, create, create_with, fetch, fetch_request,
    now_ms, only, try_produce, values_of,
};
use crate::support::{Client, Server, until};

const HOUR_S: i64 = 3_600;
/// Successive offsets of the clock from the true time, in seconds.
const JUMPS_S: [i64; 4] = [20 * HOUR_S, -20 * HOUR_S, 2 * HOUR_S, 0];
/// Maximum wait of a fetch for which there are no records.
const WAIT: Duration = Duration::from_millis(600);
const GROUP: &str = "readers";

/// The wall clock of a server, whose monotonic clock is the machine's.
struct WallClock {
    file: PathBuf,
}

impl WallClock {
    fn set(&self, offset_s: i64) {
        // Replaced atomically, because the server reads it on each query of the time.
        let staging = self.file.with_extension("new");
        std::fs::write(&staging, format!("{offset_s:+}\n")).unwrap();
        std::fs::rename(staging, &self.file).unwrap();
    }

    /// Returns the arguments of `env` that set the server's environment.
    fn environment(&self) -> Vec<String> {
        vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", library().display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file.display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ]
    }
}

pub fn library() -> PathBuf {
    let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
    let library = Path::new("/usr/lib")
        .join(architecture)
        .join("faketime/libfaketime.so.1");
    assert!(
        library.exists(),
        "{} does not exist: apt-get install faketime",
        library.display()
    );
    library
}

fn join(client: &mut Client) -> JoinGroupResponse {
    const VERSION: i16 = 3;
    let joined = client.call(
        VERSION,
        &JoinGroupRequest {
            group_id: GROUP.to_owned(),
            session_timeout_ms: 60_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".to_owned(),
                metadata: Bytes::new(),
            }],
            ..JoinGroupRequest::default()
        },
    );
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let synced = client.call(
        VERSION,
        &SyncGroupRequest {
            group_id: GROUP.to_owned(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            ..SyncGroupRequest::default()
        },
    );
    assert_eq!(synced.error_code, ErrorCode::NONE);
    joined
}

/// Checks that the member is still in the group and can commit.
fn check_membership(client: &mut Client, member: &JoinGroupResponse, topic: &Topic, offset: i64) {
    let heartbeat = HeartbeatRequest {
        group_id: GROUP.to_owned(),
        generation_id: member.generation_id,
        member_id: member.member_id.clone(),
        ..HeartbeatRequest::default()
    };
    assert_eq!(client.call(3, &heartbeat).error_code, ErrorCode::NONE);
    let (id, generation) = (&member.member_id, member.generation_id);
    let commit = commit_request(GROUP, id, generation, &topic.name, offset);
    let committed = &client.call(7, &commit).topics[0].partitions[0];
    assert_eq!(committed.error_code, ErrorCode::NONE);
}

fn offset_at(client: &mut Client, topic: &Topic, timestamp: i64) -> i64 {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.name.clone(),
            partitions: vec![ListOffsetsPartition {
                timestamp,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    client.call(7, &request).topics[0].partitions[0].offset
}

#[test]
#[ignore = "needs faketime"]
fn jumps_of_the_wall_clock_end_no_session_or_wait_and_lose_no_records() {
    let dir = tempfile::tempdir().unwrap();
    let clock = WallClock {
        file: dir.path().join("offset"),
    };
    clock.set(0);
    let environment = clock.environment();
    let environment: Vec<&str> = environment.iter().map(String::as_str).collect();
    let mut server = Server::through(
        &environment,
        &[
            "--group-initial-rebalance-delay-ms",
            "0",
            "--log-retention-check-interval-ms",
            "50",
        ],
    );
    let mut client = server.connect();
    // No jump is as long as the retention.
    let stamped = create_with(
        &mut client,
        "stamped",
        1,
        &[
            ("message.timestamp.type", "LogAppendTime"),
            ("retention.ms", "172800000"),
        ],
    );
    let timed = create(&mut client, "timed", 1);
    let member = join(&mut client);
    let identity = InitProducerIdRequest {
        transactional_id: None,
        ..InitProducerIdRequest::default()
    };
    let id = client.call(4, &identity);
    assert_eq!(id.error_code, ErrorCode::NONE);
    let value = |sequence: i64| format!("value {sequence}");
    let sent = |sequence: i64| batch_of(id.producer_id, 0, sequence as i32, &[&value(sequence)]);
    assert_eq!(
        try_produce(&mut client, &stamped, 0, &sent(0)).base_offset,
        0
    );
    let mut uptime = 0.0;

    let mut waiting = server.connect();
    for (end, offset_s) in (1..).zip(JUMPS_S) {
        // A fetch is waiting while the clock jumps.
        let request = FetchRequest {
            max_wait_ms: WAIT.as_millis() as i32,
            ..fetch_request(&stamped, &[(0, end)])
        };
        let began = Instant::now();
        waiting.send(FETCH, &request);
        server.until_metric("streamline_fetches_waiting", &[], Some(1.0));
        clock.set(offset_s);
        let (_, response) = waiting.receive::<FetchRequest>(FETCH);
        let waited = began.elapsed();
        assert!(values_of(&only(response)).is_empty());
        assert!(
            (WAIT..WAIT * 10).contains(&waited),
            "waited {waited:?} at {offset_s} s"
        );

        check_membership(&mut client, &member, &stamped, end);
        // A retry of the last batch is recognised, and the next batch is accepted.
        let again = try_produce(&mut client, &stamped, 0, &sent(end - 1));
        assert_eq!(
            (again.error_code, again.base_offset),
            (ErrorCode::NONE, end - 1)
        );
        let next = try_produce(&mut client, &stamped, 0, &sent(end));
        assert_eq!((next.error_code, next.base_offset), (ErrorCode::NONE, end));
        let off_ms = next.log_append_time_ms - now_ms() - offset_s * 1_000;
        assert!(off_ms.abs() < 60_000, "the clock did not jump: {off_ms}");
        // Records too far ahead of the server's clock are rejected, even if the clock is wrong.
        let expected = match offset_s < -HOUR_S {
            true => ErrorCode::INVALID_TIMESTAMP,
            false => ErrorCode::NONE,
        };
        let answered = try_produce(&mut client, &timed, 0, &batch(&["x"]));
        assert_eq!(answered.error_code, expected, "{answered:?}");

        let metrics = server.metrics();
        let before = uptime;
        uptime = metrics.value("streamline_uptime_seconds", &[]).unwrap();
        assert!(
            before <= uptime && uptime < 600.0,
            "up for {before} s, then {uptime} s"
        );
        let labels = [("group", GROUP)];
        let members = metrics.value("streamline_consumer_group_members", &labels);
        assert_eq!(members, Some(1.0));
        assert_eq!(server.get("/health").0, 200);
        assert_eq!(server.get("/health/live").0, 200);
    }
    let labels = [("group", GROUP)];
    let metrics = server.metrics();
    let rebalances = metrics.value("streamline_consumer_group_rebalances_total", &labels);
    assert_eq!(rebalances, Some(1.0));
    let deleted = metrics.value("streamline_retention_deleted_segments_total", &[]);
    assert_eq!(deleted, Some(0.0));

    // Timestamps: now, in 20 hours, 20 hours ago, in 2 hours, now. The first record that is late enough is found.
    let in_hours = |hours: i64| now_ms() + hours * HOUR_S * 1_000;
    assert_eq!(offset_at(&mut client, &stamped, in_hours(-30)), 0);
    assert_eq!(offset_at(&mut client, &stamped, in_hours(1)), 1);
    assert_eq!(offset_at(&mut client, &stamped, in_hours(30)), -1);

    // Recovery reads records with timestamps in the future.
    clock.set(-20 * HOUR_S);
    server.kill9();
    server.restart();
    let mut client = server.connect();
    until("it is healthy", || server.get("/health").0 == 200);
    let end = JUMPS_S.len() as i64;
    let expected: Vec<String> = (0..=end).map(value).collect();
    let found = values_of(&fetch(&mut client, &stamped, 0, 0));
    assert_eq!(found, expected);
    let again = try_produce(&mut client, &stamped, 0, &sent(end));
    assert_eq!(
        (again.error_code, again.base_offset),
        (ErrorCode::NONE, end)
    );
    println!(
        "figures: the wall clock jumped {} times, by up to 40 hours; sessions, waits and segments unaffected, {} of {} \
         records found, retries recognised",
        JUMPS_S.len() + 1,
        found.len(),
        expected.len(),
    );
}
