//! Tests of the requests that concern the brokers of a cluster and the replicas on them, of which there is one each.

use streamline::protocol::kafka::{ErrorCode, Request};
use streamline::protocol::messages::add_raft_voter::AddRaftVoterRequest;
use streamline::protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use streamline::protocol::messages::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use streamline::protocol::messages::create_acls::{AclCreation, CreateAclsRequest};
use streamline::protocol::messages::create_delegation_token::CreateDelegationTokenRequest;
use streamline::protocol::messages::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use streamline::protocol::messages::describe_acls::DescribeAclsRequest;
use streamline::protocol::messages::describe_delegation_token::DescribeDelegationTokenRequest;
use streamline::protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use streamline::protocol::messages::describe_quorum::{
    DescribeQuorumRequest, PartitionRequest, TopicRequest,
};
use streamline::protocol::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use streamline::protocol::messages::expire_delegation_token::ExpireDelegationTokenRequest;
use streamline::protocol::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use streamline::protocol::messages::remove_raft_voter::RemoveRaftVoterRequest;
use streamline::protocol::messages::renew_delegation_token::RenewDelegationTokenRequest;
use streamline::protocol::messages::unregister_broker::UnregisterBrokerRequest;
use streamline::protocol::messages::unregister_controller::UnregisterControllerRequest;

use crate::kafka::create;
use crate::support::Server;

const UNKNOWN: ErrorCode = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;

#[test]
fn every_version_of_elect_leaders_needs_no_election() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "t", 1);
    for version in ElectLeadersRequest::VERSIONS {
        let partitions = |topic: &str, partitions: &[i32]| TopicPartitions {
            topic: topic.to_owned(),
            partitions: partitions.to_vec(),
        };
        let request = ElectLeadersRequest {
            topic_partitions: Some(vec![partitions("t", &[0, 1]), partitions("none", &[0])]),
            ..ElectLeadersRequest::default()
        };
        let response = client.call(version, &request);
        assert_eq!(response.error_code, ErrorCode::NONE);
        let results = response.replica_election_results.iter();
        let codes = results.flat_map(|topic| &topic.partition_result);
        let codes: Vec<ErrorCode> = codes.map(|it| it.error_code).collect();
        assert_eq!(codes, [ErrorCode::ELECTION_NOT_NEEDED, UNKNOWN, UNKNOWN]);
        // All topics: the partitions that need no election are not listed.
        let all = ElectLeadersRequest {
            topic_partitions: None,
            ..ElectLeadersRequest::default()
        };
        let listed = client.call(version, &all).replica_election_results;
        assert!(!listed.is_empty());
        assert!(listed.iter().all(|topic| topic.partition_result.is_empty()));
    }
}

#[test]
fn partitions_are_reassigned_only_to_where_they_are() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "t", 1);
    let invalid = ErrorCode::INVALID_REPLICA_ASSIGNMENT;
    let cases: [(&str, i32, Option<&[i32]>, ErrorCode); 8] = [
        ("t", 0, Some(&[1]), ErrorCode::NONE),
        ("t", 0, Some(&[2]), invalid),
        ("t", 0, Some(&[1, 2]), invalid),
        ("t", 0, Some(&[1, 1]), invalid),
        ("t", 0, Some(&[]), invalid),
        ("t", 0, None, ErrorCode::NO_REASSIGNMENT_IN_PROGRESS),
        ("t", 1, Some(&[1]), UNKNOWN),
        ("none", 0, None, UNKNOWN),
    ];
    for version in AlterPartitionReassignmentsRequest::VERSIONS {
        for (name, partition_index, replicas, expected) in cases {
            let request = AlterPartitionReassignmentsRequest {
                topics: vec![ReassignableTopic {
                    name: name.to_owned(),
                    partitions: vec![ReassignablePartition {
                        partition_index,
                        replicas: replicas.map(<[i32]>::to_vec),
                    }],
                }],
                ..AlterPartitionReassignmentsRequest::default()
            };
            let response = client.call(version, &request);
            assert_eq!(response.error_code, ErrorCode::NONE);
            let partition = &response.responses[0].partitions[0];
            assert_eq!(partition.error_code, expected, "{replicas:?}");
        }
    }
    let listed = client.call(0, &ListPartitionReassignmentsRequest::default());
    assert_eq!(
        (listed.error_code, listed.topics.len()),
        (ErrorCode::NONE, 0)
    );
}

#[test]
fn partitions_are_moved_only_to_the_directory_where_they_are() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "t", 1);
    let described = client.call(5, &DescribeLogDirsRequest { topics: None });
    assert!(!described.results[0].is_cordoned);
    let own = described.results[0].log_dir.as_str();
    for version in AlterReplicaLogDirsRequest::VERSIONS {
        for (path, name, expected) in [
            (own, "t", ErrorCode::NONE),
            (own, "none", UNKNOWN),
            ("/elsewhere", "t", ErrorCode::LOG_DIR_NOT_FOUND),
            ("/elsewhere", "none", ErrorCode::LOG_DIR_NOT_FOUND),
        ] {
            let request = AlterReplicaLogDirsRequest {
                dirs: vec![AlterReplicaLogDir {
                    path: path.to_owned(),
                    topics: vec![AlterReplicaLogDirTopic {
                        name: name.to_owned(),
                        partitions: vec![0],
                    }],
                }],
            };
            let response = client.call(version, &request);
            let partition = &response.results[0].partitions[0];
            assert_eq!(partition.error_code, expected, "{path} {name}");
        }
    }
}

