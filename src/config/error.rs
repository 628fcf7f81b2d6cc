//! Why a setting was refused, in words that let its author mend it: where it stands, its name, its value, what is
//! allowed.

use std::fmt;
use std::path::PathBuf;

/// Where a setting came from, or was refused at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    /// An environment variable, by name.
    Environment(String),
    /// A command line flag, with its dashes.
    Flag(String),
    /// A topic's own override.
    Topic,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(flag) => write!(f, "flag {flag}"),
            Origin::Topic => f.write_str("topic"),
        }
    }
}

/// A setting that stops the start, or that a topic cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// There is no such setting.
    Unknown {
        origin: Origin,
        name: String,
        /// The nearest name there is.
        suggestion: Option<String>,
    },
    /// The value is outside what the setting allows.
    NotAllowed {
        origin: Origin,
        name: String,
        value: String,
        /// Completes "allowed: …".
        allowed: String,
    },
    /// The setting asks for something this server does not have.
    Absent {
        origin: Origin,
        name: String,
        reason: String,
    },
    /// The file has the setting twice, under two spellings of its name.
    Twice {
        origin: Origin,
        name: String,
        other_line: usize,
    },
    /// The file could not be read, or is not TOML.
    File { path: PathBuf, message: String },
}

impl ConfigError {
    pub(super) fn not_allowed(origin: Origin, name: &str, value: &str, allowed: String) -> Self {
        ConfigError::NotAllowed {
            origin,
            name: name.to_string(),
            value: value.to_string(),
            allowed,
        }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unknown {
                origin,
                name,
                suggestion,
            } => {
                write_origin(f, origin)?;
                write!(f, "there is no setting {name}")?;
                match suggestion {
                    Some(near) => write!(f, "; did you mean {near}?"),
                    None => Ok(()),
                }
            }
            ConfigError::NotAllowed {
                origin,
                name,
                value,
                allowed,
            } => {
                write_origin(f, origin)?;
                write!(f, "{name} = {value:?} is not allowed; allowed: {allowed}")
            }
            ConfigError::Absent {
                origin,
                name,
                reason,
            } => {
                write_origin(f, origin)?;
                write!(f, "{name} cannot be set: {reason}")
            }
            ConfigError::Twice {
                origin,
                name,
                other_line,
            } => {
                write_origin(f, origin)?;
                write!(f, "{name} is set on line {other_line} already")
            }
            ConfigError::File { path, message } => write!(f, "{}: {message}", path.display()),
        }
    }
}

fn write_origin(f: &mut fmt::Formatter<'_>, origin: &Origin) -> fmt::Result {
    match origin {
        // Kafka's own error texts name the setting alone: the request says which topic.
        Origin::Topic | Origin::Default => Ok(()),
        origin => write!(f, "{origin}: "),
    }
}

/// The candidate nearest to `name`, if any is near enough to be what was meant.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    // Names from the wire may be long; nothing that long is a misspelling of ours.
    if name.len() > 64 {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate.to_string())
}

/// Levenshtein's distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_only_when_it_is_near() {
        let names = ["listen_addr", "http_addr", "data_dir"];
        assert_eq!(
            nearest("listen_adr", names),
            Some("listen_addr".to_string())
        );
        assert_eq!(nearest("datadir", names), Some("data_dir".to_string()));
        assert_eq!(nearest("zookeeper_connect", names), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), names), None);
    }
}
