//! The contract of [`Catalog`], checked for every implementation.

use bytes::Bytes;

use super::*;
use crate::fs::Reserve;

/// An implementation under test, with one catalog of its own.
trait Home: Send + Sync {
    /// Creates the catalog.
    fn open(&self) -> Arc<dyn Catalog>;

    /// Closes and opens the catalog, unless closing it would lose its data.
    fn reopen(&self, catalog: Arc<dyn Catalog>) -> Arc<dyn Catalog>;
}

struct SqliteFile(tempfile::TempDir);

impl SqliteFile {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Home for SqliteFile {
    fn open(&self) -> Arc<dyn Catalog> {
        let path = self.0.path().join("catalog.db");
        Arc::new(Sqlite::open(path, Reserve::none()).unwrap())
    }

    fn reopen(&self, catalog: Arc<dyn Catalog>) -> Arc<dyn Catalog> {
        drop(catalog);
        self.open()
    }
}

struct SqliteMemory;

impl Home for SqliteMemory {
    fn open(&self) -> Arc<dyn Catalog> {
        Arc::new(Sqlite::in_memory().unwrap())
    }

    fn reopen(&self, catalog: Arc<dyn Catalog>) -> Arc<dyn Catalog> {
        catalog
    }
}

/// Runs each case against each implementation.
macro_rules! conformance {
    ($($case:ident)*) => {
        mod sqlite_file {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&super::SqliteFile::new()).await;
            })*
        }

        mod sqlite_memory {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&super::SqliteMemory).await;
            })*
        }
    };
}

conformance! {
    topics_and_their_configs_survive_reopening
    missing_and_existing_topics_are_reported
    a_deleted_topics_id_is_kept_until_it_is_forgotten
    deleting_a_topic_deletes_its_offsets_and_a_new_one_starts_without
    commits_into_missing_topics_are_named_and_the_rest_is_stored
    the_last_of_many_concurrent_commits_wins_in_the_database_and_in_memory
    an_offset_committed_again_does_not_expire
    groups_are_stored_with_members_and_deleted_with_their_offsets
    only_a_group_without_offsets_is_deleted_as_unused
    producer_ids_are_never_assigned_twice
    skipped_producer_ids_are_not_assigned
    transactional_ids_survive_reopening_with_partitions_and_groups
    pending_offsets_are_committed_with_the_decision_and_dropped_with_an_abort
    deleted_topics_and_groups_lose_their_pending_offsets
    server_configs_are_replaced_and_deleted_by_resource
    client_quotas_are_replaced_and_deleted_by_entity
    a_change_applies_even_if_its_caller_has_gone
    a_closed_catalog_applies_queued_changes_and_refuses_later_ones
}

pub(super) fn topic(name: &str, partitions: i32) -> TopicRow {
    TopicRow {
        name: name.into(),
        id: Uuid::new_v4(),
        partitions,
        configs: BTreeMap::from([("retention.ms".into(), "1000".into())]),
    }
}

