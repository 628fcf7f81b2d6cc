//! Tests of the broker over a real data directory and catalog: restarts, crashes and races.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;

use super::home::CATALOG_FILE;
use super::*;
use crate::clock::ManualClock;
use crate::config::{Layers, load};
use crate::coordinator::group::{CommitOffsets, MemberIdentity, OffsetToCommit};
use crate::fs::{Fault, Faults, Op};
use crate::metrics::{Format, PrometheusHandle};
use crate::storage::{Acks, AppendOptions, ReadOptions, ReadTicket};

struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn log_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn lose_catalog(&self) {
        for file in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() && path.display().to_string().contains(CATALOG_FILE) {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    async fn open(&self) -> Arc<Broker> {
        self.open_with(&[]).await
    }

    async fn open_with(&self, flags: &[(&str, &str)]) -> Arc<Broker> {
        self.open_on(Fs::new(), flags).await.unwrap()
    }

    async fn open_on(&self, fs: Fs, flags: &[(&str, &str)]) -> Result<Arc<Broker>, OpenError> {
        let mut flags: Vec<(String, String)> = flags
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let dir = self.dir.path().display().to_string();
        flags.push(("data_dir".to_owned(), dir));
        let settings = load(Layers {
            flags,
            ..Layers::default()
        });
        Broker::open(
            settings.unwrap(),
            fs,
            Metrics::new(true),
            ManualClock::at_ms(1_000_000),
            Arc::default(),
        )
        .await
    }
}

fn new(name: &str, partitions: i32) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions,
        configs: BTreeMap::new(),
    }
}

fn append(broker: &Broker, topic: &str) -> i64 {
    let mut batch = crate::record::BatchBuilder::new(crate::record::Compression::None);
    batch.push(1_000_000, None, Some(b"value"), &[]);
    let partition = broker.topics.get(topic).unwrap().partition(0).unwrap();
    let options = AppendOptions { acks: Acks::Leader };
    let appended = partition.append(vec![batch.build().unwrap()], options);
    appended.now_or_never().unwrap().unwrap().base_offset
}

#[tokio::test]
async fn topics_their_configs_and_records_survive_a_restart() {
    let home = Home::new();
    let broker = home.open().await;
    let mut topic = new("orders", 2);
    topic.configs = BTreeMap::from([("retention.ms".to_owned(), "5000".to_owned())]);
    let id = broker.create_topic(topic).await.unwrap().id();
    append(&broker, "orders");
    broker.add_partitions("orders".to_owned(), 3).await.unwrap();
    drop(broker);

    let broker = home.open().await;
    let topic = broker.topics.get("orders").unwrap();
    assert_eq!((topic.id(), topic.partition_count()), (id, 3));
    assert_eq!(topic.config().retention_ms, 5_000);
    assert_eq!(topic.config().overrides["retention.ms"], "5000");
    let partition = topic.partition(0).unwrap();
    let ReadTicket::Ready(Ok(fetched)) = partition.read(ReadOptions::at(0, 1024)) else {
        panic!("the record cannot be read");
    };
    assert!(fetched.records.is_some());
}

#[tokio::test]
async fn of_concurrent_creations_of_one_name_one_succeeds() {
    let home = Home::new();
    let broker = home.open().await;
    let attempts = (0..8).map(|_| broker.create_topic(new("contested", 1)));
    let outcomes = futures_util::future::join_all(attempts).await;
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(won, 1);
    for lost in outcomes.into_iter().filter_map(Result::err) {
        assert!(matches!(lost, TopicError::AlreadyExists(_)), "{lost}");
    }
    assert_eq!(broker.catalog.topics().unwrap().len(), 1);
}

