//! Tests of the connection with a scripted handler, over a real socket.

mod muting;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::turn::SLICE;
use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::protocol::kafka::ResponseFrame;
use crate::record::Records;
use crate::server::memory::{SMALL_REQUEST_BYTES, Usage};
use crate::server::registry::ConnectionRegistry;

/// Behaviour of the scripted handler by correlation id; by default it answers at once.
#[derive(Default)]
struct Script {
    /// Requests that are answered only once released.
    held: HashMap<i32, oneshot::Receiver<()>>,
    /// The order in which handlers were first polled.
    polled: Vec<i32>,
}

struct Fixture {
    client: TcpStream,
    metrics: Arc<Metrics>,
    connections: Arc<ConnectionRegistry>,
    shared: Arc<Shared>,
    script: Arc<Mutex<Script>>,
    ended: JoinHandle<Ended>,
}

const METADATA: i16 = 3;
const PANICS: i16 = 16;

fn frame(api_key: i16, correlation_id: i32, padding: usize) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_i16(api_key);
    body.put_i16(1);
    body.put_i32(correlation_id);
    body.put_i16(-1);
    body.put_bytes(b'x', padding);
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    frame
}

/// The beginning of a request of 50 MiB.
fn large_part() -> Vec<u8> {
    let mut part = (50_i32 << 20).to_be_bytes().to_vec();
    part.resize(200_000, b'x');
    part
}

fn answer(correlation_id: i32) -> Reply {
    large_answer(correlation_id, 0)
}

fn large_answer(correlation_id: i32, padding: usize) -> Reply {
    let mut bytes = BytesMut::new();
    bytes.put_i32(4 + padding as i32);
    bytes.put_i32(correlation_id);
    bytes.put_bytes(0, padding);
    Reply {
        frame: Some(ResponseFrame {
            len: bytes.len(),
            chunks: vec![Records::Bytes(bytes.freeze())],
        }),
        error: false,
        bytes_out: Vec::new(),
        close: None,
        throttled: Duration::ZERO,
    }
}

async fn receive(client: &mut TcpStream) -> i32 {
    let mut response = [0; 8];
    client.read_exact(&mut response).await.unwrap();
    i32::from_be_bytes(response[4..].try_into().unwrap())
}

/// A scripted handler of requests.
trait Handler: Fn(RequestHeader, Bytes) -> BoxFuture<'static, Reply> + Send + Sync + 'static {}

impl<F: Fn(RequestHeader, Bytes) -> BoxFuture<'static, Reply> + Send + Sync + 'static> Handler
    for F
{
}

fn dispatch(script: Arc<Mutex<Script>>) -> impl Handler {
    move |header: RequestHeader, _| {
        let script = Arc::clone(&script);
        async move {
            let id = header.correlation_id;
            assert_ne!(header.api_key, PANICS, "a handler's own bug");
            let held = {
                let mut script = script.lock();
                script.polled.push(id);
                script.held.remove(&id)
            };
            if let Some(held) = held {
                let _ = held.await;
            }
            answer(id)
        }
        .boxed()
    }
}

async fn start_with(config: Config) -> Fixture {
    let script = Arc::new(Mutex::new(Script::default()));
    let dispatch = dispatch(Arc::clone(&script));
    start_dispatching(config, SystemClock::new(), script, dispatch).await
}

async fn start_dispatching(
    config: Config,
    clock: Arc<dyn Clock>,
    script: Arc<Mutex<Script>>,
    dispatch: impl Handler,
) -> Fixture {
    let metrics = Metrics::new(true);
    let connections = ConnectionRegistry::new(&config);
    let dispatch = Arc::new(dispatch);
    let start_session: StartSession = Box::new(move |_| {
        let dispatch = Arc::clone(&dispatch);
        Box::new(move |header, body| dispatch(header, body))
    });
    let shared = Shared::new(
        &config,
        start_session,
        Arc::new(Quotas::new(&config, Vec::new())),
        Arc::clone(&metrics),
        Arc::clone(&clock),
    );
    let (client, ended) = connect(&connections, &shared).await;
    let sweeper = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(sweeper.sweep_interval()).await;
            sweeper.sweep(clock.monotonic());
        }
    });
    Fixture {
        client,
        metrics,
        connections,
        shared,
        script,
        ended,
    }
}

