//! Types and syntax of setting values, shared by file, environment, flags and topic overrides.
//!
//! Every value arrives as text. [`Kind::normalize`] checks it, and the type of the field that holds it parses the result.
//! Error messages, `--help` and the documentation all describe the allowed values with [`Kind::allowed`], and
//! DescribeConfigs their type with [`Kind::config_type`].

use std::fmt;
use std::str::FromStr;

use super::listeners::ByListener;

/// Type and range of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `on` or `off`; `true` and `false` mean the same.
    Switch,
    /// Whole number within inclusive bounds.
    Int { min: i64, max: i64 },
    /// Whole number within inclusive bounds, or one other number.
    IntOr { other: i64, min: i64, max: i64 },
    /// `true` or `false`, in any case.
    Bool,
    /// Number within inclusive bounds.
    Double { min: f64, max: f64 },
    /// One of a few words, in any case.
    Choice(&'static [&'static str]),
    /// One of a few words, exactly as written.
    Word(&'static [&'static str]),
    /// `*` for all replicas, or a comma-separated list of `partition:broker`.
    ThrottledReplicas,
    /// A single allowed value, because others need a feature that is not available. The second text is the reason.
    Only(ConfigType, &'static str, &'static str),
    /// Comma-separated list of these words, possibly empty; repeated items are dropped. The second text is the reason
    /// why other words are not allowed.
    List(&'static [&'static str], &'static str),
    /// Address to listen on: `host:port`, `[v6]:port`, or `:port` for every address.
    Listen,
    /// One such address, or a list of them by listener: `NAME://host:port`.
    Listeners,
    /// Addresses for clients to connect to, in the same syntax: `host:port` with a port other than 0.
    Endpoints,
    /// File system path.
    Path,
    /// Level (`info`), or a comma-separated list of `target=level` with at most one bare level.
    LogFilter,
}

/// Kafka type of a setting, as reported by DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigType {
    Boolean,
    String,
    Int,
    Long,
    Double,
    List,
}

/// Stores a normalized value in a field. Returns false if the field's type cannot hold it.
pub(super) fn store<T: FromStr>(field: &mut T, value: &str) -> bool {
    match value.parse() {
        Ok(parsed) => {
            *field = parsed;
            true
        }
        Err(_) => false,
    }
}

/// Declares the words that stand for the variants of a type.
macro_rules! words {
    ($type:ident { $($word:literal => $variant:ident,)* }) => {
        impl $type {
            pub(super) const WORDS: &'static [&'static str] = &[$($word),*];
        }

        impl std::str::FromStr for $type {
            type Err = ();

            fn from_str(word: &str) -> Result<Self, ()> {
                match word {
                    $($word => Ok($type::$variant),)*
                    _ => Err(()),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $($type::$variant => $word,)*
                })
            }
        }
    };
}
pub(super) use words;

/// Address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddr {
    /// Host name or IP address; `None` for all addresses, IPv4 and IPv6.
    pub host: Option<String>,
    /// 0 for a port chosen by the system.
    pub port: u16,
}

/// Address to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or IP address, IPv6 without brackets.
    pub host: String,
    pub port: u16,
}

impl FromStr for ListenAddr {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = split_host_port(text).ok_or(())?;
        let host = match host {
            "" | "*" => None,
            host => Some(host.to_string()),
        };
        Ok(ListenAddr { host, port })
    }
}

impl FromStr for Endpoint {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match split_host_port(text) {
            Some((host, port)) if !host.is_empty() && port != 0 => Ok(Endpoint {
                host: host.to_string(),
                port,
            }),
            _ => Err(()),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host_port(f, self.host.as_deref().unwrap_or(""), self.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host_port(f, &self.host, self.port)
    }
}

fn write_host_port(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') {
        write!(f, "[{host}]:{port}")
    } else {
        write!(f, "{host}:{port}")
    }
}

const LISTEN_ADDR: &str =
    "host:port, [ipv6]:port, or :port for all addresses; port 0 lets the system choose";
