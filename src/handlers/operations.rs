//! Authorized operations, as the bit fields of Metadata, DescribeCluster and DescribeGroups.

use super::Session;
use crate::broker::Operation::{
    self, Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs,
    IdempotentWrite, Read, Write,
};
use crate::broker::Resource;

/// The request did not ask for authorized operations.
pub(super) const NOT_REQUESTED: i32 = i32::MIN;

const TOPIC: &[Operation] = &[
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    DescribeConfigs,
    AlterConfigs,
];

const CLUSTER: &[Operation] = &[
    Create,
    Alter,
    Describe,
    ClusterAction,
    DescribeConfigs,
    AlterConfigs,
    IdempotentWrite,
];

/// Kafka 4 reports those on a group's configs too. They are permissions, which an authorizer may give although this server's
/// groups have no configs.
const GROUP: &[Operation] = &[Read, Delete, Describe, DescribeConfigs, AlterConfigs];

const TRANSACTIONAL_ID: &[Operation] = &[Write, Describe];

impl Session {
    /// Returns the operations that the client may perform on a resource, one bit each.
    pub(super) fn operations(&self, resource: Resource<'_>) -> i32 {
        let operations = match resource {
            Resource::Topic(_) | Resource::AnyTopic => TOPIC,
            Resource::Group(_) => GROUP,
            Resource::TransactionalId(_) => TRANSACTIONAL_ID,
            Resource::Cluster => CLUSTER,
        };
        operations
            .iter()
            .filter(|operation| self.allows(**operation, resource))
            .fold(0, |bits, operation| bits | 1 << *operation as i32)
    }

    /// Returns the operations on the cluster, none of them to a client that may not describe it.
    pub(super) fn cluster_operations(&self, is_requested: bool) -> i32 {
        match is_requested {
            false => NOT_REQUESTED,
            true if !self.allows(Describe, Resource::Cluster) => 0,
            true => self.operations(Resource::Cluster),
        }
    }
}
