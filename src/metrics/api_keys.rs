//! Values of the `api_key` label: Kafka's API names in snake case.
//!
//! Metrics import no other area, so they cannot take the names from `protocol`; a test keeps both tables consistent.

/// By API key, without gaps.
const NAMES: [&str; 95] = [
    "produce",
    "fetch",
    "list_offsets",
    "metadata",
    "leader_and_isr",
    "stop_replica",
    "update_metadata",
    "controlled_shutdown",
    "offset_commit",
    "offset_fetch",
    "find_coordinator",
    "join_group",
    "heartbeat",
    "leave_group",
    "sync_group",
    "describe_groups",
    "list_groups",
    "sasl_handshake",
    "api_versions",
    "create_topics",
    "delete_topics",
    "delete_records",
    "init_producer_id",
    "offset_for_leader_epoch",
    "add_partitions_to_txn",
    "add_offsets_to_txn",
    "end_txn",
    "write_txn_markers",
    "txn_offset_commit",
    "describe_acls",
    "create_acls",
    "delete_acls",
    "describe_configs",
    "alter_configs",
    "alter_replica_log_dirs",
    "describe_log_dirs",
    "sasl_authenticate",
    "create_partitions",
    "create_delegation_token",
    "renew_delegation_token",
    "expire_delegation_token",
    "describe_delegation_token",
    "delete_groups",
    "elect_leaders",
    "incremental_alter_configs",
    "alter_partition_reassignments",
    "list_partition_reassignments",
    "offset_delete",
    "describe_client_quotas",
    "alter_client_quotas",
    "describe_user_scram_credentials",
    "alter_user_scram_credentials",
    "vote",
    "begin_quorum_epoch",
    "end_quorum_epoch",
    "describe_quorum",
    "alter_partition",
    "update_features",
    "envelope",
    "fetch_snapshot",
    "describe_cluster",
    "describe_producers",
    "broker_registration",
    "broker_heartbeat",
    "unregister_broker",
    "describe_transactions",
    "list_transactions",
    "allocate_producer_ids",
    "consumer_group_heartbeat",
    "consumer_group_describe",
    "controller_registration",
    "get_telemetry_subscriptions",
    "push_telemetry",
    "assign_replicas_to_dirs",
    "list_config_resources",
    "describe_topic_partitions",
    "share_group_heartbeat",
    "share_group_describe",
    "share_fetch",
    "share_acknowledge",
    "add_raft_voter",
    "remove_raft_voter",
    "update_raft_voter",
    "initialize_share_group_state",
    "read_share_group_state",
    "write_share_group_state",
    "delete_share_group_state",
    "read_share_group_state_summary",
    "streams_group_heartbeat",
    "streams_group_describe",
    "describe_share_group_offsets",
    "alter_share_group_offsets",
    "delete_share_group_offsets",
    "streams_group_topology_description_update",
    "unregister_controller",
];

/// Number of label values: one per known key, and one for all unknown keys.
pub(super) const COUNT: usize = NAMES.len() + 1;

/// Returns the index of a key's instruments. All unknown keys share the last index.
#[inline]
pub(super) fn index(api_key: i16) -> usize {
    usize::try_from(api_key).map_or(NAMES.len(), |key| key.min(NAMES.len()))
}

pub(super) fn name_at(index: usize) -> &'static str {
    NAMES.get(index).copied().unwrap_or("unknown")
}

/// Returns the label value for a key from the wire: `unknown` for keys that Kafka does not define.
pub fn api_key_name(api_key: i16) -> &'static str {
    name_at(index(api_key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_name() {
        assert_eq!(api_key_name(0), "produce");
        assert_eq!(api_key_name(18), "api_versions");
        assert_eq!(api_key_name(44), "incremental_alter_configs");
        assert_eq!(api_key_name(60), "describe_cluster");
        assert_eq!(api_key_name(75), "describe_topic_partitions");
        assert_eq!(api_key_name(92), "delete_share_group_offsets");
        assert_eq!(api_key_name(94), "unregister_controller");
        for unknown in [-1, 95, i16::MAX, i16::MIN] {
            assert_eq!(api_key_name(unknown), "unknown");
        }
    }
}