#[tokio::test]
async fn a_creation_is_finished_after_its_client_disconnects() {
    let home = Home::new();
    let broker = home.open().await;
    let creating = broker.create_topic(new("abandoned", 1));
    let first_poll = tokio::time::timeout(Duration::ZERO, creating).await;
    assert!(first_poll.is_err(), "creation takes more than one poll");
    let exists = async {
        while broker.topics.get("abandoned").is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), exists)
        .await
        .expect("the topic comes to exist");
}

#[tokio::test]
async fn a_deletion_interrupted_by_a_crash_is_finished_at_the_next_start() {
    let home = Home::new();
    let broker = home.open().await;
    broker.create_topic(new("deleted", 2)).await.unwrap();
    append(&broker, "deleted");
    // The state that a crash between the catalog's step and the storage's leaves behind.
    broker.catalog.delete_topic("deleted").await.unwrap();
    drop(broker);
    assert!(home.log_dir("deleted-0").exists());

    let broker = home.open().await;
    assert!(broker.topics.get("deleted").is_none());
    assert!(!home.log_dir("deleted-0").exists());
    assert!(!home.log_dir("deleted-1").exists());
    assert!(broker.catalog.topics().unwrap().is_empty());
    assert!(broker.catalog.deleted_topics().unwrap().is_empty());
}

#[tokio::test]
async fn a_creation_interrupted_by_a_crash_is_finished_at_the_next_start() {
    let home = Home::new();
    let broker = home.open().await;
    let id = uuid::Uuid::new_v4();
    let row = catalog::TopicRow {
        name: "half-made".to_owned(),
        id,
        partitions: 3,
        configs: BTreeMap::new(),
    };
    broker.catalog.create_topic(row).await.unwrap();
    drop(broker);

    let broker = home.open().await;
    let topic = broker.topics.get("half-made").unwrap();
    assert_eq!((topic.id(), topic.partition_count()), (id, 3));
    assert_eq!(append(&broker, "half-made"), 0);
}

#[tokio::test]
async fn a_topic_found_in_the_data_directory_is_adopted() {
    let home = Home::new();
    let broker = home.open().await;
    let id = broker.create_topic(new("orphan", 2)).await.unwrap().id();
    append(&broker, "orphan");
    broker.topics.close().unwrap();
    drop(broker);
    home.lose_catalog();

    let broker = home.open().await;
    let topic = broker.topics.get("orphan").unwrap();
    assert_eq!((topic.id(), topic.partition_count()), (id, 2));
    assert_eq!(topic.partition(0).unwrap().offsets().log_end, 1);
    assert_eq!(broker.catalog.topics().unwrap()[0].id, id);

    // Its retention is unknown, so no record is deleted until it is set.
    let years_later = 1_000_000_000_000;
    broker.topics.retain(years_later);
    assert_eq!(topic.partition(0).unwrap().offsets().log_start, 0);
    let edits = ["retention.ms", "retention.bytes"].map(|name| ConfigEdit {
        name: name.to_owned(),
        operation: ConfigOperation::Delete,
    });
    let edited = broker.edit_configs("orphan".to_owned(), edits.into(), false);
    edited.await.unwrap();
    broker.topics.retain(years_later);
    assert_eq!(topic.partition(0).unwrap().offsets().log_start, 1);
}

#[tokio::test]
async fn adopted_topics_are_not_compacted_by_the_servers_default() {
    let home = Home::new();
    let broker = home.open().await;
    broker.create_topic(new("orphan", 1)).await.unwrap();
    broker.topics.close().unwrap();
    drop(broker);
    home.lose_catalog();
    let broker = home.open_with(&[("log_cleanup_policy", "compact")]).await;
    let policy = broker.topics.get("orphan").unwrap().config().cleanup_policy;
    assert!(policy.delete && !policy.compact);
}

fn set_to(name: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.to_owned(), value.to_owned())])
}

