//! The catalog of a single server, in SQLite.
//!
//! One file in the data directory, with a write-ahead log that is flushed at every commit. All changes go through one
//! thread, which commits queued changes in one transaction ([`writer`]): a change is acknowledged once it is durable,
//! and a thousand changes cost few more flushes than one. The same thread updates the copy of the committed offsets in
//! memory, in commit order.
//!
//! The database is opened exclusively by this process, so that SQLite keeps the index of the write-ahead log in memory
//! and not in a mapped file: on a file system that never writes in place, writing to the mapping with the disk full
//! would kill the process.

mod cluster_id;
mod error;
mod features;
mod groups;
mod offsets;
mod pending_offsets;
mod producer_ids;
mod quotas;
mod schema;
mod server_configs;
mod topics;
mod transactions;
mod writer;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use super::offsets::OffsetsInMemory;
use super::pending_offsets::PendingInMemory;
use super::{
    Catalog, Change, Error, FeatureLevels, GroupOffsets, GroupRow, OffsetCommit, QuotaRow,
    ServerConfigRow, TopicPartition, TopicRow, TransactionRow,
};
use crate::fs::Reserve;
use producer_ids::ClaimedIds;
use writer::Writer;

/// Time to wait for another process, such as an operator's shell, that holds the database's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// SQLite's VFS that locks files against other processes.
const EXCLUSIVE_FILES: &str = "unix-excl";

/// SQLite's VFS of databases in the memory of the process.
const MEMORY: &str = "memdb";

/// Pages in the write-ahead log after which SQLite checkpoints them and reuses the log from its beginning: SQLite's
/// default, and only part of the disk reserve, into which the log grows on a full disk.
const WAL_PAGES_MAX: u64 = 1000;
const WAL_PAGES_MIN: u64 = 32;
const WAL_SHARE_OF_RESERVE: u64 = 4;

/// Page size of a new database: SQLite's default.
const PAGE_BYTES: u64 = 4096;

/// A large transaction can grow the write-ahead log; it is truncated afterwards to this multiple of its pages.
const WAL_EXCESS: u64 = 4;

/// A catalog in one SQLite database.
pub struct Sqlite {
    /// The database's file, or its name in the memory of the process.
    path: PathBuf,
    vfs: &'static str,
    cluster_id: String,
    writer: Writer,
    offsets: Arc<OffsetsInMemory>,
    pending: Arc<PendingInMemory>,
    claimed_producer_ids: Arc<Mutex<ClaimedIds>>,
    probing: Arc<AtomicBool>,
}

impl Sqlite {
    /// Opens the catalog's file, creating or migrating it as needed. On a full disk, now and later, it takes the space
    /// it needs from the reserve. Blocks.
    pub fn open(path: impl Into<PathBuf>, reserve: Arc<Reserve>) -> Result<Self, Error> {
        Self::open_in(EXCLUSIVE_FILES, path.into(), reserve)
    }

    /// Creates an empty catalog that is kept in memory and lost when it is closed.
    pub fn in_memory() -> Result<Self, Error> {
        // Connections of this process that use the same name share the database.
        let name = format!("/{}", Uuid::new_v4());
        Self::open_in(MEMORY, name.into(), Reserve::none())
    }

    fn open_in(vfs: &'static str, path: PathBuf, reserve: Arc<Reserve>) -> Result<Self, Error> {
        let is_full = |error: &Error| match error {
            Error::DiskFull(_) => true,
            // SQLite does not report a lack of space as the cause when it cannot create the file.
            Error::Io(_) => reserve.is_disk_exhausted(),
            _ => false,
        };
        let (db, cluster_id, offsets, pending) = reserve.spend(is_full, || {
            let db = connect(&path, vfs, reserve.size_bytes())?;
            let cluster_id = cluster_id::load_or_create(&db)?;
            let offsets = offsets::load(&db)?;
            let pending = pending_offsets::load(&db)?;
            Ok::<_, Error>((db, cluster_id, offsets, pending))
        })?;
        Ok(Self {
            path,
            vfs,
            cluster_id,
            writer: Writer::start(db, reserve)?,
            offsets: Arc::new(OffsetsInMemory::new(offsets)),
            pending: Arc::new(PendingInMemory::new(pending)),
            claimed_producer_ids: Arc::default(),
            probing: Arc::default(),
        })
    }

    /// Queues a change that affects only the database.
    fn write<T: Send + 'static>(
        &self,
        run: impl FnMut(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Change<T> {
        self.write_and_apply(run, |_| {})
    }

    /// Queues a change of the database, which `applied` repeats in memory once it is committed.
    fn write_and_apply<T: Send + 'static>(
        &self,
        run: impl FnMut(&Connection) -> Result<T, Error> + Send + 'static,
        applied: impl FnOnce(&T) + Send + 'static,
    ) -> Change<T> {
        self.writer.write(run, applied).boxed()
    }

