//! Tests of the endpoints and limits over a real socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::health::Phase;
use super::info::{Addresses, Counts};
use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::metrics::{Format, Metrics};

const TIMEOUT: Duration = Duration::from_secs(20);

struct Running {
    server: HttpServer,
    health: Arc<Health>,
    handle: PrometheusHandle,
}

impl Running {
    fn start(limits: Limits) -> Running {
        Self::start_with(limits, Metrics::new(true), SystemClock::new())
    }

    fn start_with(
        limits: Limits,
        metrics: Arc<Metrics>,
        clock: Arc<dyn crate::clock::Clock>,
    ) -> Running {
        let health = Health::new(clock);
        health.watch_storage(|| Ok(()));
        health.watch_listener(|| Ok(()));
        health.set_phase(Phase::Serving);
        health.register(&metrics);
        let handle = PrometheusHandle::new(metrics);
        let state = HttpState {
            handle: handle.clone(),
            health: Arc::clone(&health),
            facts: Arc::new(|| Facts {
                cluster_id: Some("cluster".to_string()),
                node_id: Some(1),
                addresses: Addresses::default(),
                counts: Some(Counts {
                    topics: 3,
                    ..Counts::default()
                }),
            }),
        };
        let server = HttpServer::start(([127, 0, 0, 1], 0).into(), state, limits).unwrap();
        Running {
            server,
            health,
            handle,
        }
    }

    fn addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "")
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> Reply {
        let mut stream = connect(self.addr());
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n"
        )
        .unwrap();
        Reply::read(stream)
    }

    fn rejected(&self, reason: HttpRejection) -> u64 {
        self.handle.metrics().http_rejected.get(reason).value()
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    /// Reads until the server closes.
    fn read(mut stream: TcpStream) -> Reply {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        Reply {
            status: head[9..12].parse().unwrap(),
            head: head.to_ascii_lowercase(),
            body: body.to_string(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn metrics_are_rendered_in_the_requested_format() {
    let running = Running::start(Limits::default());
    let text = running.get("/metrics");
    assert_eq!(text.status, 200);
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(
        text.body.contains("\nstreamline_ready 1\n"),
        "{}",
        text.body
    );
    assert!(text.body.contains("\nstreamline_uptime_seconds "));
    assert!(!text.body.contains("# EOF"));

    let open = running.ask(
        "GET",
        "/metrics",
        "accept: application/openmetrics-text\r\naccept: */*;q=0.1\r\n",
    );
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.body.ends_with("# EOF\n"));
}

#[test]
fn disabled_metrics_are_reported_as_text_whatever_the_requested_format() {
    let running = Running::start_with(Limits::default(), Metrics::new(false), SystemClock::new());
    let reply = running.ask(
        "GET",
        "/metrics",
        "accept: application/openmetrics-text\r\n",
    );
    assert_eq!(reply.status, 200);
    assert!(reply.body.contains("disabled"), "{}", reply.body);
}

#[test]
fn health_reports_each_check_with_the_reason_of_failure() {
    let running = Running::start(Limits::default());
    let reply = running.get("/health");
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.json(),
        serde_json::json!({"status": "healthy", "checks": [
            {"name": "storage", "status": "healthy"},
            {"name": "listener", "status": "healthy"},
        ]})
    );
    running
        .health
        .watch_listener(|| Err("accepting failed".to_string()));
    let reply = running.get("/health");
    assert_eq!(reply.status, 503);
    assert_eq!(
        reply.json(),
        serde_json::json!({"status": "unhealthy", "checks": [
            {"name": "storage", "status": "healthy"},
            {"name": "listener", "status": "unhealthy", "reason": "accepting failed"},
        ]})
    );
    let ready = running.get("/health/ready");
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["reason"], "listener: accepting failed");
    assert!(
        running
            .get("/metrics")
            .body
            .contains("\nstreamline_ready 0\n")
    );
    assert_eq!(running.get("/health/live").status, 200);
}

#[test]
fn readiness_fails_during_recovery_and_shutdown_and_liveness_does_not() {
    let running = Running::start(Limits::default());
    assert_eq!(running.get("/health/ready").status, 200);
    for (phase, reason) in [
        (
            Phase::Recovering("2 of 9".to_string()),
            "recovering: 2 of 9",
        ),
        (Phase::Draining, "draining: the server is shutting down"),
    ] {
        running.health.set_phase(phase);
        let ready = running.get("/health/ready");
        assert_eq!(ready.status, 503);
        assert_eq!(ready.json()["reason"], reason);
        assert_eq!(running.get("/health/live").status, 200);
    }
}

#[test]
fn a_stuck_main_runtime_fails_liveness() {
    let clock = ManualClock::at_ms(0);
    let running = Running::start_with(Limits::default(), Metrics::new(true), clock.clone());
    assert_eq!(running.get("/health/live").status, 200);
    clock.advance(Duration::from_secs(60));
    let reply = running.get("/health/live");
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json()["status"], "unhealthy");
    assert_eq!(
        reply.json()["reason"],
        "the runtime has been stuck for 60 s"
    );
}