/// Connects a client to the server with the state `shared`.
async fn connect(
    connections: &Arc<ConnectionRegistry>,
    shared: &Arc<Shared>,
) -> (TcpStream, JoinHandle<Ended>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    let (stream, peer) = accepted.unwrap();
    let now = shared.clock().monotonic();
    let slot = connections.enter(peer.ip(), now, shared.metrics());
    let local: SocketAddr = stream.local_addr().unwrap();
    let accepted = Accepted {
        listener: "PLAINTEXT".into(),
        peer,
        local,
    };
    let connection = Connection::new(
        Transport::Plain(stream),
        accepted,
        slot.ok().unwrap(),
        Arc::clone(shared),
    );
    (client.unwrap(), tokio::spawn(connection))
}

/// A server whose requests may hold 1 MiB.
async fn start_with_little_memory() -> Fixture {
    start_with(Config {
        queued_max_request_bytes: 1 << 20,
        ..Config::default()
    })
    .await
}

async fn start() -> Fixture {
    start_with(Config::default()).await
}

impl Fixture {
    fn hold(&self, correlation_id: i32) -> oneshot::Sender<()> {
        let (release, held) = oneshot::channel();
        self.script.lock().held.insert(correlation_id, held);
        release
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.unwrap();
    }

    /// Returns the correlation id of the next response.
    async fn receive(&mut self) -> i32 {
        receive(&mut self.client).await
    }

    /// Connects further clients that each send `part`. Returns once many of them wait for memory.
    async fn waiting_crowd(&self, count: usize, part: &[u8]) -> Vec<TcpStream> {
        let mut crowd = Vec::new();
        for _ in 0..count {
            let (mut client, _) = connect(&self.connections, &self.shared).await;
            client.write_all(part).await.unwrap();
            crowd.push(client);
        }
        self.until("the crowd waits", |it| it.memory().waiting >= 10)
            .await;
        crowd
    }

