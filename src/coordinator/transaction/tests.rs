//! Tests of the whole coordinator, with a catalog and logs in memory and a manual clock.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::*;
use crate::catalog::{Sqlite, TopicRow};
use crate::clock::ManualClock;
use crate::config::TopicConfig;
use crate::coordinator::group::{
    CommitOffsets, GroupSettings, Groups, MemberIdentity, OffsetToCommit,
};
use crate::record::{BatchBuilder, Compression};
use crate::storage::memory::MemoryStorage;
use crate::storage::{
    Acks, AppendOptions, Appended, Isolation, PartitionLog, ReadOptions, ReadTicket, Storage,
    Ticket, TopicSpec, TransactionMarker, TransactionOutcome,
};

const TOPIC: &str = "orders";
const ID: &str = "payments";
const TIMEOUT_MS: i32 = 60_000;

struct Server {
    catalog: Arc<dyn Catalog>,
    topics: Arc<dyn Engine>,
    clock: Arc<ManualClock>,
    transactions: Arc<Transactions>,
    topic_id: Uuid,
}

impl Server {
    async fn start() -> Server {
        let catalog: Arc<dyn Catalog> = Arc::new(Sqlite::in_memory().unwrap());
        let clock = ManualClock::at_ms(1_000_000);
        let topic_id = Uuid::new_v4();
        let row = TopicRow {
            name: TOPIC.to_owned(),
            id: topic_id,
            partitions: 3,
            configs: BTreeMap::new(),
        };
        catalog.create_topic(row).await.unwrap();
        let storage = Box::new(MemoryStorage {
            producer_id_expiration_ms: 86_400_000,
            clock: Arc::clone(&clock) as _,
            metrics: Metrics::new(true),
        });
        let spec = TopicSpec {
            name: TOPIC.to_owned(),
            id: topic_id,
            partitions: 3,
            config: TopicConfig::default(),
        };
        let topics = storage.open(vec![spec], HashSet::new()).unwrap();
        let transactions = open(&catalog, &topics, &clock).await;
        Server {
            catalog,
            topics,
            clock,
            transactions,
            topic_id,
        }
    }

    /// Forgets what is in memory only.
    async fn restart(&mut self) {
        self.transactions = open(&self.catalog, &self.topics, &self.clock).await;
    }

    async fn init(&self) -> ProducerIdentity {
        self.try_init(None).await.unwrap()
    }

    async fn try_init(
        &self,
        expected: Option<ProducerIdentity>,
    ) -> Result<ProducerIdentity, TransactionError> {
        let init = InitProducer {
            timeout_ms: TIMEOUT_MS,
            expected,
        };
        self.transactions.initialise(ID, init).await
    }

    fn log(&self, number: i32) -> Arc<dyn PartitionLog> {
        let topic = self.topics.get(TOPIC).unwrap();
        topic.partition(number).unwrap()
    }

    /// Appends one record by a producer of version 1 or 2.
    fn append(
        &self,
        producer: ProducerIdentity,
        number: i32,
        sequence: i32,
        is_added: bool,
    ) -> Result<(), TransactionError> {
        let partition = PartitionToAppend {
            topic_id: self.topic_id,
            number,
            is_added,
        };
        let log = self.log(number);
        let mut batch = BatchBuilder::new(Compression::None)
            .producer(producer.producer_id, producer.producer_epoch, sequence)
            .transactional();
        batch.push(self.clock.now_ms(), None, Some(b"record"), &[]);
        let batches = vec![batch.build().unwrap()];
        let append = || ready(log.append(batches, AppendOptions { acks: Acks::All }));
        self.transactions.append(ID, producer, partition, append)?;
        Ok(())
    }

    async fn end(
        &self,
        producer: ProducerIdentity,
        outcome: TransactionOutcome,
        increments: bool,
    ) -> Result<ProducerIdentity, TransactionError> {
        self.transactions
            .end(ID, producer, outcome, increments)
            .await
    }

    fn state(&self) -> TransactionState {
        self.transactions.describe(ID).unwrap().unwrap().state
    }

    /// Returns the outcome of the transactions in a partition: the number of readable records of the committed and of
    /// the aborted ones. Panics if one is open.
    fn outcome(&self, number: i32) -> (usize, usize) {
        let log = self.log(number);
        let offsets = log.offsets();
        assert_eq!(offsets.last_stable, offsets.log_end, "open in {number}");
        let options = ReadOptions {
            isolation: Isolation::ReadCommitted,
            ..ReadOptions::at(0, 1 << 20)
        };
        let ReadTicket::Ready(fetched) = log.read(options) else {
            panic!("memory does not wait");
        };
        let fetched = fetched.unwrap();
        let records = fetched.records.map(|records| records.to_bytes().unwrap());
        let batches = crate::record::RecordBatch::split(records.unwrap_or_default());
        let data = batches.unwrap_or_default().into_iter().filter(|batch| {
            let attributes = batch.header().attributes;
            !attributes.is_control()
        });
        (data.count() - fetched.aborted.len(), fetched.aborted.len())
    }
}

