//! Changes of quotas: checked as Kafka checks them, stored in the catalog, then applied.

use std::net::IpAddr;
use std::sync::Arc;

use super::{CONNECTION_CREATION_RATE, Quota, addresses_of};
use crate::broker::Broker;
use crate::catalog::{self, QuotaEntity, QuotaName, QuotaRow};

/// Largest fraction of a quota of whole numbers that is taken for an error of its floating point.
const FRACTION_MAX: f64 = 1e-6;

/// A changed quota of an entity; `None` stands for no quota.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaChange {
    pub key: String,
    pub before: Option<f64>,
    pub after: Option<f64>,
}

/// Reasons for which quotas cannot be changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QuotaError {
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// The task of the change ended early, as when the server is shutting down.
    #[error("the change was interrupted")]
    Interrupted,
}

fn invalid<T>(message: impl Into<String>) -> Result<T, QuotaError> {
    Err(QuotaError::Invalid(message.into()))
}

impl Broker {
    /// Sets and removes quotas of an entity, all or none. With `validate_only` it checks everything and changes nothing.
    /// Returns the changes. Runs to its end even if the caller is dropped, and one at a time.
    pub async fn change_quotas(
        self: &Arc<Self>,
        entity: QuotaEntity,
        values: Vec<(String, Option<f64>)>,
        validate_only: bool,
    ) -> Result<Vec<QuotaChange>, QuotaError> {
        let broker = Arc::clone(self);
        let task = tokio::spawn(async move {
            let turn = Arc::clone(&broker);
            let _turn = turn.quota_changes.lock().await;
            broker
                .change_quotas_now(entity, values, validate_only)
                .await
        });
        let outcome = task.await.unwrap_or(Err(QuotaError::Interrupted));
        if let Err(QuotaError::Catalog(fault)) = &outcome {
            tracing::error!(%fault, "quota change failed");
        }
        outcome
    }

    async fn change_quotas_now(
        self: Arc<Self>,
        entity: QuotaEntity,
        values: Vec<(String, Option<f64>)>,
        validate_only: bool,
    ) -> Result<Vec<QuotaChange>, QuotaError> {
        check_entity(&entity)?;
        let addresses = resolve(&entity).await?;
        let before = self.quotas.values_of(&entity);
        let mut after = before.clone();
        let mut changes = Vec::new();
        for (key, value) in values {
            match value {
                Some(value) => {
                    check_value(&entity, &key, value)?;
                    after.insert(key.clone(), value);
                }
                None => {
                    after.remove(&key);
                }
            }
            let (before, after) = (before.get(&key).copied(), after.get(&key).copied());
            if before != after {
                changes.push(QuotaChange { key, before, after });
            }
        }
        if validate_only || changes.is_empty() {
            return Ok(Vec::new());
        }
        let row = QuotaRow {
            entity,
            values: after,
        };
        self.catalog.set_client_quotas(row.clone()).await?;
        self.quotas.apply(row, addresses);
        Ok(changes)
    }
}

fn check_entity(entity: &QuotaEntity) -> Result<(), QuotaError> {
    let is_client = entity.user.is_some() || entity.client_id.is_some();
    match (is_client, entity.ip.is_some()) {
        (false, false) => invalid("a quota needs a user, a client id or an ip"),
        (true, true) => invalid("a quota of an ip cannot have a user or client id too"),
        _ => Ok(()),
    }
}

/// Returns the addresses of an entity that names a host.
async fn resolve(entity: &QuotaEntity) -> Result<Vec<IpAddr>, QuotaError> {
    let Some(QuotaName::Named(host)) = &entity.ip else {
        return Ok(Vec::new());
    };
    let name = host.clone();
    let resolving = tokio::task::spawn_blocking(move || addresses_of(&name));
    match resolving.await {
        Ok(Some(addresses)) => Ok(addresses),
        Ok(None) => invalid(format!("'{host}' is no IP address and cannot be resolved")),
        Err(_) => Err(QuotaError::Interrupted),
    }
}

fn check_value(entity: &QuotaEntity, key: &str, value: f64) -> Result<(), QuotaError> {
    // Kafka's types: an int for connections, a long for bytes, and otherwise a double.
    let whole_max = match (&entity.ip, key) {
        (Some(_), CONNECTION_CREATION_RATE) => Some(f64::from(i32::MAX)),
        (None, key) => match Quota::ALL.into_iter().find(|quota| quota.name() == key) {
            Some(Quota::ProducerByteRate | Quota::ConsumerByteRate) => Some(i64::MAX as f64),
            Some(Quota::RequestPercentage | Quota::ControllerMutationRate) => None,
            None => return invalid(format!("'{key}' is no quota of users and client ids")),
        },
        (Some(_), key) => return invalid(format!("'{key}' is no quota of ip addresses")),
    };
    if !value.is_finite() || value <= 0.0 {
        return invalid(format!("quota {key} must be greater than 0, got {value}"));
    }
    match whole_max {
        Some(max) if value > max => invalid(format!("quota {key} is too large: {value}")),
        Some(_) if value % 1.0 > FRACTION_MAX => {
            invalid(format!("quota {key} must be a whole number, got {value}"))
        }
        _ => Ok(()),
    }
}
