//! Tests of incremental fetch sessions.

use streamline::protocol::kafka::{ErrorCode, Request};
use streamline::protocol::messages::delete_topics::DeleteTopicsRequest;
use streamline::protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, ForgottenTopic, PartitionData,
};

use crate::kafka::{
    Topic, batch, create, delete_records, fetch_request, produce, size_of, values_of,
};
use crate::support::{Client, Server};

/// The client's side of a session.
struct Session {
    version: i16,
    id: i32,
    epoch: i32,
}

impl Session {
    /// Starts a session by a full fetch, and returns the response with it.
    #[track_caller]
    fn start(client: &mut Client, version: i16, full: FetchRequest) -> (Session, FetchResponse) {
        let full = FetchRequest {
            session_epoch: 0,
            ..full
        };
        let response = client.call(version, &full);
        assert_eq!(response.error_code, ErrorCode::NONE);
        let id = response.session_id;
        let session = Session {
            version,
            id,
            epoch: 1,
        };
        (session, response)
    }

    /// Sends the next fetch of the session.
    #[track_caller]
    fn next(&mut self, client: &mut Client, changes: FetchRequest) -> Vec<PartitionData> {
        let request = FetchRequest {
            session_id: self.id,
            session_epoch: self.epoch,
            ..changes
        };
        self.epoch += 1;
        let response = client.call(self.version, &request);
        assert_eq!(
            (response.error_code, response.session_id),
            (ErrorCode::NONE, self.id)
        );
        partitions(response)
    }
}

fn partitions(response: FetchResponse) -> Vec<PartitionData> {
    let topics = response.responses.into_iter();
    topics.flat_map(|topic| topic.partitions).collect()
}

fn numbers(partitions: &[PartitionData]) -> Vec<i32> {
    partitions.iter().map(|data| data.partition_index).collect()
}

fn no_changes() -> FetchRequest {
    FetchRequest::default()
}

fn forget(topic: &Topic, partitions: &[i32]) -> FetchRequest {
    FetchRequest {
        forgotten_topics_data: vec![ForgottenTopic {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partitions: partitions.to_vec(),
        }],
        ..FetchRequest::default()
    }
}

#[track_caller]
fn error_of(client: &mut Client, version: i16, session_id: i32, session_epoch: i32) -> ErrorCode {
    let request = FetchRequest {
        session_id,
        session_epoch,
        ..FetchRequest::default()
    };
    let response = client.call(version, &request);
    assert_eq!((response.session_id, response.responses.len()), (0, 0));
    response.error_code
}

#[test]
fn every_version_returns_only_partitions_that_changed() {
    let server = Server::start();
    let mut client = server.connect();
    for version in 7..=*FetchRequest::VERSIONS.end() {
        let topic = create(&mut client, &format!("changes-{version}"), 3);
        let full = fetch_request(&topic, &[(0, 0), (1, 0), (2, 0)]);
        let (mut session, response) = Session::start(&mut client, version, full);
        assert_ne!(session.id, 0);
        assert_eq!(numbers(&partitions(response)), [0, 1, 2]);
        assert!(session.next(&mut client, no_changes()).is_empty());

        produce(&mut client, &topic, 1, &batch(&["a", "b"]));
        let changed = session.next(&mut client, no_changes());
        assert_eq!(numbers(&changed), [1]);
        assert_eq!(values_of(&changed[0]), ["a", "b"], "version {version}");
        // The records are returned until the client has moved on.
        assert_eq!(numbers(&session.next(&mut client, no_changes())), [1]);
        let moved = fetch_request(&topic, &[(1, 2)]);
        assert!(session.next(&mut client, moved).is_empty());

        assert_eq!(
            delete_records(&mut client, &format!("changes-{version}"), 0),
            0
        );
        produce(&mut client, &topic, 2, &batch(&["c"]));
        let changed = session.next(&mut client, forget(&topic, &[2]));
        assert!(changed.is_empty(), "{changed:?}");
        // A partition that returns is news, even without records.
        let again = session.next(&mut client, fetch_request(&topic, &[(2, 1)]));
        assert_eq!(numbers(&again), [2]);
        assert_eq!((again[0].high_watermark, size_of(&again[0])), (1, 0));
    }
}

#[test]
fn sessions_that_cannot_be_continued_are_refused() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "refused", 1);
    assert_eq!(
        error_of(&mut client, 11, 0, 1),
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
    );
    assert_eq!(
        error_of(&mut client, 11, 17, 1),
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
    );
    let full = || fetch_request(&topic, &[(0, 0)]);
    let (session, _) = Session::start(&mut client, 12, full());
    let id = session.id;
    for epoch in [2, -2, i32::MAX] {
        let code = error_of(&mut client, 12, id, epoch);
        assert_eq!(code, ErrorCode::INVALID_FETCH_SESSION_EPOCH, "{epoch}");
    }
    assert_eq!(
        error_of(&mut client, 13, id, 1),
        ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
    );
    // A full fetch with the id of a session ends it, whether or not it starts another.
    let replacing = FetchRequest {
        session_id: id,
        ..full()
    };
    let (next, _) = Session::start(&mut client, 12, replacing);
    assert!(next.id != 0 && next.id != id);
    assert_eq!(
        error_of(&mut client, 12, id, 1),
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
    );
    let ending = FetchRequest {
        session_id: next.id,
        session_epoch: -1,
        ..full()
    };
    let response = client.call(12, &ending);
    assert_eq!((response.session_id, response.responses.len()), (0, 1));
    assert_eq!(
        error_of(&mut client, 12, next.id, 1),
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
    );
}

