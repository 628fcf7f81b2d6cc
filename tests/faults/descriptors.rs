//! Fewer file descriptors than clients.

use std::process::Command;
use std::thread;
use std::time::Duration;

use streamline::protocol::messages::api_versions::ApiVersionsRequest;

use crate::kafka::{batch, create, fetch, produce, values_of};
use crate::support::{Client, Server, until};

/// Descriptors withheld from clients are for health checks, scrapes and the log.
#[test]
fn excess_clients_leave_descriptors_for_the_log_and_for_health() {
    const LIMIT: usize = 120;
    let server = Server::through(&["prlimit", &format!("--nofile={LIMIT}:{LIMIT}")], &[]);
    let mut first = server.connect();
    let topic = create(&mut first, "t", 1);
    let mut crowd: Vec<Client> = (0..2 * LIMIT).map(|_| server.connect()).collect();
    let slots = (LIMIT * 3 / 4) as f64;
    server.until_metric("streamline_connections_active", &[], Some(slots));
    let refused = 1.0 + crowd.len() as f64 - slots;
    let labels = [("reason", "too_many")];
    server.until_metric(
        "streamline_connections_rejected_total",
        &labels,
        Some(refused),
    );
    assert!(server.log().contains("open file limit"), "{}", server.log());
    assert_eq!(server.get("/health").0, 200);
    produce(&mut first, &topic, 0, &batch(&["in the crowd"]));

    let served = crowd.drain(..).filter_map(|mut client| {
        let is_served = !client.is_refused();
        is_served.then_some(client)
    });
    let mut served: Vec<Client> = served.collect();
    assert_eq!(served.len() as f64, slots - 1.0);
    served.pop();
    server.until_metric("streamline_connections_active", &[], Some(slots - 1.0));
    let mut next = server.connect();
    let found = values_of(&fetch(&mut next, &topic, 0, 0));
    assert_eq!(found, ["in the crowd"]);
    println!(
        "figures: {LIMIT} descriptors, {} clients: {slots} served, {refused} rejected and counted, log and health available",
        2 * LIMIT + 1
    );
}

fn limit_descriptors(server: &Server, limit: u64) {
    let status = Command::new("prlimit")
        .args(["--pid", &server.pid().to_string()])
        .arg(format!("--nofile={limit}:"))
        .status()
        .expect("prlimit is installed: apt-get install util-linux");
    assert!(status.success());
}

#[test]
fn without_descriptors_new_clients_wait_and_connected_ones_are_served() {
    let server = Server::start();
    let mut inside: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    let topic = create(&mut inside[0], "t", 1);
    produce(&mut inside[0], &topic, 0, &batch(&["before"]));
    for client in &mut inside {
        client.call(0, &ApiVersionsRequest::default());
    }
    // Keeps its connection open, since no other could be opened.
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .new_agent();
    let health = || {
        let url = format!("http://{}/health", server.http_addr());
        let mut response = agent.get(url).call().unwrap();
        response.body_mut().read_to_string().unwrap()
    };
    assert!(health().contains(r#""status":"healthy""#), "{}", health());
    limit_descriptors(&server, 3);

    let mut waiting: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.send(0, &ApiVersionsRequest::default());
    }
    until("it reports that it cannot accept connections", || {
        health().contains("cannot accept connections")
    });
    let before = server.cpu();
    let second = Duration::from_secs(1);
    thread::sleep(second);
    let spent = server.cpu() - before;
    assert!(spent < second / 4, "{spent:?} of CPU time while idle");
    for (number, client) in inside.iter_mut().enumerate() {
        let offset = produce(client, &topic, 0, &batch(&["meanwhile"]));
        assert_eq!(offset, number as i64 + 1);
    }

    limit_descriptors(&server, 1024);
    for client in &mut waiting {
        let (_, response) = client.receive::<ApiVersionsRequest>(0);
        assert!(!response.api_keys.is_empty());
    }
    until("it is healthy again", || server.get("/health").0 == 200);
    let log = server.log();
    assert!(log.contains("accepting connections again"), "{log}");
    assert_eq!(log.matches("cannot accept connections").count(), 1);
    println!(
        "figures: no descriptor left: {} connected clients served, {} waiting ones served once there were some, {} ms of CPU \
         time in a second of waiting",
        inside.len(),
        waiting.len(),
        spent.as_millis()
    );
}