const NAMED: &str = "addresses, each with a listener name of its own, such as \
                     INTERNAL://10.0.0.1:9092,EXTERNAL://example.com:9093; SSL and SASL are not supported yet";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Kind {
    /// Returns the value as its type reads it, without surrounding whitespace and alternative spellings; `None` if it is
    /// not allowed.
    pub fn normalize(&self, text: &str) -> Option<String> {
        let text = text.trim();
        match self {
            Kind::Switch => match text {
                "on" | "true" => Some("true".to_string()),
                "off" | "false" => Some("false".to_string()),
                _ => None,
            },
            Kind::Int { min, max } => {
                let number = text.parse().ok();
                let allowed = number.filter(|number| (min..=max).contains(&number));
                allowed.map(|number: i64| number.to_string())
            }
            Kind::IntOr { other, min, max } => {
                let number: i64 = text.parse().ok()?;
                let is_allowed = number == *other || (*min..=*max).contains(&number);
                is_allowed.then(|| number.to_string())
            }
            Kind::Bool => ["true", "false"]
                .iter()
                .find(|word| word.eq_ignore_ascii_case(text))
                .map(|word| (*word).to_string()),
            Kind::Word(words) => words.contains(&text).then(|| text.to_string()),
            Kind::ThrottledReplicas => throttled_replicas(text),
            Kind::Double { min, max } => {
                let number = text.parse().ok();
                let allowed = number.filter(|number| (min..=max).contains(&number));
                allowed.map(double)
            }
            Kind::Choice(words) => words
                .iter()
                .find(|word| word.eq_ignore_ascii_case(text))
                .map(|word| (*word).to_string()),
            Kind::Only(_, value, _) => is_same_value(value, text).then(|| (*value).to_string()),
            Kind::List(words, _) => list(words, text),
            Kind::Listen => Some(text.parse::<ListenAddr>().ok()?.to_string()),
            Kind::Listeners => Some(text.parse::<ByListener<ListenAddr>>().ok()?.to_string()),
            Kind::Endpoints => Some(text.parse::<ByListener<Endpoint>>().ok()?.to_string()),
            Kind::Path => (!text.is_empty() && !text.contains('\0')).then(|| text.to_string()),
            Kind::LogFilter => is_log_filter(text).then(|| text.to_string()),
        }
    }

    /// Returns the type that Kafka has for such values.
    pub fn config_type(&self) -> ConfigType {
        match self {
            Kind::Switch | Kind::Bool => ConfigType::Boolean,
            Kind::Int { max, .. } if *max <= i64::from(i32::MAX) => ConfigType::Int,
            Kind::Int { .. } => ConfigType::Long,
            Kind::Double { .. } => ConfigType::Double,
            Kind::Only(config_type, ..) => *config_type,
            Kind::IntOr { .. } => ConfigType::Int,
            Kind::List(..) | Kind::ThrottledReplicas => ConfigType::List,
            Kind::Choice(_)
            | Kind::Word(_)
            | Kind::Listen
            | Kind::Listeners
            | Kind::Endpoints
            | Kind::Path
            | Kind::LogFilter => ConfigType::String,
        }
    }

    /// Describes the allowed values, as a phrase that completes "allowed: …".
    pub fn allowed(&self) -> String {
        match self {
            Kind::Switch => "on, off".to_string(),
            Kind::Int { min, max } if min == max => format!("{min}"),
            Kind::Int { min, max } => {
                let low = bound(*min);
                let high = bound(*max);
                format!("a whole number from {low} to {high}")
            }
            Kind::IntOr { other, min, max } => {
                format!(
                    "{other}, or a whole number from {} to {}",
                    bound(*min),
                    bound(*max)
                )
            }
            Kind::Bool => "true, false".to_string(),
            Kind::Choice(words) | Kind::Word(words) => words.join(", "),
            Kind::ThrottledReplicas => {
                "*, or a list of partition:broker, possibly empty".to_string()
            }
            Kind::Double { min, max } => match *max == f64::MAX {
                true => format!("a number of at least {}", double(*min)),
                false => format!("a number from {} to {}", double(*min), double(*max)),
            },
            Kind::Only(_, value, reason) => format!("{value} ({reason})"),
            Kind::List([], reason) => format!("an empty list ({reason})"),
            Kind::List(words, reason) => {
                format!(
                    "a list of {}, or an empty list ({reason})",
                    words.join(", ")
                )
            }
            Kind::Listen => LISTEN_ADDR.to_string(),
            Kind::Listeners => format!("{LISTEN_ADDR}; or a list of such {NAMED}"),
            Kind::Endpoints => format!(
                "host:port or [ipv6]:port, with a port from 1 to 65535; or a list of such {NAMED}"
            ),
            Kind::Path => "a path".to_string(),
            Kind::LogFilter => format!(
                "{}, or a list such as info,streamline::storage=debug",
                LEVELS.join(", ")
            ),
        }
    }
}