#[test]
fn a_session_ends_with_its_last_partition() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "last", 1);
    let (session, _) = Session::start(&mut client, 18, fetch_request(&topic, &[(0, 0)]));
    let request = FetchRequest {
        session_id: session.id,
        session_epoch: 1,
        ..forget(&topic, &[0])
    };
    let response = client.call(18, &request);
    assert_eq!(
        (response.error_code, response.session_id),
        (ErrorCode::NONE, 0)
    );
    assert_eq!(
        error_of(&mut client, 18, session.id, 2),
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
    );
}

/// Fetches with room for one batch, and returns the partition whose records were returned.
#[track_caller]
fn next_with_records(session: &mut Session, client: &mut Client, changes: FetchRequest) -> i32 {
    let request = FetchRequest {
        max_bytes: 1,
        ..changes
    };
    let with_records: Vec<PartitionData> = session
        .next(client, request)
        .into_iter()
        .filter(|data| size_of(data) > 0)
        .collect();
    assert_eq!(with_records.len(), 1);
    with_records[0].partition_index
}

#[test]
fn every_partition_advances_when_responses_have_room_for_one() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "turns", 4);
    for partition in 0..4 {
        for value in ["a", "b", "c"] {
            produce(&mut client, &topic, partition, &batch(&[value]));
        }
    }
    let full = FetchRequest {
        max_bytes: 1,
        ..fetch_request(&topic, &[(0, 0), (1, 0), (2, 0), (3, 0)])
    };
    let (mut session, first) = Session::start(&mut client, 18, full);
    assert_eq!(size_of(&partitions(first)[0]), batch(&["a"]).size_bytes());
    let mut offsets = [1, 0, 0, 0];
    let mut read = 0;
    let mut turns = Vec::new();
    for _ in 0..8 {
        let moved = fetch_request(&topic, &[(read as i32, offsets[read])]);
        read = next_with_records(&mut session, &mut client, moved) as usize;
        offsets[read] += 1;
        turns.push(read);
    }
    // The first response did not belong to the session yet, so partition 0 has its turn again.
    assert_eq!(turns, [0, 1, 2, 3, 0, 1, 2, 3]);
}

