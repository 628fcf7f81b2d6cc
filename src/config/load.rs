//! Loads a [`Config`] from file, environment and flags, and records the source of each value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin, nearest};
use super::settings::{ABSENT, Setting, settings};
use super::{Config, Durability};

/// Sources that override the defaults, in increasing precedence.
#[derive(Debug, Default)]
pub struct Layers {
    /// TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables; those without the prefix `STREAMLINE_` are ignored.
    pub environment: Vec<(String, String)>,
    /// Settings given as flags: name and text.
    pub flags: Vec<(String, String)>,
}

/// Effective settings.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// One entry for each of [`settings`], in that order.
    pub effective: Vec<Effective>,
}

/// Effective value of one setting and its source.
#[derive(Debug, Clone)]
pub struct Effective {
    pub setting: &'static Setting,
    pub value: String,
    pub origin: Origin,
}

/// Variables with the prefix that are not server settings: the path of the settings file, and the server address for
/// the command line.
const OTHER_VARIABLES: [&str; 2] = ["STREAMLINE_CONFIG", "STREAMLINE_BOOTSTRAP_SERVER"];

/// `flush.ms` that disables timed flushes: Kafka's default, used with `durability = os`.
const NEVER_MS: &str = "9223372036854775807";

/// Applies the layers to the defaults and validates the result. Fails with all errors found.
pub fn load(layers: Layers) -> Result<Loaded, Vec<ConfigError>> {
    // Collect the given settings; later layers overwrite earlier ones.
    let mut errors = Vec::new();
    let mut given: BTreeMap<String, (String, Origin)> = BTreeMap::new();
    if let Some(path) = &layers.file {
        match read_file(path) {
            Ok(entries) => {
                for (name, text, line) in entries {
                    let path = path.clone();
                    let origin = Origin::File { path, line };
                    match given.get(&name) {
                        Some((_, Origin::File { line, .. })) => {
                            errors.push(ConfigError::Twice {
                                origin,
                                name,
                                other_line: *line,
                            });
                        }
                        _ => drop(given.insert(name, (text, origin))),
                    }
                }
            }
            Err(error) => errors.push(error),
        }
    }
    for (variable, text) in layers.environment {
        let Some(name) = variable.strip_prefix("STREAMLINE_") else {
            continue;
        };
        if OTHER_VARIABLES.contains(&variable.as_str()) || is_service_link(name, &text) {
            continue;
        }
        let name = name.to_ascii_lowercase();
        given.insert(name, (text, Origin::Environment(variable)));
    }
    for (name, text) in layers.flags {
        let flag = format!("--{}", name.replace('_', "-"));
        given.insert(name, (text, Origin::Flag(flag)));
    }

    // Parse the given value or the default of every declared setting.
    let mut config = Config::blank();
    let mut effective = Vec::with_capacity(settings().len());
    let mut invalid = Vec::new();
    for setting in settings() {
        let (text, origin) = given
            .remove(setting.name)
            .unwrap_or_else(|| (setting.default.to_string(), Origin::Default));
        let is_unset = text.is_empty() && origin == Origin::Default;
        if !is_unset && !setting.set(&mut config, &text) {
            invalid.push(setting.name);
            errors.push(ConfigError::not_allowed(
                origin.clone(),
                setting.name,
                &text,
                setting.kind.allowed(),
            ));
        }
        effective.push(Effective {
            setting,
            value: text,
            origin,
        });
    }
    // Names left over are not declared.
    errors.extend(
        given
            .into_iter()
            .map(|(name, (_, origin))| unknown(name, origin)),
    );
    apply_dependencies(&mut config, &mut effective, &invalid, &mut errors);
    if errors.is_empty() {
        Ok(Loaded { config, effective })
    } else {
        Err(errors)
    }
}

/// Applies and validates dependencies between settings. Nothing is checked against a setting that is invalid itself, as the
/// configuration does not have its value.
fn apply_dependencies(
    config: &mut Config,
    effective: &mut [Effective],
    invalid: &[&str],
    errors: &mut Vec<ConfigError>,
) {
    if !invalid.contains(&"listen_addr") {
        check_listeners(config, effective, errors);
    }
    if config.durability == Durability::Os
        && let Some(flush) = effective.iter_mut().find(|each| {
            each.setting.name == "log_flush_interval_ms" && each.origin == Origin::Default
        })
    {
        flush.value = NEVER_MS.to_string();
        config.topic_defaults.flush_ms = i64::MAX;
    }
    if let Err(conflict) = config.topic_defaults.check_together() {
        errors.push(conflict);
    }
    if config.group_min_session_timeout_ms > config.group_max_session_timeout_ms
        && !invalid.contains(&"group_max_session_timeout_ms")
    {
        let longest = config.group_max_session_timeout_ms;
        let allowed = format!("at most {longest}, the value of group_max_session_timeout_ms");
        reject("group_min_session_timeout_ms", allowed, effective, errors);
    }
}

