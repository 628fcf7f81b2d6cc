//! Principals: the identities of clients.

use std::borrow::Cow;
use std::fmt;

/// Identity of a client in Kafka's notation, `type:name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal(Cow<'static, str>);

impl Principal {
    /// Principal of a client that is not authenticated.
    pub const ANONYMOUS: Principal = Principal(Cow::Borrowed("User:ANONYMOUS"));

    /// Creates the principal of another client.
    #[cfg(test)]
    pub(super) const fn named(name: &'static str) -> Principal {
        Principal(Cow::Borrowed(name))
    }

    /// Returns the name without the type, by which quotas name a user.
    pub fn name(&self) -> &str {
        self.0.split_once(':').map_or(&*self.0, |(_, name)| name)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
