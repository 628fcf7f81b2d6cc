//! The small transactional state: topics, their configs, committed offsets, groups, producer ids.
//!
//! One SQLite file in the data directory, with a write-ahead log that is flushed at every commit. All changes go
//! through one thread, which commits queued changes in one transaction ([`writer`]): a change is acknowledged once it
//! is durable, and a thousand changes cost few more flushes than one. The file is read only at start; data read while
//! serving (committed offsets) is kept in memory by the same thread, in commit order.
//!
//! The database is opened exclusively by this process, so that SQLite keeps the index of the write-ahead log in memory
//! and not in a mapped file: on a file system that never writes in place, writing to the mapping with the disk full
//! would kill the process.
//!
//! The catalog knows nothing of log files, protocols or clients. It stores what it is given; only an offset belongs to
//! a topic and is deleted with it, in the same transaction.

mod cluster_id;
mod error;
mod groups;
mod offsets;
mod producer_ids;
mod schema;
mod topics;
mod writer;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

pub use error::Error;
pub use groups::{GroupRow, MemberRow};
pub use offsets::{CommittedOffset, GroupOffsets, OffsetCommit, TopicPartition};
pub use topics::TopicRow;

use offsets::OffsetsInMemory;
use producer_ids::ClaimedIds;
use writer::Writer;

use crate::fs::Reserve;

/// Time to wait for another process, such as an operator's shell, that holds the database's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// SQLite's VFS that locks files against other processes.
const VFS: &str = "unix-excl";

/// SQLite's VFS for databases in memory. Connections of one process share the database of a name that begins with a slash.
const MEMORY_VFS: &str = "memdb";

/// Pages in the write-ahead log after which SQLite checkpoints them and reuses the log from its beginning: SQLite's
/// default, and only part of the disk reserve, into which the log grows on a full disk.
const WAL_PAGES_MAX: u64 = 1000;
const WAL_PAGES_MIN: u64 = 32;
const WAL_SHARE_OF_RESERVE: u64 = 4;

/// Page size of a new database: SQLite's default.
const PAGE_BYTES: u64 = 4096;

/// A large transaction can grow the write-ahead log; it is truncated afterwards to this multiple of its pages.
const WAL_EXCESS: u64 = 4;

/// The catalog of one server. Every `async` method queues its change before it first waits, so changes apply in the
/// order of the calls. It returns when the change is durable; dropping the future does not cancel the change.
pub struct Catalog {
    path: PathBuf,
    vfs: &'static str,
    cluster_id: String,
    writer: Writer,
    offsets: Arc<OffsetsInMemory>,
    claimed_producer_ids: Arc<Mutex<ClaimedIds>>,
    probing: Arc<AtomicBool>,
}

impl Catalog {
    /// Opens the catalog's file, creating or migrating it as needed. On a full disk, now and later, it takes the space
    /// it needs from the reserve. Blocks.
    pub fn open(path: impl AsRef<Path>, reserve: Arc<Reserve>) -> Result<Arc<Self>, Error> {
        Self::open_with(path.as_ref(), VFS, reserve)
    }

    /// Opens an empty catalog in memory, which ends with this value.
    pub fn in_memory() -> Result<Arc<Self>, Error> {
        let path = format!("/catalog-{}", Uuid::new_v4());
        Self::open_with(Path::new(&path), MEMORY_VFS, Reserve::none())
    }