#[test]
fn every_version_describes_a_quorum_of_one() {
    let server = Server::start();
    let mut client = server.connect();
    for version in DescribeQuorumRequest::VERSIONS {
        let partition = |topic_name: &str, partition_index| TopicRequest {
            topic_name: topic_name.to_owned(),
            partitions: vec![PartitionRequest { partition_index }],
        };
        let request = DescribeQuorumRequest {
            topics: vec![partition("__cluster_metadata", 0), partition("t", 0)],
        };
        let response = client.call(version, &request);
        let quorum = &response.topics[0].partitions[0];
        assert_eq!((quorum.error_code, quorum.leader_id), (ErrorCode::NONE, 1));
        let voters: Vec<i32> = quorum
            .current_voters
            .iter()
            .map(|it| it.replica_id)
            .collect();
        assert_eq!((voters, quorum.observers.len()), (vec![1], 0));
        assert_eq!(response.topics[1].partitions[0].error_code, UNKNOWN);
        if version >= 2 {
            let endpoint = &response.nodes[0].listeners[0];
            assert_eq!(endpoint.port, server.kafka_addr().port());
        }
    }
}

#[test]
fn the_only_node_is_not_removed_and_no_other_is_added() {
    let server = Server::start();
    let mut client = server.connect();
    for (broker_id, expected) in [
        (1, ErrorCode::INVALID_REQUEST),
        (7, ErrorCode::BROKER_ID_NOT_REGISTERED),
    ] {
        let refused = client.call(0, &UnregisterBrokerRequest { broker_id });
        assert_eq!(refused.error_code, expected);
    }
    for (controller_id, expected) in [
        (1, ErrorCode::INVALID_REQUEST),
        (7, ErrorCode::CONTROLLER_ID_NOT_REGISTERED),
    ] {
        let refused = client.call(0, &UnregisterControllerRequest { controller_id });
        assert_eq!(refused.error_code, expected);
    }
    for (cluster_id, expected) in [
        (None, ErrorCode::UNSUPPORTED_VERSION),
        (Some("other"), ErrorCode::INCONSISTENT_CLUSTER_ID),
    ] {
        let cluster_id = cluster_id.map(str::to_owned);
        for version in AddRaftVoterRequest::VERSIONS {
            let request = AddRaftVoterRequest {
                cluster_id: cluster_id.clone(),
                voter_id: 2,
                ..AddRaftVoterRequest::default()
            };
            assert_eq!(client.call(version, &request).error_code, expected);
        }
        let request = RemoveRaftVoterRequest {
            cluster_id,
            voter_id: 1,
            ..RemoveRaftVoterRequest::default()
        };
        assert_eq!(client.call(0, &request).error_code, expected);
    }
}

#[test]
fn access_control_lists_are_disabled() {
    let server = Server::start();
    let mut client = server.connect();
    let disabled = ErrorCode::SECURITY_DISABLED;
    for version in DescribeAclsRequest::VERSIONS {
        let described = client.call(version, &DescribeAclsRequest::default());
        assert_eq!(described.error_code, disabled);
        let created = client.call(
            version,
            &CreateAclsRequest {
                creations: vec![AclCreation::default(); 2],
            },
        );
        let codes: Vec<ErrorCode> = created.results.iter().map(|it| it.error_code).collect();
        assert_eq!(codes, [disabled; 2]);
        let deleted = client.call(
            version,
            &DeleteAclsRequest {
                filters: vec![DeleteAclsFilter::default()],
            },
        );
        assert_eq!(deleted.filter_results[0].error_code, disabled);
    }
}

#[test]
fn delegation_tokens_are_not_for_clients_without_authentication() {
    let server = Server::start();
    let mut client = server.connect();
    let refused = ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED;
    for version in CreateDelegationTokenRequest::VERSIONS {
        let request = CreateDelegationTokenRequest {
            owner_principal_name: None,
            owner_principal_type: None,
            ..CreateDelegationTokenRequest::default()
        };
        let request = match version {
            3.. => request,
            _ => CreateDelegationTokenRequest::default(),
        };
        let created = client.call(version, &request);
        assert_eq!(created.error_code, refused);
        let owner = (&*created.principal_type, &*created.principal_name);
        assert_eq!(owner, ("User", "ANONYMOUS"));
        let described = client.call(version, &DescribeDelegationTokenRequest::default());
        assert_eq!((described.error_code, described.tokens.len()), (refused, 0));
    }
    for version in RenewDelegationTokenRequest::VERSIONS {
        let renewed = client.call(version, &RenewDelegationTokenRequest::default());
        assert_eq!(renewed.error_code, refused);
        let expired = client.call(version, &ExpireDelegationTokenRequest::default());
        assert_eq!(expired.error_code, refused);
    }
}
