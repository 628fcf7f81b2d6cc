//! The tables of topics and their configs.

use std::collections::{BTreeMap, HashSet};

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::catalog::{Error, TopicRow};

pub(super) fn load(db: &Connection) -> Result<Vec<TopicRow>, Error> {
    let mut configs: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut statement = db.prepare("SELECT topic, key, value FROM topic_configs")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        configs
            .entry(row.get(0)?)
            .or_default()
            .insert(row.get(1)?, row.get(2)?);
    }
    let mut statement = db.prepare("SELECT name, id, partitions FROM topics ORDER BY name")?;
    let mut rows = statement.query([])?;
    let mut topics = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let id: String = row.get(1)?;
        let id = Uuid::parse_str(&id)
            .map_err(|error| Error::Corrupt(format!("id of topic {name:?}: {error}")))?;
        let configs = configs.remove(&name).unwrap_or_default();
        topics.push(TopicRow {
            name,
            id,
            partitions: row.get(2)?,
            configs,
        });
    }
    Ok(topics)
}

pub(super) fn create(db: &Connection, topic: &TopicRow) -> Result<(), Error> {
    if exists(db, &topic.name)? {
        return Err(Error::TopicExists(topic.name.clone()));
    }
    db.prepare_cached("INSERT INTO topics (name, id, partitions) VALUES (?1, ?2, ?3)")?
        .execute(params![topic.name, topic.id.to_string(), topic.partitions])?;
    insert_configs(db, &topic.name, &topic.configs)
}

/// Deletes the topic, its configs and, by the foreign key, every group's offsets in it. Its id is kept as deleted.
pub(super) fn delete(db: &Connection, name: &str) -> Result<(), Error> {
    db.prepare_cached("INSERT INTO deleted_topics (id) SELECT id FROM topics WHERE name = ?1")?
        .execute([name])?;
    let deleted = db
        .prepare_cached("DELETE FROM topics WHERE name = ?1")?
        .execute([name])?;
    found(deleted, name)
}

pub(super) fn load_deleted(db: &Connection) -> Result<HashSet<Uuid>, Error> {
    let mut statement = db.prepare("SELECT id FROM deleted_topics")?;
    let mut rows = statement.query([])?;
    let mut deleted = HashSet::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let id = Uuid::parse_str(&id)
            .map_err(|error| Error::Corrupt(format!("id of a deleted topic: {error}")))?;
        deleted.insert(id);
    }
    Ok(deleted)
}

pub(super) fn forget_deleted(db: &Connection, id: Uuid) -> Result<(), Error> {
    db.prepare_cached("DELETE FROM deleted_topics WHERE id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

pub(super) fn set_partitions(db: &Connection, name: &str, partitions: i32) -> Result<(), Error> {
    let updated = db
        .prepare_cached("UPDATE topics SET partitions = ?2 WHERE name = ?1")?
        .execute(params![name, partitions])?;
    found(updated, name)
}

/// Replaces all configs of the topic.
pub(super) fn set_configs(
    db: &Connection,
    name: &str,
    configs: &BTreeMap<String, String>,
) -> Result<(), Error> {
    if !exists(db, name)? {
        return Err(Error::NoSuchTopic(name.to_owned()));
    }
    db.prepare_cached("DELETE FROM topic_configs WHERE topic = ?1")?
        .execute([name])?;
    insert_configs(db, name, configs)
}

pub(super) fn exists(db: &Connection, name: &str) -> Result<bool, Error> {
    let row: Option<i64> = db
        .prepare_cached("SELECT 1 FROM topics WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(row.is_some())
}

fn insert_configs(
    db: &Connection,
    name: &str,
    configs: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let mut insert =
        db.prepare_cached("INSERT INTO topic_configs (topic, key, value) VALUES (?1, ?2, ?3)")?;
    for (key, value) in configs {
        insert.execute([name, key, value])?;
    }
    Ok(())
}

fn found(rows: usize, name: &str) -> Result<(), Error> {
    match rows {
        0 => Err(Error::NoSuchTopic(name.to_owned())),
        _ => Ok(()),
    }
}
