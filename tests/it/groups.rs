//! Consumer groups over the wire: every version of every group API, and real consumers that rebalance, restart and
//! resume.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use streamline::protocol::kafka::{ErrorCode, Request};
use streamline::protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use streamline::protocol::messages::delete_groups::DeleteGroupsRequest;
use streamline::protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use streamline::protocol::messages::describe_groups::DescribeGroupsRequest;
use streamline::protocol::messages::find_coordinator::FindCoordinatorRequest;
use streamline::protocol::messages::heartbeat::HeartbeatRequest;
use streamline::protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use streamline::protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use streamline::protocol::messages::list_groups::ListGroupsRequest;
use streamline::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use streamline::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use streamline::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use streamline::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};

use crate::support::{Client, PATIENCE, Server, until};

fn start() -> Server {
    Server::with(&["--group-initial-rebalance-delay-ms", "0"])
}

fn lag(server: &Server) -> Option<f64> {
    let labels = [("group", "g"), ("topic", "t"), ("partition", "0")];
    server.metrics().value("streamline_consumer_lag", &labels)
}

fn members(server: &Server) -> Option<f64> {
    let labels = [("group", "g")];
    server
        .metrics()
        .value("streamline_consumer_group_members", &labels)
}

fn active_groups(server: &Server) -> Option<f64> {
    server
        .metrics()
        .value("streamline_consumer_groups_total", &[])
}

/// Returns the version of an API for step `step` of a walk through all versions of all APIs.
fn version<R: Request>(step: i16) -> i16 {
    step.clamp(*R::VERSIONS.start(), *R::VERSIONS.end())
}

fn create_topic(wire: &mut Client, name: &str, partitions: i32) {
    let created = wire.call(
        7,
        &CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.into(),
                num_partitions: partitions,
                replication_factor: 1,
                ..CreatableTopic::default()
            }],
            timeout_ms: 10_000,
            ..CreateTopicsRequest::default()
        },
    );
    assert_eq!(created.topics[0].error_code, ErrorCode::NONE);
}

fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend([0xff; 4]);
    bytes.into()
}

fn join_request(group: &str, member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: subscription(&["t"]),
        }],
        ..JoinGroupRequest::default()
    }
}

/// Joins as a new member in the given version, a second time with the assigned id if the version requires it.
fn join(wire: &mut Client, version: i16, group: &str) -> JoinGroupResponse {
    let mut request = join_request(group, "");
    if version == 0 {
        request.rebalance_timeout_ms = -1;
    }
    let first = wire.call(version, &request);
    if version < 4 {
        return first;
    }
    assert_eq!(first.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    assert!(first.member_id.len() > 36, "{:?}", first.member_id);
    assert_eq!(first.generation_id, -1);
    request.member_id = first.member_id;
    wire.call(version, &request)
}

fn sync_request(group: &str, joined: &JoinGroupResponse, version: i16) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: (version >= 5).then(|| "consumer".into()),
        protocol_name: (version >= 5).then(|| "range".into()),
        assignments: joined
            .members
            .iter()
            .map(|member| SyncGroupRequestAssignment {
                member_id: member.member_id.clone(),
                assignment: Bytes::from(format!("for {}", member.member_id)),
            })
            .collect(),
        ..SyncGroupRequest::default()
    }
}

fn commit_request(
    group: &str,
    joined: Option<&JoinGroupResponse>,
    offset: i64,
) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: joined.map_or(-1, |joined| joined.generation_id),
        member_id: joined.map_or_else(String::new, |joined| joined.member_id.clone()),
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: [0, 9]
                .map(|partition_index| OffsetCommitRequestPartition {
                    partition_index,
                    committed_offset: offset,
                    committed_metadata: Some("note".into()),
                    ..OffsetCommitRequestPartition::default()
                })
                .to_vec(),
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

fn commit_errors(wire: &mut Client, version: i16, request: &OffsetCommitRequest) -> Vec<ErrorCode> {
    wire.call(version, request).topics[0]
        .partitions
        .iter()
        .map(|partition| partition.error_code)
        .collect()
}

