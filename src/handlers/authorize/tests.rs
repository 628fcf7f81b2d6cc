//! Every API of the table asks for the operations that Kafka 4 requires of it, and answers a denial with Kafka's code.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use super::*;
use crate::broker::{Authorizer, Principal};
use crate::handlers::APIS;
use crate::handlers::harness::{TOPIC, connect, exchange, open};
use crate::protocol::kafka::{ApiKey, Request};
use crate::protocol::messages::alter_configs::{AlterConfigsRequest, AlterConfigsResource};
use crate::protocol::messages::api_versions::ApiVersionsRequest;
use crate::protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use crate::protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use crate::protocol::messages::delete_groups::DeleteGroupsRequest;
use crate::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use crate::protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use crate::protocol::messages::describe_cluster::DescribeClusterRequest;
use crate::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use crate::protocol::messages::describe_groups::DescribeGroupsRequest;
use crate::protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use crate::protocol::messages::describe_producers::{DescribeProducersRequest, TopicRequest};
use crate::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use crate::protocol::messages::find_coordinator::FindCoordinatorRequest;
use crate::protocol::messages::heartbeat::HeartbeatRequest;
use crate::protocol::messages::incremental_alter_configs::{self, IncrementalAlterConfigsRequest};
use crate::protocol::messages::init_producer_id::InitProducerIdRequest;
use crate::protocol::messages::join_group::JoinGroupRequest;
use crate::protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use crate::protocol::messages::list_groups::ListGroupsRequest;
use crate::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use crate::protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use crate::protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use crate::protocol::messages::sasl_handshake::SaslHandshakeRequest;
use crate::protocol::messages::sync_group::SyncGroupRequest;

const TOPIC_DENIED: ErrorCode = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
const GROUP_DENIED: ErrorCode = ErrorCode::GROUP_AUTHORIZATION_FAILED;
const CLUSTER_DENIED: ErrorCode = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;

const GROUP: &str = "billing";

/// Numbers of the resource types in DescribeConfigs and AlterConfigs.
const TOPIC_CONFIGS: i8 = 2;
const BROKER_CONFIGS: i8 = 4;

/// Denies operations by a rule, and records what it was asked.
struct Rules {
    denies: fn(Operation, Resource<'_>) -> bool,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Authorizer for Rules {
    fn allows(
        &self,
        principal: &Principal,
        host: IpAddr,
        operation: Operation,
        resource: Resource<'_>,
    ) -> bool {
        assert_eq!(principal.to_string(), "User:ANONYMOUS");
        assert!(host.is_loopback());
        self.asked
            .lock()
            .push(format!("{operation:?} {resource:?}"));
        !(self.denies)(operation, resource)
    }
}

/// A client of a broker with rules.
struct Client {
    session: Arc<Session>,
    asked: Arc<Mutex<Vec<String>>>,
    _dir: tempfile::TempDir,
}

impl Client {
    async fn denied(denies: fn(Operation, Resource<'_>) -> bool) -> Client {
        let dir = tempfile::tempdir().unwrap();
        let mut broker = open(&dir).await;
        let asked = Arc::default();
        let rules = Rules {
            denies,
            asked: Arc::clone(&asked),
        };
        Arc::get_mut(&mut broker).unwrap().authorizer = Some(Box::new(rules));
        Client {
            session: connect(&broker),
            asked,
            _dir: dir,
        }
    }

    async fn send<R: Request>(&self, request: R) -> R::Response {
        self.send_version(*R::VERSIONS.end(), request).await
    }

    async fn send_version<R: Request>(&self, version: i16, request: R) -> R::Response {
        exchange(&self.session, version, &request).await.0
    }

    /// Returns what was asked since the last call.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock())
    }