#[tokio::test]
async fn settings_are_stored_only_if_every_topic_can_have_them() {
    let home = Home::new();
    let broker = home.open().await;
    let mut topic = new("t", 1);
    topic.configs = set_to("max.compaction.lag.ms", "1000");
    broker.create_topic(topic).await.unwrap();
    for validate_only in [true, false] {
        let values = set_to("log.cleaner.min.compaction.lag.ms", "2000");
        let replaced = broker.replace_settings(SettingScope::Default, values, validate_only);
        assert!(replaced.await.is_err());
    }
    assert!(broker.dynamic.values(SettingScope::Default).is_empty());
    let values = set_to("log.cleaner.min.compaction.lag.ms", "500");
    let replaced = broker.replace_settings(SettingScope::Default, values, false);
    replaced.await.unwrap();
    let config = broker.topics.get("t").unwrap().config();
    assert_eq!(config.min_compaction_lag_ms, 500);
    drop(broker);
    assert!(home.open().await.topics.get("t").is_some());
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused() {
    let home = Home::new();
    let broker = home.open().await;
    let mut values = set_to("log.cleaner.min.compaction.lag.ms", "2000");
    values.extend(set_to("log.cleaner.max.compaction.lag.ms", "1000"));
    let replaced = broker.replace_settings(SettingScope::Broker, values, false);
    assert!(replaced.await.is_err());
    broker.create_topic(new("t", 1)).await.unwrap();
}

#[tokio::test]
async fn a_topic_with_an_old_value_does_not_keep_settings_from_being_changed() {
    let home = Home::new();
    let broker = home.open().await;
    broker.create_topic(new("t", 1)).await.unwrap();
    // As an earlier release stored it.
    let stored = broker
        .catalog
        .set_topic_configs("t", set_to("segment.bytes", "4096"));
    stored.await.unwrap();
    drop(broker);
    let broker = home.open().await;
    let values = set_to("log.retention.ms", "5");
    let replaced = broker.replace_settings(SettingScope::Default, values, false);
    replaced.await.unwrap();
    let config = broker.topics.get("t").unwrap().config();
    assert_eq!((config.retention_ms, config.segment_bytes), (5, 4096));
}

#[tokio::test]
async fn a_creation_that_storage_fails_is_rolled_back_in_the_catalog() {
    let home = Home::new();
    let broker = home.open().await;
    std::fs::write(
        home.log_dir("blocked-0"),
        "a file where a directory is needed",
    )
    .unwrap();
    let refused = broker.create_topic(new("blocked", 1)).await.unwrap_err();
    assert!(matches!(refused, TopicError::Storage(_)), "{refused}");
    assert!(broker.topics.get("blocked").is_none());
    assert!(broker.catalog.topics().unwrap().is_empty());
    std::fs::remove_file(home.log_dir("blocked-0")).ok();
    broker.create_topic(new("blocked", 1)).await.unwrap();
}

#[tokio::test]
async fn a_recreated_topic_is_a_different_topic() {
    let home = Home::new();
    let broker = home.open().await;
    let first = broker.create_topic(new("again", 1)).await.unwrap();
    append(&broker, "again");
    broker.delete_topic(Arc::clone(&first)).await.unwrap();
    let second = broker.create_topic(new("again", 1)).await.unwrap();
    assert_ne!(first.id(), second.id());
    assert_eq!(append(&broker, "again"), 0);
    // Deleting the old one again does not delete the new one.
    let gone = broker.delete_topic(first).await.unwrap_err();
    assert!(matches!(gone, TopicError::Unknown(_)), "{gone}");
    assert!(broker.topics.get("again").is_some());
}

#[tokio::test]
async fn invalid_changes_are_refused_before_anything_is_written() {
    let home = Home::new();
    let broker = home.open_with(&[("max_partitions", "4")]).await;
    broker.create_topic(new("a.b", 2)).await.unwrap();
    let refused = |outcome: Result<Arc<storage::Topic>, TopicError>| outcome.unwrap_err();
    let invalid = refused(broker.create_topic(new("a_b", 1)).await);
    assert!(matches!(invalid, TopicError::InvalidName(_)), "{invalid}");
    let too_many = refused(broker.create_topic(new("c", 3)).await);
    assert!(
        matches!(too_many, TopicError::LimitReached(_)),
        "{too_many}"
    );
    let none = refused(broker.create_topic(new("c", 0)).await);
    assert!(matches!(none, TopicError::InvalidPartitions(_)), "{none}");
    let mut tiered = new("c", 1);
    tiered.configs = BTreeMap::from([("remote.storage.enable".to_owned(), "true".to_owned())]);
    let absent = refused(broker.create_topic(tiered).await);
    assert!(matches!(absent, TopicError::InvalidConfig(_)), "{absent}");
    let fewer = broker.add_partitions("a.b".to_owned(), 1).await;
    assert!(matches!(fewer, Err(TopicError::InvalidPartitions(_))));
    let above = broker.add_partitions("a.b".to_owned(), 5).await;
    assert!(matches!(above, Err(TopicError::LimitReached(_))));
    assert_eq!(broker.catalog.topics().unwrap().len(), 1);
}

#[tokio::test]
async fn config_edits_apply_at_once_and_only_if_all_are_valid() {
    let home = Home::new();
    let broker = home.open().await;
    broker.create_topic(new("t", 1)).await.unwrap();
    let set = |name: &str, value: &str| ConfigEdit {
        name: name.to_owned(),
        operation: ConfigOperation::Set(value.to_owned()),
    };
    let edits = vec![set("retention.ms", "7"), set("segment.bytes", "nonsense")];
    let refused = broker.edit_configs("t".to_owned(), edits, false).await;
    assert!(matches!(refused, Err(TopicError::InvalidConfig(_))));
    assert!(broker.overrides("t").is_empty());
    let only_asked = broker.edit_configs("t".to_owned(), vec![set("retention.ms", "7")], true);
    only_asked.await.unwrap();
    assert!(broker.overrides("t").is_empty());
    let edits = vec![set("retention.ms", "7")];
    broker
        .edit_configs("t".to_owned(), edits, false)
        .await
        .unwrap();
    assert_eq!(broker.topics.get("t").unwrap().config().retention_ms, 7);
    let configs = BTreeMap::from([("retention.bytes".to_owned(), "9".to_owned())]);
    broker
        .replace_configs("t".to_owned(), configs.clone(), false)
        .await
        .unwrap();
    assert_eq!(broker.overrides("t"), configs);
    let config = broker.topics.get("t").unwrap().config();
    assert_eq!(
        config.retention_ms,
        broker.config.topic_defaults.retention_ms
    );
}

#[tokio::test]
async fn a_topic_with_a_segment_size_of_an_earlier_release_starts_and_can_be_edited() {
    let home = Home::new();
    let broker = home.open().await;
    broker.create_topic(new("old", 1)).await.unwrap();
    let small = BTreeMap::from([("segment.bytes".to_owned(), "4096".to_owned())]);
    let refused = broker.replace_configs("old".to_owned(), small.clone(), false);
    assert!(matches!(refused.await, Err(TopicError::InvalidConfig(_))));
    broker
        .catalog
        .set_topic_configs("old", small)
        .await
        .unwrap();
    drop(broker);

    let broker = home.open().await;
    let topic = broker.topics.get("old").unwrap();
    assert_eq!(topic.config().segment_bytes_max(), 4096);
    let edit = ConfigEdit {
        name: "retention.ms".to_owned(),
        operation: ConfigOperation::Set("7".to_owned()),
    };
    let edited = broker.edit_configs("old".to_owned(), vec![edit], false);
    edited.await.unwrap();
    assert_eq!(topic.config().segment_bytes_max(), 4096);
}

#[tokio::test]
async fn the_advertised_address_is_the_one_the_client_connected_to_unless_one_is_set() {
    let home = Home::new();
    let broker = home.open().await;
    let advertised = |local: &str| broker.advertised("PLAINTEXT", local.parse().unwrap());
    assert_eq!(advertised("10.1.2.3:9092"), ("10.1.2.3".to_owned(), 9092));
    assert_eq!(advertised("[fd00::1]:9092"), ("fd00::1".to_owned(), 9092));
    // An IPv4 client of a dual-stack socket.
    assert_eq!(
        advertised("[::ffff:10.1.2.3]:1"),
        ("10.1.2.3".to_owned(), 1)
    );
    drop(broker);
    let broker = home.open_with(&[("advertised_addr", "kafka:19092")]).await;
    let advertised = broker.advertised("PLAINTEXT", "10.1.2.3:9092".parse().unwrap());
    assert_eq!(advertised, ("kafka".to_owned(), 19092));
}

#[tokio::test]
async fn a_creation_that_could_not_be_rolled_back_does_not_block_the_next() {
    let home = Home::new();
    let broker = home.open().await;
    // Storage cannot create the topic, nor the catalog roll it back, as on a full disk.
    std::fs::write(home.log_dir("orders-0"), "in the way").unwrap();
    let catalog = rusqlite::Connection::open(home.log_dir(CATALOG_FILE)).unwrap();
    let fail = "CREATE TRIGGER fail BEFORE DELETE ON topics BEGIN SELECT RAISE(FAIL, 'full'); END";
    catalog.execute_batch(fail).unwrap();
    let refused = broker.create_topic(new("orders", 1)).await.unwrap_err();
    assert!(matches!(refused, TopicError::Storage(_)), "{refused}");
    assert_eq!(broker.catalog.topics().unwrap().len(), 1);

    std::fs::remove_file(home.log_dir("orders-0")).unwrap();
    catalog.execute_batch("DROP TRIGGER fail").unwrap();
    let created = broker.create_topic(new("orders", 2)).await.unwrap();
    assert_eq!(append(&broker, "orders"), 0);
    drop(broker);
    let topic = home.open().await.topics.get("orders").unwrap();
    assert_eq!((topic.id(), topic.partition_count()), (created.id(), 2));
}

#[tokio::test]
async fn new_producer_ids_exceed_those_of_adopted_logs() {
    adopt_a_log_with_producers(true).await;
    // The marker is that of this server's last run, not of the log's previous server.
    adopt_a_log_with_producers(false).await;
}

async fn adopt_a_log_with_producers(was_closed: bool) {
    let home = Home::new();
    let broker = home.open().await;
    broker.create_topic(new("orphan", 2)).await.unwrap();
    let append_as = |broker: &Broker, partition, id| {
        let mut batch = crate::record::BatchBuilder::new(crate::record::Compression::None);
        batch = batch.producer(id, 0, 0);
        batch.push(1_000_000, None, Some(b"value"), &[]);
        let topic = broker.topics.get("orphan").unwrap();
        let partition = topic.partition(partition).unwrap();
        let options = AppendOptions { acks: Acks::Leader };
        let appended = partition.append(vec![batch.build().unwrap()], options);
        appended.now_or_never().unwrap().unwrap()
    };
    // As Kafka allocates them, from 0 as well.
    for (partition, id) in [(0, 0), (1, 2_500)] {
        append_as(&broker, partition, id);
    }
    if was_closed {
        broker.topics.close().unwrap();
    } else {
        std::fs::write(home.log_dir(".kafka_cleanshutdown"), "{}").unwrap();
    }
    drop(broker);
    home.lose_catalog();

    for _ in 0..2 {
        let broker = home.open().await;
        let id = broker.catalog.next_producer_id().await.unwrap();
        assert!(id > 2_500, "{id}");
        let appended = append_as(&broker, 0, id);
        assert!(!appended.duplicate);
    }
}

#[tokio::test]
async fn an_adopted_log_with_gaps_left_by_compaction_is_not_truncated() {
    let home = Home::new();
    let broker = home.open().await;
    let mut topic = new("orphan", 1);
    topic.configs = BTreeMap::from([("internal.segment.bytes".to_owned(), "256".to_owned())]);
    broker.create_topic(topic).await.unwrap();
    for _ in 0..20 {
        append(&broker, "orphan");
    }
    broker.topics.close().unwrap();
    drop(broker);
    home.lose_catalog();
    // Only the directories of topics are copied from Kafka, not the files that concern all of them.
    for file in std::fs::read_dir(home.dir.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    let logs = || {
        let files = std::fs::read_dir(home.log_dir("orphan-0")).unwrap();
        let mut logs: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        logs.retain(|path| path.extension().is_some_and(|it| it == "log"));
        logs.sort();
        logs
    };
    let before = logs();
    assert!(before.len() > 5);
    // The second segment without its last record.
    let batches = std::fs::read(&before[1]).unwrap();
    let count = 20usize.div_ceil(before.len());
    let shorter = &batches[..batches.len() / count * (count - 1)];
    std::fs::write(&before[1], shorter).unwrap();

    let broker = home.open().await;
    let partition = broker.topics.get("orphan").unwrap().partition(0).unwrap();
    assert_eq!(partition.offsets().log_end, 20);
    assert_eq!(logs(), before);
    assert_eq!(std::fs::read(&before[1]).unwrap(), shorter);
    drop(broker);
    // Nor does a power failure soon after.
    std::fs::remove_file(home.log_dir(".streamline-boot")).unwrap();
    let broker = home.open().await;
    let partition = broker.topics.get("orphan").unwrap().partition(0).unwrap();
    assert_eq!(partition.offsets().log_end, 20);
    assert_eq!(logs(), before);
}

#[tokio::test]
async fn an_existing_topic_with_an_internal_name_still_opens() {
    let home = Home::new();
    let broker = home.open().await;
    for name in ["__consumer_offsets", "__transaction_state"] {
        let refused = broker.create_topic(new(name, 1)).await.unwrap_err();
        assert!(matches!(refused, TopicError::Internal(_)), "{refused}");
        // Earlier releases created such topics on request.
        let row = catalog::TopicRow {
            name: name.to_owned(),
            id: uuid::Uuid::new_v4(),
            partitions: 2,
            configs: BTreeMap::new(),
        };
        broker.catalog.create_topic(row).await.unwrap();
    }
    drop(broker);

    let broker = home.open().await;
    assert_eq!(append(&broker, "__consumer_offsets"), 0);
    assert_eq!(append(&broker, "__transaction_state"), 0);
    let again = broker.create_topic(new("__consumer_offsets", 1)).await;
    assert!(matches!(again, Err(TopicError::AlreadyExists(_))));
    drop(broker);

    let broker = home.open().await;
    assert_eq!(append(&broker, "__consumer_offsets"), 1);
    let topic = broker.topics.get("__consumer_offsets").unwrap();
    broker.delete_topic(topic).await.unwrap();
    let again = broker.create_topic(new("__consumer_offsets", 1)).await;
    assert!(matches!(again, Err(TopicError::Internal(_))));
}

/// Commits an offset in `busy` as a consumer without group management does.
async fn commit(broker: &Broker, group: &str, partition: i32, offset: i64) {
    let answers = broker.groups.commit_offsets(CommitOffsets {
        group_id: group.to_owned(),
        member: MemberIdentity {
            generation: -1,
            ..MemberIdentity::default()
        },
        retention_ms: None,
        offsets: vec![OffsetToCommit {
            topic: "busy".to_owned(),
            partition,
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        }],
    });
    assert_eq!(answers.await.unwrap(), [Ok(())]);
}

/// Returns the values of a family by their labels.
fn samples<'a>(text: &'a str, family: &str) -> BTreeMap<&'a str, i64> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(family)?.strip_prefix('{'));
    lines
        .map(|line| line.rsplit_once("} ").unwrap())
        .map(|(labels, value)| (labels, value.parse().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_offsets_and_lags_of_one_exposition_are_consistent_while_they_change() {
    const PARTITIONS: i32 = 4;
    const GROUPS: [&str; 2] = ["early", "late"];
    let home = Home::new();
    let broker = home.open_with(&[("durability", "os")]).await;
    let topic = broker.create_topic(new("busy", PARTITIONS)).await.unwrap();
    // Shown after the others, so that time passes between their offsets and the lag of groups.
    broker.create_topic(new("idle", 400)).await.unwrap();
    let metrics = Metrics::new(true);
    metrics.register(Arc::new(Arc::downgrade(&broker)));
    let handle = PrometheusHandle::new(metrics);
    let done = Arc::new(AtomicBool::new(false));
    let mut work = Vec::new();
    for partition in topic.partitions().iter() {
        let partition = Arc::clone(partition);
        let (broker, done) = (Arc::clone(&broker), Arc::clone(&done));
        work.push(tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Handle::current();
            let options = AppendOptions { acks: Acks::Leader };
            while !done.load(Ordering::Relaxed) {
                let mut batch = crate::record::BatchBuilder::new(crate::record::Compression::None);
                batch.push(1_000_000, None, Some(b"value"), &[]);
                let appended = partition.append(vec![batch.build().unwrap()], options);
                let end = runtime.block_on(appended).unwrap().last_offset + 1;
                let number = partition.number();
                for group in GROUPS.into_iter().take(1 + (end % 2) as usize) {
                    runtime.block_on(commit(&broker, group, number, end));
                }
                if end % 8 == 0 {
                    runtime.block_on(partition.delete_before(end)).unwrap();
                }
            }
        }));
    }
    let all_commit = async {
        let committed = |group, partition| broker.groups.committed_offset(group, "busy", partition);
        while (0..PARTITIONS).any(|it| GROUPS.iter().any(|group| committed(group, it).is_none())) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_commit)
        .await
        .expect("every group commits an offset of every partition");
    let render = || {
        let text = handle.render(Format::Text);
        let of_logs = |name| samples(&text, name);
        let ends = of_logs("streamline_log_end_offset");
        let starts = of_logs("streamline_log_start_offset");
        let lags = of_logs("streamline_consumer_lag");
        let lost = of_logs("streamline_consumer_lost_records");
        for (labels, committed) in of_logs("streamline_consumer_group_committed_offset") {
            let (_, log) = labels.split_once(',').unwrap();
            let (start, end) = (starts[log], ends[log]);
            assert!(committed <= end, "{labels} is at {committed} of {end}");
            let expected = (end - committed.max(start), (start - committed).max(0));
            assert_eq!((lags[labels], lost[labels]), expected, "{labels}");
        }
        assert_eq!(lags.len(), GROUPS.len() * PARTITIONS as usize);
    };
    let scraping = tokio::task::block_in_place(|| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..200).for_each(|_| render());
        }))
    });
    done.store(true, Ordering::Relaxed);
    for each in work {
        each.await.unwrap();
    }
    scraping.unwrap();
}

#[tokio::test]
async fn a_start_that_cannot_list_the_directories_to_adopt_fails_and_adopts_them_later() {
    let home = Home::new();
    let broker = home.open().await;
    broker.create_topic(new("orphan", 1)).await.unwrap();
    append(&broker, "orphan");
    drop(broker);
    home.lose_catalog();
    let faults = Faults::new();
    let fs = Fs::with_faults(Arc::clone(&faults));
    faults.plan(Op::List, "", Fault::Error(std::io::ErrorKind::Other), 1);
    let error = home.open_on(fs.clone(), &[]).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("list"), "{error}");
    let broker = home.open_on(fs, &[]).await.unwrap();
    let partition = broker.topics.get("orphan").unwrap().partition(0).unwrap();
    assert_eq!(partition.offsets().log_end, 1);
}
