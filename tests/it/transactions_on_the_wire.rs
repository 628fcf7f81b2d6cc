//! Transactions by single requests: version 2 of the protocol, and what no client sends on purpose.

use streamline::protocol::kafka::{ErrorCode, Request};
use streamline::protocol::messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use streamline::protocol::messages::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use streamline::protocol::messages::api_versions::ApiVersionsRequest;
use streamline::protocol::messages::describe_transactions::DescribeTransactionsRequest;
use streamline::protocol::messages::end_txn::{EndTxnRequest, EndTxnResponse};
use streamline::protocol::messages::fetch::{AbortedTransaction, FetchRequest};
use streamline::protocol::messages::init_producer_id::{
    InitProducerIdRequest, InitProducerIdResponse,
};
use streamline::protocol::messages::list_transactions::ListTransactionsRequest;
use streamline::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use streamline::protocol::messages::produce::ProduceRequest;
use streamline::protocol::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use streamline::protocol::messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};
use streamline::record::{BatchBuilder, Compression, DecompressLimit};

use crate::kafka::{
    FETCH, Topic, batches_of, create, fetch, fetch_request, now_ms, only, only_partition,
    produce_request,
};
use crate::support::{Client, Server};

const ID: &str = "payments";

/// A producer with the epoch that it was given last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Producer {
    id: i64,
    epoch: i16,
}

impl Producer {
    fn init(client: &mut Client) -> Producer {
        let given = init(client, 5, 60_000);
        assert_eq!(given.error_code, ErrorCode::NONE);
        Producer {
            id: given.producer_id,
            epoch: given.producer_epoch,
        }
    }

    fn produce(
        self,
        client: &mut Client,
        version: i16,
        topic: &Topic,
        sequence: i32,
        value: &str,
    ) -> ErrorCode {
        let mut batch = BatchBuilder::new(Compression::None)
            .producer(self.id, self.epoch, sequence)
            .transactional();
        batch.push(now_ms(), None, Some(value.as_bytes()), &[]);
        let batch = batch.build().unwrap();
        let request = ProduceRequest {
            transactional_id: Some(ID.to_owned()),
            ..produce_request(topic, -1, &[(0, batch.bytes().clone())])
        };
        only_partition(client.call(version, &request)).error_code
    }

    fn end(self, client: &mut Client, version: i16, committed: bool) -> EndTxnResponse {
        let request = EndTxnRequest {
            transactional_id: ID.to_owned(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
        };
        client.call(version, &request)
    }

    fn next(self, ended: &EndTxnResponse) -> Producer {
        assert_eq!(ended.error_code, ErrorCode::NONE);
        assert_eq!(ended.producer_id, self.id);
        assert_eq!(ended.producer_epoch, self.epoch + 1);
        Producer {
            epoch: self.epoch + 1,
            ..self
        }
    }

    fn add_partitions(
        self,
        client: &mut Client,
        version: i16,
        topics: &[(&str, i32)],
    ) -> Vec<ErrorCode> {
        let topics = topics
            .iter()
            .map(|(name, partition)| AddPartitionsToTxnTopic {
                name: name.to_string(),
                partitions: vec![*partition],
            });
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: ID.to_owned(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: topics.collect(),
            ..AddPartitionsToTxnRequest::default()
        };
        let topics = client.call(version, &request).results_by_topic_v3_and_below;
        let partitions = topics.iter().flat_map(|it| &it.results_by_partition);
        partitions.map(|it| it.partition_error_code).collect()
    }

    fn commit_offset(
        self,
        client: &mut Client,
        version: i16,
        topic: &str,
        offset: i64,
    ) -> ErrorCode {
        let request = TxnOffsetCommitRequest {
            transactional_id: ID.to_owned(),
            group_id: "g".to_owned(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: topic.to_owned(),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    committed_offset: offset,
                    ..TxnOffsetCommitRequestPartition::default()
                }],
            }],
            ..TxnOffsetCommitRequest::default()
        };
        client.call(version, &request).topics[0].partitions[0].error_code
    }
}

fn init(client: &mut Client, version: i16, timeout_ms: i32) -> InitProducerIdResponse {
    let request = InitProducerIdRequest {
        transactional_id: Some(ID.to_owned()),
        transaction_timeout_ms: timeout_ms,
        ..InitProducerIdRequest::default()
    };
    client.call(version, &request)
}

