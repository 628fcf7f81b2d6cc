//! The audit log: one line for each request that changes something, with the client and the changes.

use streamline::protocol::kafka::{ErrorCode, Request};
use streamline::protocol::messages::alter_configs::{self, AlterConfigsRequest};
use streamline::protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use streamline::protocol::messages::create_topics::CreateTopicsRequest;
use streamline::protocol::messages::delete_groups::DeleteGroupsRequest;
use streamline::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use streamline::protocol::messages::delete_topics::DeleteTopicsRequest;
use streamline::protocol::messages::incremental_alter_configs::{
    self, AlterableConfig, IncrementalAlterConfigsRequest,
};
use streamline::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use streamline::protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use streamline::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use streamline::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use streamline::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use streamline::protocol::messages::sync_group::SyncGroupRequest;

use crate::kafka::{batch, creatable, create, produce};
use crate::support::{Client, Server};

/// A server, a client, and the position in the audit log.
struct Audited {
    server: Server,
    client: Client,
    seen: usize,
}

impl Audited {
    fn start() -> Audited {
        Audited::with(&[])
    }

    fn with(flags: &[&str]) -> Audited {
        let server = Server::with(flags);
        let client = server.connect();
        Audited {
            server,
            client,
            seen: 0,
        }
    }

    /// Returns the lines added by a request; they are written before its response.
    fn lines_of<R: Request>(&mut self, version: i16, request: &R) -> Vec<String> {
        self.client.call(version, request);
        self.new_lines()
    }

    fn new_lines(&mut self) -> Vec<String> {
        let log = self.server.log();
        let lines = log.lines().filter(|line| line.contains("principal="));
        let new: Vec<_> = lines.skip(self.seen).map(str::to_owned).collect();
        self.seen += new.len();
        new
    }

    /// Returns event, request, count and changes of the only line that a request adds.
    #[track_caller]
    fn line_of<R: Request>(&mut self, version: i16, request: &R) -> Line {
        let lines = self.lines_of(version, request);
        let [line] = &lines[..] else {
            panic!("one line, not {lines:#?}");
        };
        let peer = self.client.stream.local_addr().unwrap();
        for who in [
            r#"principal="anonymous""#,
            r#"client_id="test""#,
            &format!("peer={peer}"),
        ] {
            assert!(line.contains(who), "{who} in {line}");
        }
        Line(line.clone())
    }
}

struct Line(String);

impl Line {
    #[track_caller]
    fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.0.contains(part), "{part} in {}", self.0);
        }
    }
}

fn commit_request(group: &str, topic: &str, offsets: &[i64]) -> OffsetCommitRequest {
    let partitions = (0..).zip(offsets);
    OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.to_owned(),
            partitions: partitions
                .map(|(partition_index, offset)| OffsetCommitRequestPartition {
                    partition_index,
                    committed_offset: *offset,
                    ..OffsetCommitRequestPartition::default()
                })
                .collect(),
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

#[test]
fn topics_created_grown_and_deleted_are_logged() {
    let mut audited = Audited::start();
    let creation = |topics, validate_only| CreateTopicsRequest {
        topics,
        timeout_ms: 10_000,
        validate_only,
    };
    let orders = creatable("orders", 2, &[("retention.ms", "1000")]);
    let asked = vec![orders, creatable("a/b", 1, &[]), creatable("paid", 1, &[])];
    assert!(
        audited
            .lines_of(7, &creation(asked.clone(), true))
            .is_empty()
    );
    audited.line_of(7, &creation(asked.clone(), false)).says(&[
        r#"topics created"#,
        r#"request="CreateTopics" count=2"#,
        r#"changes="orders partitions=2 retention.ms=1000, paid partitions=1""#,
    ]);
    assert!(audited.lines_of(7, &creation(asked, false)).is_empty());
    let asked = |name: &str| MetadataRequestTopic {
        name: Some(name.to_owned()),
        ..MetadataRequestTopic::default()
    };
    let metadata = MetadataRequest {
        topics: Some(vec![asked("orders"), asked("auto-1"), asked("auto-2")]),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    };
    audited.line_of(9, &metadata).says(&[
        r#"request="Metadata" count=2"#,
        r#"changes="auto-1 partitions=1, auto-2 partitions=1""#,
    ]);

    let growth = |count, validate_only| CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: "orders".to_owned(),
            count,
            assignments: None,
        }],
        validate_only,
        ..CreatePartitionsRequest::default()
    };
    assert!(audited.lines_of(1, &growth(5, true)).is_empty());
    assert!(audited.lines_of(1, &growth(1, false)).is_empty());
    audited.line_of(1, &growth(5, false)).says(&[
        r#"partitions added"#,
        r#"request="CreatePartitions" count=1 changes="orders 2→5""#,
    ]);

    let deletion = DeleteTopicsRequest {
        topic_names: ["orders", "absent", "paid"].map(str::to_owned).into(),
        ..DeleteTopicsRequest::default()
    };
    audited.line_of(5, &deletion).says(&[
        r#"topics deleted"#,
        r#"request="DeleteTopics" count=2 changes="orders id="#,
        r#", paid id="#,
    ]);
    assert!(audited.lines_of(5, &deletion).is_empty());
}

