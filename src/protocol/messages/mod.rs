//! Declarations of the APIs, one file each, with request and response.
//!
//! Structures and fields have the names of Kafka's schemas, so Kafka's documentation applies. Each module doc lists the
//! changes by version; versions not listed did not change the encoding, or only became flexible.

use super::kafka::{ApiKey, Request};

pub mod alter_configs;
pub mod api_versions;
pub mod consumer_protocol;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sasl_handshake;
pub mod sync_group;

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
        ApiKey::DescribeConfigs => what.run::<describe_configs::DescribeConfigsRequest>(),
        ApiKey::AlterConfigs => what.run::<alter_configs::AlterConfigsRequest>(),
        ApiKey::DescribeLogDirs => what.run::<describe_log_dirs::DescribeLogDirsRequest>(),
        ApiKey::CreatePartitions => what.run::<create_partitions::CreatePartitionsRequest>(),
        ApiKey::DeleteGroups => what.run::<delete_groups::DeleteGroupsRequest>(),
        ApiKey::IncrementalAlterConfigs => {
            what.run::<incremental_alter_configs::IncrementalAlterConfigsRequest>()
        }
        ApiKey::OffsetDelete => what.run::<offset_delete::OffsetDeleteRequest>(),
        ApiKey::DescribeCluster => what.run::<describe_cluster::DescribeClusterRequest>(),
        ApiKey::DescribeProducers => what.run::<describe_producers::DescribeProducersRequest>(),
    }
}
