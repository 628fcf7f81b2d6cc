//! The behaviour of the catalog for its callers: what is stored, what is refused, and what survives reopening.

use super::*;
use bytes::Bytes;
use rusqlite::params;
use uuid::Uuid;

fn topic(name: &str, partitions: i32) -> TopicRow {
    TopicRow {
        name: name.into(),
        id: Uuid::new_v4(),
        partitions,
        configs: BTreeMap::from([("retention.ms".into(), "1000".into())]),
    }
}

fn commit(topic: &str, partition: i32, offset: i64, commit_ms: i64) -> OffsetCommit {
    OffsetCommit {
        topic: topic.into(),
        partition,
        committed: CommittedOffset {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
            commit_ms,
            expire_ms: None,
        },
    }
}

fn offset(catalog: &Catalog, group: &str, topic: &str, partition: i32) -> Option<i64> {
    let offsets = catalog.offsets(group)?;
    let offsets = offsets.read();
    Some(offsets.get(topic)?.get(&partition)?.offset)
}

/// The catalog's file as SQLite sees it.
fn sqlite(path: PathBuf) -> rusqlite::Result<Connection> {
    Connection::open_with_flags_and_vfs(path, OpenFlags::default(), VFS)
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

    fn open(&self) -> Arc<Catalog> {
        Catalog::open(self.path(), Reserve::none()).unwrap()
    }
}

#[tokio::test]
async fn topics_and_their_configs_survive_reopening() {
    let home = Home::new();
    let (mut a, b) = (topic("a", 3), topic("b", 1));
    let catalog = home.open();
    let cluster_id = catalog.cluster_id().to_owned();
    catalog.create_topic(b.clone()).await.unwrap();
    catalog.create_topic(a.clone()).await.unwrap();
    catalog.set_partitions("a", 5).await.unwrap();
    let configs = BTreeMap::from([("segment.bytes".to_owned(), "77".to_owned())]);
    catalog
        .set_topic_configs("a", configs.clone())
        .await
        .unwrap();
    (a.partitions, a.configs) = (5, configs);
    assert_eq!(catalog.topics().unwrap(), [a.clone(), b.clone()]);
    drop(catalog);
    let catalog = home.open();
    assert_eq!(catalog.topics().unwrap(), [a, b]);
    assert_eq!(catalog.cluster_id(), cluster_id);
}

#[tokio::test]
async fn a_catalog_in_memory_works_and_shares_nothing_with_others() {
    let (catalog, other) = (Catalog::in_memory().unwrap(), Catalog::in_memory().unwrap());
    catalog.create_topic(topic("a", 3)).await.unwrap();
    assert_eq!(catalog.topics().unwrap().len(), 1);
    assert_eq!(catalog.next_producer_id().await.unwrap(), 0);
    assert_eq!(catalog.health(), Ok(()));
    assert_eq!(other.topics().unwrap(), []);
    assert_ne!(catalog.cluster_id(), other.cluster_id());
    catalog.close();
    let refused = catalog.create_topic(topic("b", 1)).await;
    assert_eq!(refused, Err(Error::Closed));
}

#[tokio::test]
async fn missing_and_existing_topics_are_reported() {
    let home = Home::new();
    let catalog = home.open();
    let missing = Err(Error::NoSuchTopic("a".into()));
    assert_eq!(catalog.delete_topic("a").await, missing);
    assert_eq!(catalog.set_partitions("a", 2).await, missing);
    assert_eq!(
        catalog.set_topic_configs("a", BTreeMap::new()).await,
        missing
    );
    catalog.create_topic(topic("a", 1)).await.unwrap();
    let again = catalog.create_topic(topic("a", 1)).await;
    assert_eq!(again, Err(Error::TopicExists("a".into())));
    assert_eq!(catalog.health(), Ok(()));
}

#[tokio::test]
async fn a_deleted_topics_id_is_kept_until_it_is_forgotten() {
    let home = Home::new();
    let catalog = home.open();
    let (old, new) = (topic("orders", 1), topic("orders", 2));
    catalog.create_topic(old.clone()).await.unwrap();
    catalog.delete_topic("orders").await.unwrap();
    catalog.create_topic(new.clone()).await.unwrap();
    drop(catalog);

    let catalog = home.open();
    assert_eq!(catalog.deleted_topics().unwrap(), [old.id].into());
    catalog.forget_deleted_topic(old.id).await.unwrap();
    assert!(catalog.deleted_topics().unwrap().is_empty());
    assert_eq!(catalog.topics().unwrap(), [new]);
}