/// Returns the values that a reader of committed records keeps.
fn read_committed(client: &mut Client, topic: &Topic) -> Vec<String> {
    let request = FetchRequest {
        isolation_level: 1,
        ..fetch_request(topic, &[(0, 0)])
    };
    let data = only(client.call(FETCH, &request));
    assert_eq!(data.error_code, ErrorCode::NONE);
    let mut aborted = data.aborted_transactions.clone().unwrap();
    assert!(aborted.is_sorted_by_key(|it| it.first_offset));
    let mut values = Vec::new();
    for batch in batches_of(&data) {
        let header = batch.header();
        let is_aborted = |it: &AbortedTransaction| {
            it.producer_id == header.producer_id && it.first_offset <= header.base_offset
        };
        match aborted.iter().position(is_aborted) {
            // The marker ends the aborted transaction.
            Some(index) if header.attributes.is_control() => drop(aborted.remove(index)),
            Some(_) => {}
            None if header.attributes.is_control() => {}
            None => {
                for record in batch.records(DecompressLimit::default()).unwrap() {
                    let value = record.unwrap().value.unwrap();
                    values.push(String::from_utf8(value.to_vec()).unwrap());
                }
            }
        }
    }
    values
}

/// Returns the offset and error of a group in partition 0 of a topic, or all of its offsets.
fn fetch_offsets(
    client: &mut Client,
    topics: Option<&str>,
    require_stable: bool,
) -> Vec<(i64, ErrorCode)> {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g".to_owned(),
            topics: topics.map(|name| {
                vec![OffsetFetchRequestTopics {
                    name: name.to_owned(),
                    partition_indexes: vec![0],
                    ..OffsetFetchRequestTopics::default()
                }]
            }),
            ..OffsetFetchRequestGroup::default()
        }],
        require_stable,
        ..OffsetFetchRequest::default()
    };
    let groups = client.call(9, &request).groups;
    let partitions = groups[0].topics.iter().flat_map(|it| &it.partitions);
    partitions
        .map(|it| (it.committed_offset, it.error_code))
        .collect()
}

#[test]
fn transactions_of_version_2_need_no_other_requests_than_produce_and_end() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "orders", 1);
    let mut producer = Producer::init(&mut client);
    for round in 0..3 {
        let value = format!("commit-{round}");
        for version in [12, 13] {
            let code = producer.produce(&mut client, version, &topic, version.into(), &value);
            // A new epoch begins with sequence 0.
            let expected = match round {
                0 => ErrorCode::NONE,
                _ => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            };
            assert_eq!(code, expected, "{round} {version}");
        }
        if round > 0 {
            let code = producer.produce(&mut client, 12, &topic, 0, &value);
            assert_eq!(code, ErrorCode::NONE);
        }
        let ended = producer.end(&mut client, 5, true);
        // The answer was lost.
        assert_eq!(producer.end(&mut client, 5, true), ended);
        let next = producer.next(&ended);
        let late = producer.produce(&mut client, 12, &topic, 14, "late");
        assert_eq!(late, ErrorCode::INVALID_PRODUCER_EPOCH);
        assert_eq!(
            producer.end(&mut client, 5, false).error_code,
            ErrorCode::INVALID_TXN_STATE
        );
        producer = next;
    }
    assert_eq!(
        read_committed(&mut client, &topic),
        ["commit-0", "commit-0", "commit-1", "commit-2"]
    );
    // An abort of nothing increments the epoch, too.
    let ended = producer.end(&mut client, 5, false);
    let next = producer.next(&ended);
    assert_eq!(
        next.end(&mut client, 5, true).error_code,
        ErrorCode::INVALID_TXN_STATE
    );
}

#[test]
fn partitions_are_verified_and_the_code_for_missing_ones_depends_on_the_version() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "orders", 1);
    let producer = Producer::init(&mut client);
    for (version, expected) in [
        (3, ErrorCode::INVALID_TXN_STATE),
        (10, ErrorCode::INVALID_TXN_STATE),
        (11, ErrorCode::TRANSACTION_ABORTABLE),
    ] {
        let code = producer.produce(&mut client, version, &topic, 0, "not added");
        assert_eq!(code, expected, "{version}");
    }
    for version in 0..=3 {
        let codes = producer.add_partitions(&mut client, version, &[("orders", 0)]);
        assert_eq!(codes, [ErrorCode::NONE]);
    }
    let missing = [("orders", 0), ("orders", 1), ("missing", 0)];
    let codes = producer.add_partitions(&mut client, 3, &missing);
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(
        codes,
        [ErrorCode::OPERATION_NOT_ATTEMPTED, unknown, unknown]
    );
    for version in 3..=11 {
        let sequence = i32::from(version) - 3;
        let code = producer.produce(&mut client, version, &topic, sequence, "added");
        assert_eq!(code, ErrorCode::NONE, "{version}");
    }
    // The versions of brokers.
    let ask = |partition: i32, verify_only| AddPartitionsToTxnRequest {
        transactions: vec![AddPartitionsToTxnTransaction {
            transactional_id: ID.to_owned(),
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            verify_only,
            topics: vec![AddPartitionsToTxnTopic {
                name: "other".to_owned(),
                partitions: vec![partition],
            }],
        }],
        ..AddPartitionsToTxnRequest::default()
    };
    create(&mut client, "other", 2);
    let mut code_of = |request: &AddPartitionsToTxnRequest| {
        let result = client.call(5, request).results_by_transaction.remove(0);
        assert_eq!(result.transactional_id, ID);
        result.topic_results[0].results_by_partition[0].partition_error_code
    };
    assert_eq!(code_of(&ask(0, true)), ErrorCode::TRANSACTION_ABORTABLE);
    assert_eq!(code_of(&ask(0, false)), ErrorCode::NONE);
    assert_eq!(code_of(&ask(0, true)), ErrorCode::NONE);
    assert_eq!(code_of(&ask(1, true)), ErrorCode::TRANSACTION_ABORTABLE);
}

