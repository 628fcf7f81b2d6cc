//! Settings that are changed while the server runs (KIP-226): stored in the catalog, in effect at once.
//!
//! Values for this broker override those for all brokers, which override file, environment and flags. Defaults of topics are
//! applied to every topic that does not set its own; other components subscribe to the settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::warn;

use super::topics::{changes, edited};
use super::{Broker, ConfigChange, ConfigEdit, NODE_ID, TopicError};
use crate::catalog::{ConfigResource, ServerConfigRow};
use crate::config::{Config, ConfigType, TOPIC_CONFIGS};

/// Brokers for which a value is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingScope {
    /// All brokers.
    Default,
    /// This broker.
    Broker,
}

impl SettingScope {
    /// In ascending precedence.
    const ALL: [SettingScope; 2] = [SettingScope::Default, SettingScope::Broker];

    /// Returns the name of the resource in the catalog, which is Kafka's.
    fn resource_name(self) -> String {
        match self {
            SettingScope::Default => String::new(),
            SettingScope::Broker => NODE_ID.to_string(),
        }
    }
}

/// Values set for one scope, by Kafka's names.
type Values = BTreeMap<String, String>;

/// The settings of a server, with those changed while it runs.
pub struct DynamicSettings {
    /// Settings of file, environment and flags.
    fixed: Config,
    values: Mutex<[Values; 2]>,
    config: watch::Sender<Arc<Config>>,
}

impl DynamicSettings {
    /// Creates the settings that the catalog has stored. One that this release does not accept is not in effect.
    pub(super) fn new(fixed: Config, rows: &[ServerConfigRow]) -> Self {
        let mut config = fixed.clone();
        let values = SettingScope::ALL.map(|scope| {
            let name = scope.resource_name();
            let mut row = rows
                .iter()
                .filter(|row| row.resource == ConfigResource::Broker && row.name == name);
            let mut values = row
                .next()
                .map(|row| row.configs.clone())
                .unwrap_or_default();
            values.retain(|name, value| {
                let one = Values::from([(name.clone(), value.clone())]);
                let mut changed = config.clone();
                match changed.apply_dynamic(&one) {
                    Ok(()) => config = changed,
                    Err(error) => {
                        warn!(%error, "stored setting ignored");
                        return false;
                    }
                }
                true
            });
            values
        });
        DynamicSettings {
            fixed,
            values: Mutex::new(values),
            config: watch::Sender::new(Arc::new(config)),
        }
    }

    /// Returns the settings in effect.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Returns a receiver of the settings in effect, whenever they change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Config>> {
        self.config.subscribe()
    }

    /// Returns the value that is set for a scope, if there is one.
    pub fn value(&self, scope: SettingScope, name: &str) -> Option<String> {
        self.values.lock()[scope as usize].get(name).cloned()
    }

    /// Returns all values that are set for a scope.
    pub fn values(&self, scope: SettingScope) -> Values {
        self.values.lock()[scope as usize].clone()
    }

    /// Returns the settings that would be in effect with other values of a scope.
    fn with(&self, scope: SettingScope, values: &Values) -> Result<Config, TopicError> {
        let mut config = self.fixed.clone();
        let current = self.values.lock().clone();
        for each in SettingScope::ALL {
            let values = if each == scope {
                values
            } else {
                &current[each as usize]
            };
            let applied = config.apply_dynamic(values);
            applied.map_err(|error| TopicError::InvalidRequest(error.to_string()))?;
        }
        Ok(config)
    }
}

impl Broker {
    /// Edits the values set for a scope. With `validate_only` it checks everything and changes nothing. Returns the changes.
    pub async fn edit_settings(
        self: &Arc<Self>,
        scope: SettingScope,
        edits: Vec<ConfigEdit>,
        validate_only: bool,
    ) -> Result<Vec<ConfigChange>, TopicError> {
        self.change(move |broker| async move {
            let config = broker.dynamic.config();
            let in_effect = |name: &str| list_in_effect(name, &config);
            let values = edited(broker.dynamic.values(scope), edits, in_effect)?;
            broker.set_settings_now(scope, values, validate_only).await
        })
        .await
    }

    /// Replaces all values set for a scope. Returns the changes.
    pub async fn replace_settings(
        self: &Arc<Self>,
        scope: SettingScope,
        values: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<Vec<ConfigChange>, TopicError> {
        self.change(move |broker| broker.set_settings_now(scope, values, validate_only))
            .await
    }

    async fn set_settings_now(
        self: Arc<Self>,
        scope: SettingScope,
        values: Values,
        validate_only: bool,
    ) -> Result<Vec<ConfigChange>, TopicError> {
        let config = self.dynamic.with(scope, &values)?;
        // Checked for every topic before anything is stored: a topic that could not be opened would keep the server from
        // starting.
        let mut topics = Vec::new();
        for topic in self.topics.list() {
            let overrides = &topic.config().overrides;
            let changed = config.topic_defaults.apply_over(overrides, overrides)?;
            topics.push((topic, changed));
        }
        if validate_only {
            return Ok(Vec::new());
        }
        let changes = changes(&self.dynamic.values(scope), &values);
        let row = ServerConfigRow {
            resource: ConfigResource::Broker,
            name: scope.resource_name(),
            configs: values.clone(),
        };
        self.catalog.set_server_configs(row).await?;
        self.dynamic.values.lock()[scope as usize] = values;
        for (topic, changed) in topics {
            self.topics.set_config(topic.name(), changed)?;
        }
        self.dynamic.config.send_replace(Arc::new(config));
        Ok(changes)
    }
}

/// Returns the list that is in effect; fails for a setting that is no list. Only defaults of topics are lists.
fn list_in_effect(name: &str, config: &Config) -> Result<String, TopicError> {
    let mut definitions = TOPIC_CONFIGS.iter();
    let definition = definitions.find(|each| each.server.name() == Some(name));
    match definition {
        Some(each) if each.kind.config_type() == ConfigType::List => {
            Ok(each.value(&config.topic_defaults))
        }
        _ => Err(TopicError::no_list(name)),
    }
}