#[test]
fn a_request_with_thousands_of_changes_is_one_short_line() {
    let mut audited = Audited::start();
    let names: Vec<String> = (0..200).map(|number| format!("t{number}")).collect();
    let creation = CreateTopicsRequest {
        topics: names.iter().map(|name| creatable(name, 1, &[])).collect(),
        timeout_ms: 10_000,
        ..CreateTopicsRequest::default()
    };
    let line = audited.line_of(7, &creation);
    line.says(&["count=200", "t9 partitions=1, and 190 more\""]);
    assert!(line.0.len() < 1_000, "{}", line.0);
}

#[test]
fn records_deleted_are_logged() {
    let mut audited = Audited::start();
    let topic = create(&mut audited.client, "orders", 2);
    produce(&mut audited.client, &topic, 0, &batch(&["value"; 10]));
    audited.new_lines();
    let deletion = |offsets: &[(i32, i64)]| DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "orders".to_owned(),
            partitions: offsets
                .iter()
                .map(|&(partition_index, offset)| DeleteRecordsPartition {
                    partition_index,
                    offset,
                })
                .collect(),
        }],
        timeout_ms: 10_000,
    };
    let line = audited.line_of(2, &deletion(&[(0, 6), (1, 0), (7, 1)]));
    line.says(&[
        "records deleted",
        r#"request="DeleteRecords" count=1 changes="orders-0 log start 0→6""#,
    ]);
    assert!(
        audited
            .lines_of(2, &deletion(&[(0, 6), (0, 99)]))
            .is_empty()
    );
    let line = audited.line_of(2, &deletion(&[(0, -1)]));
    line.says(&["orders-0 log start 6→10"]);
}

#[test]
fn changed_configs_are_logged_with_their_old_values() {
    let mut audited = Audited::start();
    create(&mut audited.client, "orders", 1);
    audited.new_lines();
    let edit = |name: &str, config_operation, value: Option<&str>| AlterableConfig {
        name: name.to_owned(),
        config_operation,
        value: value.map(str::to_owned),
    };
    let incremental = |configs, validate_only| IncrementalAlterConfigsRequest {
        resources: vec![incremental_alter_configs::AlterConfigsResource {
            resource_type: 2,
            resource_name: "orders".to_owned(),
            configs,
        }],
        validate_only,
    };
    let set = vec![
        edit("retention.ms", 0, Some("1000")),
        edit("segment.bytes", 0, Some("1048577")),
    ];
    assert!(
        audited
            .lines_of(1, &incremental(set.clone(), true))
            .is_empty()
    );
    audited.line_of(1, &incremental(set.clone(), false)).says(&[
        "topic configs changed",
        r#"request="IncrementalAlterConfigs" count=1"#,
        r#"changes="orders retention.ms=default→1000 segment.bytes=default→1048577""#,
    ]);
    assert!(audited.lines_of(1, &incremental(set, false)).is_empty());
    let back = vec![edit("segment.bytes", 1, None)];
    let line = audited.line_of(1, &incremental(back, false));
    line.says(&["orders segment.bytes=1048577→default"]);
    let wrong = vec![edit("retention.ms", 0, Some("soon"))];
    assert!(audited.lines_of(1, &incremental(wrong, false)).is_empty());

    let replacement = AlterConfigsRequest {
        resources: vec![alter_configs::AlterConfigsResource {
            resource_type: 2,
            resource_name: "orders".to_owned(),
            configs: vec![alter_configs::AlterableConfig {
                name: "retention.bytes".to_owned(),
                value: Some("5".to_owned()),
            }],
        }],
        validate_only: false,
    };
    audited.line_of(2, &replacement).says(&[
        r#"request="AlterConfigs" count=1"#,
        r#"changes="orders retention.bytes=default→5 retention.ms=1000→default""#,
    ]);
}