/// Returns the committed offsets of partitions 0 and 1 of `t`, with metadata, requested in the given version.
fn fetch(wire: &mut Client, version: i16, group: &str) -> Vec<(i32, i64, Option<String>)> {
    let response = wire.call(
        version,
        &if version >= 8 {
            OffsetFetchRequest {
                groups: vec![OffsetFetchRequestGroup {
                    group_id: group.into(),
                    topics: Some(vec![OffsetFetchRequestTopics {
                        name: "t".into(),
                        partition_indexes: vec![0, 1],
                        ..OffsetFetchRequestTopics::default()
                    }]),
                    ..OffsetFetchRequestGroup::default()
                }],
                ..OffsetFetchRequest::default()
            }
        } else {
            OffsetFetchRequest {
                group_id: group.into(),
                topics: Some(vec![OffsetFetchRequestTopics {
                    name: "t".into(),
                    partition_indexes: vec![0, 1],
                    ..OffsetFetchRequestTopics::default()
                }]),
                ..OffsetFetchRequest::default()
            }
        },
    );
    if version >= 8 {
        assert_eq!(response.groups[0].group_id, group);
        response.groups[0].topics[0]
            .partitions
            .iter()
            .map(|p| (p.partition_index, p.committed_offset, p.metadata.clone()))
            .collect()
    } else {
        response.topics[0]
            .partitions
            .iter()
            .map(|p| (p.partition_index, p.committed_offset, p.metadata.clone()))
            .collect()
    }
}

fn state(wire: &mut Client, group: &str) -> String {
    let described = wire.call(
        5,
        &DescribeGroupsRequest {
            groups: vec![group.into()],
            ..DescribeGroupsRequest::default()
        },
    );
    described.groups[0].group_state.clone()
}

fn leave_request(group: &str, member_id: &str, version: i16) -> LeaveGroupRequest {
    if version < 3 {
        return LeaveGroupRequest {
            group_id: group.into(),
            member_id: member_id.into(),
            ..LeaveGroupRequest::default()
        };
    }
    LeaveGroupRequest {
        group_id: group.into(),
        members: vec![MemberIdentity {
            member_id: member_id.into(),
            ..MemberIdentity::default()
        }],
        ..LeaveGroupRequest::default()
    }
}

#[test]
fn the_coordinator_is_found_in_every_version() {
    let server = start();
    let mut wire = server.connect();
    let port = i32::from(server.kafka_addr().port());
    for version in FindCoordinatorRequest::VERSIONS {
        let batched = version >= 4;
        let found = wire.call(
            version,
            &FindCoordinatorRequest {
                key: if batched { String::new() } else { "g".into() },
                coordinator_keys: if batched {
                    vec!["g".into(), "h".into()]
                } else {
                    Vec::new()
                },
                ..FindCoordinatorRequest::default()
            },
        );
        if batched {
            assert_eq!(found.coordinators.len(), 2);
            for (coordinator, key) in found.coordinators.iter().zip(["g", "h"]) {
                assert_eq!(coordinator.key, key);
                assert_eq!(coordinator.error_code, ErrorCode::NONE);
                assert_eq!(coordinator.error_message.as_deref(), Some(""));
                assert_eq!((coordinator.node_id, coordinator.port), (1, port));
                assert_eq!(coordinator.host, "127.0.0.1");
            }
        } else {
            assert_eq!(found.error_code, ErrorCode::NONE);
            if version >= 1 {
                // Tests of clients check Kafka's text.
                assert_eq!(found.error_message.as_deref(), Some("NONE"));
            }
            assert_eq!((found.node_id, found.port), (1, port));
            assert_eq!(found.host, "127.0.0.1");
        }
    }
    let transactional = wire.call(
        3,
        &FindCoordinatorRequest {
            key: "tx".into(),
            key_type: 1,
            ..FindCoordinatorRequest::default()
        },
    );
    assert_eq!(transactional.error_code, ErrorCode::NONE);
    assert_eq!((transactional.node_id, transactional.port), (1, port));
}

