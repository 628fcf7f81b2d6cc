//! Levels of the server's log, which can be changed while it runs (KIP-412) and are those of `log_level` after a restart.
//!
//! A logger is an area of the code, by the target of its log lines with dots, since Kafka's tools allow no other separator;
//! `root` stands for all that have no level of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing::{Level, warn};
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::{ConfigChange, ConfigEdit, ConfigOperation, TopicError};

/// Name of the logger for everything else.
const ROOT: &str = "root";

/// Names of all loggers.
const NAMES: [&str; 13] = [
    ROOT,
    "streamline",
    "streamline.audit",
    "streamline.broker",
    "streamline.catalog",
    "streamline.cli",
    "streamline.config",
    "streamline.coordinator",
    "streamline.fs",
    "streamline.handlers",
    "streamline.protocol",
    "streamline.server",
    "streamline.storage",
];

/// Levels by Kafka's names. No line has the level FATAL, so that it stands for the next one.
const LEVELS: [(&str, LevelFilter); 6] = [
    ("DEBUG", LevelFilter::DEBUG),
    ("ERROR", LevelFilter::ERROR),
    ("FATAL", LevelFilter::ERROR),
    ("INFO", LevelFilter::INFO),
    ("TRACE", LevelFilter::TRACE),
    ("WARN", LevelFilter::WARN),
];

/// Puts levels into effect.
type Apply = Box<dyn Fn(Targets) + Send + Sync>;

/// The loggers with their levels.
pub struct Loggers {
    /// Levels of `log_level`.
    initial: Targets,
    changed: Mutex<BTreeMap<&'static str, LevelFilter>>,
    apply: OnceLock<Apply>,
}

impl Loggers {
    /// Creates the loggers with the levels of the setting `log_level`.
    pub(super) fn new(log_level: &str) -> Self {
        Loggers {
            initial: log_level.parse().unwrap_or_default(),
            changed: Mutex::default(),
            apply: OnceLock::new(),
        }
    }

    /// Sets how changed levels are put into effect. Only the first call has an effect.
    pub fn apply_with(&self, apply: impl Fn(Targets) + Send + Sync + 'static) {
        self.apply.get_or_init(|| Box::new(apply));
    }

    /// Returns all loggers with the names of their levels.
    pub fn levels(&self) -> impl Iterator<Item = (&'static str, String)> {
        let levels = self.with(&self.changed.lock());
        NAMES
            .into_iter()
            .map(move |name| (name, level_of(&levels, name)))
    }

    /// Sets levels, or resets them to those of `log_level`: all or none. Returns the changes.
    pub fn edit(
        &self,
        edits: Vec<ConfigEdit>,
        validate_only: bool,
    ) -> Result<Vec<ConfigChange>, TopicError> {
        let mut current = self.changed.lock();
        let mut changed = current.clone();
        let mut edited = Vec::new();
        for ConfigEdit { name, operation } in edits {
            let name = known(&name)?;
            match operation {
                ConfigOperation::Set(level) => changed.insert(name, parse(name, &level)?),
                ConfigOperation::Delete if name == ROOT => {
                    let message = "the level of the root logger cannot be removed";
                    return Err(TopicError::InvalidRequest(message.to_owned()));
                }
                ConfigOperation::Delete => changed.remove(name),
                ConfigOperation::Append(_) | ConfigOperation::Subtract(_) => {
                    let message = format!("the level of logger {name} can only be set or removed");
                    return Err(TopicError::InvalidRequest(message));
                }
            };
            edited.push(name);
        }
        if validate_only {
            return Ok(Vec::new());
        }
        let (before, after) = (self.with(&current), self.with(&changed));
        let changes = edited.into_iter().map(|name| ConfigChange {
            name: name.to_owned(),
            before: Some(level_of(&before, name)),
            after: Some(level_of(&after, name)),
        });
        let changes = changes.filter(|change| change.before != change.after);
        let changes = changes.collect();
        *current = changed;
        match self.apply.get() {
            Some(apply) => apply(after),
            None => warn!("log levels changed, but this process does not log"),
        }
        Ok(changes)
    }

    fn with(&self, changed: &BTreeMap<&'static str, LevelFilter>) -> Targets {
        let mut levels = self.initial.clone();
        for (name, level) in changed {
            levels = match *name {
                ROOT => levels.with_default(*level),
                name => levels.with_target(target(name), *level),
            };
        }
        levels
    }
}