    /// Sends a request of an API that every rule denies, and returns what has to be asked, the error codes that must be in
    /// the response, and those that are.
    async fn deny(&self, api: ApiKey) -> (&[&str], Vec<ErrorCode>, Vec<ErrorCode>) {
        let topic = || TOPIC.to_owned();
        let group = || GROUP.to_owned();
        let topic_id = self.session.broker.topics.get(TOPIC).unwrap().id();
        match api {
            ApiKey::Produce => {
                let response = self.send(ProduceRequest {
                    acks: 1,
                    topic_data: vec![TopicProduceData {
                        topic_id,
                        partition_data: vec![PartitionProduceData::default()],
                        ..TopicProduceData::default()
                    }],
                    ..ProduceRequest::default()
                });
                let codes = response.await.responses;
                let codes = codes.iter().flat_map(|it| &it.partition_responses);
                let codes = codes.map(|it| it.error_code).collect();
                (&["Write Topic(\"orders\")"], vec![TOPIC_DENIED], codes)
            }
            ApiKey::Fetch => {
                let response = self.send(FetchRequest {
                    topics: vec![FetchTopic {
                        topic_id,
                        partitions: vec![FetchPartition::default()],
                        ..FetchTopic::default()
                    }],
                    ..FetchRequest::default()
                });
                let codes = response.await.responses;
                let codes = codes.iter().flat_map(|it| &it.partitions);
                let codes = codes.map(|it| it.error_code).collect();
                (&["Read Topic(\"orders\")"], vec![TOPIC_DENIED], codes)
            }
            ApiKey::ListOffsets => {
                let response = self.send(ListOffsetsRequest {
                    topics: vec![ListOffsetsTopic {
                        name: topic(),
                        partitions: vec![ListOffsetsPartition::default()],
                    }],
                    ..ListOffsetsRequest::default()
                });
                let codes = response.await.topics;
                let codes = codes.iter().flat_map(|it| &it.partitions);
                let codes = codes.map(|it| it.error_code).collect();
                (&["Describe Topic(\"orders\")"], vec![TOPIC_DENIED], codes)
            }
            ApiKey::Metadata => {
                let response = self.send(MetadataRequest {
                    topics: Some(vec![
                        MetadataRequestTopic {
                            topic_id,
                            name: None,
                        },
                        MetadataRequestTopic {
                            name: Some("new".to_owned()),
                            ..MetadataRequestTopic::default()
                        },
                    ]),
                    ..MetadataRequest::default()
                });
                let codes = response.await.topics;
                let codes = codes.iter().map(|it| it.error_code).collect();
                (
                    &["Describe Topic(\"orders\")", "Describe Topic(\"new\")"],
                    vec![TOPIC_DENIED; 2],
                    codes,
                )
            }
            ApiKey::ApiVersions => {
                let response = self.send(ApiVersionsRequest {
                    client_software_name: "test".to_owned(),
                    client_software_version: "1".to_owned(),
                });
                (&[], vec![ErrorCode::NONE], vec![response.await.error_code])
            }
            ApiKey::SaslHandshake => {
                let response = self.send(SaslHandshakeRequest::default()).await;
                let refused = vec![ErrorCode::ILLEGAL_SASL_STATE];
                (&[], refused, vec![response.error_code])
            }
            ApiKey::Heartbeat => {
                let response = self.send(HeartbeatRequest {
                    group_id: group(),
                    ..HeartbeatRequest::default()
                });
                let codes = vec![response.await.error_code];
                (&["Read Group(\"billing\")"], vec![GROUP_DENIED], codes)
            }
            ApiKey::OffsetCommit => {
                let codes = self.commit(&[TOPIC]).await;
                (&["Read Group(\"billing\")"], vec![GROUP_DENIED], codes)
            }
            ApiKey::OffsetFetch => {
                let codes = self.fetch_offsets().await;
                (&["Describe Group(\"billing\")"], vec![GROUP_DENIED], codes)
            }
            ApiKey::OffsetDelete => {
                let codes = self.delete_offsets(&[TOPIC]).await;
                (&["Delete Group(\"billing\")"], vec![GROUP_DENIED], codes)
            }
            ApiKey::FindCoordinator => {
                let response = self.send(FindCoordinatorRequest {
                    coordinator_keys: vec![group()],
                    ..FindCoordinatorRequest::default()
                });
                let codes = response.await.coordinators;
                let codes = codes.iter().map(|it| it.error_code).collect();
                (&["Describe Group(\"billing\")"], vec![GROUP_DENIED], codes)
            }
            ApiKey::JoinGroup => {
                let response = self.send(JoinGroupRequest {
                    group_id: group(),
                    ..JoinGroupRequest::default()
                });
                let codes = vec![response.await.error_code];
                (&["Read Group(\"billing\")"], vec![GROUP_DENIED], codes)
            }
            ApiKey::SyncGroup => {
                let response = self.send(SyncGroupRequest {
                    group_id: group(),
                    protocol_type: Some("consumer".to_owned()),
                    protocol_name: Some("range".to_owned()),
                    ..SyncGroupRequest::default()
                });
                let codes = vec![response.await.error_code];
                (&["Read Group(\"billing\")"], vec![GROUP_DENIED], codes)
            }
            ApiKey::LeaveGroup => {
                let response = self.send(LeaveGroupRequest {
                    group_id: group(),
                    members: vec![MemberIdentity::default()],
                    ..LeaveGroupRequest::default()
                });
                let codes = vec![response.await.error_code];
                (&["Read Group(\"billing\")"], vec![GROUP_DENIED], codes)
            }
            ApiKey::ListGroups => {
                let response = self.send(ListGroupsRequest::default()).await;
                assert!(response.groups.is_empty(), "{response:?}");
                let codes = vec![response.error_code];
                (&["Describe Cluster"], vec![ErrorCode::NONE], codes)
            }
            ApiKey::DescribeGroups => {
                let response = self.send(DescribeGroupsRequest {
                    groups: vec![group()],
                    include_authorized_operations: true,
                });
                let codes = response.await.groups;
                let codes = codes.iter().map(|it| it.error_code).collect();
                (&["Describe Group(\"billing\")"], vec![GROUP_DENIED], codes)
            }
            ApiKey::DeleteGroups => {
                let response = self.send(DeleteGroupsRequest {
                    groups_names: vec![group()],
                });
                let codes = response.await.results;
                let codes = codes.iter().map(|it| it.error_code).collect();
                (&["Delete Group(\"billing\")"], vec![GROUP_DENIED], codes)
            }
            ApiKey::CreateTopics => {
                let response = self.create_topic("new");
                let codes = vec![response.await.0];
                (
                    &["Create Cluster", "Create Topic(\"new\")"],
                    vec![TOPIC_DENIED],
                    codes,
                )
            }
            ApiKey::DeleteTopics => {
                let asked = [(None, topic_id), (Some("other"), Uuid::nil())];
                let results = self.delete_topics(asked).await;
                assert_eq!(results[0].0, None, "the name of a topic is disclosed");
                let codes = results.map(|(_, code)| code).into();
                (
                    &[
                        "Delete Cluster",
                        "Delete Topic(\"orders\")",
                        "Describe Topic(\"orders\")",
                        "Describe Topic(\"other\")",
                    ],
                    vec![TOPIC_DENIED; 2],
                    codes,
                )
            }
            ApiKey::CreatePartitions => {
                let response = self.send(CreatePartitionsRequest {
                    topics: vec![CreatePartitionsTopic {
                        name: topic(),
                        count: 2,
                        assignments: None,
                    }],
                    ..CreatePartitionsRequest::default()
                });
                let codes = response.await.results;
                let codes = codes.iter().map(|it| it.error_code).collect();
                (&["Alter Topic(\"orders\")"], vec![TOPIC_DENIED], codes)
            }
            ApiKey::DeleteRecords => {
                let response = self.send(DeleteRecordsRequest {
                    topics: vec![DeleteRecordsTopic {
                        name: topic(),
                        partitions: vec![DeleteRecordsPartition::default()],
                    }],
                    ..DeleteRecordsRequest::default()
                });
                let codes = response.await.topics;
                let codes = codes.iter().flat_map(|it| &it.partitions);
                let codes = codes.map(|it| it.error_code).collect();
                (&["Delete Topic(\"orders\")"], vec![TOPIC_DENIED], codes)
            }
            ApiKey::DescribeProducers => {
                let response = self.send(DescribeProducersRequest {
                    topics: vec![TopicRequest {
                        name: topic(),
                        partition_indexes: vec![0],
                    }],
                });
                let codes = response.await.topics;
                let codes = codes.iter().flat_map(|it| &it.partitions);
                let codes = codes.map(|it| it.error_code).collect();
                (&["Read Topic(\"orders\")"], vec![TOPIC_DENIED], codes)
            }
            ApiKey::InitProducerId => {
                let response = self.send(InitProducerIdRequest {
                    transactional_id: None,
                    ..InitProducerIdRequest::default()
                });
                let codes = vec![response.await.error_code];
                (
                    &["Write AnyTopic", "IdempotentWrite Cluster"],
                    vec![CLUSTER_DENIED],
                    codes,
                )
            }
            ApiKey::OffsetForLeaderEpoch => {
                let response = self.send(OffsetForLeaderEpochRequest {
                    topics: vec![OffsetForLeaderTopic {
                        topic: topic(),
                        partitions: vec![OffsetForLeaderPartition::default()],
                    }],
                    ..OffsetForLeaderEpochRequest::default()
                });
                let codes = response.await.topics;
                let codes = codes.iter().flat_map(|it| &it.partitions);
                let codes = codes.map(|it| it.error_code).collect();
                (
                    &["ClusterAction Cluster", "Describe Topic(\"orders\")"],
                    vec![TOPIC_DENIED],
                    codes,
                )
            }
            ApiKey::DescribeConfigs => {
                let resource = |resource_type, resource_name| DescribeConfigsResource {
                    resource_type,
                    resource_name,
                    configuration_keys: None,
                };
                let response = self.send(DescribeConfigsRequest {
                    resources: vec![
                        resource(TOPIC_CONFIGS, topic()),
                        resource(BROKER_CONFIGS, String::new()),
                    ],
                    ..DescribeConfigsRequest::default()
                });
                let codes = response.await.results;
                let codes = codes.iter().map(|it| it.error_code).collect();
                (
                    &[
                        "DescribeConfigs Topic(\"orders\")",
                        "DescribeConfigs Cluster",
                    ],
                    vec![TOPIC_DENIED, CLUSTER_DENIED],
                    codes,
                )
            }
            ApiKey::AlterConfigs => {
                let resource = |resource_type, resource_name| AlterConfigsResource {
                    resource_type,
                    resource_name,
                    configs: Vec::new(),
                };
                let response = self.send(AlterConfigsRequest {
                    resources: vec![
                        resource(TOPIC_CONFIGS, topic()),
                        resource(BROKER_CONFIGS, String::new()),
                    ],
                    validate_only: false,
                });
                let codes = response.await.responses;
                let codes = codes.iter().map(|it| it.error_code).collect();
                (
                    &["AlterConfigs Topic(\"orders\")", "AlterConfigs Cluster"],
                    vec![TOPIC_DENIED, CLUSTER_DENIED],
                    codes,
                )
            }
            ApiKey::IncrementalAlterConfigs => {
                let resource = |resource_type, resource_name| {
                    incremental_alter_configs::AlterConfigsResource {
                        resource_type,
                        resource_name,
                        configs: Vec::new(),
                    }
                };
                let response = self.send(IncrementalAlterConfigsRequest {
                    resources: vec![
                        resource(TOPIC_CONFIGS, topic()),
                        resource(BROKER_CONFIGS, String::new()),
                    ],
                    validate_only: false,
                });
                let codes = response.await.responses;
                let codes = codes.iter().map(|it| it.error_code).collect();
                (
                    &["AlterConfigs Topic(\"orders\")", "AlterConfigs Cluster"],
                    vec![TOPIC_DENIED, CLUSTER_DENIED],
                    codes,
                )
            }
            ApiKey::DescribeLogDirs => {
                let response = self.send(DescribeLogDirsRequest { topics: None }).await;
                assert!(response.results.is_empty(), "{response:?}");
                let codes = vec![response.error_code];
                (&["Describe Cluster"], vec![CLUSTER_DENIED], codes)
            }
            ApiKey::DescribeCluster => {
                let response = self.send(DescribeClusterRequest {
                    include_cluster_authorized_operations: true,
                    ..DescribeClusterRequest::default()
                });
                let response = response.await;
                assert_eq!(response.cluster_authorized_operations, 0);
                let codes = vec![response.error_code];
                (&["Describe Cluster"], vec![ErrorCode::NONE], codes)
            }
        }
    }