    fn open_with(
        path: &Path,
        vfs: &'static str,
        reserve: Arc<Reserve>,
    ) -> Result<Arc<Self>, Error> {
        let is_full = |error: &Error| match error {
            Error::DiskFull(_) => true,
            // SQLite does not report a lack of space as the cause when it cannot create the file.
            Error::Io(_) => reserve.is_disk_exhausted(),
            _ => false,
        };
        let (db, cluster_id, offsets) = reserve.spend(is_full, || {
            let db = connect(path, vfs, reserve.size_bytes())?;
            let cluster_id = cluster_id::load_or_create(&db)?;
            let offsets = OffsetsInMemory::load(&db)?;
            Ok::<_, Error>((db, cluster_id, Arc::new(offsets)))
        })?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            vfs,
            cluster_id,
            writer: Writer::start(db, reserve)?,
            offsets,
            claimed_producer_ids: Arc::default(),
            probing: Arc::default(),
        }))
    }

    /// Returns the cluster's id: a random UUID in URL-safe base64, as Kafka writes it. Fixed when the catalog is
    /// created.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Returns all topics, by name. Reads the file and blocks: for use at start.
    pub fn topics(&self) -> Result<Vec<TopicRow>, Error> {
        topics::load(&self.reader()?)
    }

    /// Returns all stored groups, by id. Reads the file and blocks: for use at start.
    pub fn groups(&self) -> Result<Vec<GroupRow>, Error> {
        groups::load(&self.reader()?)
    }

    /// Creates a topic; fails with [`Error::TopicExists`] if the name is taken.
    pub async fn create_topic(&self, topic: TopicRow) -> Result<(), Error> {
        self.writer
            .write(move |db| topics::create(db, &topic), |()| {})
            .await
    }

    /// Deletes the topic together with its configs and every group's offsets in it. Its id is kept among the
    /// [deleted](Catalog::deleted_topics) ones until it is forgotten.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let offsets = Arc::clone(&self.offsets);
        let (deleted, applied) = (name.to_owned(), name.to_owned());
        self.writer
            .write(
                move |db| topics::delete(db, &deleted),
                move |()| offsets.apply_topic_deletion(&applied),
            )
            .await
    }

    /// Returns the ids of deleted topics that were not forgotten yet: directories with such an id are leftovers of the
    /// topic. Reads the file and blocks: for use at start.
    pub fn deleted_topics(&self) -> Result<HashSet<Uuid>, Error> {
        topics::load_deleted(&self.reader()?)
    }

    /// Forgets a deleted topic, once its files are removed.
    pub async fn forget_deleted_topic(&self, id: Uuid) -> Result<(), Error> {
        self.writer
            .write(move |db| topics::forget_deleted(db, id), |()| {})
            .await
    }

    pub async fn set_partitions(&self, name: &str, partitions: i32) -> Result<(), Error> {
        let name = name.to_owned();
        self.writer
            .write(
                move |db| topics::set_partitions(db, &name, partitions),
                |()| {},
            )
            .await
    }

    /// Replaces all configs of the topic by `configs`.
    pub async fn set_topic_configs(
        &self,
        name: &str,
        configs: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let name = name.to_owned();
        self.writer
            .write(move |db| topics::set_configs(db, &name, &configs), |()| {})
            .await
    }

    /// Returns a producer id that was never assigned before, across restarts and crashes.
    pub async fn next_producer_id(&self) -> Result<i64, Error> {
        if let Some(id) = self.claimed_producer_ids.lock().take() {
            return Ok(id);
        }
        let claimed = Arc::clone(&self.claimed_producer_ids);
        let block = self
            .writer
            .write(producer_ids::claim_block, move |block| {
                claimed.lock().add(block.start + 1..block.end);
            })
            .await?;
        Ok(block.start)
    }

    /// Ensures that no producer id up to this one is assigned. For use at start: ids claimed before are not returned.
    pub async fn skip_producer_ids(&self, up_to: i64) -> Result<(), Error> {
        self.writer
            .write(move |db| producer_ids::skip(db, up_to), |()| {})
            .await
    }

    /// Stores a group's offsets, all or none, except those in topics that do not exist. Returns the names of those
    /// topics.
    pub fn commit_offsets(
        &self,
        group: &str,
        commits: Vec<OffsetCommit>,
    ) -> impl Future<Output = Result<HashSet<String>, Error>> + Send + use<> {
        let offsets = Arc::clone(&self.offsets);
        let commits = Arc::new(commits);
        let (stored, applied) = (Arc::clone(&commits), commits);
        let (group, applied_group) = (group.to_owned(), group.to_owned());
        self.writer.write(
            move |db| offsets::commit(db, &group, &stored),
            move |missing| {
                let mut commits = Arc::unwrap_or_clone(applied);
                commits.retain(|commit| !missing.contains(&commit.topic));
                offsets.apply_commit(&applied_group, commits);
            },
        )
    }

    /// Deletes offsets of a group; missing ones are ignored.
    pub fn delete_offsets(
        &self,
        group: &str,
        partitions: Vec<TopicPartition>,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let offsets = Arc::clone(&self.offsets);
        let partitions = Arc::new(partitions);
        let (deleted, applied) = (Arc::clone(&partitions), partitions);
        let (group, applied_group) = (group.to_owned(), group.to_owned());
        self.writer.write(
            move |db| offsets::delete(db, &group, &deleted),
            move |()| offsets.apply_removal(&applied_group, applied.iter()),
        )
    }

    /// Deletes those of the offsets whose last commit is still the one at the given time. Returns the deleted ones.
    pub fn expire_offsets(
        &self,
        group: &str,
        expired: Vec<(TopicPartition, i64)>,
    ) -> impl Future<Output = Result<Vec<TopicPartition>, Error>> + Send + use<> {
        let offsets = Arc::clone(&self.offsets);
        let (group, applied_group) = (group.to_owned(), group.to_owned());
        self.writer.write(
            move |db| offsets::expire(db, &group, &expired),
            move |deleted| offsets.apply_removal(&applied_group, deleted),
        )
    }

    /// Stores a group, replacing its previous state.
    pub fn store_group(
        &self,
        group: GroupRow,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        self.writer
            .write(move |db| groups::store(db, &group), |()| {})
    }

    /// Deletes a group together with its offsets. A missing group is not an error.
    pub fn delete_group(
        &self,
        group: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let offsets = Arc::clone(&self.offsets);
        let (deleted, applied) = (group.to_owned(), group.to_owned());
        self.writer.write(
            move |db| {
                groups::delete(db, &deleted)?;
                offsets::delete_all_of_group(db, &deleted)
            },
            move |()| offsets.apply_group_deletion(&applied),
        )
    }

    /// Deletes a group unless it has offsets when this change is applied, including those of commits queued before it.
    /// A missing group is not an error.
    pub fn delete_group_without_offsets(
        &self,
        group: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let group = group.to_owned();
        self.writer.write(
            move |db| groups::delete_without_offsets(db, &group),
            |()| {},
        )
    }

    /// Returns a group's committed offsets, from memory; `None` if it has none.
    pub fn offsets(&self, group: &str) -> Option<Arc<RwLock<GroupOffsets>>> {
        self.offsets.group(group)
    }

    /// Returns the groups that have committed offsets, in no particular order.
    pub fn groups_with_offsets(&self) -> Vec<String> {
        self.offsets.group_ids()
    }

    /// Checks that the last change succeeded; the error says why not. After a failure each call makes the writer try
    /// again in the background, so that health recovers with the disk and not only with the next client.
    pub fn health(&self) -> Result<(), Error> {
        match self.writer.fault() {
            None => Ok(()),
            Some(fault) => {
                self.probe();
                Err(fault)
            }
        }
    }

    /// Applies queued changes and closes the file. Blocks; later changes fail with [`Error::Closed`].
    pub fn close(&self) {
        self.writer.close();
    }

    fn probe(&self) {
        if self.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        let probing = Arc::clone(&self.probing);
        drop(self.writer.write(
            move |db| {
                probing.store(false, Ordering::Release);
                db.prepare_cached(
                    "INSERT INTO meta (key, value) VALUES ('probe', '1')
                     ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1",
                )?
                .execute([])?;
                Ok(())
            },
            |()| {},
        ));
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

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog")
            .field("path", &self.path)
            .field("cluster_id", &self.cluster_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