async fn open(
    catalog: &Arc<dyn Catalog>,
    topics: &Arc<dyn Engine>,
    clock: &Arc<ManualClock>,
) -> Arc<Transactions> {
    let settings = TransactionSettings {
        transaction_max_timeout_ms: 900_000,
        transactional_id_expiration_ms: 1_000_000,
        transaction_abort_timed_out_transaction_cleanup_interval_ms: 10,
        transaction_remove_expired_transaction_cleanup_interval_ms: 10,
    };
    let opened = Transactions::open(
        Arc::clone(catalog),
        Arc::clone(topics),
        settings,
        Arc::clone(clock) as _,
        Metrics::new(true),
    );
    let opened = opened.unwrap();
    opened.recover().await.unwrap();
    opened
}

fn ready(ticket: Ticket<Appended>) -> Appended {
    match ticket {
        Ticket::Ready(appended) => appended.unwrap(),
        Ticket::Pending(_) => panic!("memory does not wait"),
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not in time: {what}");
}

/// How far the end of a transaction came before the crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    BeforeTheDecision,
    AfterTheDecision,
    AfterSomeMarkers,
    AfterAllMarkers,
}

const CRASHES: [Crash; 4] = [
    Crash::BeforeTheDecision,
    Crash::AfterTheDecision,
    Crash::AfterSomeMarkers,
    Crash::AfterAllMarkers,
];

impl Server {
    /// Ends the transaction as far as a crash lets it, without the coordinator.
    async fn end_until(
        &self,
        producer: ProducerIdentity,
        outcome: TransactionOutcome,
        increments: bool,
        crash: Crash,
    ) {
        if crash == Crash::BeforeTheDecision {
            return;
        }
        let slot = self.transactions.find(ID).unwrap();
        let row = slot.read().clone().unwrap();
        let now_ms = self.clock.now_ms();
        let Ok(state::Ending::Decided(decided)) =
            state::end(&row, producer, outcome, increments, None, now_ms)
        else {
            panic!("not decided");
        };
        let commits = outcome == TransactionOutcome::Commit;
        let stored = self.catalog.decide_transaction(decided.clone(), commits);
        stored.await.unwrap();
        let written = match crash {
            Crash::AfterSomeMarkers => 0..1,
            Crash::AfterAllMarkers => 0..2,
            _ => 0..0,
        };
        for number in written {
            let marker = TransactionMarker {
                producer_id: decided.producer_id,
                producer_epoch: decided.producer_epoch,
                coordinator_epoch: 0,
                outcome,
            };
            let options = AppendOptions { acks: Acks::All };
            ready(self.log(number).end_transaction(marker, options));
        }
    }
}

#[tokio::test]
async fn a_crash_at_any_point_leaves_one_outcome_in_every_partition() {
    for increments in [false, true] {
        for outcome in [TransactionOutcome::Commit, TransactionOutcome::Abort] {
            for crash in CRASHES {
                let mut server = Server::start().await;
                let producer = server.init().await;
                if !increments {
                    let partitions = [(server.topic_id, 0), (server.topic_id, 1)];
                    let added = server
                        .transactions
                        .add_partitions(ID, producer, &partitions);
                    added.await.unwrap();
                }
                server.append(producer, 0, 0, increments).unwrap();
                server.append(producer, 1, 0, increments).unwrap();
                server.end_until(producer, outcome, increments, crash).await;
                server.restart().await;
                let what = format!("{increments} {outcome:?} {crash:?}");
                if crash == Crash::BeforeTheDecision {
                    assert_eq!(server.state(), TransactionState::Ongoing, "{what}");
                    assert_eq!(server.append(producer, 0, 1, increments), Ok(()), "{what}");
                    server.end(producer, outcome, increments).await.unwrap();
                    let records = [2, 1];
                    for (number, count) in (0..).zip(records) {
                        let expected = match outcome {
                            TransactionOutcome::Commit => (count, 0),
                            TransactionOutcome::Abort => (count - 1, 1),
                        };
                        assert_eq!(server.outcome(number), expected, "{what}");
                    }
                    continue;
                }
                let expected = match outcome {
                    TransactionOutcome::Commit => (TransactionState::CompleteCommit, (1, 0)),
                    TransactionOutcome::Abort => (TransactionState::CompleteAbort, (0, 1)),
                };
                assert_eq!(server.state(), expected.0, "{what}");
                for number in 0..2 {
                    assert_eq!(server.outcome(number), expected.1, "{what}");
                }
                // The producer did not get the answer and repeats its request, then goes on.
                let next = server.end(producer, outcome, increments).await.unwrap();
                let other = match outcome {
                    TransactionOutcome::Commit => TransactionOutcome::Abort,
                    TransactionOutcome::Abort => TransactionOutcome::Commit,
                };
                let refused = server.end(producer, other, increments).await;
                assert_eq!(refused, Err(TransactionError::InvalidState), "{what}");
                if increments {
                    assert_eq!(server.append(next, 2, 0, true), Ok(()), "{what}");
                    server.end(next, outcome, true).await.unwrap();
                    assert_eq!(server.outcome(2), expected.1, "{what}");
                }
            }
        }
    }
}