    /// Deletes topics by name or by id, and returns the names and error codes of the results.
    async fn delete_topics<const N: usize>(
        &self,
        topics: [(Option<&str>, Uuid); N],
    ) -> [(Option<String>, ErrorCode); N] {
        let topics = topics.map(|(name, topic_id)| DeleteTopicState {
            name: name.map(str::to_owned),
            topic_id,
        });
        let response = self.send(DeleteTopicsRequest {
            topics: topics.into(),
            ..DeleteTopicsRequest::default()
        });
        let results = response.await.responses.into_iter();
        let results: Vec<_> = results.map(|it| (it.name, it.error_code)).collect();
        results.try_into().unwrap()
    }

    async fn commit(&self, topics: &[&str]) -> Vec<ErrorCode> {
        self.commit_to(GROUP, topics).await
    }

    async fn commit_to(&self, group: &str, topics: &[&str]) -> Vec<ErrorCode> {
        let topic = |name: &str| OffsetCommitRequestTopic {
            name: name.to_owned(),
            partitions: vec![OffsetCommitRequestPartition::default()],
        };
        let response = self.send(OffsetCommitRequest {
            group_id: group.to_owned(),
            topics: topics.iter().map(|name| topic(name)).collect(),
            ..OffsetCommitRequest::default()
        });
        let topics = response.await.topics;
        let codes = topics.iter().flat_map(|it| &it.partitions);
        codes.map(|it| it.error_code).collect()
    }

