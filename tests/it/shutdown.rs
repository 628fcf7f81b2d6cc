//! Shutdown: orderly after one signal, immediate after two.

use std::fs::File;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use crate::support::server::binary;
use crate::support::{Server, until};
use streamline::protocol::messages::api_versions::ApiVersionsRequest;
use streamline::protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use streamline::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};

#[test]
fn a_signal_shuts_the_server_down_cleanly() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start();
        let mut client = server.connect();
        client.call(0, &ApiVersionsRequest::default());
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{signal}\n{}", server.log());
        assert!(client.is_closed());
        assert!(!server.data_dir().join("run.json").exists());
        assert!(server.log().contains("server stopped"));
        server.restart();
        server.connect().call(0, &ApiVersionsRequest::default());
    }
}

#[test]
fn readiness_fails_before_the_port_closes() {
    let mut server = Server::with(&["--shutdown-grace-ms", "700"]);
    assert_eq!(server.get("/health/ready").0, 200);
    server.signal("TERM");
    until("readiness says 503", || {
        server.get("/health/ready").0 == 503
    });
    assert_eq!(server.get("/health/live").0, 200);
    // Clients that have not noticed yet are still served.
    server.connect().call(0, &ApiVersionsRequest::default());
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_waiting_fetch_is_answered_at_shutdown() {
    let mut server = Server::start();
    let mut client = server.connect();
    let topic = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "orders".to_string(),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        }],
        timeout_ms: 10_000,
        ..CreateTopicsRequest::default()
    };
    let created = client.call(5, &topic);
    assert!(!created.topics[0].error_code.is_error(), "{created:?}");
    let fetch = FetchRequest {
        max_wait_ms: i32::MAX,
        min_bytes: 1,
        max_bytes: i32::MAX,
        topics: vec![FetchTopic {
            topic: "orders".to_string(),
            partitions: vec![FetchPartition {
                partition_max_bytes: 1_000_000,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    let sent = client.send(12, &fetch);
    // A fetch that arrives after the signal would not be answered at all.
    server.until_metric("streamline_fetches_waiting", &[], Some(1.0));
    let before = std::time::Instant::now();
    server.signal("TERM");
    let (id, response) = client.receive::<FetchRequest>(12);
    assert_eq!(id, sent);
    let partition = &response.responses[0].partitions[0];
    assert!(!partition.error_code.is_error(), "{partition:?}");
    assert_eq!(server.wait().code(), Some(0));
    assert!(before.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_second_signal_exits_immediately() {
    let mut server = Server::with(&["--shutdown-grace-ms", "600000"]);
    server.signal("TERM");
    until("it is shutting down", || {
        server.get("/health/ready").0 == 503
    });
    server.signal("INT");
    let before = std::time::Instant::now();
    assert_eq!(server.wait().code(), Some(130));
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_signal_exits_during_recovery_and_readiness_reports_its_progress() {
    let mut server = Server::start();
    let created = binary()
        .args(["topics", "create", "orders", "--bootstrap-server"])
        .arg(server.kafka_addr().to_string())
        .output();
    assert!(created.unwrap().status.success());
    server.kill9();
    let segment = server.data_dir().join("orders-0/00000000000000000000.log");
    // A sparse file of zeros, which takes minutes to scan.
    let log = File::options().write(true).open(segment).unwrap();
    log.set_len(1 << 38).unwrap();
    let http_addr = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    let mut recovering = binary()
        .args(["--listen-addr", "127.0.0.1:0", "--http-addr", &http_addr])
        .arg("--data-dir")
        .arg(server.data_dir())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("readiness reports the progress", || {
        let ready = ureq::get(format!("http://{http_addr}/health/ready"))
            .config()
            .http_status_as_error(false)
            .build()
            .call();
        let body = ready.and_then(|mut ready| ready.body_mut().read_to_string());
        body.is_ok_and(|body| body.contains("0 of 1 logs opened"))
    });
    let pid = recovering.id().to_string();
    let killed = std::process::Command::new("kill").arg(&pid).status();
    assert!(killed.unwrap().success());
    until("it has ended", || recovering.try_wait().unwrap().is_some());
    assert_eq!(recovering.wait().unwrap().code(), Some(0));
    log.set_len(0).unwrap();
    server.restart();
}
