//! Pauses of clients that have exceeded a quota.

use super::*;

/// Correlation id of requests after which the client is paused.
const THROTTLED: i32 = 100;

/// Starts a server that pauses a client for `pause` after each request [`THROTTLED`].
async fn start_throttling(config: Config, pause: Duration) -> Fixture {
    let dispatch = move |header: RequestHeader, _: Bytes| {
        let mut reply = answer(header.correlation_id);
        if header.correlation_id == THROTTLED {
            reply.throttled = pause;
        }
        std::future::ready(reply).boxed()
    };
    start_dispatching(config, SystemClock::new(), Arc::default(), dispatch).await
}

fn throttled(fixture: &Fixture) -> i64 {
    fixture.metrics.connections_throttled.value()
}

#[tokio::test]
async fn the_response_is_sent_at_once_and_the_next_request_read_after_the_pause() {
    let pause = Duration::from_millis(300);
    let mut fixture = start_throttling(Config::default(), pause).await;
    let began = tokio::time::Instant::now();
    fixture.send(&frame(METADATA, THROTTLED, 0)).await;
    assert_eq!(fixture.receive().await, THROTTLED);
    assert_eq!(throttled(&fixture), 1);
    fixture.send(&frame(METADATA, 2, 0)).await;
    assert_eq!(fixture.receive().await, 2);
    assert!(began.elapsed() >= pause);
    assert_eq!(throttled(&fixture), 0);
}

#[tokio::test]
async fn requests_that_arrived_together_wait_as_well() {
    let pause = Duration::from_millis(300);
    let mut fixture = start_throttling(Config::default(), pause).await;
    let began = tokio::time::Instant::now();
    let ids = [1, THROTTLED, THROTTLED, 2];
    let requests: Vec<u8> = ids.iter().flat_map(|id| frame(METADATA, *id, 10)).collect();
    fixture.send(&requests).await;
    for id in ids {
        assert_eq!(fixture.receive().await, id);
    }
    assert!(began.elapsed() >= 2 * pause);
}

#[tokio::test]
async fn a_pause_ends_with_the_servers_shutdown() {
    let mut fixture = start_throttling(Config::default(), Duration::from_secs(3600)).await;
    fixture.send(&frame(METADATA, THROTTLED, 0)).await;
    fixture.send(&frame(METADATA, 2, 0)).await;
    assert_eq!(fixture.receive().await, THROTTLED);
    assert_eq!(fixture.connections.drain(Duration::from_secs(10)).await, 0);
    assert!(fixture.is_closed().await);
    assert_eq!(throttled(&fixture), 0);
}

#[tokio::test]
async fn a_pause_longer_than_the_idle_time_out_ends_the_connection() {
    let config = Config {
        connections_max_idle_ms: 200,
        // Part of a request is not slow while the server does not read it.
        request_read_timeout_ms: 50,
        ..Config::default()
    };
    let mut fixture = start_throttling(config, Duration::from_secs(3600)).await;
    let began = tokio::time::Instant::now();
    let mut requests = frame(METADATA, THROTTLED, 0);
    requests.extend(&frame(METADATA, 2, 100)[..50]);
    fixture.send(&requests).await;
    assert_eq!(fixture.receive().await, THROTTLED);
    assert!(fixture.is_closed().await);
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(fixture.rejected(RequestRejection::Timeout), 0);
    let ended = fixture.ended.await.unwrap();
    assert!(matches!(ended, Ended::ByServer(DisconnectReason::Idle)));
}

#[tokio::test]
async fn a_large_request_that_has_begun_to_arrive_is_served_and_frees_its_memory() {
    let mut fixture = start_throttling(Config::default(), Duration::from_secs(3600)).await;
    let large = frame(METADATA, 2, 3_000_000);
    let mut requests = frame(METADATA, THROTTLED, 0);
    requests.extend(&large[..50_000]);
    fixture.send(&requests).await;
    assert_eq!(fixture.receive().await, THROTTLED);
    fixture.send(&large[50_000..]).await;
    assert_eq!(fixture.receive().await, 2);
    fixture
        .until("its memory is free", |it| it.memory().bytes == 0)
        .await;
    assert_eq!(throttled(&fixture), 1);
}