    /// Fetches the offset of the topic, and returns the error code of the group if it has one.
    async fn fetch_offsets(&self) -> Vec<ErrorCode> {
        let response = self.send(OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: GROUP.to_owned(),
                topics: Some(vec![OffsetFetchRequestTopics {
                    name: TOPIC.to_owned(),
                    partition_indexes: vec![0],
                }]),
                ..OffsetFetchRequestGroup::default()
            }],
            ..OffsetFetchRequest::default()
        });
        let group = response.await.groups.remove(0);
        let codes = group.topics.iter().flat_map(|it| &it.partitions);
        let codes = codes.map(|it| it.error_code);
        let whole = Some(group.error_code).filter(|code| *code != ErrorCode::NONE);
        whole.into_iter().chain(codes).collect()
    }

    async fn delete_offsets(&self, topics: &[&str]) -> Vec<ErrorCode> {
        let topic = |name: &&str| OffsetDeleteRequestTopic {
            name: (*name).to_owned(),
            partitions: vec![OffsetDeleteRequestPartition::default()],
        };
        let response = self.send(OffsetDeleteRequest {
            group_id: GROUP.to_owned(),
            topics: topics.iter().map(topic).collect(),
        });
        let response = response.await;
        let codes = response.topics.iter().flat_map(|it| &it.partitions);
        let codes = codes.map(|it| it.error_code);
        let whole = Some(response.error_code).filter(|code| *code != ErrorCode::NONE);
        whole.into_iter().chain(codes).collect()
    }

    /// Creates a topic and returns its error code, the one of its configs, and the number of partitions and configs shown.
    async fn create_topic(&self, name: &str) -> (ErrorCode, i16, i32, usize) {
        let response = self.send(CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.to_owned(),
                num_partitions: 3,
                replication_factor: 1,
                ..CreatableTopic::default()
            }],
            ..CreateTopicsRequest::default()
        });
        let created = response.await.topics.remove(0);
        let configs = created.configs.unwrap_or_default().len();
        let hidden = created.topic_config_error_code;
        (created.error_code, hidden, created.num_partitions, configs)
    }
}

