//! Subscriptions to the metrics of clients (KIP-714), as resources whose configs are kept. No metrics are collected yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::topics::{changes, edited};
use super::{Broker, ConfigChange, ConfigEdit, TopicError};
use crate::catalog::{ConfigResource, ServerConfigRow};

/// One config of a subscription.
pub struct ClientMetricsConfig {
    /// Kafka's name.
    pub name: &'static str,
    pub default: &'static str,
    pub is_list: bool,
    pub doc: &'static str,
}

/// Config with the interval at which clients push metrics.
const INTERVAL_MS: &str = "interval.ms";
/// Config with the clients that a subscription is for.
const MATCH: &str = "match";

/// The configs of a subscription.
pub const CLIENT_METRICS_CONFIGS: &[ClientMetricsConfig] = &[
    ClientMetricsConfig {
        name: INTERVAL_MS,
        default: "300000",
        is_list: false,
        doc: "Interval at which clients push metrics.",
    },
    ClientMetricsConfig {
        name: MATCH,
        default: "",
        is_list: true,
        doc: "Patterns of the clients to which the subscription applies, such as client_id=orders.*.",
    },
    ClientMetricsConfig {
        name: "metrics",
        default: "",
        is_list: true,
        doc: "Prefixes of the names of metrics that clients push; * for all.",
    },
];

/// Properties of a client that a pattern may name.
const MATCHED: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

type Configs = BTreeMap<String, String>;

/// The subscriptions, by name.
#[derive(Debug, Default)]
pub struct ClientMetrics {
    subscriptions: Mutex<BTreeMap<String, Configs>>,
}

impl ClientMetrics {
    /// Creates the subscriptions that the catalog has stored.
    pub(super) fn new(rows: Vec<ServerConfigRow>) -> Self {
        let rows = rows
            .into_iter()
            .filter(|row| row.resource == ConfigResource::ClientMetrics)
            .map(|row| (row.name, row.configs));
        ClientMetrics {
            subscriptions: Mutex::new(rows.collect()),
        }
    }

    /// Returns the names of all subscriptions, sorted.
    pub fn names(&self) -> Vec<String> {
        self.subscriptions.lock().keys().cloned().collect()
    }

    /// Returns the configs set for a subscription; empty for one that does not exist.
    pub fn configs(&self, name: &str) -> BTreeMap<String, String> {
        let subscriptions = self.subscriptions.lock();
        subscriptions.get(name).cloned().unwrap_or_default()
    }
}

impl Broker {
    /// Edits the configs of a subscription, which exists while any is set. With `validate_only` it checks everything and
    /// changes nothing. Returns the changes.
    pub async fn edit_client_metrics(
        self: &Arc<Self>,
        name: String,
        edits: Vec<ConfigEdit>,
        validate_only: bool,
    ) -> Result<Vec<ConfigChange>, TopicError> {
        self.change(move |broker| async move {
            let configs = edited(broker.client_metrics.configs(&name), edits, list_default)?;
            broker
                .set_client_metrics_now(name, configs, validate_only)
                .await
        })
        .await
    }