    fn probe(&self) {
        if self.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        let probing = Arc::clone(&self.probing);
        drop(self.write(move |db| {
            probing.store(false, Ordering::Release);
            db.prepare_cached(
                "INSERT INTO meta (key, value) VALUES ('probe', '1')
                 ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1",
            )?
            .execute([])?;
            Ok(())
        }));
    }

    fn reader(&self) -> Result<Connection, Error> {
        // Opened read-only, it would release the lock that keeps other processes out.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags_and_vfs(&self.path, flags, self.vfs)?;
        prepare(&db)?;
        db.pragma_update(None, "query_only", true)?;
        Ok(db)
    }
}

impl Catalog for Sqlite {
    fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    fn topics(&self) -> Result<Vec<TopicRow>, Error> {
        topics::load(&self.reader()?)
    }

    fn deleted_topics(&self) -> Result<HashSet<Uuid>, Error> {
        topics::load_deleted(&self.reader()?)
    }

    fn groups(&self) -> Result<Vec<GroupRow>, Error> {
        groups::load(&self.reader()?)
    }

    fn transactions(&self) -> Result<Vec<TransactionRow>, Error> {
        transactions::load(&self.reader()?)
    }

    fn feature_levels(&self) -> Result<FeatureLevels, Error> {
        features::load(&self.reader()?)
    }

    fn client_quotas(&self) -> Result<Vec<QuotaRow>, Error> {
        quotas::load(&self.reader()?)
    }

    fn server_configs(&self) -> Result<Vec<ServerConfigRow>, Error> {
        server_configs::load(&self.reader()?)
    }

    fn create_topic(&self, topic: TopicRow) -> Change {
        self.write(move |db| topics::create(db, &topic))
    }

    fn delete_topic(&self, name: &str) -> Change {
        let (offsets, pending) = (Arc::clone(&self.offsets), Arc::clone(&self.pending));
        let (deleted, applied) = (name.to_owned(), name.to_owned());
        self.write_and_apply(
            move |db| topics::delete(db, &deleted),
            move |()| {
                offsets.apply_topic_deletion(&applied);
                pending.apply_topic_deletion(&applied);
            },
        )
    }

    fn forget_deleted_topic(&self, id: Uuid) -> Change {
        self.write(move |db| topics::forget_deleted(db, id))
    }

    fn set_partitions(&self, name: &str, partitions: i32) -> Change {
        let name = name.to_owned();
        self.write(move |db| topics::set_partitions(db, &name, partitions))
    }

    fn set_topic_configs(&self, name: &str, configs: BTreeMap<String, String>) -> Change {
        let name = name.to_owned();
        self.write(move |db| topics::set_configs(db, &name, &configs))
    }

    fn set_feature_levels(&self, levels: BTreeMap<String, i16>) -> Change<i64> {
        self.write(move |db| features::set(db, &levels))
    }

    fn next_producer_id(&self) -> Change<i64> {
        if let Some(id) = self.claimed_producer_ids.lock().take() {
            return std::future::ready(Ok(id)).boxed();
        }
        let claimed = Arc::clone(&self.claimed_producer_ids);
        let block = self.write_and_apply(producer_ids::claim_block, move |block| {
            claimed.lock().add(block.start + 1..block.end);
        });
        block.map(|block| Ok(block?.start)).boxed()
    }

    fn skip_producer_ids(&self, up_to: i64) -> Change {
        self.write(move |db| producer_ids::skip(db, up_to))
    }

    fn commit_offsets(&self, group: &str, commits: Vec<OffsetCommit>) -> Change<HashSet<String>> {
        let offsets = Arc::clone(&self.offsets);
        let commits = Arc::new(commits);
        let (stored, applied) = (Arc::clone(&commits), commits);
        let (group, applied_group) = (group.to_owned(), group.to_owned());
        self.write_and_apply(
            move |db| offsets::commit(db, &group, &stored),
            move |missing| {
                let mut commits = Arc::unwrap_or_clone(applied);
                commits.retain(|commit| !missing.contains(&commit.topic));
                offsets.apply_commit(&applied_group, commits);
            },
        )
    }

    fn delete_offsets(&self, group: &str, partitions: Vec<TopicPartition>) -> Change {
        let (offsets, pending) = (Arc::clone(&self.offsets), Arc::clone(&self.pending));
        let partitions = Arc::new(partitions);
        let (deleted, applied) = (Arc::clone(&partitions), partitions);
        let (group, applied_group) = (group.to_owned(), group.to_owned());
        self.write_and_apply(
            move |db| {
                offsets::delete(db, &group, &deleted)?;
                pending_offsets::drop_some(db, &group, &deleted)
            },
            move |()| {
                offsets.apply_removal(&applied_group, applied.iter());
                pending.apply_removal(&applied_group, &applied);
            },
        )
    }

    fn expire_offsets(
        &self,
        group: &str,
        expired: Vec<(TopicPartition, i64)>,
    ) -> Change<Vec<TopicPartition>> {
        let offsets = Arc::clone(&self.offsets);
        let (group, applied_group) = (group.to_owned(), group.to_owned());
        self.write_and_apply(
            move |db| offsets::expire(db, &group, &expired),
            move |deleted| offsets.apply_removal(&applied_group, deleted),
        )
    }