#[test]
fn a_member_joins_syncs_commits_and_leaves_in_every_version() {
    let server = start();
    let mut wire = server.connect();
    create_topic(&mut wire, "t", 2);
    let highest = *JoinGroupRequest::VERSIONS.end();
    for step in 0..=highest {
        let group = &format!("g-{step}");
        let joined = join(&mut wire, version::<JoinGroupRequest>(step), group);
        assert_eq!(joined.error_code, ErrorCode::NONE, "{step}");
        assert_eq!(joined.generation_id, 1);
        assert_eq!(joined.leader, joined.member_id);
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(joined.members.len(), 1);
        assert_eq!(joined.members[0].metadata, subscription(&["t"]));

        let sync = version::<SyncGroupRequest>(step);
        let synced = wire.call(sync, &sync_request(group, &joined, sync));
        assert_eq!(synced.error_code, ErrorCode::NONE);
        let assignment = format!("for {}", joined.member_id);
        assert_eq!(synced.assignment, assignment);

        let mut heartbeat = HeartbeatRequest {
            group_id: group.clone(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            ..HeartbeatRequest::default()
        };
        let beat = version::<HeartbeatRequest>(step);
        assert_eq!(wire.call(beat, &heartbeat).error_code, ErrorCode::NONE);
        heartbeat.generation_id += 1;
        assert_eq!(
            wire.call(beat, &heartbeat).error_code,
            ErrorCode::ILLEGAL_GENERATION
        );

        let commit = version::<OffsetCommitRequest>(step);
        let offset = i64::from(step) + 10;
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        assert_eq!(
            commit_errors(
                &mut wire,
                commit,
                &commit_request(group, Some(&joined), offset)
            ),
            [ErrorCode::NONE, unknown]
        );
        assert_eq!(
            fetch(&mut wire, version::<OffsetFetchRequest>(step), group),
            [
                (0, offset, Some("note".into())),
                (1, -1, Some(String::new()))
            ]
        );

        let list = version::<ListGroupsRequest>(step);
        let listed = wire.call(list, &ListGroupsRequest::default());
        let listed = listed.groups.iter().find(|g| g.group_id == *group).unwrap();
        assert_eq!(listed.protocol_type, "consumer");
        assert_eq!(listed.group_state, if list >= 4 { "Stable" } else { "" });
        assert_eq!(listed.group_type, if list >= 5 { "classic" } else { "" });

        let describe = version::<DescribeGroupsRequest>(step);
        let described = wire.call(
            describe,
            &DescribeGroupsRequest {
                groups: vec![group.clone(), "absent".into()],
                include_authorized_operations: describe >= 3,
            },
        );
        let (present, absent) = (&described.groups[0], &described.groups[1]);
        assert_eq!(present.group_state, "Stable");
        assert_eq!(present.protocol_data, "range");
        assert_eq!(present.members[0].member_id, joined.member_id);
        assert_eq!(present.members[0].client_host, "/127.0.0.1");
        assert_eq!(present.members[0].member_assignment, assignment);
        assert_eq!(present.authorized_operations > 0, describe >= 3);
        assert_eq!(absent.group_state, "Dead");
        let not_found = absent.error_code == ErrorCode::GROUP_ID_NOT_FOUND;
        assert_eq!(not_found, describe >= 6);

        let delete = version::<DeleteGroupsRequest>(step);
        let deletion = DeleteGroupsRequest {
            groups_names: vec![group.clone()],
        };
        let results = wire.call(delete, &deletion).results;
        assert_eq!(results[0].error_code, ErrorCode::NON_EMPTY_GROUP);

        let leave = version::<LeaveGroupRequest>(step);
        let request = leave_request(group, &joined.member_id, leave);
        for expected in [ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID] {
            let left = wire.call(leave, &request);
            if leave >= 3 {
                assert_eq!(left.error_code, ErrorCode::NONE);
                assert_eq!(left.members[0].error_code, expected);
            } else {
                assert_eq!(left.error_code, expected);
            }
        }
        assert_eq!(state(&mut wire, group), "Empty");

        let results = wire.call(delete, &deletion).results;
        assert_eq!(results[0].error_code, ErrorCode::NONE);
        let results = wire.call(delete, &deletion).results;
        assert_eq!(results[0].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
        let fetched = fetch(&mut wire, version::<OffsetFetchRequest>(step), group);
        assert_eq!(fetched[0].1, -1);
    }
}

#[test]
fn two_members_of_any_version_share_a_group() {
    let server = start();
    for version in [0, 3, 5, 9] {
        let group = &format!("g-{version}");
        let mut first = server.connect();
        let mut second = server.connect();
        let leader = join(&mut first, version, group);
        let beat = HeartbeatRequest {
            group_id: group.clone(),
            generation_id: leader.generation_id,
            member_id: leader.member_id.clone(),
            ..HeartbeatRequest::default()
        };
        let sync = version.min(5);
        first.call(sync, &sync_request(group, &leader, sync));
        let joining = std::thread::spawn({
            let group = group.clone();
            move || {
                let joined = join(&mut second, version, &group);
                (second, joined)
            }
        });
        until("the rebalance has begun", || {
            first.call(0, &beat).error_code != ErrorCode::NONE
        });
        assert_eq!(
            first.call(0, &beat).error_code,
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        let leader = first.call(version, &join_request(group, &leader.member_id));
        let (mut second, follower) = joining.join().unwrap();
        assert_eq!((leader.generation_id, follower.generation_id), (2, 2));
        assert_eq!(leader.members.len(), 2);
        assert_eq!(follower.leader, leader.member_id);
        // The follower syncs first and waits for the leader.
        second.send(sync, &sync_request(group, &follower, sync));
        first.call(sync, &sync_request(group, &leader, sync));
        let (_, synced) = second.receive::<SyncGroupRequest>(sync);
        assert_eq!(synced.assignment, format!("for {}", follower.member_id));
        // Old generations and non-members cannot commit.
        let commit = |generation_id_or_member_epoch| OffsetCommitRequest {
            generation_id_or_member_epoch,
            ..commit_request(group, Some(&leader), 1)
        };
        let errors = commit_errors(&mut first, 8, &commit(1));
        assert_eq!(errors[0], ErrorCode::ILLEGAL_GENERATION);
        let errors = commit_errors(&mut first, 8, &commit_request(group, None, 1));
        assert_eq!(errors[0], ErrorCode::UNKNOWN_MEMBER_ID);
    }
}

#[test]
fn committed_offsets_expire_at_the_next_retention_check() {
    let server = Server::with(&["--offsets-retention-check-interval-ms", "20"]);
    let mut wire = server.connect();
    create_topic(&mut wire, "t", 2);
    // Only these versions have a retention.
    for version in 2..=4 {
        let request = OffsetCommitRequest {
            retention_time_ms: 1,
            ..commit_request("short", None, 7)
        };
        assert_eq!(
            commit_errors(&mut wire, version, &request)[0],
            ErrorCode::NONE
        );
        assert_eq!(
            commit_errors(&mut wire, version, &commit_request("long", None, 7))[0],
            ErrorCode::NONE
        );
        until("the offset is gone", || {
            fetch(&mut wire, 7, "short")[0].1 == -1
        });
        assert_eq!(fetch(&mut wire, 7, "long")[0].1, 7);
    }
}

#[test]
fn commits_into_groups_that_do_not_exist_are_answered_by_version() {
    let server = start();
    let mut wire = server.connect();
    create_topic(&mut wire, "t", 2);
    // From version 10 on, topics have ids instead of names.
    for version in 2..=9 {
        let request = OffsetCommitRequest {
            generation_id_or_member_epoch: 3,
            member_id: "someone".into(),
            ..commit_request("absent", None, 1)
        };
        let expected = match version {
            9.. => ErrorCode::GROUP_ID_NOT_FOUND,
            _ => ErrorCode::ILLEGAL_GENERATION,
        };
        assert_eq!(commit_errors(&mut wire, version, &request)[0], expected);
        // A consumer without group management creates the group.
        let group = format!("simple-{version}");
        let request = commit_request(&group, None, 5);
        assert_eq!(
            commit_errors(&mut wire, version, &request)[0],
            ErrorCode::NONE
        );
        assert_eq!(state(&mut wire, &group), "Empty");
    }
    let mut large = commit_request("simple", None, 5);
    large.topics[0].partitions[0].committed_metadata = Some("x".repeat(4097));
    assert_eq!(
        commit_errors(&mut wire, 8, &large)[0],
        ErrorCode::OFFSET_METADATA_TOO_LARGE
    );
}

#[test]
fn all_offsets_of_a_group_can_be_requested_at_once() {
    let server = start();
    let mut wire = server.connect();
    create_topic(&mut wire, "t", 2);
    commit_errors(&mut wire, 8, &commit_request("a", None, 5));
    for version in 2..=7 {
        let all = wire.call(
            version,
            &OffsetFetchRequest {
                group_id: "a".into(),
                topics: None,
                ..OffsetFetchRequest::default()
            },
        );
        assert_eq!(all.error_code, ErrorCode::NONE);
        assert_eq!(all.topics.len(), 1);
        assert_eq!(all.topics[0].partitions[0].committed_offset, 5);
    }
    for version in 8..=9 {
        let all = |group: &str| OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: None,
            ..OffsetFetchRequestGroup::default()
        };
        let fetched = wire.call(
            version,
            &OffsetFetchRequest {
                groups: vec![all("a"), all("absent")],
                require_stable: true,
                ..OffsetFetchRequest::default()
            },
        );
        assert_eq!(
            fetched.groups[0].topics[0].partitions[0].committed_offset,
            5
        );
        assert_eq!(fetched.groups[1].error_code, ErrorCode::NONE);
        assert!(fetched.groups[1].topics.is_empty());
    }
}

#[test]
fn offsets_are_deleted_unless_the_group_is_subscribed_to_their_topic() {
    let server = start();
    let mut wire = server.connect();
    create_topic(&mut wire, "t", 2);
    create_topic(&mut wire, "u", 1);
    let joined = join(&mut wire, 9, "g");
    wire.call(5, &sync_request("g", &joined, 5));
    let mut commit = commit_request("g", Some(&joined), 5);
    commit.topics.push(OffsetCommitRequestTopic {
        name: "u".into(),
        partitions: vec![OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: 6,
            ..OffsetCommitRequestPartition::default()
        }],
        ..OffsetCommitRequestTopic::default()
    });
    wire.call(9, &commit);
    let deletion = |group: &str| OffsetDeleteRequest {
        group_id: group.into(),
        topics: ["t", "u", "absent"]
            .map(|name| OffsetDeleteRequestTopic {
                name: name.into(),
                partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
            })
            .to_vec(),
    };
    let deleted = wire.call(0, &deletion("g"));
    assert_eq!(deleted.error_code, ErrorCode::NONE);
    let errors: Vec<_> = deleted
        .topics
        .iter()
        .map(|topic| topic.partitions[0].error_code)
        .collect();
    assert_eq!(
        errors,
        [
            ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
            ErrorCode::NONE,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        ]
    );
    let absent = wire.call(0, &deletion("absent"));
    assert_eq!(absent.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(fetch(&mut wire, 9, "g")[0].1, 5);
}

#[test]
fn deleting_a_topic_removes_its_offsets_and_lag() {
    let server = start();
    let mut wire = server.connect();
    create_topic(&mut wire, "t", 2);
    commit_errors(&mut wire, 8, &commit_request("g", None, 0));
    assert_eq!(lag(&server), Some(0.0));
    let deletion = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some("t".into()),
            ..DeleteTopicState::default()
        }],
        timeout_ms: 10_000,
        ..DeleteTopicsRequest::default()
    };
    let deleted = wire.call(6, &deletion);
    assert_eq!(deleted.responses[0].error_code, ErrorCode::NONE);
    create_topic(&mut wire, "t", 2);
    assert_eq!(fetch(&mut wire, 9, "g")[0].1, -1);
    assert_eq!(lag(&server), None);
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let server = start();
    let mut wire = server.connect();
    create_topic(&mut wire, "t", 1);
    commit_errors(&mut wire, 8, &commit_request("empty", None, 1));
    let joined = join(&mut wire, 9, "stable");
    wire.call(5, &sync_request("stable", &joined, 5));
    let mut list = |states: &[&str], types: &[&str]| -> Vec<String> {
        let listed = wire.call(
            5,
            &ListGroupsRequest {
                states_filter: states.iter().map(|&s| s.into()).collect(),
                types_filter: types.iter().map(|&t| t.into()).collect(),
            },
        );
        listed.groups.into_iter().map(|g| g.group_id).collect()
    };
    assert_eq!(list(&[], &[]), ["empty", "stable"]);
    assert_eq!(list(&["stable"], &[]), ["stable"]);
    assert_eq!(list(&["Empty", "Dead"], &["classic"]), ["empty"]);
    assert_eq!(list(&[], &["consumer"]), [] as [&str; 0]);
}

