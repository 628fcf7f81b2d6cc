//! Listeners: addresses by name, in Kafka's syntax `NAME://host:port,…`.

use std::fmt;
use std::str::FromStr;

use super::ListenAddr;

/// Name of the only listener where none is named, and of Kafka's security protocol without encryption.
const PLAINTEXT: &str = "PLAINTEXT";
/// Kafka's other security protocols. A listener with such a name would have to speak it.
const UNSUPPORTED: [&str; 3] = ["SSL", "SASL_PLAINTEXT", "SASL_SSL"];

/// Addresses by the name of their listener. Each name occurs once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByListener<T>(Vec<(String, T)>);

impl<T> Default for ByListener<T> {
    fn default() -> Self {
        ByListener(Vec::new())
    }
}

impl<T> ByListener<T> {
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, addr)| (name.as_str(), addr))
    }

    pub fn get(&self, listener: &str) -> Option<&T> {
        self.iter()
            .find_map(|(name, addr)| (name == listener).then_some(addr))
    }

    /// Returns the names, comma-separated.
    pub(super) fn names(&self) -> String {
        let names: Vec<&str> = self.iter().map(|(name, _)| name).collect();
        names.join(", ")
    }
}

impl ByListener<ListenAddr> {
    /// Returns whether two listeners share a port of a host. The system would accept both until clients may connect.
    pub(super) fn overlap(&self) -> bool {
        let overlaps = |one: &ListenAddr, other: &ListenAddr| {
            let is_same_host = one.host.is_none() || other.host.is_none() || one.host == other.host;
            one.port != 0 && one.port == other.port && is_same_host
        };
        let addrs: Vec<&ListenAddr> = self.iter().map(|(_, addr)| addr).collect();
        let mut rest = addrs.as_slice();
        while let Some((first, others)) = rest.split_first() {
            if others.iter().any(|other| overlaps(first, other)) {
                return true;
            }
            rest = others;
        }
        false
    }
}

/// Parses a list, or a single address without a name.
impl<T: FromStr<Err = ()>> FromStr for ByListener<T> {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut listeners = ByListener::default();
        for item in text.split(',') {
            let (name, addr) = item.trim().split_once("://").unwrap_or((PLAINTEXT, item));
            // Kafka's names ignore case.
            let name = name.to_ascii_uppercase();
            if !is_name(&name) || listeners.get(&name).is_some() {
                return Err(());
            }
            listeners.0.push((name, addr.trim().parse()?));
        }
        Ok(listeners)
    }
}

/// Writes a single address without its name if it is the default one.
impl<T: fmt::Display> fmt::Display for ByListener<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, addr)) in self.iter().enumerate() {
            let separator = if index > 0 { "," } else { "" };
            match self.0.len() {
                1 if name == PLAINTEXT => write!(f, "{addr}")?,
                _ => write!(f, "{separator}{name}://{addr}")?,
            }
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    !name.is_empty() && name.bytes().all(is_valid) && !UNSUPPORTED.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::super::Endpoint;
    use super::*;

    #[test]
    fn a_list_has_named_addresses_and_a_single_address_needs_no_name() {
        for (text, shown) in [
            (":9092", ":9092"),
            ("PLAINTEXT://:9092", ":9092"),
            ("EXTERNAL://[::1]:0", "EXTERNAL://[::1]:0"),
            (
                "internal://:9092, External.2://0.0.0.0:9093",
                "INTERNAL://:9092,EXTERNAL.2://0.0.0.0:9093",
            ),
            (":9092,OTHER://:9093", "PLAINTEXT://:9092,OTHER://:9093"),
        ] {
            let listeners: ByListener<ListenAddr> = text.parse().unwrap();
            assert_eq!(listeners.to_string(), shown);
        }
        let advertised: ByListener<Endpoint> = "A://a:1,B://b:2".parse().unwrap();
        assert_eq!(advertised.get("B").unwrap().to_string(), "b:2");
        assert_eq!(advertised.get("C"), None);
    }

    #[test]
    fn listeners_overlap_if_they_share_a_port_and_a_host() {
        let overlap = |text: &str| text.parse::<ByListener<ListenAddr>>().unwrap().overlap();
        for text in ["A://:1,B://:1", "A://:1,B://h:1", "A://h:1,B://:2,C://h:1"] {
            assert!(overlap(text), "{text}");
        }
        for text in ["A://:0,B://:0", "A://:1,B://:2", "A://g:1,B://h:1", ":1"] {
            assert!(!overlap(text), "{text}");
        }
    }

    #[test]
    fn repeated_names_and_other_security_protocols_are_rejected() {
        for text in [
            "",
            "A://:1,",
            ":1,:2",
            "A://:1,a://:2",
            "A B://:1",
            "://:1",
            "A://9092",
            "SSL://:9093",
            "PLAINTEXT://:1,SASL_SSL://:2",
        ] {
            assert!(text.parse::<ByListener<ListenAddr>>().is_err(), "{text:?}");
        }
    }
}
