//! Authorisation of operations on resources, in Kafka's model.

use std::net::IpAddr;

use super::Principal;

/// Decides which operations clients may perform.
pub trait Authorizer: Send + Sync {
    /// Returns whether a principal may perform an operation when it connects from this address.
    fn allows(
        &self,
        principal: &Principal,
        host: IpAddr,
        operation: Operation,
        resource: Resource<'_>,
    ) -> bool;
}

/// An operation, with Kafka's number of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

/// A resource on which operations are allowed or denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    Topic(&'a str),
    /// Any topic: an operation on it is allowed if it is allowed on at least one topic.
    AnyTopic,
    Group(&'a str),
    TransactionalId(&'a str),
    Cluster,
}
