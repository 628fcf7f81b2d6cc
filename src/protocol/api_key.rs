//! The declared APIs, by Kafka's API keys.

use std::fmt;

macro_rules! api_keys {
    ($($name:ident = $key:literal, $metric_name:literal, flexible $flexible:expr;)*) => {
        /// The API of a request. Only APIs with declared messages have a key here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum ApiKey {
            $($name = $key,)*
        }

        impl ApiKey {
            /// Every key, in ascending order.
            pub const ALL: &'static [ApiKey] = &[$(ApiKey::$name),*];

            /// Returns Kafka's name of the API, such as `ListOffsets`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => stringify!($name),)*
                }
            }

            /// Returns the name in metric labels, such as `list_offsets`.
            pub const fn metric_name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => $metric_name,)*
                }
            }

            /// Returns the first version with compact lengths and tagged fields, in header and body.
            pub const fn flexible_from(self) -> i16 {
                match self {
                    $(ApiKey::$name => $flexible,)*
                }
            }
        }

        impl TryFrom<i16> for ApiKey {
            type Error = UnknownApiKey;

            fn try_from(key: i16) -> Result<ApiKey, UnknownApiKey> {
                match key {
                    $($key => Ok(ApiKey::$name),)*
                    _ => Err(UnknownApiKey(key)),
                }
            }
        }
    };
}

/// The first flexible version of an API that has none.
const NEVER: i16 = i16::MAX;

api_keys! {
    Produce = 0, "produce", flexible 9;
    Fetch = 1, "fetch", flexible 12;
    ListOffsets = 2, "list_offsets", flexible 6;
    Metadata = 3, "metadata", flexible 9;
    OffsetCommit = 8, "offset_commit", flexible 8;
    OffsetFetch = 9, "offset_fetch", flexible 6;
    FindCoordinator = 10, "find_coordinator", flexible 3;
    JoinGroup = 11, "join_group", flexible 6;
    Heartbeat = 12, "heartbeat", flexible 4;
    LeaveGroup = 13, "leave_group", flexible 4;
    SyncGroup = 14, "sync_group", flexible 4;
    DescribeGroups = 15, "describe_groups", flexible 5;
    ListGroups = 16, "list_groups", flexible 3;
    SaslHandshake = 17, "sasl_handshake", flexible NEVER;
    ApiVersions = 18, "api_versions", flexible 3;
    CreateTopics = 19, "create_topics", flexible 5;
    DeleteTopics = 20, "delete_topics", flexible 4;
    DeleteRecords = 21, "delete_records", flexible 2;
    InitProducerId = 22, "init_producer_id", flexible 2;
    OffsetForLeaderEpoch = 23, "offset_for_leader_epoch", flexible 4;
    AddPartitionsToTxn = 24, "add_partitions_to_txn", flexible 3;
    AddOffsetsToTxn = 25, "add_offsets_to_txn", flexible 3;
    EndTxn = 26, "end_txn", flexible 3;
    WriteTxnMarkers = 27, "write_txn_markers", flexible 1;
    TxnOffsetCommit = 28, "txn_offset_commit", flexible 3;
    DescribeAcls = 29, "describe_acls", flexible 2;
    CreateAcls = 30, "create_acls", flexible 2;
    DeleteAcls = 31, "delete_acls", flexible 2;
    DescribeConfigs = 32, "describe_configs", flexible 4;
    AlterConfigs = 33, "alter_configs", flexible 2;
    AlterReplicaLogDirs = 34, "alter_replica_log_dirs", flexible 2;
    DescribeLogDirs = 35, "describe_log_dirs", flexible 2;
    CreatePartitions = 37, "create_partitions", flexible 2;
    CreateDelegationToken = 38, "create_delegation_token", flexible 2;
    RenewDelegationToken = 39, "renew_delegation_token", flexible 2;
    ExpireDelegationToken = 40, "expire_delegation_token", flexible 2;
    DescribeDelegationToken = 41, "describe_delegation_token", flexible 2;
    DeleteGroups = 42, "delete_groups", flexible 2;
    ElectLeaders = 43, "elect_leaders", flexible 2;
    IncrementalAlterConfigs = 44, "incremental_alter_configs", flexible 1;
    AlterPartitionReassignments = 45, "alter_partition_reassignments", flexible 0;
    ListPartitionReassignments = 46, "list_partition_reassignments", flexible 0;
    OffsetDelete = 47, "offset_delete", flexible NEVER;
    DescribeClientQuotas = 48, "describe_client_quotas", flexible 1;
    AlterClientQuotas = 49, "alter_client_quotas", flexible 1;
    DescribeQuorum = 55, "describe_quorum", flexible 0;
    UpdateFeatures = 57, "update_features", flexible 0;
    DescribeCluster = 60, "describe_cluster", flexible 0;
    DescribeProducers = 61, "describe_producers", flexible 0;
    UnregisterBroker = 64, "unregister_broker", flexible 0;
    DescribeTransactions = 65, "describe_transactions", flexible 0;
    ListTransactions = 66, "list_transactions", flexible 0;
    ListConfigResources = 74, "list_config_resources", flexible 0;
    DescribeTopicPartitions = 75, "describe_topic_partitions", flexible 0;
    AddRaftVoter = 80, "add_raft_voter", flexible 0;
    RemoveRaftVoter = 81, "remove_raft_voter", flexible 0;
    UnregisterController = 94, "unregister_controller", flexible 0;
}

/// An API key that is not declared here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("API key {0} is not served")]
pub struct UnknownApiKey(pub i16);

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_parse_from_their_number_and_have_snake_case_names() {
        for &key in ApiKey::ALL {
            assert_eq!(ApiKey::try_from(key as i16), Ok(key));
            let camel: String = key
                .metric_name()
                .split('_')
                .map(|word| word[..1].to_uppercase() + &word[1..])
                .collect();
            assert_eq!(camel, key.name());
        }
        assert!(ApiKey::ALL.is_sorted());
        assert_eq!(ApiKey::try_from(4), Err(UnknownApiKey(4)));
    }
}