/// The transaction after a decided one is not stored; a crash finds records of both.
#[tokio::test]
async fn records_of_the_next_transaction_are_not_decided_with_the_previous_one() {
    let mut server = Server::start().await;
    let first = server.init().await;
    server.append(first, 0, 0, true).unwrap();
    server.append(first, 1, 0, true).unwrap();
    // The marker of partition 1 was lost with the power, as was the Complete state.
    server
        .end_until(
            first,
            TransactionOutcome::Commit,
            true,
            Crash::AfterSomeMarkers,
        )
        .await;
    let next = ProducerIdentity {
        producer_epoch: first.producer_epoch + 1,
        ..first
    };
    let mut batch = BatchBuilder::new(Compression::None)
        .producer(next.producer_id, next.producer_epoch, 0)
        .transactional();
    batch.push(server.clock.now_ms(), None, Some(b"next"), &[]);
    let options = AppendOptions { acks: Acks::All };
    ready(server.log(2).append(vec![batch.build().unwrap()], options));
    server.restart().await;
    assert_eq!(server.state(), TransactionState::Ongoing);
    assert_eq!((server.outcome(0), server.outcome(1)), ((1, 0), (1, 0)));
    let aborted = server.end(next, TransactionOutcome::Abort, true).await;
    assert_eq!(aborted.unwrap().producer_epoch, next.producer_epoch + 1);
    assert_eq!(server.outcome(2), (0, 1));
}

#[tokio::test]
async fn open_records_of_unknown_producers_are_aborted_at_the_start() {
    let mut server = Server::start().await;
    let producer = server.init().await;
    server.append(producer, 0, 0, true).unwrap();
    server.catalog.delete_transaction(ID).await.unwrap();
    server.restart().await;
    assert_eq!(server.outcome(0), (0, 1));
    assert_eq!(server.transactions.describe(ID), Ok(None));
}

#[tokio::test]
async fn a_producer_that_was_fenced_or_whose_transaction_ended_appends_nothing_more() {
    let server = Server::start().await;
    let first = server.init().await;
    assert_eq!(
        server.append(first, 0, 0, false),
        Err(TransactionError::NotInTransaction)
    );
    server.append(first, 0, 0, true).unwrap();
    let second = server.init().await;
    assert_eq!(second.producer_epoch, first.producer_epoch + 2);
    assert_eq!(server.outcome(0), (0, 1));
    let fenced = Err(TransactionError::ProducerFenced);
    assert_eq!(server.append(first, 1, 0, true), fenced);
    server.append(second, 0, 0, true).unwrap();
    let third = server.end(second, TransactionOutcome::Commit, true).await;
    assert_eq!(server.append(second, 0, 1, true), fenced);
    assert_eq!(server.append(third.unwrap(), 0, 0, true), Ok(()));
    let unknown = server
        .transactions
        .verify("other", first, (server.topic_id, 0));
    assert_eq!(unknown, Err(TransactionError::InvalidProducerIdMapping));
}

#[tokio::test]
async fn a_producer_that_names_itself_goes_on_after_its_ongoing_transaction() {
    let server = Server::start().await;
    let first = server.init().await;
    server.append(first, 0, 0, true).unwrap();
    let next = server.try_init(Some(first)).await.unwrap();
    assert_eq!(next.producer_id, first.producer_id);
    assert_eq!(server.outcome(0), (0, 1));
    assert_eq!(server.append(next, 0, 0, true), Ok(()));
    let fenced = server.try_init(Some(first)).await;
    assert_eq!(fenced, Err(TransactionError::ProducerFenced));
}