/// Compares two values as numbers, or as words ignoring case, as Kafka does (`False`).
fn is_same_value(allowed: &str, text: &str) -> bool {
    match (allowed.parse::<f64>(), text.parse::<f64>()) {
        // Kafka does not accept 1.0 for a whole number.
        (Ok(_), Ok(_)) if !allowed.contains('.') => allowed.parse::<i64>() == text.parse::<i64>(),
        (Ok(allowed), Ok(number)) => allowed == number,
        _ => allowed.eq_ignore_ascii_case(text),
    }
}

/// Formats a number as Kafka does: with a decimal point, and an exponent if it is very small or large.
pub(super) fn double(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

/// Normalizes a list: comma-separated, without repetitions, in order of first occurrence. `None` if an item is not
/// among `words`.
fn list(words: &[&str], text: &str) -> Option<String> {
    let mut items: Vec<&str> = Vec::new();
    if !text.is_empty() {
        for item in text.split(',').map(str::trim) {
            if !words.contains(&item) {
                return None;
            }
            if !items.contains(&item) {
                items.push(item);
            }
        }
    }
    Some(items.join(","))
}

/// Normalizes a list of replicas as [`list`] does. Empty items are dropped, as by Kafka.
fn throttled_replicas(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.to_string());
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut items: Vec<&str> = Vec::new();
    for item in text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        let (partition, broker) = item.split_once(':')?;
        if !is_number(partition) || !is_number(broker) {
            return None;
        }
        if !items.contains(&item) {
            items.push(item);
        }
    }
    Some(items.join(","))
}

/// Formats a bound, with the maximum of a type as a power of two.
fn bound(number: i64) -> String {
    match number {
        i64::MAX => "2^63-1".to_string(),
        i64::MIN => "-2^63".to_string(),
        number if number == i64::from(i32::MAX) => "2^31-1".to_string(),
        number => number.to_string(),
    }
}

/// Splits `host:port` and removes the brackets of an IPv6 address.
fn split_host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    // `u16::from_str` accepts a plus sign.
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port = port.parse().ok()?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            inner
        }
        None if host.contains(':') => return None,
        None => host,
    };
    let plausible = host
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b'@');
    plausible.then_some((host, port))
}