#[test]
fn fenced_producers_get_the_code_that_their_version_knows() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "orders", 1);
    let old = Producer::init(&mut client);
    assert_eq!(
        old.produce(&mut client, 12, &topic, 0, "old"),
        ErrorCode::NONE
    );
    Producer::init(&mut client);
    for version in EndTxnRequest::VERSIONS {
        let expected = match version {
            ..=1 => ErrorCode::INVALID_PRODUCER_EPOCH,
            _ => ErrorCode::PRODUCER_FENCED,
        };
        let refused = old.end(&mut client, version, true);
        assert_eq!(refused.error_code, expected);
        assert_eq!((refused.producer_id, refused.producer_epoch), (-1, -1));
    }
    for (version, expected) in [
        (1, ErrorCode::INVALID_PRODUCER_EPOCH),
        (2, ErrorCode::PRODUCER_FENCED),
    ] {
        let codes = old.add_partitions(&mut client, version, &[("orders", 0)]);
        assert_eq!(codes, [expected]);
        let request = AddOffsetsToTxnRequest {
            transactional_id: ID.to_owned(),
            producer_id: old.id,
            producer_epoch: old.epoch,
            group_id: "g".to_owned(),
        };
        assert_eq!(client.call(version, &request).error_code, expected);
    }
    for (version, expected) in [
        (3, ErrorCode::INVALID_PRODUCER_EPOCH),
        (4, ErrorCode::PRODUCER_FENCED),
    ] {
        let request = InitProducerIdRequest {
            transactional_id: Some(ID.to_owned()),
            transaction_timeout_ms: 60_000,
            producer_id: old.id,
            producer_epoch: old.epoch,
        };
        assert_eq!(client.call(version, &request).error_code, expected);
    }
    let stranger = Producer { id: 999, ..old };
    let unknown = ErrorCode::INVALID_PRODUCER_ID_MAPPING;
    assert_eq!(stranger.end(&mut client, 5, true).error_code, unknown);
    let code = stranger.produce(&mut client, 12, &topic, 0, "stranger");
    assert_eq!(code, unknown);
    for timeout_ms in [0, -1, 900_001] {
        let refused = init(&mut client, 5, timeout_ms);
        assert_eq!(refused.error_code, ErrorCode::INVALID_TRANSACTION_TIMEOUT);
    }
    assert_eq!(read_committed(&mut client, &topic), [""; 0]);
}

#[test]
fn pending_offsets_are_unstable_until_the_transaction_ends() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "input", 1);
    let producer = Producer::init(&mut client);
    for (version, expected) in [
        (0, ErrorCode::INVALID_TXN_STATE),
        (3, ErrorCode::INVALID_TXN_STATE),
        (4, ErrorCode::TRANSACTION_ABORTABLE),
        (5, ErrorCode::NONE),
        (0, ErrorCode::NONE),
    ] {
        let code = producer.commit_offset(&mut client, version, "input", 7);
        assert_eq!(code, expected, "{version}");
    }
    let unstable = ErrorCode::UNSTABLE_OFFSET_COMMIT;
    let fetched = fetch_offsets(&mut client, Some("input"), true);
    assert_eq!(fetched, [(-1, unstable)]);
    let fetched = fetch_offsets(&mut client, Some("input"), false);
    assert_eq!(fetched, [(-1, ErrorCode::NONE)]);
    let next = producer.next(&producer.end(&mut client, 5, true));
    for topics in [Some("input"), None] {
        let fetched = fetch_offsets(&mut client, topics, true);
        assert_eq!(fetched, [(7, ErrorCode::NONE)]);
    }
    let code = next.commit_offset(&mut client, 5, "input", 9);
    assert_eq!(code, ErrorCode::NONE);
    for topics in [Some("input"), None] {
        let fetched = fetch_offsets(&mut client, topics, true);
        assert_eq!(fetched, [(-1, unstable)]);
        let fetched = fetch_offsets(&mut client, topics, false);
        assert_eq!(fetched, [(7, ErrorCode::NONE)]);
    }
    next.end(&mut client, 5, false);
    let fetched = fetch_offsets(&mut client, None, true);
    assert_eq!(fetched, [(7, ErrorCode::NONE)]);
    let code = next.commit_offset(&mut client, 5, "missing", 9);
    assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn markers_end_a_transaction_that_hangs_in_a_partition() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "orders", 1);
    let producer = Producer::init(&mut client);
    assert_eq!(
        producer.produce(&mut client, 12, &topic, 0, "hangs"),
        ErrorCode::NONE
    );
    assert_eq!(fetch(&mut client, &topic, 0, 0).last_stable_offset, 0);
    let request = WriteTxnMarkersRequest {
        markers: vec![WritableTxnMarker {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            transaction_result: false,
            topics: [("orders", vec![0, 7]), ("missing", vec![0])]
                .map(|(name, partition_indexes)| WritableTxnMarkerTopic {
                    name: name.to_owned(),
                    partition_indexes,
                })
                .into(),
            coordinator_epoch: 3,
        }],
    };
    let markers = client.call(1, &request).markers;
    assert_eq!(markers[0].producer_id, producer.id);
    let topics = markers[0].topics.iter().flat_map(|it| &it.partitions);
    let codes: Vec<_> = topics.map(|it| it.error_code).collect();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(codes, [ErrorCode::NONE, unknown, unknown]);
    assert_eq!(fetch(&mut client, &topic, 0, 0).last_stable_offset, 2);
    assert!(server.log().contains("transaction markers written"));
    // The coordinator still ends its transaction, whatever coordinator epoch the marker had.
    producer.next(&producer.end(&mut client, 5, false));
    assert_eq!(fetch(&mut client, &topic, 0, 0).last_stable_offset, 3);
}