    fn memory(&self) -> Usage {
        self.shared.request_memory().usage()
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        for _ in 0..2_000 {
            if condition(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never: {what}");
    }

    async fn is_closed(&mut self) -> bool {
        matches!(self.client.read(&mut [0; 1]).await, Ok(0) | Err(_))
    }

    fn requests(&self, api_key: i16) -> (u64, u64) {
        let seen = self.metrics.request(api_key).snapshot();
        (seen.requests(false), seen.requests(true))
    }

    fn rejected(&self, reason: RequestRejection) -> u64 {
        self.metrics.requests_rejected.get(reason).value()
    }
}

#[tokio::test]
async fn handlers_start_and_responses_are_sent_in_the_order_of_requests() {
    let mut fixture = start().await;
    let first = fixture.hold(1);
    let third = fixture.hold(3);
    let requests: Vec<u8> = (1..=5).flat_map(|id| frame(METADATA, id, 10)).collect();
    fixture.send(&requests).await;
    fixture
        .until("all polled", |f| f.script.lock().polled.len() == 5)
        .await;
    assert_eq!(fixture.script.lock().polled, [1, 2, 3, 4, 5]);
    third.send(()).unwrap();
    first.send(()).unwrap();
    for id in 1..=5 {
        assert_eq!(fixture.receive().await, id);
    }
    assert_eq!(fixture.requests(METADATA), (5, 0));
}

#[tokio::test]
async fn other_tasks_run_between_requests_that_take_long() {
    let clock = ManualClock::at_ms(0);
    let turns_of_others = Arc::new(Mutex::new(0));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let dispatch = {
        let (clock, turns, seen) = (clock.clone(), turns_of_others.clone(), seen.clone());
        move |header: RequestHeader, _: Bytes| {
            clock.advance(SLICE);
            seen.lock().push(*turns.lock());
            std::future::ready(answer(header.correlation_id)).boxed()
        }
    };
    let mut fixture = start_dispatching(Config::default(), clock, Arc::default(), dispatch).await;
    tokio::spawn(async move {
        loop {
            *turns_of_others.lock() += 1;
            tokio::task::yield_now().await;
        }
    });
    let requests: Vec<u8> = (1..=5).flat_map(|id| frame(METADATA, id, 10)).collect();
    fixture.send(&requests).await;
    for id in 1..=5 {
        assert_eq!(fixture.receive().await, id);
    }
    let seen = seen.lock().clone();
    assert!(seen.windows(3).all(|some| some[0] < some[2]), "{seen:?}");
}

#[tokio::test]
async fn a_large_request_is_read_whole_in_whatever_pieces_it_arrives() {
    let mut fixture = start().await;
    let mut stream = frame(METADATA, 1, 3_000_000);
    stream.extend(frame(METADATA, 2, 0));
    stream.extend(frame(METADATA, 3, 70_000));
    for piece in stream.chunks(333_333) {
        fixture.send(piece).await;
        tokio::task::yield_now().await;
    }
    for id in 1..=3 {
        assert_eq!(fixture.receive().await, id);
    }
}

#[tokio::test]
async fn requests_in_flight_are_limited() {
    let mut fixture = start_with(Config {
        connection_max_inflight_requests: 2,
        ..Config::default()
    })
    .await;
    let release: Vec<_> = (1..=5).map(|id| fixture.hold(id)).collect();
    let requests: Vec<u8> = (1..=5).flat_map(|id| frame(METADATA, id, 0)).collect();
    fixture.send(&requests).await;
    for (id, release) in (1..=5).zip(release) {
        fixture
            .until("the next is polled", |f| {
                f.script.lock().polled.len() >= (id as usize + 1).min(5)
            })
            .await;
        assert!(fixture.script.lock().polled.len() <= id as usize + 1);
        release.send(()).unwrap();
        assert_eq!(fixture.receive().await, id);
    }
}

#[tokio::test]
async fn requests_beyond_the_memory_budget_wait_until_memory_is_free() {
    let mut fixture = start_with_little_memory().await;
    let release: Vec<_> = (1..=3).map(|id| fixture.hold(id)).collect();
    let requests: Vec<u8> = (1..=3)
        .flat_map(|id| frame(METADATA, id, 900_000))
        .collect();
    fixture.send(&requests).await;
    // The second exceeds the budget, the third has to wait.
    fixture
        .until("two are polled", |f| f.script.lock().polled.len() == 2)
        .await;
    for (id, release) in (1..=3).zip(release) {
        release.send(()).unwrap();
        assert_eq!(fixture.receive().await, id);
    }
}

#[tokio::test]
async fn small_requests_are_served_while_parts_of_large_ones_hold_all_memory() {
    let mut fixture = start_with_little_memory().await;
    let part = large_part();
    let crowd = fixture.waiting_crowd(20, &part).await;
    let Usage {
        bytes, limit_bytes, ..
    } = fixture.memory();
    // One request may exceed the budget, and no client has sent more than this.
    assert!(
        bytes <= limit_bytes + part.len(),
        "{bytes} of {limit_bytes}"
    );

    // Several at once, the largest that counts as small, and one in two parts.
    fixture
        .send(&[frame(METADATA, 1, 10), frame(METADATA, 2, 10)].concat())
        .await;
    fixture
        .send(&frame(METADATA, 3, SMALL_REQUEST_BYTES - 10))
        .await;
    let in_parts = frame(METADATA, 4, 1_000);
    let (first, second) = in_parts.split_at(500);
    for id in 1..=3 {
        assert_eq!(fixture.receive().await, id);
    }
    fixture.send(first).await;
    fixture
        .until("it waits for memory, too", |f| f.memory().waiting >= 11)
        .await;
    fixture.send(second).await;
    assert_eq!(fixture.receive().await, 4);
    assert!(
        fixture.memory().waiting >= 10,
        "memory was short all the time"
    );
    drop(crowd);
    fixture
        .until("all of it is free", |f| f.memory().bytes == 0)
        .await;
    assert_eq!(fixture.memory().waiting, 0);
}

#[tokio::test]
async fn parts_of_small_requests_leave_the_reserve_to_whole_ones() {
    const COUNT: usize = 60;
    let mut fixture = start_with_little_memory().await;
    let request = frame(METADATA, 7, 30_000);
    let (part, rest) = request.split_at(29_000);
    let mut crowd = fixture.waiting_crowd(COUNT, part).await;
    fixture.send(&frame(METADATA, 1, 30_000)).await;
    assert_eq!(fixture.receive().await, 1);
    for client in &mut crowd {
        client.write_all(rest).await.unwrap();
    }
    for client in &mut crowd {
        assert_eq!(receive(client).await, 7);
    }
    assert_eq!(fixture.memory().bytes, 0);
}

#[tokio::test]
async fn requests_behind_one_that_waited_for_memory_are_served() {
    let mut fixture = start_with_little_memory().await;
    let large = frame(METADATA, 1, 66_000);
    let (part, rest) = large.split_at(64_000);
    fixture.send(part).await;
    fixture
        .until("part of it has arrived", |f| f.memory().bytes == part.len())
        .await;
    let crowd = fixture.waiting_crowd(20, &large_part()).await;
    let waiting = fixture.memory().waiting;
    fixture
        .send(&[rest, &frame(METADATA, 2, 10)].concat())
        .await;
    fixture
        .until("the rest waits or is served", |f| {
            f.memory().waiting > waiting || f.script.lock().polled == [1, 2]
        })
        .await;
    drop(crowd);
    assert_eq!(fixture.receive().await, 1);
    assert_eq!(fixture.receive().await, 2);
}

#[tokio::test]
async fn a_request_that_waits_for_other_clients_holds_no_memory() {
    const JOIN_GROUP: i16 = 11;
    let mut fixture = start().await;
    let release = fixture.hold(1);
    fixture.send(&frame(JOIN_GROUP, 1, 1_000)).await;
    fixture
        .until("it is worked on", |f| f.script.lock().polled == [1])
        .await;
    fixture
        .until("its memory is free", |f| f.memory().bytes == 0)
        .await;
    release.send(()).unwrap();
    assert_eq!(fixture.receive().await, 1);
}

#[tokio::test]
async fn a_disconnect_while_waiting_for_memory_ends_the_connection() {
    let mut fixture = start_with_little_memory().await;
    let part = large_part();
    let crowd = fixture.waiting_crowd(20, &part).await;
    let waiting = fixture.memory().waiting;
    fixture.send(&frame(METADATA, 1, 1_000)[..500]).await;
    fixture
        .until("it waits as well", |f| f.memory().waiting > waiting)
        .await;
    fixture.client.shutdown().await.unwrap();
    drop(crowd);
    assert!(matches!(fixture.ended.await.unwrap(), Ended::ByClient));
}

#[tokio::test]
async fn bytes_that_are_no_kafka_request_close_the_connection_and_are_counted_by_reason() {
    for (bytes, reason) in [
        (&b"\x16\x03\x01\x02\x00\x01"[..], RequestRejection::Tls),
        (b"GET / HTTP/1.1\r\n\r\n", RequestRejection::Http),
        (b"SSH-2.0-x\r\n", RequestRejection::OtherProtocol),
        (b"\xff\xff\xff\xff", RequestRejection::FrameLength),
        (b"\x00\x00\x00\x02ab", RequestRejection::FrameLength),
        (
            b"\x00\x00\x00\x0a\x00\x03\x00\x01\x00\x00\x00\x01\x7f\xff",
            RequestRejection::Malformed,
        ),
    ] {
        let mut fixture = start().await;
        fixture.send(bytes).await;
        assert!(fixture.is_closed().await);
        assert_eq!(fixture.rejected(reason), 1, "{reason:?}");
        assert!(matches!(fixture.ended.await.unwrap(), Ended::Refused));
    }
}

#[tokio::test]
async fn a_malformed_header_counts_as_a_failed_request_of_its_api() {
    let mut fixture = start().await;
    fixture
        .send(b"\x00\x00\x00\x0a\x00\x03\x00\x01\x00\x00\x00\x01\x7f\xff")
        .await;
    assert!(fixture.is_closed().await);
    assert_eq!(fixture.requests(METADATA), (0, 1));
}

#[tokio::test]
async fn requests_before_a_refusal_are_still_answered() {
    let mut fixture = start().await;
    let release = fixture.hold(1);
    let mut bytes = frame(METADATA, 1, 0);
    bytes.extend([0xff; 4]);
    fixture.send(&bytes).await;
    fixture
        .until("refused", |f| {
            f.rejected(RequestRejection::FrameLength) == 1
        })
        .await;
    release.send(()).unwrap();
    assert_eq!(fixture.receive().await, 1);
    assert!(fixture.is_closed().await);
}

#[tokio::test]
async fn a_disconnect_with_a_request_in_flight_counts_the_request_and_ends_the_connection() {
    let mut fixture = start().await;
    let release = fixture.hold(1);
    let mut bytes = frame(METADATA, 1, 0);
    bytes.extend(&frame(METADATA, 2, 100)[..50]);
    fixture.send(&bytes).await;
    fixture
        .until("polled", |f| !f.script.lock().polled.is_empty())
        .await;
    drop(fixture.client);
    release.send(()).unwrap();
    fixture.ended.await.unwrap();
    // The first was a request; the second never became one.
    let instruments = fixture.metrics.request(METADATA);
    assert_eq!(instruments.snapshot().duration.count(), 1);
    assert_eq!(fixture.metrics.connections_active.value(), 0);
}

#[tokio::test]
async fn a_request_that_trickles_times_out() {
    let mut fixture = start_with(Config {
        request_read_timeout_ms: 200,
        ..Config::default()
    })
    .await;
    let bytes = frame(METADATA, 1, 1_000);
    for byte in &bytes[..20] {
        if fixture.client.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert!(fixture.is_closed().await);
    assert_eq!(fixture.rejected(RequestRejection::Timeout), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_with_requests_in_flight_is_not() {
    let mut fixture = start_with(Config {
        connections_max_idle_ms: 100,
        ..Config::default()
    })
    .await;
    let release = fixture.hold(1);
    fixture.send(&frame(METADATA, 1, 0)).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    release.send(()).unwrap();
    assert_eq!(fixture.receive().await, 1);
    assert!(fixture.is_closed().await);
    assert!(matches!(
        fixture.ended.await.unwrap(),
        Ended::ByServer(DisconnectReason::Idle)
    ));
}

#[tokio::test]
async fn a_client_that_reads_no_responses_is_disconnected() {
    let mut fixture = start_with(Config {
        response_write_timeout_ms: 200,
        ..Config::default()
    })
    .await;
    // Small responses, so it takes many to fill the sockets' buffers.
    let requests: Vec<u8> = (0..1000).flat_map(|id| frame(METADATA, id, 0)).collect();
    let writer = async { while fixture.client.write_all(&requests).await.is_ok() {} };
    writer.await;
    assert!(matches!(
        fixture.ended.await.unwrap(),
        Ended::ByServer(DisconnectReason::WriteTimeout)
    ));
}

#[tokio::test]
async fn responses_behind_a_slow_request_count_as_waiting() {
    const SIZE: usize = 1 << 20;
    let script = Arc::new(Mutex::new(Script::default()));
    let (release, held) = oneshot::channel();
    script.lock().held.insert(1, held);
    let answers = dispatch(Arc::clone(&script));
    let dispatch = move |header: RequestHeader, body: Bytes| {
        let id = header.correlation_id;
        let answer = answers(header, body);
        async move {
            // Every other one takes a moment.
            if id % 2 == 0 {
                tokio::task::yield_now().await;
            }
            answer.await;
            large_answer(id, SIZE)
        }
        .boxed()
    };
    let config = Config::default();
    let mut fixture = start_dispatching(config, SystemClock::new(), script, dispatch).await;
    let requests: Vec<u8> = (1..=40).flat_map(|id| frame(METADATA, id, 0)).collect();
    fixture.send(&requests).await;
    let limit = WAITING_BYTES_MAX;
    fixture
        .until("the limit of waiting bytes is reached", |it| {
            it.connections.held_bytes() >= limit
        })
        .await;
    // The slow ones may finish at the same time; beyond them no request is started.
    assert!(fixture.connections.held_bytes() <= 2 * limit + 2 * SIZE);
    let begun = fixture.script.lock().polled.len();
    assert!(begun < 16, "{begun}");
    release.send(()).unwrap();
    for id in 1..=40 {
        let mut response = vec![0; 8 + SIZE];
        fixture.client.read_exact(&mut response).await.unwrap();
        assert_eq!(response[4..8], i32::to_be_bytes(id));
    }
    fixture
        .until("nothing waits", |it| it.connections.held_bytes() == 0)
        .await;
}

#[tokio::test]
async fn drain_finishes_requests_in_flight_and_reads_no_more() {
    let mut fixture = start().await;
    let release = fixture.hold(1);
    fixture.send(&frame(METADATA, 1, 0)).await;
    fixture
        .until("polled", |f| !f.script.lock().polled.is_empty())
        .await;
    let connections = Arc::clone(&fixture.connections);
    let mut drained = Box::pin(connections.drain(Duration::from_secs(10)));
    // The first poll asks the connection to end.
    assert!((&mut drained).now_or_never().is_none());
    fixture.send(&frame(METADATA, 2, 0)).await;
    release.send(()).unwrap();
    assert_eq!(fixture.receive().await, 1);
    assert!(fixture.is_closed().await);
    assert_eq!(drained.await, 0);
    assert_eq!(fixture.script.lock().polled, [1]);
}

#[tokio::test]
async fn a_panic_in_a_handler_counts_as_an_error_of_that_request() {
    let mut fixture = start().await;
    let mut bytes = frame(METADATA, 1, 0);
    bytes.extend(frame(PANICS, 2, 0));
    fixture.send(&bytes).await;
    assert!(fixture.ended.await.unwrap_err().is_panic());
    let instruments = fixture.metrics.request(PANICS);
    assert_eq!(instruments.snapshot().requests(true), 1);
}

#[tokio::test]
async fn an_idle_connection_is_small() {
    let fixture = start().await;
    drop(fixture);
    assert!(
        size_of::<Connection>() < 1024,
        "{}",
        size_of::<Connection>()
    );
}

#[tokio::test]
async fn request_and_response_sizes_exclude_the_length_prefix() {
    let mut fixture = start().await;
    fixture.send(&frame(METADATA, 1, 90)).await;
    fixture.receive().await;
    fixture
        .until("counted", |f| f.requests(METADATA) == (1, 0))
        .await;
    let text = crate::metrics::PrometheusHandle::new(Arc::clone(&fixture.metrics))
        .render(crate::metrics::Format::Text);
    for line in [
        "streamline_request_size_bytes_sum{api_key=\"metadata\"} 100",
        "streamline_response_size_bytes_sum{api_key=\"metadata\"} 4",
    ] {
        assert!(text.lines().any(|each| each == line), "{line} in {text}");
    }
}
