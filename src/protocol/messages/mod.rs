//! Declarations of the APIs, one file each, with request and response.
//!
//! Structures and fields have the names of Kafka's schemas, so Kafka's documentation applies. Each module doc lists the
//! changes by version; versions not listed did not change the encoding, or only became flexible.

use super::kafka::{ApiKey, Request};

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod add_raft_voter;
pub mod alter_client_quotas;
pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod api_versions;
pub mod consumer_protocol;
pub mod create_acls;
pub mod create_delegation_token;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_acls;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_delegation_token;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod describe_transactions;
pub mod elect_leaders;
pub mod end_txn;
pub mod expire_delegation_token;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod remove_raft_voter;
pub mod renew_delegation_token;
pub mod sasl_handshake;
pub mod sync_group;
pub mod txn_offset_commit;
pub mod unregister_broker;
pub mod unregister_controller;
pub mod update_features;
pub mod write_txn_markers;

/// An operation on a request type that is known only by its API key at run time.
pub trait ForApi {
    type Output;
    fn run<R: Request>(self) -> Self::Output;
}

/// Runs `what` for the request type of `key`.
pub fn for_api<F: ForApi>(key: ApiKey, what: F) -> F::Output {
    match key {
        ApiKey::Produce => what.run::<produce::ProduceRequest>(),
        ApiKey::Fetch => what.run::<fetch::FetchRequest>(),
        ApiKey::ListOffsets => what.run::<list_offsets::ListOffsetsRequest>(),
        ApiKey::Metadata => what.run::<metadata::MetadataRequest>(),
        ApiKey::OffsetCommit => what.run::<offset_commit::OffsetCommitRequest>(),
        ApiKey::OffsetFetch => what.run::<offset_fetch::OffsetFetchRequest>(),
        ApiKey::FindCoordinator => what.run::<find_coordinator::FindCoordinatorRequest>(),
        ApiKey::JoinGroup => what.run::<join_group::JoinGroupRequest>(),
        ApiKey::Heartbeat => what.run::<heartbeat::HeartbeatRequest>(),
        ApiKey::LeaveGroup => what.run::<leave_group::LeaveGroupRequest>(),
        ApiKey::SyncGroup => what.run::<sync_group::SyncGroupRequest>(),
        ApiKey::DescribeGroups => what.run::<describe_groups::DescribeGroupsRequest>(),
        ApiKey::ListGroups => what.run::<list_groups::ListGroupsRequest>(),
        ApiKey::SaslHandshake => what.run::<sasl_handshake::SaslHandshakeRequest>(),
        ApiKey::ApiVersions => what.run::<api_versions::ApiVersionsRequest>(),
        ApiKey::CreateTopics => what.run::<create_topics::CreateTopicsRequest>(),
        ApiKey::DeleteTopics => what.run::<delete_topics::DeleteTopicsRequest>(),
        ApiKey::DeleteRecords => what.run::<delete_records::DeleteRecordsRequest>(),
        ApiKey::InitProducerId => what.run::<init_producer_id::InitProducerIdRequest>(),
        ApiKey::OffsetForLeaderEpoch => {
            what.run::<offset_for_leader_epoch::OffsetForLeaderEpochRequest>()
        }
        ApiKey::AddPartitionsToTxn => {
            what.run::<add_partitions_to_txn::AddPartitionsToTxnRequest>()
        }
        ApiKey::AddOffsetsToTxn => what.run::<add_offsets_to_txn::AddOffsetsToTxnRequest>(),
        ApiKey::EndTxn => what.run::<end_txn::EndTxnRequest>(),
        ApiKey::WriteTxnMarkers => what.run::<write_txn_markers::WriteTxnMarkersRequest>(),
        ApiKey::TxnOffsetCommit => what.run::<txn_offset_commit::TxnOffsetCommitRequest>(),
        ApiKey::DescribeAcls => what.run::<describe_acls::DescribeAclsRequest>(),
        ApiKey::CreateAcls => what.run::<create_acls::CreateAclsRequest>(),
        ApiKey::DeleteAcls => what.run::<delete_acls::DeleteAclsRequest>(),
        ApiKey::DescribeConfigs => what.run::<describe_configs::DescribeConfigsRequest>(),
        ApiKey::AlterConfigs => what.run::<alter_configs::AlterConfigsRequest>(),
        ApiKey::AlterReplicaLogDirs => {
            what.run::<alter_replica_log_dirs::AlterReplicaLogDirsRequest>()
        }
        ApiKey::DescribeLogDirs => what.run::<describe_log_dirs::DescribeLogDirsRequest>(),
        ApiKey::CreatePartitions => what.run::<create_partitions::CreatePartitionsRequest>(),
        ApiKey::CreateDelegationToken => {
            what.run::<create_delegation_token::CreateDelegationTokenRequest>()
        }
        ApiKey::RenewDelegationToken => {
            what.run::<renew_delegation_token::RenewDelegationTokenRequest>()
        }
        ApiKey::ExpireDelegationToken => {
            what.run::<expire_delegation_token::ExpireDelegationTokenRequest>()
        }
        ApiKey::DescribeDelegationToken => {
            what.run::<describe_delegation_token::DescribeDelegationTokenRequest>()
        }
        ApiKey::DeleteGroups => what.run::<delete_groups::DeleteGroupsRequest>(),
        ApiKey::ElectLeaders => what.run::<elect_leaders::ElectLeadersRequest>(),
        ApiKey::IncrementalAlterConfigs => {
            what.run::<incremental_alter_configs::IncrementalAlterConfigsRequest>()
        }
        ApiKey::AlterPartitionReassignments => {
            what.run::<alter_partition_reassignments::AlterPartitionReassignmentsRequest>()
        }
        ApiKey::ListPartitionReassignments => {
            what.run::<list_partition_reassignments::ListPartitionReassignmentsRequest>()
        }
        ApiKey::OffsetDelete => what.run::<offset_delete::OffsetDeleteRequest>(),
        ApiKey::DescribeQuorum => what.run::<describe_quorum::DescribeQuorumRequest>(),
        ApiKey::UpdateFeatures => what.run::<update_features::UpdateFeaturesRequest>(),
        ApiKey::DescribeClientQuotas => {
            what.run::<describe_client_quotas::DescribeClientQuotasRequest>()
        }
        ApiKey::AlterClientQuotas => what.run::<alter_client_quotas::AlterClientQuotasRequest>(),
        ApiKey::DescribeCluster => what.run::<describe_cluster::DescribeClusterRequest>(),
        ApiKey::DescribeProducers => what.run::<describe_producers::DescribeProducersRequest>(),
        ApiKey::DescribeTransactions => {
            what.run::<describe_transactions::DescribeTransactionsRequest>()
        }
        ApiKey::ListTransactions => what.run::<list_transactions::ListTransactionsRequest>(),
        ApiKey::UnregisterBroker => what.run::<unregister_broker::UnregisterBrokerRequest>(),
        ApiKey::DescribeTopicPartitions => {
            what.run::<describe_topic_partitions::DescribeTopicPartitionsRequest>()
        }
        ApiKey::AddRaftVoter => what.run::<add_raft_voter::AddRaftVoterRequest>(),
        ApiKey::RemoveRaftVoter => what.run::<remove_raft_voter::RemoveRaftVoterRequest>(),
        ApiKey::UnregisterController => {
            what.run::<unregister_controller::UnregisterControllerRequest>()
        }
        ApiKey::ListConfigResources => {
            what.run::<list_config_resources::ListConfigResourcesRequest>()
        }
    }
}