impl fmt::Debug for Loggers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.levels()).finish()
    }
}

fn known(name: &str) -> Result<&'static str, TopicError> {
    let known = NAMES.into_iter().find(|known| *known == name);
    known.ok_or_else(|| TopicError::InvalidConfig(format!("there is no logger '{name}'")))
}

/// Returns the target of a logger's lines.
fn target(name: &str) -> String {
    name.replace('.', "::")
}

fn parse(logger: &str, level: &str) -> Result<LevelFilter, TopicError> {
    let known = LEVELS.into_iter().find(|(name, _)| *name == level);
    known.map(|(_, level)| level).ok_or_else(|| {
        let names = LEVELS.map(|(name, _)| name).join(", ");
        TopicError::InvalidConfig(format!(
            "'{level}' is no level for logger {logger}; allowed: {names}"
        ))
    })
}

/// Returns the name of a logger's level.
fn level_of(levels: &Targets, name: &str) -> String {
    if name == ROOT {
        let level = levels.default_level().unwrap_or(LevelFilter::OFF);
        return level.to_string().to_uppercase();
    }
    // In descending order of detail.
    let all = [
        Level::TRACE,
        Level::DEBUG,
        Level::INFO,
        Level::WARN,
        Level::ERROR,
    ];
    let target = target(name);
    let enabled = all
        .into_iter()
        .find(|level| levels.would_enable(&target, level));
    enabled.map_or("OFF".to_owned(), |level| level.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn edit(name: &str, operation: ConfigOperation) -> Vec<ConfigEdit> {
        vec![ConfigEdit {
            name: name.to_owned(),
            operation,
        }]
    }

    fn level(loggers: &Loggers, name: &str) -> String {
        let mut levels = loggers.levels();
        levels.find(|(each, _)| *each == name).unwrap().1
    }

    #[test]
    fn a_level_is_put_into_effect_and_reset_to_that_of_the_setting() {
        let loggers = Loggers::new("info,streamline::storage=error");
        let applied = Arc::new(Mutex::new(Targets::new()));
        let sink = Arc::clone(&applied);
        loggers.apply_with(move |levels| *sink.lock() = levels);
        let storage = "streamline.storage";
        assert_eq!(level(&loggers, storage), "ERROR");
        let set = ConfigOperation::Set("DEBUG".to_owned());
        let changes = loggers.edit(edit(storage, set), false).unwrap();
        assert_eq!(changes[0].before.as_deref(), Some("ERROR"));
        assert_eq!(level(&loggers, storage), "DEBUG");
        assert!(
            applied
                .lock()
                .would_enable("streamline::storage::local", &Level::DEBUG)
        );
        assert!(
            !applied
                .lock()
                .would_enable("streamline::server", &Level::DEBUG)
        );
        let reset = edit(storage, ConfigOperation::Delete);
        loggers.edit(reset, false).unwrap();
        assert_eq!(level(&loggers, storage), "ERROR");
    }

    #[test]
    fn the_root_logger_is_for_areas_without_a_level_of_their_own() {
        let loggers = Loggers::new("info");
        let set = |level: &str| ConfigOperation::Set(level.to_owned());
        loggers
            .edit(edit("streamline.server", set("WARN")), false)
            .unwrap();
        loggers.edit(edit(ROOT, set("TRACE")), false).unwrap();
        assert_eq!(level(&loggers, ROOT), "TRACE");
        assert_eq!(level(&loggers, "streamline.server"), "WARN");
        assert_eq!(level(&loggers, "streamline.handlers"), "TRACE");
        loggers.edit(edit(ROOT, set("FATAL")), true).unwrap();
        assert_eq!(level(&loggers, ROOT), "TRACE");
    }

    #[test]
    fn unknown_loggers_levels_and_operations_are_refused() {
        let loggers = Loggers::new("info");
        for (name, operation, is_config) in [
            ("kafka.server", ConfigOperation::Delete, true),
            (ROOT, ConfigOperation::Set("LOUD".to_owned()), true),
            (ROOT, ConfigOperation::Set("info".to_owned()), true),
            (ROOT, ConfigOperation::Delete, false),
            (ROOT, ConfigOperation::Append("INFO".to_owned()), false),
        ] {
            let refused = loggers.edit(edit(name, operation), false).unwrap_err();
            let is_invalid_config = matches!(refused, TopicError::InvalidConfig(_));
            assert_eq!(is_invalid_config, is_config, "{refused}");
        }
    }
}
