//! Tests of what is particular to the file: damage, a full disk, other processes, and the state after a crash.

use rusqlite::params;

use super::*;
use crate::catalog::conformance::{commit, offset, topic};

/// The catalog's file as SQLite sees it.
fn sqlite(path: PathBuf) -> rusqlite::Result<Connection> {
    Connection::open_with_flags_and_vfs(path, OpenFlags::default(), EXCLUSIVE_FILES)
}

struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("catalog.db")
    }

    fn open(&self) -> Sqlite {
        Sqlite::open(self.path(), Reserve::none()).unwrap()
    }
}

#[tokio::test]
async fn producer_ids_are_never_assigned_twice_even_without_a_clean_shutdown() {
    let home = Home::new();
    let catalog = home.open();
    let mut seen = HashSet::new();
    for _ in 0..=producer_ids::PRODUCER_IDS_PER_BLOCK {
        assert!(seen.insert(catalog.next_producer_id().await.unwrap()));
    }
    // The state after a crash: the files as they are while the first catalog still has them open.
    let copy = Home::new();
    for entry in std::fs::read_dir(home.dir.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.dir.path().join(entry.file_name())).unwrap();
    }
    let catalog = copy.open();
    for _ in 0..10 {
        assert!(seen.insert(catalog.next_producer_id().await.unwrap()));
    }
}

#[tokio::test]
async fn an_acknowledged_commit_is_in_the_files_before_any_shutdown() {
    let home = Home::new();
    let catalog = home.open();
    catalog.create_topic(topic("a", 1)).await.unwrap();
    for n in 0..20 {
        catalog
            .commit_offsets("g", vec![commit("a", 0, n, n)])
            .await
            .unwrap();
        let copy = Home::new();
        for name in ["catalog.db", "catalog.db-wal"] {
            std::fs::copy(home.dir.path().join(name), copy.dir.path().join(name)).unwrap();
        }
        assert_eq!(offset(&copy.open(), "g", "a", 0), Some(n));
    }
}

#[tokio::test]
async fn a_torn_write_ahead_log_loses_only_the_torn_transactions() {
    let home = Home::new();
    let catalog = home.open();
    catalog.create_topic(topic("a", 1)).await.unwrap();
    for n in 0..8 {
        catalog
            .commit_offsets("g", vec![commit("a", 0, n, n)])
            .await
            .unwrap();
    }
    let wal = std::fs::read(home.dir.path().join("catalog.db-wal")).unwrap();
    let mut last = None;
    for cut in (0..=wal.len()).step_by(509) {
        let copy = Home::new();
        std::fs::copy(home.path(), copy.path()).unwrap();
        std::fs::write(copy.dir.path().join("catalog.db-wal"), &wal[..cut]).unwrap();
        let found = offset(&copy.open(), "g", "a", 0);
        assert!(
            found >= last,
            "a longer log shows no less: {found:?} after {last:?}"
        );
        last = found;
    }
    assert!(last >= Some(6));
}

#[tokio::test]
async fn a_file_that_is_not_a_catalog_is_reported_as_corrupt() {
    let home = Home::new();
    std::fs::write(home.path(), vec![0x5a; 8192]).unwrap();
    assert!(matches!(
        Sqlite::open(home.path(), Reserve::none()),
        Err(Error::Corrupt(_))
    ));
}

#[test]
fn a_catalog_in_a_missing_directory_is_not_created() {
    let home = Home::new();
    let nowhere = home.dir.path().join("missing").join("catalog.db");
    assert!(matches!(
        Sqlite::open(nowhere, Reserve::none()),
        Err(Error::Io(_))
    ));
}

#[tokio::test]
async fn a_catalog_written_by_a_later_release_is_refused() {
    let home = Home::new();
    drop(home.open());
    let db = sqlite(home.path()).unwrap();
    db.execute("UPDATE schema_version SET version = version + 1", [])
        .unwrap();
    drop(db);
    assert!(matches!(
        Sqlite::open(home.path(), Reserve::none()),
        Err(Error::NewerSchema { .. })
    ));
}

