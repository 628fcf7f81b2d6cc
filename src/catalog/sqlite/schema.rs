//! The catalog's tables and their migrations.
//!
//! A migration is never edited once released: a change is a new entry at the end of [`MIGRATIONS`]. The version is
//! stored in the one-row table `schema_version` and changes in the same transaction as the tables it describes. Only
//! types that PostgreSQL has, too, are used, so that the same tables can serve several brokers later.

use rusqlite::{Connection, OptionalExtension};

use crate::catalog::Error;

const MIGRATIONS: &[&str] = &[
    // 1: topics, their configs, committed offsets, groups as of their last completed rebalance, producer ids.
    "
    CREATE TABLE meta (
        key   TEXT NOT NULL PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE topics (
        name       TEXT    NOT NULL PRIMARY KEY,
        id         TEXT    NOT NULL UNIQUE,
        partitions INTEGER NOT NULL CHECK (partitions > 0)
    ) WITHOUT ROWID;

    CREATE TABLE topic_configs (
        topic TEXT NOT NULL REFERENCES topics (name) ON DELETE CASCADE,
        key   TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (topic, key)
    ) WITHOUT ROWID;

    -- Topics whose directories may still have to be removed.
    CREATE TABLE deleted_topics (
        id TEXT NOT NULL PRIMARY KEY
    ) WITHOUT ROWID;

    CREATE TABLE committed_offsets (
        group_id     TEXT    NOT NULL,
        topic        TEXT    NOT NULL REFERENCES topics (name) ON DELETE CASCADE,
        partition    INTEGER NOT NULL,
        log_offset   INTEGER NOT NULL,
        leader_epoch INTEGER NOT NULL,
        metadata     TEXT    NOT NULL,
        commit_ms    INTEGER NOT NULL,
        expire_ms    INTEGER,
        PRIMARY KEY (group_id, topic, partition)
    ) WITHOUT ROWID;
    CREATE INDEX committed_offsets_by_topic ON committed_offsets (topic);

    CREATE TABLE groups (
        id             TEXT    NOT NULL PRIMARY KEY,
        protocol_type  TEXT,
        generation     INTEGER NOT NULL,
        protocol       TEXT,
        leader         TEXT,
        state_since_ms INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE group_members (
        group_id             TEXT    NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
        member_id            TEXT    NOT NULL,
        group_instance_id    TEXT,
        client_id            TEXT    NOT NULL,
        client_host          TEXT    NOT NULL,
        session_timeout_ms   INTEGER NOT NULL,
        rebalance_timeout_ms INTEGER NOT NULL,
        subscription         BLOB    NOT NULL,
        assignment           BLOB    NOT NULL,
        PRIMARY KEY (group_id, member_id)
    );

    CREATE TABLE producer_ids (
        only_row   INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
        next_block INTEGER NOT NULL
    );
    INSERT INTO producer_ids (only_row, next_block) VALUES (1, 0);
    ",
    // 2: transactional ids, the partitions and groups of their transactions, and the offsets that these will commit.
    "
    CREATE TABLE transactions (
        id                   TEXT    NOT NULL PRIMARY KEY,
        producer_id          INTEGER NOT NULL,
        producer_epoch       INTEGER NOT NULL,
        previous_producer_id INTEGER NOT NULL,
        last_producer_epoch  INTEGER NOT NULL,
        next_producer_id     INTEGER NOT NULL,
        timeout_ms           INTEGER NOT NULL,
        state                INTEGER NOT NULL,
        epoch_incremented    INTEGER NOT NULL,
        started_ms           INTEGER NOT NULL,
        updated_ms           INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE transaction_partitions (
        transaction_id TEXT    NOT NULL REFERENCES transactions (id) ON DELETE CASCADE,
        topic_id       TEXT    NOT NULL,
        partition      INTEGER NOT NULL,
        PRIMARY KEY (transaction_id, topic_id, partition)
    ) WITHOUT ROWID;

    CREATE TABLE transaction_groups (
        transaction_id TEXT NOT NULL REFERENCES transactions (id) ON DELETE CASCADE,
        group_id       TEXT NOT NULL,
        PRIMARY KEY (transaction_id, group_id)
    ) WITHOUT ROWID;

    CREATE TABLE pending_offsets (
        transaction_id TEXT    NOT NULL REFERENCES transactions (id) ON DELETE CASCADE,
        group_id       TEXT    NOT NULL,
        topic          TEXT    NOT NULL REFERENCES topics (name) ON DELETE CASCADE,
        partition      INTEGER NOT NULL,
        log_offset     INTEGER NOT NULL,
        leader_epoch   INTEGER NOT NULL,
        metadata       TEXT    NOT NULL,
        commit_ms      INTEGER NOT NULL,
        PRIMARY KEY (transaction_id, group_id, topic, partition)
    ) WITHOUT ROWID;
    CREATE INDEX pending_offsets_by_topic ON pending_offsets (topic);
    CREATE INDEX pending_offsets_by_group ON pending_offsets (group_id);
    ",
    // 3: the feature levels that were set.
    "
    CREATE TABLE feature_levels (
        name  TEXT    NOT NULL PRIMARY KEY,
        level INTEGER NOT NULL
    ) WITHOUT ROWID;
    ",
    // 4: client quotas; configs of brokers and of subscriptions to clients' metrics.
    "
    CREATE TABLE client_quotas (
        user_name TEXT             NOT NULL,
        client_id TEXT             NOT NULL,
        ip        TEXT             NOT NULL,
        key       TEXT             NOT NULL,
        value     DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (user_name, client_id, ip, key)
    ) WITHOUT ROWID;

    CREATE TABLE server_configs (
        resource_type TEXT NOT NULL,
        resource_name TEXT NOT NULL,
        key           TEXT NOT NULL,
        value         TEXT NOT NULL,
        PRIMARY KEY (resource_type, resource_name, key)
    ) WITHOUT ROWID;
    ",
];

/// The version that this release writes.
pub(super) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Migrates the tables to [`KNOWN`], each step in its own transaction. An empty database is version 0.
pub(super) fn migrate(db: &mut Connection, path: &str) -> Result<(), Error> {
    let found = version(db)?;
    if found > KNOWN {
        return Err(Error::NewerSchema {
            catalog: path.to_owned(),
            found,
            known: KNOWN,
        });
    }
    if found < 0 {
        return Err(Error::Corrupt(format!(
            "{path}: schema version {found} is not one"
        )));
    }
    for (number, statements) in (1i64..).zip(MIGRATIONS).skip(found as usize) {
        let step = db.transaction()?;
        step.execute_batch(
            "CREATE TABLE IF NOT EXISTS schema_version (
                 only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
                 version  INTEGER NOT NULL
             );",
        )?;
        step.execute_batch(statements)?;
        step.execute(
            "INSERT INTO schema_version (only_row, version) VALUES (1, ?1)
             ON CONFLICT (only_row) DO UPDATE SET version = excluded.version",
            [number],
        )?;
        step.commit()?;
    }
    Ok(())
}

fn version(db: &Connection) -> Result<i64, Error> {
    let has_table: Option<i64> = db
        .query_row(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    if has_table.is_none() {
        return Ok(0);
    }
    let version: Option<i64> = db
        .query_row("SELECT version FROM schema_version", [], |row| row.get(0))
        .optional()?;
    Ok(version.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_database_is_brought_to_the_known_version_once() {
        let mut db = Connection::open_in_memory().unwrap();
        assert_eq!(version(&db).unwrap(), 0);
        migrate(&mut db, "memory").unwrap();
        assert_eq!(version(&db).unwrap(), KNOWN);
        migrate(&mut db, "memory").unwrap();
        assert_eq!(version(&db).unwrap(), KNOWN);
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, "memory").unwrap();
        db.execute("UPDATE schema_version SET version = ?1", [KNOWN + 1])
            .unwrap();
        let refused = migrate(&mut db, "memory").unwrap_err();
        assert_eq!(
            refused,
            Error::NewerSchema {
                catalog: "memory".into(),
                found: KNOWN + 1,
                known: KNOWN
            }
        );
        assert!(refused.to_string().contains("start the release that wrote"));
        assert_eq!(version(&db).unwrap(), KNOWN + 1);
    }

    #[test]
    fn every_migration_moves_the_version_with_its_tables() {
        // Stop after each step, as a crash between two steps would, and continue from there.
        let mut db = Connection::open_in_memory().unwrap();
        for _ in MIGRATIONS {
            migrate(&mut db, "memory").unwrap();
        }
        let tables: i64 = db
            .query_row(
                "SELECT count(*) FROM sqlite_master WHERE type = 'table'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(tables, 16);
    }
}