#[test]
fn transactional_ids_are_listed_and_described() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "orders", 1);
    let producer = Producer::init(&mut client);
    producer.produce(&mut client, 12, &topic, 0, "open");
    let mut list = |version, states: &[&str], duration_filter| {
        let request = ListTransactionsRequest {
            state_filters: states.iter().map(|it| it.to_string()).collect(),
            producer_id_filters: vec![producer.id],
            duration_filter,
            transactional_id_pattern: None,
        };
        let listed = client.call(version, &request);
        assert_eq!(listed.error_code, ErrorCode::NONE);
        (
            listed.transaction_states.len(),
            listed.unknown_state_filters,
        )
    };
    assert_eq!(list(0, &[], -1), (1, vec![]));
    assert_eq!(list(0, &["Ongoing", "Dead"], -1), (1, vec![]));
    assert_eq!(list(0, &["Empty"], -1), (0, vec![]));
    assert_eq!(list(0, &["ongoing"], -1), (0, vec!["ongoing".to_owned()]));
    assert_eq!(list(1, &["Ongoing"], 3_600_000), (0, vec![]));
    for (pattern, expected) in [
        (Some("pay.*"), Ok(1)),
        (Some(""), Ok(1)),
        (None, Ok(1)),
        (Some("pay"), Ok(0)),
        (Some("x|payments"), Ok(1)),
        (Some("(a"), Err(ErrorCode::INVALID_REGULAR_EXPRESSION)),
    ] {
        let request = ListTransactionsRequest {
            transactional_id_pattern: pattern.map(str::to_owned),
            ..ListTransactionsRequest::default()
        };
        let listed = client.call(2, &request);
        let found = match listed.error_code {
            ErrorCode::NONE => Ok(listed.transaction_states.len()),
            code => Err(code),
        };
        assert_eq!(found, expected, "{pattern:?}");
    }
    let request = DescribeTransactionsRequest {
        transactional_ids: [ID, "missing", ""].map(str::to_owned).into(),
    };
    let described = client.call(0, &request).transaction_states;
    let codes: Vec<_> = described.iter().map(|it| it.error_code).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::NONE,
            ErrorCode::TRANSACTIONAL_ID_NOT_FOUND,
            ErrorCode::INVALID_REQUEST
        ]
    );
    assert_eq!(described[0].transaction_state, "Ongoing");
    assert_eq!(described[0].transaction_timeout_ms, 60_000);
    assert!((now_ms() - described[0].transaction_start_time_ms) < 60_000);
    assert_eq!(described[0].producer_id, producer.id);
    assert_eq!(described[0].topics[0].topic, "orders");
    assert_eq!(described[0].topics[0].partitions, [0]);
}

#[test]
fn producers_learn_the_version_of_the_protocol_from_the_features() {
    let server = Server::start();
    let mut client = server.connect();
    let request = ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1".to_owned(),
        ..ApiVersionsRequest::default()
    };
    let answer = client.call(4, &request);
    let feature = answer
        .finalized_features
        .iter()
        .find(|it| it.name == "transaction.version");
    assert_eq!(feature.unwrap().max_version_level, 2);
    assert!(answer.finalized_features_epoch >= 0);
}