fn is_log_filter(text: &str) -> bool {
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let mut bare = 0;
    !text.is_empty()
        && text
            .split(',')
            .all(|part| match part.trim().split_once('=') {
                Some((target, level)) => !target.is_empty() && is_level(level),
                None => {
                    bare += 1;
                    bare == 1 && is_level(part.trim())
                }
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Option<(Option<String>, u16)> {
        let addr: ListenAddr = Kind::Listen.normalize(text)?.parse().unwrap();
        Some((addr.host, addr.port))
    }

    #[test]
    fn listen_addresses_parse_in_all_forms() {
        assert_eq!(listen(":9092"), Some((None, 9092)));
        assert_eq!(listen("*:9092"), Some((None, 9092)));
        assert_eq!(listen("127.0.0.1:0"), Some((Some("127.0.0.1".into()), 0)));
        assert_eq!(listen("[::1]:9092"), Some((Some("::1".into()), 9092)));
        assert_eq!(
            listen("localhost:9092"),
            Some((Some("localhost".into()), 9092))
        );
    }

    #[test]
    fn invalid_addresses_are_rejected() {
        for text in [
            "",
            "9092",
            ":",
            ":+1",
            ":65536",
            "::1:9092",
            "[::1",
            "[zz]:1",
            "a b:1",
            "PLAINTEXT://:9092",
        ] {
            assert_eq!(listen(text), None, "{text:?}");
        }
        assert_eq!(Kind::Endpoints.normalize(":9092"), None);
        assert_eq!(Kind::Endpoints.normalize("broker:0"), None);
        assert!(Kind::Endpoints.normalize("broker.example:9092").is_some());
    }

    #[test]
    fn addresses_display_as_written() {
        for text in [":9092", "[::1]:9092", "127.0.0.1:0"] {
            assert_eq!(Kind::Listen.normalize(text).unwrap(), text);
        }
    }

    #[test]
    fn numbers_are_bounded_on_both_sides() {
        let kind = Kind::Int { min: -1, max: 10 };
        assert_eq!(kind.normalize("-1"), Some("-1".into()));
        assert_eq!(kind.normalize("10"), Some("10".into()));
        for text in ["-2", "11", "", "1.0", "ten", "99999999999999999999"] {
            assert_eq!(kind.normalize(text), None, "{text:?}");
        }
    }

    #[test]
    fn doubles_are_formatted_as_in_kafka() {
        let kind = Kind::Double {
            min: 0.0,
            max: f64::MAX,
        };
        for (text, value) in [
            (" 0.50 ", "0.5"),
            ("1", "1.0"),
            ("0", "0.0"),
            ("0.001", "0.001"),
            ("0.00025", "2.5E-4"),
            ("1e-5", "1.0E-5"),
            ("12345678", "1.2345678E7"),
            ("1.7976931348623157E308", "1.7976931348623157E308"),
        ] {
            assert_eq!(kind.normalize(text), Some(value.into()), "{text:?}");
            assert_eq!(value.parse(), Ok(text.trim().parse::<f64>().unwrap()));
        }
        for text in ["-0.1", "NaN", "inf", "", "x"] {
            assert_eq!(kind.normalize(text), None, "{text:?}");
        }
    }

    #[test]
    fn lists_are_trimmed_and_deduplicated_and_may_be_empty() {
        let kind = Kind::List(&["delete", "keep"], "nothing else");
        for (text, items) in [
            ("", ""),
            (" ", ""),
            ("delete", "delete"),
            (" keep , delete,keep ", "keep,delete"),
        ] {
            assert_eq!(kind.normalize(text), Some(items.into()), "{text:?}");
        }
        // Kafka 4.4: "values must not be empty", and words are case-sensitive.
        for text in [",", "delete,", "delete,,keep", "DELETE", "other"] {
            assert_eq!(kind.normalize(text), None, "{text:?}");
        }
        assert!(Kind::List(&[], "").normalize("").is_some());
        assert!(Kind::List(&[], "").normalize("*").is_none());
    }

    #[test]
    fn throttled_replicas_are_all_or_pairs_of_numbers() {
        let kind = Kind::ThrottledReplicas;
        // As Kafka 4.4 accepts and refuses them.
        for (text, items) in [
            ("", ""),
            ("*", "*"),
            ("0:1,1:1", "0:1,1:1"),
            ("0:1, 1:1", "0:1,1:1"),
            ("0:1,0:1", "0:1"),
            ("0:1,", "0:1"),
        ] {
            assert_eq!(kind.normalize(text), Some(items.into()), "{text:?}");
        }
        for text in ["none", "*,0:1", "x", "a:b", "0", ":1", "0:-1", "0:1:2"] {
            assert_eq!(kind.normalize(text), None, "{text:?}");
        }
    }

    #[test]
    fn words_are_exact_and_booleans_are_not() {
        assert_eq!(Kind::Word(&["gzip"]).normalize("gzip"), Some("gzip".into()));
        assert_eq!(Kind::Word(&["gzip"]).normalize("GZIP"), None);
        assert_eq!(Kind::Bool.normalize("TRUE"), Some("true".into()));
        assert_eq!(Kind::Bool.normalize("on"), None);
    }

    #[test]
    fn a_number_beside_a_range_is_accepted() {
        let kind = Kind::IntOr {
            other: -1,
            min: 1,
            max: 9,
        };
        for (text, is_accepted) in [
            ("-1", true),
            ("1", true),
            ("9", true),
            ("0", false),
            ("10", false),
        ] {
            assert_eq!(kind.normalize(text).is_some(), is_accepted, "{text}");
        }
    }

    #[test]
    fn single_allowed_value_accepts_kafkas_spellings() {
        let parse = |allowed, text| Kind::Only(ConfigType::String, allowed, "").normalize(text);
        for (allowed, text) in [
            ("false", "FALSE"),
            ("0.5", " 0.50 "),
            ("0.5", "5e-1"),
            ("-2", "-2"),
            ("1", "+1"),
        ] {
            let value = Some(allowed.into());
            assert_eq!(parse(allowed, text), value, "{text}");
        }
        for (allowed, text) in [
            ("false", "true"),
            ("0.5", "0.6"),
            ("1", "1.0"),
            ("-2", "2"),
            ("1", ""),
        ] {
            assert_eq!(parse(allowed, text), None, "{text}");
        }
    }

    #[test]
    fn log_filters_are_levels_or_targets_with_levels() {
        for text in [
            "info",
            "DEBUG",
            "warn,streamline::storage=trace",
            "hyper=off",
        ] {
            assert!(Kind::LogFilter.normalize(text).is_some(), "{text:?}");
        }
        for text in ["", "loud", "info,debug", "=info", "streamline=loud"] {
            assert!(Kind::LogFilter.normalize(text).is_none(), "{text:?}");
        }
    }
}