#[test]
fn a_static_member_is_fenced_by_its_successor() {
    let server = start();
    let mut wire = server.connect();
    for version in 5..=9 {
        let group = &format!("g-{version}");
        let request = JoinGroupRequest {
            group_instance_id: Some("i".into()),
            ..join_request(group, "")
        };
        let old = wire.call(version, &request);
        assert_eq!(old.error_code, ErrorCode::NONE);
        let mut sync = sync_request(group, &old, 5);
        sync.group_instance_id = Some("i".into());
        let before = wire.call(5, &sync).assignment;
        let new = wire.call(version, &request);
        assert_eq!(new.generation_id, old.generation_id);
        assert_ne!(new.member_id, old.member_id);
        assert_eq!(new.skip_assignment, version >= 9);
        sync.assignments.clear();
        assert_eq!(
            wire.call(5, &sync).error_code,
            ErrorCode::FENCED_INSTANCE_ID
        );
        sync.member_id.clone_from(&new.member_id);
        assert_eq!(wire.call(5, &sync).assignment, before);
        // An operator removes it by its instance id.
        let left = wire.call(
            5,
            &LeaveGroupRequest {
                group_id: group.clone(),
                members: vec![MemberIdentity {
                    group_instance_id: Some("i".into()),
                    ..MemberIdentity::default()
                }],
                ..LeaveGroupRequest::default()
            },
        );
        assert_eq!(left.members[0].error_code, ErrorCode::NONE);
    }
}