#[tokio::test]
async fn health_fails_on_a_full_disk_and_recovers_by_itself() {
    let home = Home::new();
    let catalog = home.open();
    let limit = async |pages: i64| {
        catalog
            .writer
            .write(
                move |db| {
                    let sql = format!("PRAGMA max_page_count = {pages}");
                    Ok(db.query_row(&sql, [], |_| Ok(()))?)
                },
                |()| {},
            )
            .await
            .unwrap();
    };
    limit(1).await;
    let mut big = topic("a", 1);
    big.configs.insert("k".into(), "v".repeat(1_000_000));
    assert!(matches!(
        catalog.create_topic(big.clone()).await,
        Err(Error::DiskFull(_))
    ));
    assert!(matches!(catalog.health(), Err(Error::DiskFull(_))));
    assert!(catalog.topics().unwrap().is_empty());
    limit(1_000_000).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while catalog.health().is_err() {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    catalog.create_topic(big.clone()).await.unwrap();
    assert_eq!(catalog.topics().unwrap(), [big]);
}

#[tokio::test]
async fn a_catalog_locked_by_another_process_is_reported_as_busy() {
    let home = Home::new();
    let catalog = home.open();
    let impatient = |db: &Connection| Ok(db.busy_timeout(Duration::from_millis(1))?);
    catalog.writer.write(impatient, |()| {}).await.unwrap();
    let other = sqlite(home.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = catalog.create_topic(topic("a", 1)).await;
    assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
    other.execute_batch("ROLLBACK").unwrap();
    catalog.create_topic(topic("a", 1)).await.unwrap();
}

#[tokio::test]
async fn the_write_ahead_log_is_reused_and_its_index_is_in_no_file() {
    let home = Home::new();
    let reserve = Reserve::open(&crate::fs::Fs::new(), home.dir.path(), 65_536);
    let catalog = Sqlite::open(home.path(), reserve).unwrap();
    catalog.create_topic(topic("a", 1)).await.unwrap();
    for offset in 0..300 {
        let commits = vec![commit("a", 0, offset, offset)];
        catalog.commit_offsets("g", commits).await.unwrap();
    }
    let wal = home.path().with_extension("db-wal");
    let wal_bytes = std::fs::metadata(wal).unwrap().len();
    // Each page has a header, and a transaction is not split.
    assert!(wal_bytes < 2 * WAL_PAGES_MIN * PAGE_BYTES, "{wal_bytes}");
    assert!(!home.path().with_extension("db-shm").exists());
    assert_eq!(offset(&catalog, "g", "a", 0), Some(299));
}

#[tokio::test]
async fn invalid_ids_are_reported_as_corruption() {
    let home = Home::new();
    let catalog = home.open();
    let db = sqlite(home.path()).unwrap();
    db.execute(
        "INSERT INTO topics (name, id, partitions) VALUES (?1, ?2, 1)",
        params!["a", "not-a-uuid"],
    )
    .unwrap();
    assert!(matches!(catalog.topics(), Err(Error::Corrupt(_))));
}

/// SQLite's temporary files that this process has open; SQLite unlinks them when it creates them.
fn temporary_files() -> Vec<PathBuf> {
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    targets
        .filter(|target| target.to_string_lossy().contains("etilqs_"))
        .collect()
}

#[tokio::test]
async fn a_large_change_needs_no_temporary_file() {
    let home = Home::new();
    let catalog = home.open();
    catalog.create_topic(topic("a", 5_000)).await.unwrap();
    let commits = (0..5_000).map(|n| commit("a", n, 1, 0)).collect();
    catalog.commit_offsets("g", commits).await.unwrap();
    // The container image has no directory for one, and the machine's may be full.
    let delete = |db: &Connection| {
        topics::delete(db, "a")?;
        Ok(temporary_files())
    };
    let seen = catalog.writer.write(delete, |_| {}).await.unwrap();
    assert!(seen.is_empty(), "{seen:?}");
    let temp_store = |db: &Connection| -> Result<i64, Error> {
        Ok(db.pragma_query_value(None, "temp_store", |row| row.get(0))?)
    };
    const MEMORY: i64 = 2;
    assert_eq!(catalog.writer.write(temp_store, |_| {}).await, Ok(MEMORY));
    assert_eq!(temp_store(&catalog.reader().unwrap()), Ok(MEMORY));
}
