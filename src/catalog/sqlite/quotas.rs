//! The table of client quotas.
//!
//! A component of an entity is stored as `''` if it is absent, as `*` for the default, and as `=` followed by its name.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::catalog::{Error, QuotaEntity, QuotaName, QuotaRow};

const DEFAULT: &str = "*";

pub(super) fn load(db: &Connection) -> Result<Vec<QuotaRow>, Error> {
    let mut quotas: BTreeMap<QuotaEntity, BTreeMap<String, f64>> = BTreeMap::new();
    let mut statement =
        db.prepare("SELECT user_name, client_id, ip, key, value FROM client_quotas")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let entity = QuotaEntity {
            user: decode(row.get(0)?)?,
            client_id: decode(row.get(1)?)?,
            ip: decode(row.get(2)?)?,
        };
        let values = quotas.entry(entity).or_default();
        values.insert(row.get(3)?, row.get(4)?);
    }
    let rows = quotas.into_iter();
    Ok(rows
        .map(|(entity, values)| QuotaRow { entity, values })
        .collect())
}

/// Replaces all quotas of an entity.
pub(super) fn store(db: &Connection, row: &QuotaRow) -> Result<(), Error> {
    let entity = &row.entity;
    let [user, client_id, ip] = [&entity.user, &entity.client_id, &entity.ip].map(encode);
    db.prepare_cached(
        "DELETE FROM client_quotas WHERE user_name = ?1 AND client_id = ?2 AND ip = ?3",
    )?
    .execute([&user, &client_id, &ip])?;
    let mut insert = db.prepare_cached(
        "INSERT INTO client_quotas (user_name, client_id, ip, key, value)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (key, value) in &row.values {
        insert.execute(params![user, client_id, ip, key, value])?;
    }
    Ok(())
}

fn encode(name: &Option<QuotaName>) -> String {
    match name {
        None => String::new(),
        Some(QuotaName::Default) => DEFAULT.to_owned(),
        Some(QuotaName::Named(name)) => format!("={name}"),
    }
}

fn decode(stored: String) -> Result<Option<QuotaName>, Error> {
    match stored.strip_prefix('=') {
        Some(name) => Ok(Some(QuotaName::Named(name.to_owned()))),
        None if stored.is_empty() => Ok(None),
        None if stored == DEFAULT => Ok(Some(QuotaName::Default)),
        None => Err(Error::Corrupt(format!("name {stored:?} in a client quota"))),
    }
}
