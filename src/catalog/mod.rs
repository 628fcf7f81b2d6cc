//! The small transactional state: topics, their configs, committed offsets, groups, producer ids.
//!
//! One SQLite file in the data directory, with a write-ahead log that is synced at every commit. All changes go through
//! one thread that commits what has queued up in one transaction ([`writer`]): a change is acknowledged once it would
//! survive loss of power, and a thousand changes cost few more syncs than one. Reads from the file happen at start; what
//! is read while serving (committed offsets) is kept in memory by that same thread, in commit order.
//!
//! The database is opened for this process alone, which keeps the index of the write-ahead log in memory instead of in a
//! mapped file: where a file system never writes in place, a full disk would end the process when it writes to that.
//!
//! The catalog knows nothing of the log's files, of protocols or of who is asking; it stores what it is told, except that
//! an offset belongs to a topic and goes with it, in the same transaction.

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

/// How long to wait for another process (an operator's shell) that holds the database's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// SQLite's way to files that other processes cannot open meanwhile.
const VFS: &str = "unix-excl";

/// Pages in the write-ahead log after which they are moved to the database and the log is written from its beginning
/// again: SQLite's default, and no more than a share of the disk's reserve, into which the log grows on a full disk.
const WAL_PAGES_MAX: u64 = 1000;
const WAL_PAGES_MIN: u64 = 32;
const WAL_SHARE_OF_RESERVE: u64 = 4;

/// The size of a new database's pages, which is SQLite's own default.
const PAGE_BYTES: u64 = 4096;

/// A transaction can make the write-ahead log longer than it should be; what exceeds so many times its pages is cut off
/// afterwards.
const WAL_EXCESS: u64 = 4;

/// The catalog of one server. Every `async` method queues its change in the order of the calls, before it first
/// waits, and returns when the change is on disk; dropping the future does not take the change back.
pub struct Catalog {
    path: PathBuf,
    cluster_id: String,
    writer: Writer,
    offsets: Arc<OffsetsInMemory>,
    claimed_producer_ids: Arc<Mutex<ClaimedIds>>,
    probing: Arc<AtomicBool>,
}

impl Catalog {
    /// Opens the catalog's file, creating or migrating it as needed. On a full disk, then and later, it takes what it
    /// needs from the reserve. Blocks.
    pub fn open(path: impl AsRef<Path>, reserve: Arc<Reserve>) -> Result<Arc<Self>, Error> {
        let path = path.as_ref();
        let is_full = |error: &Error| match error {
            Error::DiskFull(_) => true,
            // A file that cannot be made is not said to be so for lack of space.
            Error::Io(_) => reserve.is_disk_exhausted(),
            _ => false,
        };
        let (db, cluster_id, offsets) = reserve.spend(is_full, || {
            let db = connect(path, reserve.size_bytes())?;
            let cluster_id = cluster_id::load_or_create(&db)?;
            let offsets = OffsetsInMemory::load(&db)?;
            Ok::<_, Error>((db, cluster_id, Arc::new(offsets)))
        })?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            cluster_id,
            writer: Writer::start(db, reserve)?,
            offsets,
            claimed_producer_ids: Arc::default(),
            probing: Arc::default(),
        }))
    }

    /// The cluster's id: a random UUID in URL-safe base64, as Kafka writes it. Fixed when the catalog was created.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Every topic, by name. Reads the file and blocks: for the start.
    pub fn topics(&self) -> Result<Vec<TopicRow>, Error> {
        topics::load(&self.reader()?)
    }

    /// Every stored group, by id. Reads the file and blocks: for the start.
    pub fn groups(&self) -> Result<Vec<GroupRow>, Error> {
        groups::load(&self.reader()?)
    }

    /// Fails with [`Error::TopicExists`] when the name is taken.
    pub async fn create_topic(&self, topic: TopicRow) -> Result<(), Error> {
        self.writer
            .write(move |db| topics::create(db, &topic), |()| {})
            .await
    }

    /// Deletes the topic together with its configs and every group's offsets in it. Its id stays among the
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

    /// Ids of deleted topics that were not yet forgotten: directories with such an id are left over from the topic.
    /// Reads the file and blocks: for the start.
    pub fn deleted_topics(&self) -> Result<HashSet<Uuid>, Error> {
        topics::load_deleted(&self.reader()?)
    }

    /// Forgets a deleted topic, once nothing is left of it on disk.
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

    /// Replaces everything that was set for the topic by `configs`.
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

    /// An id that was never handed out before, across restarts and crashes.
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

    /// Sees to it that no id up to this one is handed out. For the start: ids that were claimed before are not given back.
    pub async fn skip_producer_ids(&self, up_to: i64) -> Result<(), Error> {
        self.writer
            .write(move |db| producer_ids::skip(db, up_to), |()| {})
            .await
    }

    /// Stores a group's offsets, all or none, except those in topics that do not exist: their names are returned.
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

    /// Deletes offsets of a group; those that do not exist are no error.
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

    /// Deletes those of the offsets whose last commit is still the one at the given time. Returns which they were.
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

    /// Stores what a group has become, replacing what was stored of it before.
    pub fn store_group(
        &self,
        group: GroupRow,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        self.writer
            .write(move |db| groups::store(db, &group), |()| {})
    }

    /// Deletes a group together with its offsets. A group that does not exist is no error.
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

    /// Deletes a group unless it has offsets by the time it is its turn, those of commits that were queued before
    /// included. A group that does not exist is no error.
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

    /// What a group has committed, from memory; `None` when it has no offsets.
    pub fn offsets(&self, group: &str) -> Option<Arc<RwLock<GroupOffsets>>> {
        self.offsets.group(group)
    }

    /// The groups that have committed offsets, in no particular order.
    pub fn groups_with_offsets(&self) -> Vec<String> {
        self.offsets.group_ids()
    }

    /// Whether the last change could be made, and why not. While it could not, each call has the writer try again in
    /// the background, so that health returns with the disk and not only with the next client.
    pub fn health(&self) -> Result<(), Error> {
        match self.writer.fault() {
            None => Ok(()),
            Some(fault) => {
                self.probe();
                Err(fault)
            }
        }
    }

    /// Finishes what is queued and closes the file. Blocks; later changes fail with [`Error::Closed`].
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
        // Opened for reading only, it would give up the lock that keeps other processes out.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags_and_vfs(&self.path, flags, VFS)?;
        prepare(&db)?;
        db.pragma_update(None, "query_only", true)?;
        Ok(db)
    }
}

/// Sets what every connection needs.
fn prepare(db: &Connection) -> Result<(), Error> {
    db.busy_timeout(BUSY_TIMEOUT)?;
    // By default SQLite moves what a large change needs to undo it to a file in the directory for temporary files,
    // which a container may lack, and which may be on a disk that is full.
    db.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(())
}

/// Opens the database for writing and brings its schema up to date.
fn connect(path: &Path, reserve_bytes: u64) -> Result<Connection, Error> {
    let mut db = Connection::open_with_flags_and_vfs(path, OpenFlags::default(), VFS)?;
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
