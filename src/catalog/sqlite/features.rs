//! The table of feature levels that were set, and the number of changes to them.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};

use crate::catalog::{Error, FeatureLevels};

pub(super) fn load(db: &Connection) -> Result<FeatureLevels, Error> {
    let mut statement = db.prepare("SELECT name, level FROM feature_levels")?;
    let levels = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(FeatureLevels {
        levels: levels.collect::<Result<_, _>>()?,
        epoch: epoch(db)?,
    })
}

/// Sets levels and returns the number of changes made so far.
pub(super) fn set(db: &Connection, levels: &BTreeMap<String, i16>) -> Result<i64, Error> {
    let mut set = db.prepare_cached(
        "INSERT INTO feature_levels (name, level) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET level = excluded.level",
    )?;
    for (name, level) in levels {
        set.execute((name, level))?;
    }
    let epoch = epoch(db)? + 1;
    db.prepare_cached(
        "INSERT INTO meta (key, value) VALUES ('features_epoch', ?1)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )?
    .execute([epoch.to_string()])?;
    Ok(epoch)
}

fn epoch(db: &Connection) -> Result<i64, Error> {
    let stored: Option<String> = db
        .prepare_cached("SELECT value FROM meta WHERE key = 'features_epoch'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(stored) = stored else {
        return Ok(0);
    };
    stored
        .parse()
        .map_err(|_| Error::Corrupt(format!("epoch of the feature levels is {stored:?}")))
}
