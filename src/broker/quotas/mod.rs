//! Client quotas: who may use how much, and how much they have used (KIP-13, KIP-124, KIP-546, KIP-599, KIP-612).
//!
//! [`Quotas`] knows the quotas of all entities and finds those of a client. Without quotas that costs one load of
//! [`Quotas::generation`]; otherwise a connection keeps the [`ClientQuotas`] it found until the generation changes. They
//! measure what clients use and tell for how long a client that used too much is throttled. They do not know what is measured:
//! `handlers` add up bytes, time and changes, and `server` pauses the connections.

mod change;
mod client;
mod connection_rates;
mod limits;
mod meters;
mod rate;
mod throttling;
mod token_bucket;
mod window;

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::catalog::{QuotaEntity, QuotaName, QuotaRow};
use crate::config::Config;
use crate::metrics::{Collector, Samples, catalog};

pub use change::{QuotaChange, QuotaError};
pub use client::ClientQuotas;
use client::{ClientKey, Metered, millis_of};
use connection_rates::{AddressLimits, ConnectionRates};
use limits::{Limit, Limits};
use meters::{Meter, Meters};
use rate::Rate;
pub use throttling::{Quota, Throttling};
use token_bucket::TokenBucket;
use window::Window;

/// Name of the rate of new connections, the only quota of addresses.
const CONNECTION_CREATION_RATE: &str = "connection_creation_rate";

/// The quotas of one server.
pub struct Quotas {
    /// Number of the last change; 0 while no client has quotas, whatever its user and client id.
    generation: AtomicU64,
    window: Window,
    state: Mutex<State>,
    produce: Meters<ClientKey, Rate>,
    fetch: Meters<ClientKey, Rate>,
    request: Meters<ClientKey, Rate>,
    mutation: Meters<ClientKey, TokenBucket>,
    connections: ConnectionRates,
    /// Requests throttled so far.
    pub throttling: Throttling,
}

#[derive(Default)]
struct State {
    changes: u64,
    entities: BTreeMap<QuotaEntity, BTreeMap<String, f64>>,
    produce: Limits,
    fetch: Limits,
    request: Limits,
    mutation: Limits,
    /// Addresses of the entities whose name is an address or the name of a host.
    addresses: BTreeMap<String, Vec<IpAddr>>,
}

impl State {
    fn limits(&mut self, quota: Quota) -> &mut Limits {
        match quota {
            Quota::ProducerByteRate => &mut self.produce,
            Quota::ConsumerByteRate => &mut self.fetch,
            Quota::RequestPercentage => &mut self.request,
            Quota::ControllerMutationRate => &mut self.mutation,
        }
    }

    /// Returns whether no client has a quota.
    fn is_unlimited(&self) -> bool {
        let limits = [&self.produce, &self.fetch, &self.request, &self.mutation];
        limits.iter().all(|limits| limits.is_empty())
    }

    fn address_limits(&self) -> AddressLimits {
        let mut limits = AddressLimits::default();
        for (entity, values) in &self.entities {
            match (&entity.ip, values.get(CONNECTION_CREATION_RATE)) {
                (Some(QuotaName::Default), Some(rate)) => limits.default = Some(*rate),
                (Some(QuotaName::Named(name)), Some(rate)) => {
                    let addresses = self.addresses.get(name).into_iter().flatten();
                    limits.by_address.extend(addresses.map(|it| (*it, *rate)));
                }
                _ => {}
            }
        }
        limits
    }
}

impl Quotas {
    /// Creates the quotas that the catalog has stored. Blocks while it resolves names of hosts.
    pub fn new(config: &Config, rows: Vec<QuotaRow>) -> Self {
        let window = Window::of(config);
        let quotas = Quotas {
            generation: AtomicU64::new(0),
            window,
            state: Mutex::default(),
            produce: Meters::new(window),
            fetch: Meters::new(window),
            request: Meters::new(window),
            mutation: Meters::new(window),
            connections: ConnectionRates::new(window),
            throttling: Throttling::default(),
        };
        for row in rows {
            let addresses = match &row.entity.ip {
                Some(QuotaName::Named(host)) => addresses_of(host).unwrap_or_else(|| {
                    tracing::warn!(host, "quota ignored: the host name cannot be resolved");
                    Vec::new()
                }),
                _ => Vec::new(),
            };
            quotas.apply(row, addresses);
        }
        quotas
    }

