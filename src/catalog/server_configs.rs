//! Configs of resources other than topics, as the catalog stores them.

use std::collections::BTreeMap;

/// Kind of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigResource {
    /// A broker by its id, or all brokers by an empty name.
    Broker,
    /// A subscription to the metrics of clients (KIP-714).
    ClientMetrics,
}

/// The configs set for one resource, by Kafka's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfigRow {
    pub resource: ConfigResource,
    pub name: String,
    pub configs: BTreeMap<String, String>,
}
