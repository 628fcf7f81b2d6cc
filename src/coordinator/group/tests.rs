//! Tests of the whole coordinator, with a real catalog in a temporary directory and a manual clock.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::classic::{SyncedGroup, encode_subscription};
use super::*;
use crate::catalog::{Sqlite, TopicRow};
use crate::clock::ManualClock;
use crate::fs::Reserve;
use crate::metrics::{Collector, Samples};
use crate::storage::{Offsets, ScrapedOffsets};

/// Logs with the end offsets set by the test.
#[derive(Default)]
struct Ends(Mutex<BTreeMap<(String, i32), i64>>);

impl TopicView for Ends {
    fn partition_count(&self, topic: &str) -> Option<i32> {
        let ends = self.0.lock();
        let count = ends.keys().filter(|(name, _)| name == topic).count();
        (count > 0).then_some(count as i32)
    }
}

/// Collects as the broker does.
struct Scrape {
    groups: Arc<Groups>,
    ends: Arc<Ends>,
}

impl Collector for Scrape {
    fn collect(&self, out: &mut Samples) {
        let committed = self.groups.all_committed();
        let mut logs: BTreeMap<Arc<str>, Vec<Offsets>> = BTreeMap::new();
        for ((topic, _), end) in &*self.ends.0.lock() {
            let of_topic = logs.entry(Arc::from(topic.as_str())).or_default();
            of_topic.push(Offsets {
                log_start: 0,
                last_stable: *end,
                high_watermark: *end,
                log_end: *end,
            });
        }
        let logs = ScrapedOffsets::from_iter(logs);
        self.groups.collect(&committed, &logs, out);
    }
}

struct Server {
    dir: tempfile::TempDir,
    catalog: Arc<dyn Catalog>,
    ends: Arc<Ends>,
    clock: Arc<ManualClock>,
    groups: Arc<Groups>,
}

fn settings() -> GroupSettings {
    GroupSettings {
        group_min_session_timeout_ms: 100,
        group_max_session_timeout_ms: 100_000,
        group_initial_rebalance_delay_ms: 0,
        group_max_size: 10,
        offset_metadata_max_bytes: 8,
        offsets_retention_ms: 60_000,
        offsets_retention_check_interval_ms: 600_000,
    }
}

impl Server {
    fn start() -> Self {
        Self::start_with(settings())
    }

    fn start_with(settings: GroupSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ends, clock) = (Arc::default(), ManualClock::at_ms(1_000_000));
        Self::open(dir, ends, clock, settings)
    }

    fn open(
        dir: tempfile::TempDir,
        ends: Arc<Ends>,
        clock: Arc<ManualClock>,
        settings: GroupSettings,
    ) -> Self {
        let path: PathBuf = dir.path().join("catalog.db");
        let catalog: Arc<dyn Catalog> = Arc::new(Sqlite::open(path, Reserve::none()).unwrap());
        let groups = Groups::open(
            Arc::clone(&catalog),
            Arc::clone(&ends) as Arc<dyn TopicView>,
            settings,
            Arc::clone(&clock) as Arc<dyn Clock>,
        )
        .unwrap();
        Self {
            dir,
            catalog,
            ends,
            clock,
            groups,
        }
    }

    fn restart(self) -> Self {
        let settings = self.groups.settings.clone();
        self.groups.close();
        self.catalog.close();
        Self::open(self.dir, self.ends, self.clock, settings)
    }

    async fn topic(&self, name: &str, partitions: i32, end: i64) {
        self.catalog
            .create_topic(TopicRow {
                name: name.into(),
                id: Uuid::new_v4(),
                partitions,
                configs: BTreeMap::new(),
            })
            .await
            .unwrap();
        for partition in 0..partitions {
            self.ends.0.lock().insert((name.into(), partition), end);
        }
    }

    async fn delete_topic(&self, name: &str) {
        self.ends.0.lock().retain(|(topic, _), _| topic != name);
        self.catalog.delete_topic(name).await.unwrap();
    }

    fn advance(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
        self.groups.tick();
    }

    fn joining(&self, join: JoinGroup) -> JoinHandle<Result<JoinedGroup, GroupError>> {
        let groups = Arc::clone(&self.groups);
        tokio::spawn(async move { groups.join(join).await })
    }

    fn syncing(&self, sync: SyncGroup) -> JoinHandle<Result<SyncedGroup, GroupError>> {
        let groups = Arc::clone(&self.groups);
        tokio::spawn(async move { groups.sync(sync).await })
    }

    /// Makes a stable group with one member and returns the member.
    async fn single(&self, group: &str, topics: &[&str]) -> MemberIdentity {
        let joined = self.groups.join(join(group, "", topics)).await.unwrap();
        let member = identity(&joined);
        self.groups
            .sync(sync(group, &member, &[(&joined.member_id, b"all")]))
            .await
            .unwrap();
        member
    }

    fn state(&self, group: &str) -> GroupState {
        self.groups
            .describe(group)
            .map_or(GroupState::Dead, |described| described.state)
    }

    async fn commit(
        &self,
        group: &str,
        member: &MemberIdentity,
        offsets: &[(&str, i32, i64)],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        self.groups
            .commit_offsets(commit(group, member, offsets))
            .await
    }

    fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        Some(
            self.groups
                .committed_offset(group, topic, partition)?
                .offset,
        )
    }

    fn scrape(&self) -> String {
        let metrics = crate::metrics::Metrics::new(true);
        metrics.register(Arc::new(Scrape {
            groups: Arc::clone(&self.groups),
            ends: Arc::clone(&self.ends),
        }));
        let handle = crate::metrics::PrometheusHandle::new(metrics);
        handle.render(crate::metrics::Format::Text)
    }
}