#[test]
fn offsets_set_by_non_members_and_deleted_offsets_are_logged() {
    let mut audited = Audited::start();
    create(&mut audited.client, "orders", 2);
    audited.new_lines();
    let line = audited.line_of(8, &commit_request("g", "orders", &[5, 7]));
    line.says(&[
        "offsets set",
        r#"request="OffsetCommit" group="g" count=2 changes="orders-0 none→5, orders-1 none→7""#,
    ]);
    // Like progress of a consumer without group management.
    for offset in 8..20 {
        let progress = commit_request("g", "orders", &[5, offset]);
        assert!(audited.lines_of(8, &progress).is_empty());
    }
    let line = audited.line_of(8, &commit_request("g", "orders", &[1, 20]));
    line.says(&[r#"changes="orders-0 5→1, orders-1 19→20""#]);
    let absent = commit_request("g", "absent", &[1]);
    assert!(audited.lines_of(8, &absent).is_empty());

    let deletion = OffsetDeleteRequest {
        group_id: "g".to_owned(),
        topics: vec![OffsetDeleteRequestTopic {
            name: "orders".to_owned(),
            partitions: [0, 0, 9]
                .map(|partition_index| OffsetDeleteRequestPartition { partition_index })
                .into(),
        }],
    };
    let line = audited.line_of(0, &deletion);
    line.says(&["offsets deleted", r#"group="g""#, "orders-0 1→none"]);
    assert!(audited.lines_of(0, &deletion).is_empty());

    let odd = "a, b\n2026 INFO c";
    audited.lines_of(8, &commit_request(odd, "orders", &[1]));
    let deletion = DeleteGroupsRequest {
        groups_names: ["g", odd, "absent"].map(str::to_owned).into(),
    };
    let line = audited.line_of(2, &deletion);
    line.says(&[
        "groups deleted",
        r#"request="DeleteGroups" count=2 changes="g, "#,
    ]);
    line.says(&["2026 INFO c"]);
    assert!(audited.lines_of(2, &deletion).is_empty());
}

#[test]
fn commits_of_members_are_not_logged_and_resets_of_their_group_always_are() {
    let mut audited = Audited::with(&["--group-initial-rebalance-delay-ms", "0"]);
    create(&mut audited.client, "orders", 1);
    audited.new_lines();
    let join = JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        group_instance_id: Some("instance-1".to_owned()),
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: vec![0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff].into(),
        }],
        ..JoinGroupRequest::default()
    };
    let joined = audited.client.call(5, &join);
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let sync = SyncGroupRequest {
        group_id: "g".to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: Some("instance-1".to_owned()),
        ..SyncGroupRequest::default()
    };
    assert_eq!(audited.client.call(3, &sync).error_code, ErrorCode::NONE);
    let of_member = |offset| OffsetCommitRequest {
        generation_id_or_member_epoch: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..commit_request("g", "orders", &[offset])
    };
    for offset in [5, 3] {
        let answer = audited.client.call(8, &of_member(offset));
        assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    }
    assert!(audited.new_lines().is_empty());
    let reset = |offset| commit_request("g", "orders", &[offset]);
    assert!(audited.lines_of(8, &reset(9)).is_empty(), "it has members");

    let removal = LeaveGroupRequest {
        group_id: "g".to_owned(),
        members: vec![MemberIdentity {
            group_instance_id: Some("instance-1".to_owned()),
            ..MemberIdentity::default()
        }],
        ..LeaveGroupRequest::default()
    };
    audited.line_of(3, &removal).says(&[
        "members removed",
        r#"request="LeaveGroup" group="g" count=1 changes="instance-1""#,
    ]);
    for (from, to) in [(3, 6), (6, 9)] {
        let line = audited.line_of(8, &reset(to));
        line.says(&["offsets set", &format!("orders-0 {from}→{to}")]);
    }
}

#[test]
fn the_audit_log_has_a_target_of_its_own() {
    let mut quiet = Audited::with(&["--log-level", "info,streamline::audit=off"]);
    create(&mut quiet.client, "orders", 1);
    assert!(quiet.new_lines().is_empty());
    let mut alone = Audited::with(&["--log-level", "off,streamline::audit=info"]);
    create(&mut alone.client, "orders", 1);
    assert_eq!(alone.new_lines().len(), 1);
    assert_eq!(alone.server.log().lines().count(), 1);
}