pub(super) fn commit(topic: &str, partition: i32, offset: i64, commit_ms: i64) -> OffsetCommit {
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

pub(super) fn offset(
    catalog: &dyn Catalog,
    group: &str,
    topic: &str,
    partition: i32,
) -> Option<i64> {
    let offsets = catalog.offsets(group)?;
    let offsets = offsets.read();
    Some(offsets.get(topic)?.get(&partition)?.offset)
}

fn transaction(id: &str, state: TransactionState) -> TransactionRow {
    TransactionRow {
        id: id.into(),
        producer_id: 7,
        producer_epoch: 3,
        previous_producer_id: -1,
        last_producer_epoch: 2,
        next_producer_id: 9,
        timeout_ms: 60_000,
        state,
        epoch_incremented: true,
        started_ms: 1,
        updated_ms: 2,
        partitions: [(Uuid::from_u128(5), 0), (Uuid::from_u128(5), 1)].into(),
        groups: ["g".to_owned()].into(),
    }
}

fn pending(catalog: &dyn Catalog, group: &str) -> Vec<(String, i32)> {
    catalog.pending_offsets(group).into_iter().collect()
}

fn empty_group(id: &str) -> GroupRow {
    GroupRow {
        id: id.into(),
        protocol_type: Some("consumer".into()),
        generation: 4,
        protocol: None,
        leader: None,
        state_since_ms: 99,
        members: Vec::new(),
    }
}

async fn topics_and_their_configs_survive_reopening(home: &dyn Home) {
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
    let catalog = home.reopen(catalog);
    assert_eq!(catalog.topics().unwrap(), [a, b]);
    assert_eq!(catalog.cluster_id(), cluster_id);
}

async fn missing_and_existing_topics_are_reported(home: &dyn Home) {
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

async fn a_deleted_topics_id_is_kept_until_it_is_forgotten(home: &dyn Home) {
    let catalog = home.open();
    let (old, new) = (topic("orders", 1), topic("orders", 2));
    catalog.create_topic(old.clone()).await.unwrap();
    catalog.delete_topic("orders").await.unwrap();
    catalog.create_topic(new.clone()).await.unwrap();
    let catalog = home.reopen(catalog);
    assert_eq!(catalog.deleted_topics().unwrap(), [old.id].into());
    catalog.forget_deleted_topic(old.id).await.unwrap();
    assert!(catalog.deleted_topics().unwrap().is_empty());
    assert_eq!(catalog.topics().unwrap(), [new]);
}

async fn deleting_a_topic_deletes_its_offsets_and_a_new_one_starts_without(home: &dyn Home) {
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
    let check = |catalog: &dyn Catalog| {
        assert_eq!(offset(catalog, "g", "a", 0), None);
        assert_eq!(offset(catalog, "g", "b", 0), Some(2));
        assert!(catalog.offsets("only-a").is_none());
        assert_eq!(catalog.groups_with_offsets(), ["g"]);
    };
    check(&*catalog);
    catalog.create_topic(topic("a", 1)).await.unwrap();
    check(&*catalog);
    check(&*home.reopen(catalog));
}

async fn commits_into_missing_topics_are_named_and_the_rest_is_stored(home: &dyn Home) {
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
    assert_eq!(offset(&*catalog, "g", "a", 1), Some(5));
    assert_eq!(offset(&*catalog, "g", "gone", 0), None);
}

async fn the_last_of_many_concurrent_commits_wins_in_the_database_and_in_memory(home: &dyn Home) {
    let catalog = home.open();
    catalog.create_topic(topic("a", 1)).await.unwrap();
    let all: Vec<_> = (0..500)
        .map(|n| catalog.commit_offsets("g", vec![commit("a", 0, n, n)]))
        .collect();
    for one in all.into_iter().rev() {
        one.await.unwrap();
    }
    assert_eq!(offset(&*catalog, "g", "a", 0), Some(499));
    let catalog = home.reopen(catalog);
    assert_eq!(offset(&*catalog, "g", "a", 0), Some(499));
}

async fn an_offset_committed_again_does_not_expire(home: &dyn Home) {
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
    assert_eq!(offset(&*catalog, "g", "a", 0), None);
    assert_eq!(offset(&*catalog, "g", "a", 1), Some(2));
    let rest = vec![("a".to_owned(), 1), ("a".to_owned(), 7)];
    catalog.delete_offsets("g", rest).await.unwrap();
    assert!(catalog.offsets("g").is_none());
}

async fn groups_are_stored_with_members_and_deleted_with_their_offsets(home: &dyn Home) {
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
        protocol: Some("range".into()),
        leader: Some("m1".into()),
        members: vec![member("m1"), member("m2")],
        ..empty_group("g")
    };
    catalog.store_group(group.clone()).await.unwrap();
    group.members.pop();
    catalog.store_group(group.clone()).await.unwrap();
    catalog.create_topic(topic("a", 1)).await.unwrap();
    catalog
        .commit_offsets("g", vec![commit("a", 0, 1, 0)])
        .await
        .unwrap();
    let catalog = home.reopen(catalog);
    assert_eq!(catalog.groups().unwrap(), [group]);
    catalog.delete_group("g").await.unwrap();
    assert!(catalog.offsets("g").is_none());
    let catalog = home.reopen(catalog);
    assert!(catalog.groups().unwrap().is_empty());
    assert!(catalog.offsets("g").is_none());
}

async fn only_a_group_without_offsets_is_deleted_as_unused(home: &dyn Home) {
    let catalog = home.open();
    catalog.create_topic(topic("a", 1)).await.unwrap();
    let (used, unused) = (empty_group("used"), empty_group("unused"));
    for group in [&used, &unused] {
        catalog.store_group(group.clone()).await.unwrap();
    }
    let committed = catalog.commit_offsets("used", vec![commit("a", 0, 1, 0)]);
    for group in ["used", "unused", "missing"] {
        catalog.delete_group_without_offsets(group).await.unwrap();
    }
    committed.await.unwrap();
    assert_eq!(catalog.groups().unwrap(), [used]);
}

async fn producer_ids_are_never_assigned_twice(home: &dyn Home) {
    let mut catalog = home.open();
    let mut seen = HashSet::new();
    for _ in 0..3 {
        for _ in 0..1_500 {
            assert!(seen.insert(catalog.next_producer_id().await.unwrap()));
        }
        catalog = home.reopen(catalog);
    }
}

async fn skipped_producer_ids_are_not_assigned(home: &dyn Home) {
    let catalog = home.open();
    catalog.skip_producer_ids(4_711).await.unwrap();
    // Neither an earlier id nor one that no server has ever assigned moves the next id.
    catalog.skip_producer_ids(7).await.unwrap();
    catalog.skip_producer_ids(i64::MAX).await.unwrap();
    assert_eq!(catalog.next_producer_id().await, Ok(4_712));
}

async fn a_change_applies_even_if_its_caller_has_gone(home: &dyn Home) {
    let catalog = home.open();
    drop(catalog.create_topic(topic("a", 1)));
    let again = catalog.create_topic(topic("a", 1)).await;
    assert_eq!(again, Err(Error::TopicExists("a".into())));
}

async fn a_closed_catalog_applies_queued_changes_and_refuses_later_ones(home: &dyn Home) {
    let catalog = home.open();
    let queued = catalog.create_topic(topic("a", 1));
    catalog.close();
    assert_eq!(queued.await, Ok(()));
    let refused = catalog.create_topic(topic("b", 1)).await;
    assert_eq!(refused, Err(Error::Closed));
    assert_eq!(catalog.health(), Err(Error::Closed));
}

async fn transactional_ids_survive_reopening_with_partitions_and_groups(home: &dyn Home) {
    let catalog = home.open();
    let mut rows = Vec::new();
    for state in TransactionState::ALL {
        let row = transaction(state.name(), state);
        catalog.store_transaction(row.clone()).await.unwrap();
        rows.push(row);
    }
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(catalog.transactions().unwrap(), rows);
    let mut replaced = rows.remove(0);
    replaced.partitions.pop_last();
    replaced.groups.clear();
    replaced.producer_epoch = i16::MAX;
    catalog.store_transaction(replaced.clone()).await.unwrap();
    catalog.delete_transaction(&rows[0].id).await.unwrap();
    catalog.delete_transaction("missing").await.unwrap();
    rows[0] = replaced;
    let catalog = home.reopen(catalog);
    assert_eq!(catalog.transactions().unwrap(), rows);
}

async fn pending_offsets_are_committed_with_the_decision_and_dropped_with_an_abort(
    home: &dyn Home,
) {
    let catalog = home.open();
    catalog.create_topic(topic("a", 2)).await.unwrap();
    for id in ["commits", "aborts"] {
        let row = transaction(id, TransactionState::Ongoing);
        catalog.store_transaction(row).await.unwrap();
    }
    let add = async |id: &str, commits| {
        let added = catalog.add_pending_offsets(id, "g", commits).await;
        added.unwrap().into_iter().collect::<Vec<_>>()
    };
    let commits = vec![commit("a", 0, 1, 1), commit("missing", 0, 1, 1)];
    assert_eq!(add("commits", commits).await, ["missing"]);
    add("commits", vec![commit("a", 0, 5, 2)]).await;
    add("aborts", vec![commit("a", 0, 7, 2), commit("a", 1, 7, 2)]).await;
    assert_eq!(
        pending(&*catalog, "g"),
        [("a".to_owned(), 0), ("a".to_owned(), 1)]
    );
    assert_eq!(offset(&*catalog, "g", "a", 0), None);
    catalog.delete_group_without_offsets("g").await.unwrap();
    let unknown = catalog.add_pending_offsets("unknown", "g", vec![commit("a", 0, 1, 1)]);
    assert!(unknown.await.is_err());

    let catalog = home.reopen(catalog);
    let with_offsets = catalog.transactions_with_offsets();
    let groups: std::collections::BTreeSet<_> = ["g".to_owned()].into();
    let expected = [
        ("aborts".to_owned(), groups.clone()),
        ("commits".to_owned(), groups),
    ];
    assert_eq!(with_offsets, expected.into());
    let decide = |id, state| {
        let commits = state == TransactionState::PrepareCommit;
        catalog.decide_transaction(transaction(id, state), commits)
    };
    decide("commits", TransactionState::PrepareCommit)
        .await
        .unwrap();
    assert_eq!(offset(&*catalog, "g", "a", 0), Some(5));
    assert_eq!(
        pending(&*catalog, "g"),
        [("a".to_owned(), 0), ("a".to_owned(), 1)]
    );
    decide("aborts", TransactionState::PrepareAbort)
        .await
        .unwrap();
    assert_eq!(pending(&*catalog, "g"), []);
    let catalog = home.reopen(catalog);
    assert_eq!(offset(&*catalog, "g", "a", 0), Some(5));
    assert_eq!(offset(&*catalog, "g", "a", 1), None);
    assert!(catalog.transactions_with_offsets().is_empty());
    let states = catalog.transactions().unwrap();
    let states: Vec<_> = states.iter().map(|row| row.state).collect();
    let expected = [
        TransactionState::PrepareAbort,
        TransactionState::PrepareCommit,
    ];
    assert_eq!(states, expected);
}

async fn deleted_topics_and_groups_lose_their_pending_offsets(home: &dyn Home) {
    let catalog = home.open();
    for name in ["a", "b"] {
        catalog.create_topic(topic(name, 1)).await.unwrap();
    }
    let ongoing = transaction("t", TransactionState::Ongoing);
    catalog.store_transaction(ongoing).await.unwrap();
    for group in ["g", "deleted"] {
        let commits = vec![commit("a", 0, 1, 1), commit("b", 0, 1, 1)];
        catalog
            .add_pending_offsets("t", group, commits)
            .await
            .unwrap();
    }
    catalog.delete_topic("a").await.unwrap();
    catalog.delete_group("deleted").await.unwrap();
    assert_eq!(pending(&*catalog, "g"), [("b".to_owned(), 0)]);
    assert_eq!(pending(&*catalog, "deleted"), []);
    catalog
        .delete_offsets("g", vec![("b".to_owned(), 0)])
        .await
        .unwrap();
    let catalog = home.reopen(catalog);
    assert_eq!(pending(&*catalog, "g"), []);
    assert!(catalog.transactions_with_offsets().is_empty());
    let decided = transaction("t", TransactionState::PrepareCommit);
    catalog.decide_transaction(decided, true).await.unwrap();
    assert!(catalog.groups_with_offsets().is_empty());
}

async fn client_quotas_are_replaced_and_deleted_by_entity(home: &dyn Home) {
    let catalog = home.open();
    let named = |name: &str| Some(QuotaName::Named(name.to_owned()));
    let row = |entity: QuotaEntity, values: &[(&str, f64)]| QuotaRow {
        entity,
        values: values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), *value))
            .collect(),
    };
    let both = QuotaEntity {
        user: named("alice"),
        client_id: Some(QuotaName::Default),
        ..QuotaEntity::default()
    };
    // A name may be the mark of a default.
    let starred = QuotaEntity {
        user: named("*"),
        ..QuotaEntity::default()
    };
    let ip = QuotaEntity {
        ip: Some(QuotaName::Default),
        ..QuotaEntity::default()
    };
    for stored in [
        row(both.clone(), &[("producer_byte_rate", 1024.0)]),
        row(starred.clone(), &[("request_percentage", 12.5)]),
        row(ip.clone(), &[("connection_creation_rate", 3.0)]),
    ] {
        catalog.set_client_quotas(stored).await.unwrap();
    }
    let replaced = row(
        both,
        &[("consumer_byte_rate", 0.1), ("request_percentage", 200.0)],
    );
    catalog.set_client_quotas(replaced.clone()).await.unwrap();
    catalog.set_client_quotas(row(ip, &[])).await.unwrap();
    let catalog = home.reopen(catalog);
    let mut expected = vec![replaced, row(starred, &[("request_percentage", 12.5)])];
    expected.sort_by(|one, other| one.entity.cmp(&other.entity));
    assert_eq!(catalog.client_quotas().unwrap(), expected);
}

async fn server_configs_are_replaced_and_deleted_by_resource(home: &dyn Home) {
    let catalog = home.open();
    let row = |resource, name: &str, configs: &[(&str, &str)]| ServerConfigRow {
        resource,
        name: name.to_owned(),
        configs: configs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    };
    let (broker, metrics) = (ConfigResource::Broker, ConfigResource::ClientMetrics);
    for stored in [
        row(broker, "", &[("log.retention.ms", "1")]),
        row(
            broker,
            "1",
            &[("log.retention.ms", "2"), ("max.connections", "3")],
        ),
        row(metrics, "1", &[("interval.ms", "100")]),
    ] {
        catalog.set_server_configs(stored).await.unwrap();
    }
    let replaced = row(broker, "1", &[("log.segment.bytes", "4")]);
    catalog.set_server_configs(replaced.clone()).await.unwrap();
    let deleted = row(broker, "", &[]);
    catalog.set_server_configs(deleted).await.unwrap();
    let catalog = home.reopen(catalog);
    let expected = [replaced, row(metrics, "1", &[("interval.ms", "100")])];
    assert_eq!(catalog.server_configs().unwrap(), expected);
}