#[tokio::test]
async fn a_transaction_that_exceeds_its_timeout_is_aborted_and_an_unused_id_expires() {
    let server = Server::start().await;
    let producer = server.init().await;
    server.append(producer, 0, 0, true).unwrap();
    server.clock.advance(Duration::from_millis(60_000));
    server.transactions.abort_timed_out();
    assert_eq!(server.state(), TransactionState::Ongoing);
    server.clock.advance(Duration::from_millis(1));
    server.transactions.abort_timed_out();
    until("aborted", || {
        server.state() == TransactionState::CompleteAbort
    })
    .await;
    assert_eq!(server.outcome(0), (0, 1));
    let refused = server.end(producer, TransactionOutcome::Commit, true).await;
    assert_eq!(refused, Err(TransactionError::InvalidState));
    server.transactions.remove_expired();
    assert!(server.transactions.describe(ID).unwrap().is_some());
    server.clock.advance(Duration::from_secs(1_000));
    server.transactions.remove_expired();
    assert_eq!(server.transactions.describe(ID), Ok(None));
    let fresh = server.init().await;
    assert_ne!(fresh.producer_id, producer.producer_id);
    assert_eq!(server.catalog.transactions().unwrap().len(), 1);
}

#[tokio::test]
async fn a_deleted_topic_does_not_hold_up_the_end() {
    let server = Server::start().await;
    let producer = server.init().await;
    server.append(producer, 0, 0, true).unwrap();
    server.topics.delete(TOPIC).unwrap();
    let ended = server.end(producer, TransactionOutcome::Commit, true).await;
    assert!(ended.is_ok());
    assert_eq!(server.state(), TransactionState::CompleteCommit);
}

#[tokio::test]
async fn empty_ids_and_timeouts_out_of_range_are_refused() {
    let server = Server::start().await;
    let init = |timeout_ms| InitProducer {
        timeout_ms,
        expected: None,
    };
    let empty = server.transactions.initialise("", init(1)).await;
    assert_eq!(empty, Err(TransactionError::EmptyId));
    for timeout_ms in [-1, 0, 900_001] {
        let refused = server.transactions.initialise(ID, init(timeout_ms)).await;
        assert_eq!(refused, Err(TransactionError::InvalidTimeout));
    }
}

/// While a record is being appended, the transaction cannot be decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_and_the_decision_exclude_each_other() {
    let server = Arc::new(Server::start().await);
    let producer = server.init().await;
    let partition = PartitionToAppend {
        topic_id: server.topic_id,
        number: 0,
        is_added: true,
    };
    let (begun, begins) = std::sync::mpsc::channel();
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let appending = {
        let transactions = Arc::clone(&server.transactions);
        std::thread::spawn(move || {
            let appended = transactions.append(ID, producer, partition, || {
                begun.send(()).unwrap();
                goes_on.recv().unwrap();
            });
            appended.unwrap();
        })
    };
    begins.recv().unwrap();
    let ending = {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.end(producer, TransactionOutcome::Commit, true).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!ending.is_finished());
    assert_eq!(server.log(0).offsets().log_end, 0);
    go_on.send(()).unwrap();
    appending.join().unwrap();
    ending.await.unwrap().unwrap();
    assert_eq!(server.log(0).offsets().log_end, 1, "the marker");
}

fn groups(server: &Server) -> Arc<Groups> {
    let settings = GroupSettings {
        group_min_session_timeout_ms: 100,
        group_max_session_timeout_ms: 100_000,
        group_initial_rebalance_delay_ms: 0,
        group_max_size: 10,
        offset_metadata_max_bytes: 8,
        offsets_retention_ms: 1_000,
        offsets_retention_check_interval_ms: 1_000,
    };
    let catalog = Arc::clone(&server.catalog);
    let topics = Arc::new(Arc::clone(&server.topics));
    Groups::open(catalog, topics, settings, Arc::clone(&server.clock) as _).unwrap()
}

fn offsets_of(group: &str, partition: i32, offset: i64) -> CommitOffsets {
    CommitOffsets {
        group_id: group.to_owned(),
        member: MemberIdentity {
            generation: -1,
            ..MemberIdentity::default()
        },
        retention_ms: None,
        offsets: vec![OffsetToCommit {
            topic: TOPIC.to_owned(),
            partition,
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        }],
    }
}