    fn store_group(&self, group: GroupRow) -> Change {
        self.write(move |db| groups::store(db, &group))
    }

    fn delete_group(&self, group: &str) -> Change {
        let (offsets, pending) = (Arc::clone(&self.offsets), Arc::clone(&self.pending));
        let (deleted, applied) = (group.to_owned(), group.to_owned());
        self.write_and_apply(
            move |db| {
                groups::delete(db, &deleted)?;
                offsets::delete_all_of_group(db, &deleted)?;
                pending_offsets::drop_of_group(db, &deleted)
            },
            move |()| {
                offsets.apply_group_deletion(&applied);
                pending.apply_group_deletion(&applied);
            },
        )
    }

    fn delete_group_without_offsets(&self, group: &str) -> Change {
        let group = group.to_owned();
        self.write(move |db| groups::delete_without_offsets(db, &group))
    }

    fn set_client_quotas(&self, quotas: QuotaRow) -> Change {
        self.write(move |db| quotas::store(db, &quotas))
    }

    fn set_server_configs(&self, row: ServerConfigRow) -> Change {
        self.write(move |db| server_configs::store(db, &row))
    }

    fn offsets(&self, group: &str) -> Option<Arc<RwLock<GroupOffsets>>> {
        self.offsets.group(group)
    }

    fn groups_with_offsets(&self) -> Vec<String> {
        self.offsets.group_ids()
    }

    fn store_transaction(&self, transaction: TransactionRow) -> Change {
        self.write(move |db| transactions::store(db, &transaction))
    }

    fn decide_transaction(&self, transaction: TransactionRow, commits: bool) -> Change {
        let (offsets, pending) = (Arc::clone(&self.offsets), Arc::clone(&self.pending));
        let transaction = Arc::new(transaction);
        let decided = Arc::clone(&transaction);
        let stored = self.write_and_apply(
            move |db| transactions::decide(db, &decided, commits),
            move |committed| {
                // In this order, so that no reader finds neither the pending nor the committed offset.
                for (group, commits) in committed {
                    offsets.apply_commit(group, commits.clone());
                }
                pending.apply_end(&transaction.id, &transaction.groups);
            },
        );
        stored.map(|stored| stored.map(|_| ())).boxed()
    }

    fn delete_transaction(&self, id: &str) -> Change {
        let id = id.to_owned();
        self.write(move |db| transactions::delete(db, &id))
    }

    fn add_pending_offsets(
        &self,
        transaction_id: &str,
        group: &str,
        commits: Vec<OffsetCommit>,
    ) -> Change<HashSet<String>> {
        let pending = Arc::clone(&self.pending);
        let key = Arc::new((transaction_id.to_owned(), group.to_owned()));
        let commits = Arc::new(commits);
        let (applied_key, applied) = (Arc::clone(&key), Arc::clone(&commits));
        self.write_and_apply(
            move |db| pending_offsets::add(db, &key.0, &key.1, &commits),
            move |missing| {
                let stored = applied.iter().filter(|it| !missing.contains(&it.topic));
                let partitions = stored.map(|it| (it.topic.clone(), it.partition));
                pending.apply_addition(&applied_key.0, &applied_key.1, partitions);
            },
        )
    }

    fn pending_offsets(&self, group: &str) -> BTreeSet<TopicPartition> {
        self.pending.of_group(group)
    }

    fn transactions_with_offsets(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.pending.transaction_ids()
    }

    fn health(&self) -> Result<(), Error> {
        match self.writer.fault() {
            None => Ok(()),
            Some(fault) => {
                self.probe();
                Err(fault)
            }
        }
    }

    fn close(&self) {
        self.writer.close();
    }
}

/// Applies the settings of every connection.
fn prepare(db: &Connection) -> Result<(), Error> {
    db.busy_timeout(BUSY_TIMEOUT)?;
    // By default SQLite moves the undo data of a large change to a file in the directory for temporary files, which a
    // container may lack, and which may be on a full disk.
    db.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(())
}

/// Opens the database for writing and brings its schema up to date.
fn connect(path: &Path, vfs: &str, reserve_bytes: u64) -> Result<Connection, Error> {
    let mut db = Connection::open_with_flags_and_vfs(path, OpenFlags::default(), vfs)?;
    prepare(&db)?;
    db.set_prepared_statement_cache_capacity(64);
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    let wal_pages = match reserve_bytes {
        0 => WAL_PAGES_MAX,
        bytes => (bytes / WAL_SHARE_OF_RESERVE / PAGE_BYTES).clamp(WAL_PAGES_MIN, WAL_PAGES_MAX),
    };
    let wal_bytes_max = WAL_EXCESS * wal_pages * PAGE_BYTES;
    db.pragma_update(None, "wal_autocheckpoint", wal_pages as i64)?;
    db.pragma_update(None, "journal_size_limit", wal_bytes_max as i64)?;
    schema::migrate(&mut db, &path.display().to_string())?;
    Ok(db)
}

#[cfg(test)]
mod tests;