#[test]
fn info_shows_build_and_counts() {
    let running = Running::start(Limits::default());
    let reply = running.get("/info");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let info = reply.json();
    assert_eq!(info["name"], "streamline");
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(info["cluster_id"], "cluster");
    assert_eq!(info["counts"]["topics"], 3);
    assert!(
        info["build"]["rustc"]
            .as_str()
            .unwrap()
            .starts_with("rustc")
    );
    assert!(info["build"]["time"].as_u64().unwrap() > 0);
    assert!(info["uptime_seconds"].as_f64().unwrap() >= 0.0);
}

#[test]
fn the_index_lists_every_endpoint_and_each_of_them_answers() {
    let running = Running::start(Limits::default());
    let index = running.get("/");
    assert_eq!(index.status, 200);
    for (path, _) in ENDPOINTS {
        assert!(index.body.contains(path));
        assert_eq!(running.get(path).status, 200, "{path}");
    }
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let running = Running::start(Limits::default());
    for (path, _) in ENDPOINTS {
        let reply = running.ask("HEAD", path, "");
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.body, "");
        assert!(
            reply.header("content-length").is_some_and(|n| n != "0"),
            "{path}"
        );
    }
}

#[test]
fn unknown_paths_and_methods_are_refused_with_the_known_ones() {
    let running = Running::start(Limits::default());
    let reply = running.get("/nothing?x=1");
    assert_eq!(reply.status, 404);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let error = reply.json()["error"].to_string();
    assert!(
        error.contains("no such path: /nothing;") && error.contains("/health/live"),
        "{error}"
    );

    let reply = running.ask("POST", "/metrics", "content-length: 0\r\n");
    assert_eq!(reply.status, 405);
    assert_eq!(reply.header("allow"), Some("get,head"));
    assert!(
        reply.json()["error"]
            .as_str()
            .unwrap()
            .contains("/metrics does not accept POST")
    );
}

#[test]
fn a_large_body_is_refused_without_reading_it() {
    let running = Running::start(Limits::default());
    let reply = running.ask("GET", "/info", "content-length: 1000000\r\n");
    assert_eq!(reply.status, 413);
    assert_eq!(running.rejected(HttpRejection::BodyTooLarge), 1);
}

#[test]
fn a_head_that_does_not_arrive_closes_the_connection() {
    let running = Running::start(Limits {
        header_timeout: Duration::from_millis(100),
        ..Limits::default()
    });
    let mut slow = connect(running.addr());
    slow.write_all(b"GET /metrics HTT").unwrap();
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    eventually("the timeout is counted", || {
        running.rejected(HttpRejection::HeaderTimeout) == 1
    });

    let mut idle = connect(running.addr());
    idle.read_to_end(&mut rest).unwrap();
    assert_eq!(running.get("/health/live").status, 200);
    assert_eq!(
        running.rejected(HttpRejection::HeaderTimeout),
        1,
        "a client that sends nothing at all is closed without being counted"
    );
}

