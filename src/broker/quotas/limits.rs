//! Matching of clients to the limits of one quota, with Kafka's precedence.

use std::collections::HashMap;

use crate::catalog::{QuotaEntity, QuotaName};

/// The limits of one quota, by entity.
#[derive(Debug, Default)]
pub(super) struct Limits {
    by_entity: HashMap<QuotaEntity, f64>,
}

/// The limit of a client, and the clients that share it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limit {
    pub(super) per_second: f64,
    pub(super) shared: SharedBy,
}

/// Clients whose amounts are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SharedBy {
    /// All connections of a user with the same client id.
    UserAndClientId,
    /// All connections of a user.
    User,
    /// All connections with the same client id.
    ClientId,
}

impl Limits {
    /// Sets the limit of an entity, or removes it.
    pub(super) fn set(&mut self, entity: &QuotaEntity, per_second: Option<f64>) {
        match per_second {
            Some(limit) => self.by_entity.insert(entity.clone(), limit),
            None => self.by_entity.remove(entity),
        };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_entity.is_empty()
    }

    /// Returns the limit of a client. The most specific entity decides; a user's own limit precedes any limit of the
    /// default user, and limits of users precede those of client ids.
    pub(super) fn find(&self, user: &str, client_id: &str) -> Option<Limit> {
        let user = || Some(QuotaName::Named(user.to_owned()));
        let client = || Some(QuotaName::Named(client_id.to_owned()));
        let default = || Some(QuotaName::Default);
        if client_id.is_empty() {
            return self.find_without_client_id(user());
        }
        let levels = [
            (user(), client()),
            (user(), default()),
            (user(), None),
            (default(), client()),
            (default(), default()),
            (default(), None),
            (None, client()),
            (None, default()),
        ];
        levels.into_iter().find_map(|level| self.at(level))
    }

    /// Returns the limit of a client without client id, which limits of client ids do not cover, as in Kafka.
    fn find_without_client_id(&self, user: Option<QuotaName>) -> Option<Limit> {
        let default = Some(QuotaName::Default);
        self.at((user, None)).or_else(|| self.at((default, None)))
    }

    fn at(&self, (user, client_id): (Option<QuotaName>, Option<QuotaName>)) -> Option<Limit> {
        let shared = match (&user, &client_id) {
            (Some(_), Some(_)) => SharedBy::UserAndClientId,
            (Some(_), None) => SharedBy::User,
            (None, _) => SharedBy::ClientId,
        };
        let entity = QuotaEntity {
            user,
            client_id,
            ip: None,
        };
        let per_second = *self.by_entity.get(&entity)?;
        Some(Limit { per_second, shared })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Option<QuotaName> {
        Some(QuotaName::Named(name.to_owned()))
    }

    fn entity(user: Option<QuotaName>, client_id: Option<QuotaName>) -> QuotaEntity {
        QuotaEntity {
            user,
            client_id,
            ip: None,
        }
    }

    /// All eight levels, in Kafka's order of precedence.
    fn levels() -> [(QuotaEntity, SharedBy); 8] {
        let default = Some(QuotaName::Default);
        [
            (entity(named("u"), named("c")), SharedBy::UserAndClientId),
            (
                entity(named("u"), default.clone()),
                SharedBy::UserAndClientId,
            ),
            (entity(named("u"), None), SharedBy::User),
            (
                entity(default.clone(), named("c")),
                SharedBy::UserAndClientId,
            ),
            (
                entity(default.clone(), default.clone()),
                SharedBy::UserAndClientId,
            ),
            (entity(default.clone(), None), SharedBy::User),
            (entity(None, named("c")), SharedBy::ClientId),
            (entity(None, default), SharedBy::ClientId),
        ]
    }

    #[test]
    fn the_most_specific_entity_decides_in_kafkas_order() {
        for first in 0..8 {
            let mut limits = Limits::default();
            for (level, (entity, _)) in levels().iter().enumerate().skip(first) {
                limits.set(entity, Some(level as f64));
            }
            let expected = Limit {
                per_second: first as f64,
                shared: levels()[first].1,
            };
            assert_eq!(limits.find("u", "c"), Some(expected));
        }
    }

    #[test]
    fn other_users_and_client_ids_get_the_defaults() {
        let mut limits = Limits::default();
        for (level, (entity, _)) in levels().iter().enumerate() {
            limits.set(entity, Some(level as f64));
        }
        let limit = |user, client| limits.find(user, client).map(|limit| limit.per_second);
        assert_eq!(limit("u", "other"), Some(1.0));
        assert_eq!(limit("other", "c"), Some(3.0));
        assert_eq!(limit("other", "other"), Some(4.0));
        assert_eq!(limit("u", ""), Some(2.0));
        assert_eq!(limit("other", ""), Some(5.0));
    }

    #[test]
    fn limits_of_client_ids_do_not_cover_clients_without_one() {
        let mut limits = Limits::default();
        limits.set(&levels()[7].0, Some(1.0));
        limits.set(&levels()[4].0, Some(1.0));
        assert_eq!(limits.find("u", ""), None);
        assert!(limits.find("u", "c").is_some());
    }

    #[test]
    fn a_removed_limit_uncovers_the_next() {
        let mut limits = Limits::default();
        limits.set(&levels()[0].0, Some(1.0));
        limits.set(&levels()[7].0, Some(2.0));
        limits.set(&levels()[0].0, None);
        assert_eq!(
            limits.find("u", "c").map(|limit| limit.per_second),
            Some(2.0)
        );
        limits.set(&levels()[7].0, None);
        assert_eq!(limits.find("u", "c"), None);
        assert!(limits.is_empty());
    }
}