#[test]
fn a_member_that_disappears_is_removed_at_its_session_timeout() {
    let server = Server::with(&[
        "--group-initial-rebalance-delay-ms",
        "0",
        "--group-min-session-timeout-ms",
        "100",
    ]);
    let mut wire = server.connect();
    let request = JoinGroupRequest {
        session_timeout_ms: 200,
        ..join_request("g", "")
    };
    let joined = wire.call(3, &request);
    wire.call(3, &sync_request("g", &joined, 3));
    assert_eq!(active_groups(&server), Some(1.0));
    until("the group is empty", || state(&mut wire, "g") == "Empty");
    assert_eq!(active_groups(&server), Some(0.0));
    let refused = wire.call(
        3,
        &JoinGroupRequest {
            session_timeout_ms: 99,
            ..join_request("g", "")
        },
    );
    assert_eq!(refused.error_code, ErrorCode::INVALID_SESSION_TIMEOUT);
}

// ---- real consumers ----

/// Counts assignments of partitions to a consumer.
#[derive(Clone, Default)]
struct Rebalances(Arc<AtomicUsize>);

impl ClientContext for Rebalances {}

impl ConsumerContext for Rebalances {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

struct Reader {
    consumer: BaseConsumer<Rebalances>,
    rebalances: Rebalances,
}

impl Reader {
    fn new(server: &Server, group: &str, settings: &[(&str, &str)]) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", server.kafka_addr().to_string())
            .set("group.id", group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("heartbeat.interval.ms", "100")
            .set("reconnect.backoff.max.ms", "200")
            .set("topic.metadata.refresh.interval.ms", "500");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let rebalances = Rebalances::default();
        let consumer: BaseConsumer<Rebalances> =
            config.create_with_context(rebalances.clone()).unwrap();
        consumer.subscribe(&["t"]).unwrap();
        Self {
            consumer,
            rebalances,
        }
    }