/// Rejects listeners with the same port, and advertised addresses of listeners that do not exist.
fn check_listeners(config: &Config, effective: &[Effective], errors: &mut Vec<ConfigError>) {
    if config.listeners.overlap() {
        let allowed = "addresses that do not overlap".to_string();
        reject("listen_addr", allowed, effective, errors);
    }
    let is_missing = |name: &str| config.listeners.get(name).is_none();
    if config.advertised.iter().any(|(name, _)| is_missing(name)) {
        let names = config.listeners.names();
        let allowed = format!("addresses of the listeners in listen_addr: {names}");
        reject("advertised_addr", allowed, effective, errors);
    }
}

/// Adds the error of a setting whose value is not allowed beside those of others.
fn reject(name: &str, allowed: String, effective: &[Effective], errors: &mut Vec<ConfigError>) {
    if let Some(each) = effective.iter().find(|each| each.setting.name == name) {
        let origin = each.origin.clone();
        errors.push(ConfigError::not_allowed(origin, name, &each.value, allowed));
    }
}

fn unknown(name: String, origin: Origin) -> ConfigError {
    if let Some((_, reason)) = ABSENT.iter().find(|(start, _)| name.starts_with(start)) {
        return ConfigError::Absent {
            origin,
            name,
            reason: (*reason).to_string(),
        };
    }
    let suggestion = settings()
        .iter()
        .find(|setting| {
            let kafka_name = setting.kafka_name.map(|kafka| kafka.replace('.', "_"));
            kafka_name.is_some_and(|kafka| kafka == name)
        })
        .map(|setting| setting.name.to_string())
        .or_else(|| nearest(&name, settings().iter().map(|each| each.name)));
    ConfigError::Unknown {
        origin,
        name,
        suggestion,
    }
}

/// Tells whether Kubernetes or Docker injected the variable for a service called `streamline`: they give containers
/// variables such as `STREAMLINE_PORT=tcp://…`. A bare port is not theirs: `STREAMLINE_HTTP_PORT=80` was meant as a
/// setting.
fn is_service_link(name: &str, value: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name == "SERVICE_HOST"
        || name.contains("SERVICE_PORT")
        || ((name == "PORT" || name.ends_with("_PORT")) && value.contains("://"))
        || name.starts_with("PORT_")
        || name.contains("_PORT_")
}

/// Reads a file's entries: name, value as text, line. Nested tables and Kafka's dotted names are flattened:
/// `log.retention.ms` becomes `log_retention_ms`.
#[expect(
    clippy::disallowed_methods,
    reason = "read once, before the server or command is started"
)]
fn read_file(path: &Path) -> Result<Vec<(String, String, usize)>, ConfigError> {
    let file_error = |message: String| ConfigError::File {
        path: path.to_path_buf(),
        message,
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| file_error(format!("cannot read the file: {error}")))?;
    let table = DeTable::parse(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(&text, span.start));
        file_error(format!(
            "line {line} is not valid TOML: {}",
            error.message()
        ))
    })?;
    let mut entries = Vec::new();
    flatten(&text, "", table.get_ref(), &mut entries);
    entries.sort_by_key(|(_, _, line)| *line);
    Ok(entries)
}

fn flatten(text: &str, prefix: &str, table: &DeTable<'_>, out: &mut Vec<(String, String, usize)>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref().replace(['.', '-'], "_"));
        let line = line_of(text, key.span().start);
        let shown = match value.get_ref() {
            DeValue::Table(inner) => {
                flatten(text, &format!("{name}_"), inner, out);
                continue;
            }
            DeValue::String(string) => string.to_string(),
            DeValue::Boolean(switch) => switch.to_string(),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| number.as_str().to_string(), |number| number.to_string()),
            // Passed on as written: the kind accepts a number, and rejects a date or a list.
            _ => text.get(value.span()).unwrap_or_default().to_string(),
        };
        out.push((name, shown, line));
    }
}