fn join(group: &str, member_id: &str, topics: &[&str]) -> JoinGroup {
    JoinGroup {
        group_id: group.into(),
        member_id: member_id.into(),
        group_instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), encode_subscription(topics))],
        requires_member_id: false,
        supports_skipping_assignment: true,
        reason: None,
    }
}

fn static_join(group: &str, instance: &str, topics: &[&str]) -> JoinGroup {
    JoinGroup {
        group_instance_id: Some(instance.into()),
        ..join(group, "", topics)
    }
}

fn identity(joined: &JoinedGroup) -> MemberIdentity {
    MemberIdentity {
        member_id: joined.member_id.clone(),
        group_instance_id: None,
        generation: joined.generation,
    }
}

fn nobody() -> MemberIdentity {
    MemberIdentity {
        generation: -1,
        ..MemberIdentity::default()
    }
}

fn sync(group: &str, member: &MemberIdentity, assignments: &[(&str, &'static [u8])]) -> SyncGroup {
    SyncGroup {
        group_id: group.into(),
        member: member.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: assignments
            .iter()
            .map(|(member, assignment)| ((*member).to_owned(), Bytes::from_static(assignment)))
            .collect(),
    }
}

fn commit(group: &str, member: &MemberIdentity, offsets: &[(&str, i32, i64)]) -> CommitOffsets {
    CommitOffsets {
        group_id: group.into(),
        member: member.clone(),
        retention_ms: None,
        offsets: offsets
            .iter()
            .map(|(topic, partition, offset)| OffsetToCommit {
                topic: (*topic).into(),
                partition: *partition,
                offset: *offset,
                leader_epoch: -1,
                metadata: String::new(),
            })
            .collect(),
    }
}

#[tokio::test]
async fn two_members_join_one_generation_and_receive_the_leaders_assignments() {
    let server = Server::start();
    let first = server.single("g", &["t"]).await;
    let second = server.joining(join("g", "", &["t"]));
    while server.groups.heartbeat("g", &first).is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        server.groups.heartbeat("g", &first),
        Err(GroupError::RebalanceInProgress)
    );
    let again = server.joining(join("g", &first.member_id, &["t"]));
    let (leader, follower) = (
        again.await.unwrap().unwrap(),
        second.await.unwrap().unwrap(),
    );
    assert_eq!((leader.generation, follower.generation), (2, 2));
    assert_eq!(leader.leader, leader.member_id);
    assert_eq!(follower.leader, leader.member_id);
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
    let waiting = server.syncing(sync("g", &identity(&follower), &[]));
    let brought = server
        .groups
        .sync(sync(
            "g",
            &identity(&leader),
            &[(&leader.member_id, b"one"), (&follower.member_id, b"two")],
        ))
        .await
        .unwrap();
    assert_eq!(brought.assignment, "one");
    assert_eq!(waiting.await.unwrap().unwrap().assignment, "two");
    assert_eq!(server.state("g"), GroupState::Stable);
}

#[tokio::test]
async fn members_and_offsets_survive_a_restart() {
    let server = Server::start();
    server.topic("t", 1, 100).await;
    let member = server.single("g", &["t"]).await;
    server.commit("g", &member, &[("t", 0, 42)]).await.unwrap();
    let before = server.groups.describe("g").unwrap();
    let server = server.restart();
    assert_eq!(server.groups.describe("g").unwrap(), before);
    assert_eq!(server.committed("g", "t", 0), Some(42));
    server.groups.heartbeat("g", &member).unwrap();
    server.commit("g", &member, &[("t", 0, 43)]).await.unwrap();
    // The member stops sending heartbeats.
    server.advance(10_001);
    assert_eq!(server.state("g"), GroupState::Empty);
    assert_eq!(
        server.groups.heartbeat("g", &member),
        Err(GroupError::UnknownMemberId)
    );
}

#[tokio::test]
async fn a_static_member_that_restarts_with_the_same_topics_keeps_its_assignment() {
    let server = Server::start();
    let joined = server
        .groups
        .join(static_join("g", "i", &["t"]))
        .await
        .unwrap();
    let before = identity(&joined);
    server
        .groups
        .sync(sync("g", &before, &[(&joined.member_id, b"mine")]))
        .await
        .unwrap();
    // First without, then with a restart of the server in between.
    let mut server = server;
    let mut before = before;
    for _ in 0..2 {
        let back = server
            .groups
            .join(static_join("g", "i", &["t"]))
            .await
            .unwrap();
        assert_eq!(back.generation, before.generation);
        assert_ne!(back.member_id, before.member_id);
        assert!(back.skip_assignment);
        let now = identity(&back);
        let synced = server.groups.sync(sync("g", &now, &[])).await.unwrap();
        assert_eq!(synced.assignment, "mine");
        let fenced = MemberIdentity {
            group_instance_id: Some("i".into()),
            ..before
        };
        assert_eq!(
            server.groups.heartbeat("g", &fenced),
            Err(GroupError::FencedInstanceId)
        );
        before = now;
        server = server.restart();
    }
    // Different topics cause a rebalance, which completes at once as there is no other member.
    let changed = server
        .groups
        .join(static_join("g", "i", &["t", "u"]))
        .await
        .unwrap();
    assert_eq!(changed.generation, before.generation + 1);
    assert!(!changed.skip_assignment);
}

#[tokio::test]
async fn invalid_requests_are_rejected_and_create_no_group() {
    let server = Server::start();
    let refusal = async |join: JoinGroup| server.groups.join(join).await.unwrap_err();
    assert_eq!(
        refusal(join("", "", &["t"])).await,
        GroupError::InvalidGroupId
    );
    for session_timeout_ms in [i32::MIN, 99, 100_001] {
        let join = JoinGroup {
            session_timeout_ms,
            ..join("g", "", &["t"])
        };
        assert_eq!(refusal(join).await, GroupError::InvalidSessionTimeout);
    }
    assert_eq!(
        refusal(join("g", "someone", &["t"])).await,
        GroupError::UnknownMemberId
    );
    let member = MemberIdentity::default();
    let unknown = Err(GroupError::UnknownMemberId);
    assert_eq!(server.groups.heartbeat("g", &member), unknown);
    assert!(server.groups.sync(sync("g", &member, &[])).await.is_err());
    assert!(server.groups.leave("g", &[]).is_err());
    let unusable = JoinGroup {
        protocols: Vec::new(),
        ..join("g", "", &["t"])
    };
    assert_eq!(
        refusal(unusable).await,
        GroupError::InconsistentGroupProtocol
    );
    assert!(server.groups.list().is_empty());
}

#[tokio::test]
async fn a_consumer_outside_the_group_may_commit_while_the_group_is_empty() {
    let server = Server::start();
    server.topic("t", 2, 10).await;
    let offsets = [("t", 1, 5), ("t", 2, 5), ("u", 0, 5)];
    let answers = server.commit("g", &nobody(), &offsets).await.unwrap();
    let missing = Err(GroupError::UnknownTopicOrPartition);
    assert_eq!(answers, [Ok(()), missing.clone(), missing]);
    assert_eq!(server.committed("g", "t", 1), Some(5));
    assert_eq!(
        server.groups.list(),
        [GroupListing {
            group_id: "g".into(),
            group_type: GroupType::Classic,
            protocol_type: String::new(),
            state: GroupState::Empty
        }]
    );
    let member = server.single("g", &["t"]).await;
    assert_eq!(
        server.commit("g", &nobody(), &[("t", 1, 6)]).await,
        Err(GroupError::UnknownMemberId)
    );
    server.commit("g", &member, &[("t", 1, 7)]).await.unwrap();
    assert_eq!(server.committed("g", "t", 1), Some(7));
    let old = MemberIdentity {
        generation: member.generation - 1,
        ..member
    };
    assert_eq!(
        server.commit("g", &old, &[("t", 1, 8)]).await,
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(
        server.commit("other", &old, &[("t", 1, 8)]).await,
        Err(GroupError::GroupIdNotFound)
    );
    // Only a consumer that assigns its partitions itself may have no group id.
    server.commit("", &nobody(), &[("t", 1, 8)]).await.unwrap();
    assert_eq!(
        server.commit("", &old, &[("t", 1, 8)]).await,
        Err(GroupError::UnknownMemberId)
    );
}

#[tokio::test]
async fn a_commit_for_unknown_partitions_only_creates_no_group() {
    let server = Server::start();
    let answers = server.commit("g", &nobody(), &[("t", 0, 1)]).await.unwrap();
    assert_eq!(answers, [Err(GroupError::UnknownTopicOrPartition)]);
    assert!(server.groups.list().is_empty());
}

#[tokio::test]
async fn oversized_metadata_fails_only_its_own_partition() {
    let server = Server::start();
    server.topic("t", 2, 10).await;
    let mut request = commit("g", &nobody(), &[("t", 0, 1), ("t", 1, 1)]);
    request.offsets[0].metadata = "123456789".into();
    request.offsets[1].metadata = "12345678".into();
    let answers = server.groups.commit_offsets(request).await.unwrap();
    assert_eq!(answers, [Err(GroupError::OffsetMetadataTooLarge), Ok(())]);
    let all = server.groups.committed_offsets("g");
    assert_eq!(all["t"][&1].metadata, "12345678");
    assert_eq!(all["t"].len(), 1);
}

#[tokio::test]
async fn offsets_of_subscribed_topics_are_not_deleted() {
    let server = Server::start();
    server.topic("read", 1, 10).await;
    server.topic("left", 1, 10).await;
    let member = server.single("g", &["read"]).await;
    server
        .commit("g", &member, &[("read", 0, 1), ("left", 0, 1)])
        .await
        .unwrap();
    let partitions = ["read", "left", "gone"].map(|topic| (topic.to_owned(), 0));
    let answers = server
        .groups
        .delete_offsets("g", partitions.to_vec())
        .await
        .unwrap();
    assert_eq!(
        answers,
        [
            Err(GroupError::GroupSubscribedToTopic),
            Ok(()),
            Err(GroupError::UnknownTopicOrPartition)
        ]
    );
    assert_eq!(server.committed("g", "read", 0), Some(1));
    assert_eq!(server.committed("g", "left", 0), None);
    assert_eq!(
        server.groups.delete_offsets("other", Vec::new()).await,
        Err(GroupError::GroupIdNotFound)
    );
    let connect = JoinGroup {
        protocol_type: "connect".into(),
        ..join("workers", "", &[])
    };
    server.groups.join(connect).await.unwrap();
    assert_eq!(
        server.groups.delete_offsets("workers", Vec::new()).await,
        Err(GroupError::NonEmptyGroup)
    );
}

#[tokio::test]
async fn an_empty_group_is_deleted_with_its_offsets() {
    let server = Server::start();
    server.topic("t", 1, 10).await;
    let member = server.single("g", &["t"]).await;
    server.commit("g", &member, &[("t", 0, 1)]).await.unwrap();
    assert_eq!(
        server.groups.delete_group("g").await,
        Err(GroupError::NonEmptyGroup)
    );
    let leaving = LeavingMember {
        member_id: member.member_id,
        group_instance_id: None,
        reason: None,
    };
    let left = server.groups.leave("g", &[leaving]).unwrap();
    assert_eq!(left, [Ok(())]);
    assert_eq!(server.state("g"), GroupState::Empty);
    server.groups.delete_group("g").await.unwrap();
    assert_eq!(server.state("g"), GroupState::Dead);
    assert_eq!(
        server.groups.delete_group("g").await,
        Err(GroupError::GroupIdNotFound)
    );
    let server = server.restart();
    assert!(server.groups.list().is_empty());
    assert_eq!(server.committed("g", "t", 0), None);
}

#[tokio::test]
async fn offsets_expire_after_the_group_has_been_empty_for_the_retention_time() {
    let server = Server::start();
    server.topic("t", 1, 10).await;
    let member = server.single("managed", &["t"]).await;
    server
        .commit("managed", &member, &[("t", 0, 1)])
        .await
        .unwrap();
    server
        .commit("simple", &nobody(), &[("t", 0, 1)])
        .await
        .unwrap();
    for _ in 0..20 {
        server.advance(5_000);
        server.groups.heartbeat("managed", &member).unwrap();
    }
    server.groups.expire_offsets().await;
    assert_eq!(server.state("simple"), GroupState::Dead, "from its commit");
    assert_eq!(server.committed("managed", "t", 0), Some(1), "still read");
    server.advance(10_001);
    assert_eq!(server.state("managed"), GroupState::Empty);
    server.advance(59_999);
    // The time at which the group became empty survives a restart.
    let server = server.restart();
    server.groups.expire_offsets().await;
    assert_eq!(server.committed("managed", "t", 0), Some(1));
    server.advance(1);
    server.groups.expire_offsets().await;
    assert_eq!(server.committed("managed", "t", 0), None);
    assert_eq!(server.state("managed"), GroupState::Dead);
    assert!(server.catalog.groups().unwrap().is_empty());
}

#[tokio::test]
async fn offsets_of_unsubscribed_topics_expire_from_their_last_commit() {
    let server = Server::start();
    server.topic("read", 1, 10).await;
    server.topic("left", 1, 10).await;
    let member = server.single("g", &["read"]).await;
    server
        .commit("g", &member, &[("read", 0, 1), ("left", 0, 1)])
        .await
        .unwrap();
    for _ in 0..13 {
        server.advance(5_000);
        server.groups.heartbeat("g", &member).unwrap();
    }
    server.groups.expire_offsets().await;
    assert_eq!(server.committed("g", "read", 0), Some(1));
    assert_eq!(server.committed("g", "left", 0), None);
}

#[tokio::test]
async fn a_commit_may_override_offset_retention() {
    let server = Server::start();
    server.topic("t", 1, 10).await;
    let mut short = commit("g", &nobody(), &[("t", 0, 1)]);
    short.retention_ms = Some(1_000);
    server.groups.commit_offsets(short).await.unwrap();
    server.advance(999);
    server.groups.expire_offsets().await;
    assert_eq!(server.committed("g", "t", 0), Some(1));
    server.advance(1);
    server.groups.expire_offsets().await;
    assert_eq!(server.committed("g", "t", 0), None);
}

#[tokio::test]
async fn a_group_whose_only_member_id_was_never_used_is_removed() {
    let server = Server::start();
    let asking = JoinGroup {
        requires_member_id: true,
        ..join("g", "", &["t"])
    };
    let refused = server.groups.join(asking.clone()).await.unwrap_err();
    let GroupError::MemberIdRequired { member_id } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(server.state("g"), GroupState::Empty);
    let joined = server
        .groups
        .join(JoinGroup {
            member_id,
            ..asking.clone()
        })
        .await
        .unwrap();
    assert_eq!(joined.generation, 1);
    let other = JoinGroup {
        group_id: "h".into(),
        ..asking
    };
    server.groups.join(other).await.unwrap_err();
    assert_eq!(server.groups.list().len(), 2);
    server.advance(10_000);
    assert_eq!(server.groups.list().len(), 1);
}

#[tokio::test]
async fn a_queued_commit_survives_the_removal_of_an_unused_group() {
    let server = Server::start();
    server.topic("t", 1, 10).await;
    // Commits stay queued while the catalog is locked.
    let other = rusqlite::Connection::open(server.dir.path().join("catalog.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let offsets = [("t", 0, 5)];
    let member = nobody();
    let (answers, (), ()) = tokio::join!(
        server.commit("g", &member, &offsets),
        server.groups.expire_offsets(),
        async { other.execute_batch("COMMIT").unwrap() },
    );
    assert_eq!(answers.unwrap(), [Ok(())]);
    assert_eq!(server.committed("g", "t", 0), Some(5));
    let server = server.restart();
    assert_eq!(server.committed("g", "t", 0), Some(5));
}

#[tokio::test]
async fn a_failed_write_fails_the_sync_and_starts_another_rebalance() {
    let server = Server::start();
    let joined = server.groups.join(join("g", "", &["t"])).await.unwrap();
    server.catalog.close();
    let refused = server.groups.sync(sync("g", &identity(&joined), &[])).await;
    assert_eq!(refused, Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(server.state("g"), GroupState::PreparingRebalance);
    let again = server
        .groups
        .join(join("g", &joined.member_id, &["t"]))
        .await
        .unwrap();
    assert_eq!(again.generation, joined.generation + 1);
}

#[tokio::test]
async fn close_fails_waiting_requests() {
    let server = Server::start();
    let member = server.single("g", &["t"]).await;
    let waiting = server.joining(join("g", "", &["t"]));
    while server.groups.heartbeat("g", &member).is_ok() {
        tokio::task::yield_now().await;
    }
    server.groups.close();
    assert_eq!(
        waiting.await.unwrap(),
        Err(GroupError::CoordinatorNotAvailable)
    );
}

#[tokio::test]
async fn sessions_expire_without_requests_to_the_group() {
    let groups = Groups::open(
        Arc::new(Sqlite::in_memory().unwrap()),
        Arc::new(Ends::default()),
        settings(),
        crate::clock::SystemClock::new(),
    )
    .unwrap();
    let running = tokio::spawn(Arc::clone(&groups).run());
    let joined = groups
        .join(JoinGroup {
            session_timeout_ms: 100,
            ..join("g", "", &["t"])
        })
        .await
        .unwrap();
    groups
        .sync(sync("g", &identity(&joined), &[]))
        .await
        .unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while groups.list()[0].state != GroupState::Empty {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.abort();
}

#[tokio::test]
async fn a_scrape_exposes_groups_and_their_lag() {
    let server = Server::start();
    server.topic("t", 2, 100).await;
    server.topic("gone", 1, 100).await;
    let member = server.single("g", &["t"]).await;
    let offsets = [("t", 0, 40), ("t", 1, 1_000), ("gone", 0, 1)];
    server.commit("g", &member, &offsets).await.unwrap();
    server
        .commit("simple", &nobody(), &[("t", 0, 100)])
        .await
        .unwrap();
    server.delete_topic("gone").await;
    let shown = server.scrape();
    let lines: Vec<_> = shown
        .lines()
        .filter(|line| line.starts_with("streamline_consumer_"))
        .collect();
    let expected = [
        r#"streamline_consumer_groups_total 1"#,
        r#"streamline_consumer_lag{group="g",topic="t",partition="0"} 60"#,
        r#"streamline_consumer_lag{group="g",topic="t",partition="1"} 0"#,
        r#"streamline_consumer_lag{group="simple",topic="t",partition="0"} 0"#,
        r#"streamline_consumer_lost_records{group="g",topic="t",partition="0"} 0"#,
        r#"streamline_consumer_groups_by_state{state="Empty"} 1"#,
        r#"streamline_consumer_groups_by_state{state="Stable"} 1"#,
        r#"streamline_consumer_group_members{group="g"} 1"#,
        r#"streamline_consumer_group_members{group="simple"} 0"#,
        r#"streamline_consumer_group_rebalances_total{group="g"} 1"#,
        r#"streamline_consumer_group_committed_offset{group="g",topic="t",partition="0"} 40"#,
    ];
    for line in expected {
        assert!(lines.contains(&line), "{line} in {lines:#?}");
    }
    assert_eq!(shown.matches("streamline_consumer_lag{").count(), 3);
    server.groups.delete_group("simple").await.unwrap();
    assert!(!server.scrape().contains("simple"));
}
