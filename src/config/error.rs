//! Configuration errors. Each names the source of the setting, its name, its value and what is allowed, so that it can
//! be fixed.

use std::fmt;
use std::path::PathBuf;

/// Source of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Not set; the default applies.
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    /// Environment variable, by name.
    Environment(String),
    /// Command line flag, with its dashes.
    Flag(String),
    /// Override on a topic.
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

/// Invalid setting of the server or of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// No setting has this name.
    Unknown {
        origin: Origin,
        name: String,
        /// The most similar existing name.
        suggestion: Option<String>,
    },
    /// The value is not allowed for this setting.
    NotAllowed {
        origin: Origin,
        name: String,
        value: String,
        /// Completes "allowed: …".
        allowed: String,
    },
    /// The setting belongs to a feature that is not available.
    Absent {
        origin: Origin,
        name: String,
        reason: String,
    },
    /// Two settings contradict each other.
    Conflict(String),
    /// The file sets it twice, under two spellings of its name.
    Twice {
        origin: Origin,
        name: String,
        other_line: usize,
    },
    /// The file cannot be read or is not valid TOML.
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
                write!(f, "unknown setting {name}")?;
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
                write!(f, "{name} is already set on line {other_line}")
            }
            ConfigError::Conflict(message) => f.write_str(message),
            ConfigError::File { path, message } => write!(f, "{}: {message}", path.display()),
        }
    }
}

fn write_origin(f: &mut fmt::Formatter<'_>, origin: &Origin) -> fmt::Result {
    match origin {
        // As in Kafka's messages, only the setting is named: the request identifies the topic.
        Origin::Topic | Origin::Default => Ok(()),
        origin => write!(f, "{origin}: "),
    }
}

/// Returns the candidate most similar to `name`, if it is similar enough to be a likely misspelling.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    // Bounds the work for long names from the wire; a name this long is not a misspelling of a known one.
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

/// Levenshtein distance in bytes.
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
    fn only_similar_names_are_suggested() {
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
