//! The table of configs of resources other than topics.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::catalog::{ConfigResource, Error, ServerConfigRow};

pub(super) fn load(db: &Connection) -> Result<Vec<ServerConfigRow>, Error> {
    let mut found: BTreeMap<(ConfigResource, String), BTreeMap<String, String>> = BTreeMap::new();
    let mut statement =
        db.prepare("SELECT resource_type, resource_name, key, value FROM server_configs")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let resource = decode(&row.get::<_, String>(0)?)?;
        let configs = found.entry((resource, row.get(1)?)).or_default();
        configs.insert(row.get(2)?, row.get(3)?);
    }
    let rows = found.into_iter();
    Ok(rows
        .map(|((resource, name), configs)| ServerConfigRow {
            resource,
            name,
            configs,
        })
        .collect())
}

/// Replaces all configs of a resource.
pub(super) fn store(db: &Connection, row: &ServerConfigRow) -> Result<(), Error> {
    let resource = encode(row.resource);
    db.prepare_cached(
        "DELETE FROM server_configs WHERE resource_type = ?1 AND resource_name = ?2",
    )?
    .execute([resource, &row.name])?;
    let mut insert = db.prepare_cached(
        "INSERT INTO server_configs (resource_type, resource_name, key, value)
         VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (key, value) in &row.configs {
        insert.execute(params![resource, row.name, key, value])?;
    }
    Ok(())
}

fn encode(resource: ConfigResource) -> &'static str {
    match resource {
        ConfigResource::Broker => "broker",
        ConfigResource::ClientMetrics => "client_metrics",
    }
}

fn decode(stored: &str) -> Result<ConfigResource, Error> {
    let all = [ConfigResource::Broker, ConfigResource::ClientMetrics];
    let known = all.into_iter().find(|resource| encode(*resource) == stored);
    known.ok_or_else(|| Error::Corrupt(format!("type {stored:?} of a config resource")))
}
