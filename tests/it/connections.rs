//! Limits and time-outs of connections, as seen by the client and in the metrics.

use crate::support::{Client, Server};
use streamline::protocol::kafka::encode_request;
use streamline::protocol::messages::api_versions::ApiVersionsRequest;
use streamline::protocol::messages::produce::ProduceRequest;

fn is_served(client: &mut Client) -> bool {
    let request = ApiVersionsRequest::default();
    client.call(0, &request).api_keys.len() > 5
}

fn rejected(server: &Server, reason: &str) -> Option<f64> {
    let labels = [("reason", reason)];
    let metrics = server.metrics();
    metrics.value("streamline_connections_rejected_total", &labels)
}

#[test]
fn connections_are_counted_while_they_are_open() {
    let server = Server::start();
    let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert!(is_served(client));
    }
    server.until_metric("streamline_connections_active", &[], Some(5.0));
    drop(clients);
    server.until_metric("streamline_connections_active", &[], Some(0.0));
    server.until_metric("streamline_connections_total", &[], Some(5.0));
}

#[test]
fn a_disconnect_in_mid_request_leaves_nothing_behind() {
    let server = Server::start();
    let mut staying = server.connect();
    assert!(is_served(&mut staying));
    let mut vanishing = server.connect();
    let frame = encode_request(1, 9, Some("test"), &ProduceRequest::default()).unwrap();
    vanishing.send_raw(&frame[..frame.len() / 2]).unwrap();
    server.until_metric("streamline_connections_active", &[], Some(2.0));
    drop(vanishing);
    server.until_metric("streamline_connections_active", &[], Some(1.0));
    let metrics = server.metrics();
    for error in ["false", "true"] {
        let labels = [("api_key", "produce"), ("error", error)];
        assert_eq!(metrics.value("streamline_requests_total", &labels), None);
    }
    assert!(is_served(&mut staying));
}

#[test]
fn max_connections_refuses_further_connections_until_one_closes() {
    let server = Server::with(&["--max-connections", "2"]);
    let mut first = server.connect();
    let mut second = server.connect();
    assert!(is_served(&mut first) && is_served(&mut second));
    assert!(server.connect().is_closed());
    assert_eq!(rejected(&server, "too_many"), Some(1.0));
    assert!(server.log().contains("max_connections reached"));
    drop(first);
    server.until_metric("streamline_connections_active", &[], Some(1.0));
    assert!(is_served(&mut server.connect()));
}

#[test]
fn max_connections_per_ip_does_not_affect_other_addresses() {
    let server = Server::with(&[
        "--max-connections-per-ip",
        "1",
        "--listen-addr",
        "0.0.0.0:0",
    ]);
    let mut first = server.connect();
    assert!(is_served(&mut first));
    assert!(server.connect().is_closed());
    assert_eq!(rejected(&server, "too_many_from_address"), Some(1.0));
    // A socket bound to another loopback address counts as another client address.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let other: std::net::SocketAddr = "127.0.0.9:0".parse().unwrap();
    socket.bind(&other.into()).unwrap();
    let target = std::net::SocketAddr::from(([127, 0, 0, 1], server.kafka_addr().port()));
    socket.connect(&target.into()).unwrap();
    let mut other = Client::over(socket.into());
    assert!(is_served(&mut other));
}

#[test]
fn idle_connections_are_closed() {
    let server = Server::with(&["--connections-max-idle-ms", "200"]);
    let mut client = server.connect();
    assert!(is_served(&mut client));
    assert!(client.is_closed());
    server.until_metric("streamline_connections_active", &[], Some(0.0));
}
