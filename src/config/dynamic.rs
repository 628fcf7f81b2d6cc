//! Settings that are changed while the server runs.
//!
//! They have Kafka's names and override those of the file, environment and flags. Only a setting whose change takes effect
//! at once can be changed.

use std::collections::BTreeMap;

use super::Config;
use super::error::{ConfigError, Origin};
use super::settings::{Setting, settings};

/// Returns the setting with Kafka's name `name`.
fn named(name: &str) -> Option<&'static Setting> {
    settings().iter().find(|each| each.dotted_name() == name)
}

impl Config {
    /// Applies values set at run time, by Kafka's names. Fails at the first that is unknown, not allowed or fixed while the
    /// server runs, or if the settings then contradict each other.
    pub fn apply_dynamic(&mut self, values: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        for (name, value) in values {
            let setting = named(name).ok_or_else(|| ConfigError::Unknown {
                origin: Origin::Default,
                name: name.clone(),
                suggestion: None,
            })?;
            if !setting.is_dynamic() {
                return Err(ConfigError::Absent {
                    origin: Origin::Default,
                    name: name.clone(),
                    reason: "it cannot be changed while the server runs: change the config file, environment or flags, and restart".to_owned(),
                });
            }
            if !setting.set(self, value) {
                let allowed = setting.kind.allowed();
                let origin = Origin::Default;
                return Err(ConfigError::not_allowed(origin, name, value, allowed));
            }
        }
        self.topic_defaults.check_together()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(name: &str, value: &str) -> Result<Config, String> {
        let mut config = Config::default();
        let values = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let applied = config.apply_dynamic(&values);
        applied.map(|()| config).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_of_topics_and_limits_of_connections_can_be_changed() {
        let config = applied("log.retention.ms", "5").unwrap();
        assert_eq!(config.topic_defaults.retention_ms, 5);
        let config = applied("max.connections", "7").unwrap();
        assert_eq!(config.max_connections, 7);
    }

    #[test]
    fn other_settings_and_values_are_refused_with_the_reason() {
        for (name, value, reason) in [
            ("listeners", ":9092", "restart"),
            ("log.dirs", "/tmp", "restart"),
            ("no.such.setting", "1", "unknown"),
            ("log.retention.ms", "soon", "not allowed"),
            ("max.connections", "0", "not allowed"),
        ] {
            let refused = applied(name, value).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    }
}