fn line_of(text: &str, byte: usize) -> usize {
    let before = text.get(..byte).unwrap_or(text);
    1 + before.bytes().filter(|each| *each == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("streamline.toml");
        std::fs::write(&path, text).expect("a file in it");
        (dir, path)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    fn errors(layers: Layers) -> Vec<String> {
        load(layers)
            .expect_err("invalid")
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn defaults_match_the_documentation() {
        let config = Config::default();
        assert_eq!(config.listeners.to_string(), ":9092");
        assert_eq!(config.http_addr.to_string(), ":9094");
        assert_eq!(config.data_dir, PathBuf::from("./data"));
        assert_eq!(config.durability, Durability::Acks);
        assert_eq!(config.advertised.iter().len(), 0);
        assert!(config.auto_create_topics && config.metrics);
        assert_eq!(config.topic_defaults.retention_ms, 604_800_000);
    }

    #[test]
    fn every_default_is_stored_in_its_field() {
        // A field that was not set would still be zero.
        let config = Config::default();
        let blank = Config::blank();
        assert_ne!(config.max_partitions, blank.max_partitions);
        assert_ne!(config.fetch_max_bytes, blank.fetch_max_bytes);
        assert_ne!(
            config.http_request_timeout_ms,
            blank.http_request_timeout_ms
        );
        assert_ne!(
            config.producer_id_expiration_ms,
            blank.producer_id_expiration_ms
        );
    }

    #[test]
    fn later_layers_win_and_origins_are_recorded() {
        let (_dir, path) = file("default_partitions = 2\nmax_connections = 5\ndata_dir = \"/a\"\n");
        let loaded = load(Layers {
            file: Some(path.clone()),
            environment: pairs(&[
                ("STREAMLINE_DEFAULT_PARTITIONS", "3"),
                ("STREAMLINE_MAX_CONNECTIONS", "6"),
                ("HOME", "/root"),
            ]),
            flags: pairs(&[("default_partitions", "4")]),
        })
        .expect("all allowed");
        assert_eq!(loaded.config.default_partitions, 4);
        assert_eq!(loaded.config.max_connections, 6);
        assert_eq!(loaded.config.data_dir, PathBuf::from("/a"));
        let origin = |name: &str| {
            let found = loaded
                .effective
                .iter()
                .find(|each| each.setting.name == name);
            found.expect("declared").origin.clone()
        };
        assert_eq!(
            origin("default_partitions").to_string(),
            "flag --default-partitions"
        );
        assert_eq!(
            origin("max_connections").to_string(),
            "environment STREAMLINE_MAX_CONNECTIONS"
        );
        assert_eq!(origin("data_dir"), Origin::File { path, line: 3 });
        assert_eq!(origin("listen_addr"), Origin::Default);
    }

    #[test]
    fn dotted_names_and_toml_tables_are_flattened() {
        let (_dir, path) =
            file("log.retention.ms = 1_000\n\"log.segment.bytes\" = 0x100000\n[log]\n");
        // TOML does not allow a dotted key and a table to both define `log`.
        assert!(
            errors(Layers {
                file: Some(path),
                ..Layers::default()
            })[0]
                .contains("not valid TOML")
        );
        let (_dir, path) = file("\"log.segment.bytes\" = 0x100000\n[log.retention]\nms = 1_000\n");
        let loaded = load(Layers {
            file: Some(path),
            ..Layers::default()
        })
        .expect("allowed");
        assert_eq!(loaded.config.topic_defaults.retention_ms, 1_000);
        assert_eq!(loaded.config.topic_defaults.segment_bytes, 1_048_576);
    }

    #[test]
    fn errors_name_source_setting_value_and_allowed_values() {
        let (_dir, path) =
            file("listen_adr = \":1\"\n\ndurability = \"disk\"\nmax_connections = 1.5\n");
        let found = errors(Layers {
            file: Some(path.clone()),
            environment: pairs(&[("STREAMLINE_LOG_FORMAT", "xml")]),
            flags: pairs(&[("log_cleanup_policy", "purge")]),
        });
        let path = path.display();
        for expected in [
            format!("{path}:1: unknown setting listen_adr; did you mean listen_addr?"),
            format!("{path}:3: durability = \"disk\" is not allowed; allowed: acks, os"),
            format!("{path}:4: max_connections = \"1.5\" is not allowed; allowed: a whole number from 1 to 2^31-1"),
            "environment STREAMLINE_LOG_FORMAT: log_format = \"xml\" is not allowed; allowed: text, json".to_string(),
            "flag --log-cleanup-policy: log_cleanup_policy = \"purge\" is not allowed; allowed: a list of compact, delete, or an empty list (which keeps all records)".to_string(),
        ] {
            assert!(found.contains(&expected), "{expected} in {found:#?}");
        }
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn unavailable_features_are_rejected_and_kafka_names_suggest_ours() {
        let (_dir, path) = file("sasl.enabled.mechanisms = \"PLAIN\"\nnum.partitions = 3\n");
        let found = errors(Layers {
            file: Some(path),
            ..Layers::default()
        });
        assert!(
            found[0].contains("did you mean default_partitions?"),
            "{found:?}"
        );
        assert!(found[1].contains("SASL is not available"), "{found:?}");
    }

    #[test]
    fn variables_injected_by_orchestrators_are_ignored() {
        load(Layers {
            environment: pairs(&[
                ("STREAMLINE_SERVICE_HOST", "10.0.0.1"),
                ("STREAMLINE_SERVICE_PORT_KAFKA", "9092"),
                ("STREAMLINE_PORT", "tcp://10.0.0.1:9092"),
                ("STREAMLINE_PORT_9092_TCP_ADDR", "10.0.0.1"),
                ("STREAMLINE_HEADLESS_SERVICE_HOST", "10.0.0.2"),
                ("STREAMLINE_CONFIG", "/etc/streamline.toml"),
            ]),
            ..Layers::default()
        })
        .expect("none is a setting");
        assert_eq!(
            errors(Layers {
                environment: pairs(&[("STREAMLINE_DATADIR", "/x")]),
                ..Layers::default()
            }),
            ["environment STREAMLINE_DATADIR: unknown setting datadir; did you mean data_dir?"]
        );
        assert_eq!(
            errors(Layers {
                environment: pairs(&[("STREAMLINE_HTTP_PORT", "8080")]),
                ..Layers::default()
            }),
            ["environment STREAMLINE_HTTP_PORT: unknown setting http_port"]
        );
    }

    #[test]
    fn durability_os_disables_timed_flushes_unless_set() {
        let os = pairs(&[("durability", "os")]);
        let loaded = load(Layers {
            flags: os.clone(),
            ..Layers::default()
        })
        .expect("allowed");
        assert_eq!(loaded.config.topic_defaults.flush_ms, i64::MAX);
        let loaded = load(Layers {
            environment: pairs(&[("STREAMLINE_LOG_FLUSH_INTERVAL_MS", "50")]),
            flags: os,
            ..Layers::default()
        })
        .expect("allowed");
        assert_eq!(loaded.config.topic_defaults.flush_ms, 50);
    }

    #[test]
    fn settings_are_not_rejected_for_another_that_is_invalid() {
        for (invalid, dependent) in [
            (("listen_addr", "bogus"), ("advertised_addr", "kafka:9092")),
            (
                ("group_max_session_timeout_ms", "long"),
                ("group_min_session_timeout_ms", "100"),
            ),
        ] {
            let found = errors(Layers {
                flags: pairs(&[invalid, dependent]),
                ..Layers::default()
            });
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(invalid.0), "{found:?}");
        }
    }

    #[test]
    fn setting_given_under_two_spellings_is_rejected() {
        let (_dir, path) = file("log_retention_ms = 1\n\"log.retention.ms\" = 2\n");
        let found = errors(Layers {
            file: Some(path.clone()),
            ..Layers::default()
        });
        let expected = format!(
            "{}:2: log_retention_ms is already set on line 1",
            path.display()
        );
        assert_eq!(found, [expected]);
    }

    #[test]
    fn missing_or_invalid_file_is_reported() {
        let found = errors(Layers {
            file: Some(PathBuf::from("/nowhere/streamline.toml")),
            ..Layers::default()
        });
        assert!(
            found[0].starts_with("/nowhere/streamline.toml: cannot read the file"),
            "{found:?}"
        );
        let (_dir, path) = file("data_dir = \"/a\"\nlisten_addr = \n");
        let found = errors(Layers {
            file: Some(path),
            ..Layers::default()
        });
        assert!(found[0].contains("line 2 is not valid TOML"), "{found:?}");
    }
}