    fn partitions(&self) -> BTreeSet<i32> {
        let assigned = self.consumer.assignment().unwrap();
        assigned.elements().iter().map(|e| e.partition()).collect()
    }

    /// Polls the client, and stores the record if there is one.
    fn poll(&self) -> Option<String> {
        let record = self.consumer.poll(Duration::from_millis(20))?.ok()?;
        Some(record.payload_view::<str>()?.unwrap().to_string())
    }

    fn read(&self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        until("the records are read", || {
            texts.extend(self.poll());
            texts.len() >= count
        });
        texts
    }
}

/// Polls all readers until the condition holds.
#[track_caller]
fn poll_until(readers: &[&Reader], what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || {
        for reader in readers {
            reader.poll();
        }
        condition()
    });
}

fn produce(server: &Server, partition: i32, texts: &[String]) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", server.kafka_addr().to_string())
        .create()
        .unwrap();
    for text in texts {
        producer
            .send(
                BaseRecord::<(), str>::to("t")
                    .partition(partition)
                    .payload(text),
            )
            .map_err(|(error, _)| error)
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

fn texts(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{name}-{n}")).collect()
}

#[test]
fn consumers_share_partitions_and_take_over_from_those_that_leave() {
    for assignor in ["range", "cooperative-sticky"] {
        let server = start();
        create_topic(&mut server.connect(), "t", 4);
        let settings = [("partition.assignment.strategy", assignor)];
        let all = BTreeSet::from([0, 1, 2, 3]);
        let first = Reader::new(&server, "g", &settings);
        poll_until(&[&first], "the first has all", || first.partitions() == all);
        let second = Reader::new(&server, "g", &settings);
        poll_until(&[&first, &second], "each has its half", || {
            let (a, b) = (first.partitions(), second.partitions());
            a.len() == 2 && b.len() == 2 && a.is_disjoint(&b)
        });
        assert_eq!(members(&server), Some(2.0));
        drop(first);
        poll_until(&[&second], "the second takes over", || {
            second.partitions() == all
        });
        assert_eq!(members(&server), Some(1.0));
    }
}

#[test]
fn consumers_resume_where_they_committed_after_the_server_was_killed() {
    let mut server = start();
    create_topic(&mut server.connect(), "t", 1);
    produce(&server, 0, &texts("before", 10));
    // The departure of a member may be lost in a crash: the group may wait for it until its session ends.
    let settings = [("session.timeout.ms", "6000")];
    let reader = Reader::new(&server, "g", &settings);
    assert_eq!(reader.read(10), texts("before", 10));
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset("t", 0, Offset::Offset(7))
        .unwrap();
    reader.consumer.commit(&offsets, CommitMode::Sync).unwrap();
    assert_eq!(lag(&server), Some(3.0));
    drop(reader);

    server.kill9();
    server.restart();
    assert_eq!(lag(&server), Some(3.0), "true at the first scrape");
    let reader = Reader::new(&server, "g", &settings);
    assert_eq!(reader.read(3), texts("before", 10)[7..]);
}

#[test]
fn members_survive_a_restart_of_the_server_without_a_rebalance() {
    let mut server = start();
    create_topic(&mut server.connect(), "t", 2);
    let reader = Reader::new(&server, "g", &[]);
    poll_until(&[&reader], "it has both", || reader.partitions().len() == 2);
    // The address known to its clients.
    let addr = server.kafka_addr().to_string();
    server.set_flags(&["--listen-addr", &addr]);
    assert_eq!(server.terminate().code(), Some(0));
    server.restart();
    produce(&server, 1, &texts("after", 3));
    assert_eq!(reader.read(3), texts("after", 3));
    reader
        .consumer
        .commit_consumer_state(CommitMode::Sync)
        .unwrap();
    assert_eq!(reader.rebalances.0.load(Ordering::SeqCst), 1);
}

#[test]
fn a_restart_of_a_static_consumer_causes_no_rebalance() {
    let server = start();
    create_topic(&mut server.connect(), "t", 2);
    let first = Reader::new(&server, "g", &[("group.instance.id", "a")]);
    let second = Reader::new(&server, "g", &[("group.instance.id", "b")]);
    poll_until(&[&first, &second], "each has one", || {
        first.partitions().len() == 1 && second.partitions().len() == 1
    });
    let (before, seen) = (
        second.partitions(),
        first.rebalances.0.load(Ordering::SeqCst),
    );
    drop(second);
    let second = Reader::new(&server, "g", &[("group.instance.id", "b")]);
    poll_until(&[&first, &second], "the second is back", || {
        second.partitions() == before
    });
    assert_eq!(first.rebalances.0.load(Ordering::SeqCst), seen);
    assert_eq!(second.rebalances.0.load(Ordering::SeqCst), 1);
}