    /// Replaces all configs of a subscription. Returns the changes.
    pub async fn replace_client_metrics(
        self: &Arc<Self>,
        name: String,
        configs: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<Vec<ConfigChange>, TopicError> {
        self.change(move |broker| broker.set_client_metrics_now(name, configs, validate_only))
            .await
    }

    async fn set_client_metrics_now(
        self: Arc<Self>,
        name: String,
        configs: Configs,
        validate_only: bool,
    ) -> Result<Vec<ConfigChange>, TopicError> {
        if name.is_empty() {
            let message = "the name of a subscription to client metrics is empty";
            return Err(TopicError::InvalidRequest(message.to_owned()));
        }
        for (config, value) in &configs {
            check(config, value)?;
        }
        if validate_only {
            return Ok(Vec::new());
        }
        let changes = changes(&self.client_metrics.configs(&name), &configs);
        let row = ServerConfigRow {
            resource: ConfigResource::ClientMetrics,
            name: name.clone(),
            configs: configs.clone(),
        };
        self.catalog.set_server_configs(row).await?;
        let mut subscriptions = self.client_metrics.subscriptions.lock();
        match configs.is_empty() {
            true => subscriptions.remove(&name),
            false => subscriptions.insert(name, configs),
        };
        Ok(changes)
    }
}

fn list_default(name: &str) -> Result<String, TopicError> {
    match CLIENT_METRICS_CONFIGS.iter().find(|each| each.name == name) {
        Some(each) if each.is_list => Ok(each.default.to_owned()),
        _ => Err(TopicError::no_list(name)),
    }
}

/// Checks a config with Kafka's error codes, which differ.
fn check(name: &str, value: &str) -> Result<(), TopicError> {
    match name {
        INTERVAL_MS => match value.trim().parse::<i32>() {
            Ok(100..=3_600_000) => Ok(()),
            Ok(_) => Err(TopicError::InvalidRequest(format!(
                "{name} = {value} is not allowed; allowed: 100 to 3600000"
            ))),
            Err(_) => Err(TopicError::InvalidConfig(format!(
                "{name} = {value} is no number of milliseconds"
            ))),
        },
        MATCH => {
            let mut patterns = value.split(',').map(str::trim).filter(|it| !it.is_empty());
            match patterns.find(|pattern| !is_pattern(pattern)) {
                None => Ok(()),
                Some(pattern) => Err(TopicError::InvalidConfig(format!(
                    "{pattern} is no pattern of clients; expected name=regular expression, with one of {}",
                    MATCHED.join(", ")
                ))),
            }
        }
        "metrics" => Ok(()),
        _ => Err(TopicError::InvalidRequest(format!(
            "unknown config {name} of client metrics"
        ))),
    }
}

/// Returns whether a text is the name of a property and a regular expression for its value.
fn is_pattern(text: &str) -> bool {
    let mut parts = text.split('=');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(expression), None) => {
            MATCHED.contains(&name.trim()) && is_expression(expression.trim())
        }
        _ => false,
    }
}

/// Returns whether a regular expression is complete: its groups and classes are closed, and it begins with no repetition.
fn is_expression(text: &str) -> bool {
    let mut groups = 0_u32;
    let mut in_class = false;
    let mut characters = text.chars();
    if text.is_empty() || text.starts_with(['*', '+', '?']) {
        return false;
    }
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.next().is_none() => return false,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => groups += 1,
            ')' if !in_class => match groups.checked_sub(1) {
                Some(left) => groups = left,
                None => return false,
            },
            _ => {}
        }
    }
    groups == 0 && !in_class
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_a_property_and_a_complete_expression() {
        for valid in [
            "client_id=a.*",
            "client_source_port = (90|91)[0-9]",
            r"client_id=\(",
        ] {
            assert!(is_pattern(valid), "{valid}");
        }
        for invalid in [
            "client_id",
            "client_id=",
            "client_id=a=b",
            "user=a",
            "client_id=(a",
            "client_id=a)",
            "client_id=[a",
            "client_id=*",
            "client_id=a\\",
        ] {
            assert!(!is_pattern(invalid), "{invalid}");
        }
    }

    #[test]
    fn configs_are_refused_with_kafkas_kind_of_error() {
        assert!(check("interval.ms", "100").is_ok());
        assert!(check("metrics", "*").is_ok());
        assert!(check("match", "client_id=a, client_id=b").is_ok());
        for (name, value) in [
            ("interval.ms", "99"),
            ("interval.ms", "3600001"),
            ("other", "1"),
        ] {
            assert!(matches!(
                check(name, value),
                Err(TopicError::InvalidRequest(_))
            ));
        }
        for (name, value) in [("interval.ms", "soon"), ("match", "user=a")] {
            assert!(matches!(
                check(name, value),
                Err(TopicError::InvalidConfig(_))
            ));
        }
    }
}
