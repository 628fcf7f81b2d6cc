//! Client quotas as the catalog stores them.

use std::collections::BTreeMap;

/// Entity with quotas of its own: a user, a client id, both together, or an IP address; each by name or as the default of
/// those that have no quota of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuotaEntity {
    pub user: Option<QuotaName>,
    pub client_id: Option<QuotaName>,
    pub ip: Option<QuotaName>,
}

/// Name of one component of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuotaName {
    Default,
    Named(String),
}

/// The quotas of one entity, by Kafka's names.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaRow {
    pub entity: QuotaEntity,
    pub values: BTreeMap<String, f64>,
}