#[tokio::test]
async fn every_api_asks_for_kafkas_operations_and_answers_denials_with_kafkas_codes() {
    let client = Client::denied(|_, _| true).await;
    for api in APIS {
        let (must_ask, expected, codes) = client.deny(api.key).await;
        assert_eq!(codes, expected, "{:?}", api.key);
        assert_eq!(client.asked(), must_ask, "{:?}", api.key);
    }
    let topics = client.session.broker.topics.list();
    assert_eq!(topics.len(), 1, "a denied request changed something");
    assert!(client.session.broker.groups.list().is_empty());
}

#[tokio::test]
async fn requests_for_offsets_ask_for_the_group_and_then_for_each_topic() {
    let client = Client::denied(|_, resource| matches!(resource, Resource::Topic(_))).await;
    assert_eq!(client.commit(&[TOPIC]).await, [TOPIC_DENIED]);
    assert_eq!(client.fetch_offsets().await, [TOPIC_DENIED]);
    assert_eq!(client.delete_offsets(&[TOPIC]).await, [TOPIC_DENIED]);
    assert_eq!(
        client.asked(),
        [
            "Read Group(\"billing\")",
            "Read Topic(\"orders\")",
            "Describe Group(\"billing\")",
            "Describe Topic(\"orders\")",
            "Delete Group(\"billing\")",
            "Read Topic(\"orders\")",
        ]
    );
}