    /// Returns the number of the last change; 0 while no client has quotas.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Returns the quotas of a client: those found before if they are still valid and have its client id. `None` if there are
    /// none for it.
    pub fn of_client(
        &self,
        known: &mut Option<Arc<ClientQuotas>>,
        user: &str,
        client_id: &str,
        now: Duration,
    ) -> Option<Arc<ClientQuotas>> {
        let generation = self.generation();
        let is_current = |known: &&Arc<ClientQuotas>| {
            known.generation == generation && &*known.client_id == client_id
        };
        let quotas = match known.as_ref().filter(is_current) {
            Some(known) => known,
            None => known.insert(Arc::new(self.find(user, client_id, now))),
        };
        (!quotas.is_unlimited()).then(|| Arc::clone(quotas))
    }

    fn find(&self, user: &str, client_id: &str, now: Duration) -> ClientQuotas {
        let state = self.state.lock();
        let find = |limits: &Limits| limits.find(user, client_id);
        ClientQuotas {
            generation: self.generation(),
            client_id: client_id.into(),
            window: self.window,
            produce: metered(&self.produce, find(&state.produce), user, client_id, now),
            fetch: metered(&self.fetch, find(&state.fetch), user, client_id, now),
            request: metered(&self.request, find(&state.request), user, client_id, now),
            mutation: metered(&self.mutation, find(&state.mutation), user, client_id, now),
        }
    }

    /// Counts a new connection, or returns for how long its address is throttled.
    pub fn admit_connection(&self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        self.connections.admit(address, now)
    }

    /// Returns the quotas of all entities for which `is_wanted`, by entity.
    pub fn entities(&self, is_wanted: impl Fn(&QuotaEntity) -> bool) -> Vec<QuotaRow> {
        let state = self.state.lock();
        let wanted = state
            .entities
            .iter()
            .filter(|(entity, _)| is_wanted(entity));
        wanted
            .map(|(entity, values)| QuotaRow {
                entity: entity.clone(),
                values: values.clone(),
            })
            .collect()
    }

    /// Returns the quotas of one entity.
    fn values_of(&self, entity: &QuotaEntity) -> BTreeMap<String, f64> {
        let state = self.state.lock();
        state.entities.get(entity).cloned().unwrap_or_default()
    }

    /// Replaces the quotas of an entity. `addresses` are those of its host.
    fn apply(&self, row: QuotaRow, addresses: Vec<IpAddr>) {
        let mut state = self.state.lock();
        let QuotaRow { entity, values } = row;
        if let Some(name) = &entity.ip {
            if let QuotaName::Named(host) = name {
                state.addresses.insert(host.clone(), addresses);
            }
        } else {
            for quota in Quota::ALL {
                let limit = values.get(quota.name()).copied();
                state.limits(quota).set(&entity, limit);
            }
        }
        match values.is_empty() {
            true => state.remove(&entity),
            false => {
                state.entities.insert(entity, values);
            }
        }
        self.connections.set(state.address_limits());
        state.changes += 1;
        let generation = match state.is_unlimited() {
            true => 0,
            false => state.changes,
        };
        // Within the lock, so that quotas found under it have the generation that they belong to.
        self.generation.store(generation, Ordering::Relaxed);
    }
}

impl State {
    fn remove(&mut self, entity: &QuotaEntity) {
        self.entities.remove(entity);
        if let Some(QuotaName::Named(host)) = &entity.ip {
            self.addresses.remove(host);
        }
    }
}

fn metered<M: Meter>(
    meters: &Meters<ClientKey, M>,
    limit: Option<Limit>,
    user: &str,
    client_id: &str,
    now: Duration,
) -> Option<Metered<M>> {
    let limit = limit?;
    let key = ClientKey::new(limit.shared, user, client_id);
    let meter = meters.of(key, millis_of(now));
    Some(Metered { limit, meter })
}

/// Returns the addresses of a host, given by address or name. Blocks if the name has to be resolved.
fn addresses_of(host: &str) -> Option<Vec<IpAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(vec![address.to_canonical()]);
    }
    let resolved = (host, 0).to_socket_addrs().ok()?;
    Some(resolved.map(|addr| addr.ip().to_canonical()).collect())
}

/// Exports the number of entities and the throttled requests.
impl Collector for Quotas {
    fn collect(&self, out: &mut Samples) {
        let entities = self.state.lock().entities.len();
        out.family(&catalog::QUOTA_ENTITIES)
            .sample(&[], entities as u64);
        self.throttling.collect(out);
    }
}

#[cfg(test)]
mod tests;