#[tokio::test]
async fn deleting_a_topic_deletes_its_offsets_and_a_new_one_starts_without() {
    let home = Home::new();
    let catalog = home.open();
    catalog.create_topic(topic("a", 1)).await.unwrap();
    catalog.create_topic(topic("b", 1)).await.unwrap();
    let both = vec![commit("a", 0, 1, 0), commit("b", 0, 2, 0)];
    assert!(catalog.commit_offsets("g", both).await.unwrap().is_empty());
    catalog
        .commit_offsets("only-a", vec![commit("a", 0, 3, 0)])
        .await
        .unwrap();
    catalog.delete_topic("a").await.unwrap();
    let check = |catalog: &Catalog| {
        assert_eq!(offset(catalog, "g", "a", 0), None);
        assert_eq!(offset(catalog, "g", "b", 0), Some(2));
        assert!(catalog.offsets("only-a").is_none());
        assert_eq!(catalog.groups_with_offsets(), ["g"]);
    };
    check(&catalog);
    catalog.create_topic(topic("a", 1)).await.unwrap();
    check(&catalog);
    drop(catalog);
    check(&home.open());
}

#[tokio::test]
async fn commits_into_missing_topics_are_named_and_the_rest_is_stored() {
    let home = Home::new();
    let catalog = home.open();
    catalog.create_topic(topic("a", 2)).await.unwrap();
    let missing = catalog
        .commit_offsets(
            "g",
            vec![
                commit("gone", 0, 9, 0),
                commit("a", 1, 5, 0),
                commit("gone", 1, 9, 0),
            ],
        )
        .await
        .unwrap();
    assert_eq!(missing, HashSet::from(["gone".to_owned()]));
    assert_eq!(offset(&catalog, "g", "a", 1), Some(5));
    assert_eq!(offset(&catalog, "g", "gone", 0), None);
}

#[tokio::test]
async fn the_last_of_many_concurrent_commits_wins_on_disk_and_in_memory() {
    let home = Home::new();
    let catalog = home.open();
    catalog.create_topic(topic("a", 1)).await.unwrap();
    let all: Vec<_> = (0..500)
        .map(|n| catalog.commit_offsets("g", vec![commit("a", 0, n, n)]))
        .collect();
    for one in all.into_iter().rev() {
        one.await.unwrap();
    }
    assert_eq!(offset(&catalog, "g", "a", 0), Some(499));
    drop(catalog);
    assert_eq!(offset(&home.open(), "g", "a", 0), Some(499));
}

#[tokio::test]
async fn an_offset_committed_again_does_not_expire() {
    let home = Home::new();
    let catalog = home.open();
    catalog.create_topic(topic("a", 2)).await.unwrap();
    catalog
        .commit_offsets("g", vec![commit("a", 0, 1, 10), commit("a", 1, 1, 10)])
        .await
        .unwrap();
    let renewed = catalog.commit_offsets("g", vec![commit("a", 1, 2, 20)]);
    let expired = catalog.expire_offsets("g", vec![(("a".into(), 0), 10), (("a".into(), 1), 10)]);
    renewed.await.unwrap();
    assert_eq!(expired.await.unwrap(), [("a".to_owned(), 0)]);
    assert_eq!(offset(&catalog, "g", "a", 0), None);
    assert_eq!(offset(&catalog, "g", "a", 1), Some(2));
    let rest = vec![("a".to_owned(), 1), ("a".to_owned(), 7)];
    catalog.delete_offsets("g", rest).await.unwrap();
    assert!(catalog.offsets("g").is_none());
}

#[tokio::test]
async fn groups_are_stored_with_members_and_deleted_with_their_offsets() {
    let home = Home::new();
    let catalog = home.open();
    let member = |id: &str| MemberRow {
        member_id: id.into(),
        group_instance_id: Some(format!("i-{id}")),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10,
        rebalance_timeout_ms: 20,
        subscription: Bytes::from_static(b"sub"),
        assignment: Bytes::from_static(b"\0ass"),
    };
    let mut group = GroupRow {
        id: "g".into(),
        protocol_type: Some("consumer".into()),
        generation: 4,
        protocol: Some("range".into()),
        leader: Some("m1".into()),
        state_since_ms: 99,
        members: vec![member("m1"), member("m2")],
    };
    catalog.store_group(group.clone()).await.unwrap();
    group.members.pop();
    catalog.store_group(group.clone()).await.unwrap();
    catalog.create_topic(topic("a", 1)).await.unwrap();
    catalog
        .commit_offsets("g", vec![commit("a", 0, 1, 0)])
        .await
        .unwrap();
    drop(catalog);
    let catalog = home.open();
    assert_eq!(catalog.groups().unwrap(), [group]);
    catalog.delete_group("g").await.unwrap();
    assert!(catalog.offsets("g").is_none());
    drop(catalog);
    let catalog = home.open();
    assert!(catalog.groups().unwrap().is_empty());
    assert!(catalog.offsets("g").is_none());
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
        Catalog::open(home.path(), Reserve::none()),
        Err(Error::Corrupt(_))
    ));
}

#[test]
fn a_catalog_in_a_missing_directory_is_not_created() {
    let home = Home::new();
    let nowhere = home.dir.path().join("missing").join("catalog.db");
    assert!(matches!(
        Catalog::open(nowhere, Reserve::none()),
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
        Catalog::open(home.path(), Reserve::none()),
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
    let catalog = Catalog::open(home.path(), reserve).unwrap();
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