#[tokio::test]
async fn offsets_are_pending_until_the_end_even_across_a_restart() {
    let mut server = Server::start().await;
    let groups = groups(&server);
    let producer = server.init().await;
    let commit = |is_added| {
        let offsets = offsets_of("g", 0, 5);
        let transactions = &server.transactions;
        transactions.commit_offsets(ID, producer, &groups, offsets, is_added)
    };
    let missing = commit(false).await.unwrap_err();
    let expected = OffsetsError::Transaction(TransactionError::NotInTransaction);
    assert_eq!(missing, expected);
    assert_eq!(commit(true).await.unwrap(), [Ok(())]);
    assert_eq!(groups.committed_offset("g", TOPIC, 0), None);
    assert_eq!(groups.pending_offsets("g"), [(TOPIC.to_owned(), 0)].into());
    // The group is in use, though it has no committed offsets.
    server.clock.advance(Duration::from_millis(2_000));
    groups.expire_offsets().await;
    assert!(groups.describe("g").is_some());
    server.restart().await;
    assert_eq!(server.state(), TransactionState::Ongoing);
    let next = server.end(producer, TransactionOutcome::Commit, true).await;
    let committed = groups.committed_offset("g", TOPIC, 0).unwrap();
    assert_eq!(committed.offset, 5);
    assert!(groups.pending_offsets("g").is_empty());
    let next = next.unwrap();
    let offsets = offsets_of("g", 0, 9);
    let added = server
        .transactions
        .commit_offsets(ID, next, &groups, offsets, true);
    added.await.unwrap();
    server
        .end(next, TransactionOutcome::Abort, true)
        .await
        .unwrap();
    let committed = groups.committed_offset("g", TOPIC, 0).unwrap();
    assert_eq!(committed.offset, 5);
    assert!(groups.pending_offsets("g").is_empty());
}

#[tokio::test]
async fn an_offset_that_an_open_transaction_will_replace_does_not_expire() {
    let server = Server::start().await;
    let groups = groups(&server);
    groups.commit_offsets(offsets_of("g", 0, 1)).await.unwrap();
    groups.commit_offsets(offsets_of("g", 1, 1)).await.unwrap();
    let producer = server.init().await;
    let offsets = offsets_of("g", 0, 5);
    let added = server
        .transactions
        .commit_offsets(ID, producer, &groups, offsets, true);
    added.await.unwrap();
    server.clock.advance(Duration::from_millis(2_000));
    groups.expire_offsets().await;
    assert!(groups.committed_offset("g", TOPIC, 0).is_some());
    assert_eq!(groups.committed_offset("g", TOPIC, 1), None);
}

/// A decision that cannot be stored leaves the transaction as it was.
#[tokio::test]
async fn a_transaction_goes_on_if_the_catalog_refuses_its_decision() {
    let server = Server::start().await;
    let producer = server.init().await;
    server.append(producer, 0, 0, true).unwrap();
    server.catalog.close();
    let refused = server.end(producer, TransactionOutcome::Commit, true).await;
    assert!(matches!(refused, Err(TransactionError::Catalog(_))));
    assert_eq!(server.state(), TransactionState::Ongoing);
    assert_eq!(server.append(producer, 0, 1, true), Ok(()));
}

#[tokio::test]
async fn transactional_ids_are_listed_by_state_producer_and_age() {
    let server = Server::start().await;
    let producer = server.init().await;
    server.append(producer, 0, 0, true).unwrap();
    let init = InitProducer {
        timeout_ms: TIMEOUT_MS,
        expected: None,
    };
    let idle = server.transactions.initialise("idle", init).await.unwrap();
    server.clock.advance(Duration::from_millis(500));
    let list = |filter: TransactionFilter| {
        let found = server.transactions.list(&filter).into_iter();
        found.map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!(list(TransactionFilter::default()), ["idle", ID]);
    let ongoing = TransactionFilter {
        states: Some(vec![TransactionState::Ongoing]),
        ..TransactionFilter::default()
    };
    assert_eq!(list(ongoing.clone()), [ID]);
    let of_producer = TransactionFilter {
        producer_ids: Some([idle.producer_id].into()),
        ..TransactionFilter::default()
    };
    assert_eq!(list(of_producer), ["idle"]);
    for (age_ms, expected) in [(499, vec![ID]), (500, vec![])] {
        let older = TransactionFilter {
            older_than_ms: Some(age_ms),
            ..ongoing.clone()
        };
        assert_eq!(list(older), expected);
    }
    let described = server.transactions.describe(ID).unwrap().unwrap();
    assert_eq!(described.producer, producer);
    assert_eq!(described.partitions, [(TOPIC.to_owned(), vec![0])].into());
}