#[tokio::test]
async fn offsets_of_other_topics_are_committed_and_deleted_beside_denied_ones() {
    let client = Client::denied(|_, resource| resource == Resource::Topic(TOPIC)).await;
    client.create_topic("other").await;
    let codes = [TOPIC_DENIED, ErrorCode::NONE];
    assert_eq!(client.commit(&["other", TOPIC]).await, codes);
    assert_eq!(client.delete_offsets(&["other", TOPIC]).await, codes);
}

#[tokio::test]
async fn topics_named_instead_of_given_by_id_are_checked_before_they_are_looked_up() {
    let client = Client::denied(|_, _| true).await;
    for name in [TOPIC, "missing"] {
        let produced = client.send_version(
            12,
            ProduceRequest {
                acks: 1,
                topic_data: vec![TopicProduceData {
                    name: name.to_owned(),
                    partition_data: vec![PartitionProduceData::default()],
                    ..TopicProduceData::default()
                }],
                ..ProduceRequest::default()
            },
        );
        let produced = produced.await.responses.remove(0).partition_responses;
        assert_eq!(produced[0].error_code, TOPIC_DENIED);
        let message = produced[0].error_message.as_deref();
        assert_eq!(message, Some("Topic authorization failed."));
        let fetched = client.send_version(
            12,
            FetchRequest {
                topics: vec![FetchTopic {
                    topic: name.to_owned(),
                    partitions: vec![FetchPartition::default()],
                    ..FetchTopic::default()
                }],
                ..FetchRequest::default()
            },
        );
        let fetched = fetched.await.responses.remove(0).partitions;
        assert_eq!(fetched[0].error_code, TOPIC_DENIED);
    }
}

#[tokio::test]
async fn lists_omit_what_the_client_may_not_describe() {
    let client = Client::denied(|operation, resource| {
        operation == Operation::Describe && resource == Resource::Topic("orders")
    });
    let client = client.await;
    let all = || MetadataRequest {
        topics: None,
        include_topic_authorized_operations: true,
        ..MetadataRequest::default()
    };
    assert!(client.send(all()).await.topics.is_empty());
    client.create_topic("visible").await;
    let shown = client.send(all()).await.topics;
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].name.as_deref(), Some("visible"));
    assert_eq!(shown[0].topic_authorized_operations, 0b1101_1111_1000);
}

#[tokio::test]
async fn only_groups_that_the_client_may_describe_are_listed() {
    let client = Client::denied(|operation, resource| {
        operation == Operation::Describe
            && matches!(resource, Resource::Cluster | Resource::Group("hidden"))
    });
    let client = client.await;
    for group in [GROUP, "hidden"] {
        let committed = client.commit_to(group, &[TOPIC]).await;
        assert_eq!(committed, [ErrorCode::NONE]);
    }
    let listed = client.send(ListGroupsRequest::default()).await.groups;
    let listed: Vec<_> = listed.iter().map(|it| it.group_id.as_str()).collect();
    assert_eq!(listed, [GROUP]);
}

#[tokio::test]
async fn all_offsets_of_a_group_are_those_of_topics_that_the_client_may_describe() {
    let client = Client::denied(|operation, resource| {
        operation == Operation::Describe && resource == Resource::Topic(TOPIC)
    });
    let client = client.await;
    client.create_topic("visible").await;
    let committed = client.commit(&[TOPIC, "visible"]).await;
    assert_eq!(committed, [ErrorCode::NONE; 2]);
    let response = client.send(OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: GROUP.to_owned(),
            topics: None,
            ..OffsetFetchRequestGroup::default()
        }],
        ..OffsetFetchRequest::default()
    });
    let topics = response.await.groups.remove(0).topics;
    let topics: Vec<_> = topics.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(topics, ["visible"]);
}