#[test]
fn bytes_that_are_not_http_are_counted_as_malformed() {
    let running = Running::start(Limits::default());
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"[..],
        &[b'a'; 40_000][..],
    ] {
        let mut stream = connect(running.addr());
        // The server may close before it has read everything.
        let _ = stream.write_all(garbage);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    eventually("both are counted", || {
        running.rejected(HttpRejection::Malformed) == 2
    });
}

#[test]
fn connections_of_one_address_are_limited() {
    let running = Running::start(Limits {
        connections_per_address_max: 2,
        ..Limits::default()
    });
    let held: Vec<_> = (0..2).map(|_| connect(running.addr())).collect();
    let reply = Reply::read(connect(running.addr()));
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json()["error"], "too many connections are open");
    assert_eq!(running.rejected(HttpRejection::TooManyConnections), 1);
    drop(held);
    eventually("closed connections free their permits", || {
        let mut stream = connect(running.addr());
        let request = "GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).is_ok() && text.starts_with("HTTP/1.1 200")
    });
}

#[test]
fn a_client_that_does_not_read_its_response_is_cut_off() {
    let metrics = Metrics::new(true);
    for topic in 0..200_000 {
        metrics.topic(&format!("topic-with-a-rather-long-name-{topic:08}"));
    }
    let running = Running::start_with(
        Limits {
            response_timeout: Duration::from_millis(300),
            ..Limits::default()
        },
        metrics,
        SystemClock::new(),
    );
    let mut stream = connect(running.addr());
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    // The connection is aborted while most of the response is still on the server's side: what the kernel holds can
    // be read, then comes the end or a reset, without the end of the body.
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(600) {
        std::thread::yield_now();
    }
    let mut rest = Vec::new();
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let announced: usize = String::from_utf8_lossy(&rest)
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .unwrap();
    assert!(rest.len() < announced, "{} of {announced}", rest.len());
}

#[test]
fn scrapers_that_read_nothing_share_one_budget_of_memory() {
    let metrics = Metrics::new(true);
    for topic in 0..200_000 {
        metrics.topic(&format!("topic-with-a-rather-long-name-{topic:08}"));
    }
    let one = PrometheusHandle::new(Arc::clone(&metrics)).render(Format::Text);
    let running = Running::start_with(
        Limits {
            expositions_bytes_max: one.len() * 5 / 2,
            ..Limits::default()
        },
        metrics,
        SystemClock::new(),
    );
    // Each has begun to arrive before the next is asked for.
    let slow: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = connect(running.addr());
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                .unwrap();
            stream.read_exact(&mut [0; 1]).unwrap();
            stream
        })
        .collect();
    eventually("the first two are cut off for the last two", || {
        running.rejected(HttpRejection::ResponseMemory) == 2
    });
    let reply = running.get("/metrics");
    assert!(
        reply.body.len() >= one.len(),
        "a client that reads gets it whole"
    );
    eventually("and another one for it", || {
        running.rejected(HttpRejection::ResponseMemory) == 3
    });
    for (index, mut stream) in slow.into_iter().enumerate() {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(rest.len() > one.len(), index == 3, "client {index}");
    }
}

#[tokio::test]
async fn a_slow_response_times_out() {
    let running = Running::start(Limits {
        request_timeout: Duration::from_millis(100),
        ..Limits::default()
    });
    running.health.watch_storage(|| {
        std::thread::park_timeout(Duration::from_millis(500));
        Ok(())
    });
    let reply = running.get("/health");
    assert_eq!(reply.status, 503);
    assert!(
        reply.json()["error"]
            .as_str()
            .unwrap()
            .contains("no answer within")
    );
    assert_eq!(running.rejected(HttpRejection::RequestTimeout), 1);
    assert_eq!(running.get("/health/live").status, 200);
}

#[tokio::test]
async fn stopping_closes_the_port_and_idle_connections() {
    let running = Running::start(Limits::default());
    let addr = running.addr();
    let mut idle = connect(addr);
    idle.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    idle.read_exact(&mut [0; 12]).unwrap();
    running.server.stop(TIMEOUT).await;
    idle.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(
        TcpStream::connect(addr).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}