#[test]
fn a_deleted_topic_is_an_error_and_a_new_one_of_its_name_is_read() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "reborn", 1);
    produce(&mut client, &topic, 0, &batch(&["old"]));
    let full = || fetch_request(&topic, &[(0, 0)]);
    let (mut by_name, _) = Session::start(&mut client, 12, full());
    let (mut by_id, _) = Session::start(&mut client, 18, full());
    let deletion = DeleteTopicsRequest {
        topic_names: vec!["reborn".to_owned()],
        ..DeleteTopicsRequest::default()
    };
    assert_eq!(
        client.call(5, &deletion).responses[0].error_code,
        ErrorCode::NONE
    );
    // The error is returned again until it is over.
    for _ in 0..2 {
        let gone = by_name.next(&mut client, no_changes());
        assert_eq!(gone[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        let gone = by_id.next(&mut client, no_changes());
        assert_eq!(gone[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    }
    let topic = create(&mut client, "reborn", 1);
    produce(&mut client, &topic, 0, &batch(&["new"]));
    assert_eq!(
        values_of(&by_name.next(&mut client, no_changes())[0]),
        ["new"]
    );
    let gone = by_id.next(&mut client, no_changes());
    assert_eq!(gone[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
}

#[test]
fn a_topic_created_later_is_read() {
    let server = Server::start();
    let mut client = server.connect();
    let missing = Topic {
        name: "later".to_owned(),
        id: uuid::Uuid::nil(),
    };
    let (mut session, response) =
        Session::start(&mut client, 12, fetch_request(&missing, &[(0, 0)]));
    let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(partitions(response)[0].error_code, code);
    assert_eq!(session.next(&mut client, no_changes())[0].error_code, code);
    create(&mut client, "later", 1);
    let found = session.next(&mut client, no_changes());
    assert_eq!(
        (found[0].error_code, found[0].high_watermark),
        (ErrorCode::NONE, 0)
    );
    assert!(session.next(&mut client, no_changes()).is_empty());
}

#[test]
fn a_waiting_fetch_of_a_session_is_answered_when_records_arrive() {
    let server = Server::start();
    let (mut consumer, mut producer) = (server.connect(), server.connect());
    let topic = create(&mut producer, "awaited", 100);
    let all: Vec<(i32, i64)> = (0..100).map(|partition| (partition, 0)).collect();
    let (session, _) = Session::start(&mut consumer, 18, fetch_request(&topic, &all));
    let request = FetchRequest {
        session_id: session.id,
        session_epoch: 1,
        max_wait_ms: 60_000,
        min_bytes: 1,
        ..FetchRequest::default()
    };
    consumer.send(18, &request);
    server.until_metric("streamline_fetches_waiting", &[], Some(1.0));
    produce(&mut producer, &topic, 42, &batch(&["news"]));
    let response = partitions(consumer.receive::<FetchRequest>(18).1);
    assert_eq!(numbers(&response), [42]);
    assert_eq!(values_of(&response[0]), ["news"]);
}

#[test]
fn a_fetch_overtaken_by_the_next_of_its_session_is_refused() {
    let server = Server::start();
    let (mut stuck, mut client) = (server.connect(), server.connect());
    let topic = create(&mut client, "overtaken", 1);
    let (mut session, _) = Session::start(&mut client, 18, fetch_request(&topic, &[(0, 0)]));
    let waiting = FetchRequest {
        session_id: session.id,
        session_epoch: 1,
        max_wait_ms: 60_000,
        min_bytes: 1,
        ..FetchRequest::default()
    };
    stuck.send(18, &waiting);
    server.until_metric("streamline_fetches_waiting", &[], Some(1.0));
    session.epoch = 2;
    assert!(session.next(&mut client, no_changes()).is_empty());
    let refused = stuck.receive::<FetchRequest>(18).1;
    assert_eq!(refused.error_code, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    produce(&mut client, &topic, 0, &batch(&["news"]));
    let changed = session.next(&mut client, no_changes());
    assert_eq!(values_of(&changed[0]), ["news"]);
}

#[test]
fn a_waiting_fetch_is_answered_when_its_session_ends() {
    let server = Server::start();
    let (mut stuck, mut client) = (server.connect(), server.connect());
    let topic = create(&mut client, "ended", 1);
    let (session, _) = Session::start(&mut client, 18, fetch_request(&topic, &[(0, 0)]));
    let waiting = FetchRequest {
        session_id: session.id,
        session_epoch: 1,
        max_wait_ms: 60_000,
        min_bytes: 1,
        ..FetchRequest::default()
    };
    stuck.send(18, &waiting);
    server.until_metric("streamline_fetches_waiting", &[], Some(1.0));
    let ending = FetchRequest {
        session_id: session.id,
        session_epoch: -1,
        ..FetchRequest::default()
    };
    client.call(18, &ending);
    let refused = stuck.receive::<FetchRequest>(18).1;
    assert_eq!(refused.error_code, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
}

#[test]
fn sessions_are_limited_and_counted() {
    let server = Server::with(&["--max-incremental-fetch-session-cache-slots", "2"]);
    let mut client = server.connect();
    let topic = create(&mut client, "slots", 3);
    let full = |count: i32| {
        let all: Vec<(i32, i64)> = (0..count).map(|partition| (partition, 0)).collect();
        fetch_request(&topic, &all)
    };
    let (first, _) = Session::start(&mut client, 18, full(3));
    Session::start(&mut client, 18, full(2));
    // Recent sessions are not evicted, even by a larger one.
    let (declined, response) = Session::start(&mut client, 18, full(3));
    assert_eq!((declined.id, partitions(response).len()), (0, 3));
    server.until_metric("streamline_fetch_sessions", &[], Some(2.0));
    server.until_metric("streamline_fetch_session_partitions", &[], Some(5.0));
    server.until_metric("streamline_fetch_session_evictions_total", &[], Some(0.0));
    let ending = FetchRequest {
        session_id: first.id,
        session_epoch: -1,
        ..FetchRequest::default()
    };
    client.call(18, &ending);
    server.until_metric("streamline_fetch_session_partitions", &[], Some(2.0));
    assert_ne!(Session::start(&mut client, 18, full(1)).0.id, 0);

    let server = Server::with(&["--max-incremental-fetch-session-cache-slots", "0"]);
    let mut client = server.connect();
    let topic = create(&mut client, "slots", 1);
    let (declined, _) = Session::start(&mut client, 18, fetch_request(&topic, &[(0, 0)]));
    assert_eq!(declined.id, 0);
}

#[test]
fn a_partition_named_twice_is_fetched_once() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "twice", 1);
    produce(&mut client, &topic, 0, &batch(&["a"]));
    let (mut session, response) =
        Session::start(&mut client, 18, fetch_request(&topic, &[(0, 0), (0, 1)]));
    assert_eq!(numbers(&partitions(response)), [0, 0]);
    let mut changes = fetch_request(&topic, &[(0, 0)]);
    changes.topics[0].partitions.push(FetchPartition {
        fetch_offset: 1,
        ..FetchPartition::default()
    });
    assert!(session.next(&mut client, changes).is_empty());
}