#[tokio::test]
async fn metadata_creates_no_topic_that_the_client_may_not_create() {
    let client = Client::denied(|operation, _| operation == Operation::Create).await;
    let response = client.send(MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some("new".to_owned()),
            ..MetadataRequestTopic::default()
        }]),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    });
    assert_eq!(response.await.topics[0].error_code, TOPIC_DENIED);
    assert!(client.session.broker.topics.get("new").is_none());
}

#[tokio::test]
async fn topics_are_deleted_with_a_permission_on_the_cluster() {
    let client = Client::denied(|_, resource| resource != Resource::Cluster).await;
    let deleted = client.delete_topics([(Some(TOPIC), Uuid::nil())]).await;
    assert_eq!(deleted, [(Some(TOPIC.to_owned()), ErrorCode::NONE)]);
}

#[tokio::test]
async fn topics_that_the_client_may_describe_but_not_delete_are_named() {
    let client = Client::denied(|operation, _| operation == Operation::Delete).await;
    let id = client.session.broker.topics.get(TOPIC).unwrap().id();
    let by_id = client.delete_topics([(None, id)]).await;
    assert_eq!(by_id, [(Some(TOPIC.to_owned()), TOPIC_DENIED)]);
    let by_name =
        client.delete_topics([(Some(TOPIC), Uuid::nil()), (Some("missing"), Uuid::nil())]);
    let missing = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(by_name.await.map(|(_, code)| code), [TOPIC_DENIED, missing]);
}

#[tokio::test]
async fn leader_epochs_are_shown_with_a_permission_on_the_cluster() {
    let client = Client::denied(|_, resource| resource != Resource::Cluster).await;
    let response = client.send(OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: TOPIC.to_owned(),
            partitions: vec![OffsetForLeaderPartition {
                current_leader_epoch: -1,
                ..OffsetForLeaderPartition::default()
            }],
        }],
        ..OffsetForLeaderEpochRequest::default()
    });
    let partition = response.await.topics.remove(0).partitions.remove(0);
    assert_eq!(partition.error_code, ErrorCode::NONE);
}

#[tokio::test]
async fn authorized_operations_are_those_that_are_allowed() {
    let client = Client::denied(|operation, _| operation == Operation::Alter).await;
    let cluster = client.send(DescribeClusterRequest {
        include_cluster_authorized_operations: true,
        ..DescribeClusterRequest::default()
    });
    let operations = cluster.await.cluster_authorized_operations;
    assert_eq!(operations, 0b1_1111_0010_0000);
    let group = client.send(DescribeGroupsRequest {
        groups: vec![GROUP.to_owned()],
        include_authorized_operations: true,
    });
    let operations = group.await.groups[0].authorized_operations;
    assert_eq!(operations, 0b1101_0100_1000);
}

#[tokio::test]
async fn topics_are_created_with_a_permission_on_the_cluster_and_their_configs_may_stay_hidden() {
    let client = Client::denied(|operation, resource| {
        operation == Operation::DescribeConfigs
            || (operation == Operation::Create && resource != Resource::Cluster)
    });
    let client = client.await;
    let (code, hidden, partitions, configs) = client.create_topic("new").await;
    assert_eq!((code, hidden), (ErrorCode::NONE, TOPIC_DENIED.code()));
    assert_eq!((partitions, configs), (-1, 0));
    let asked = client.asked();
    assert_eq!(asked, ["Create Cluster", "DescribeConfigs Topic(\"new\")"]);
}

#[tokio::test]
async fn producers_that_may_write_to_some_topic_get_an_id() {
    let client = Client::denied(|_, resource| resource == Resource::Cluster).await;
    let response = client.send(InitProducerIdRequest {
        transactional_id: None,
        ..InitProducerIdRequest::default()
    });
    assert_eq!(response.await.error_code, ErrorCode::NONE);
}
