//! Several listeners: each has a port, and an advertised address for the clients that come in on it.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use streamline::protocol::kafka::encode_request;
use streamline::protocol::messages::api_versions::ApiVersionsRequest;
use streamline::protocol::messages::describe_cluster::DescribeClusterRequest;
use streamline::protocol::messages::find_coordinator::FindCoordinatorRequest;
use streamline::protocol::messages::metadata::MetadataRequest;

use crate::support::server::binary;
use crate::support::{Client, Server, until};

const TWO: &str = "INTERNAL://127.0.0.1:0,EXTERNAL://127.0.0.1:0";

/// Returns the address of a listener, from the server's log. The line follows run.json, with which the server has started.
fn addr_of(server: &Server, listener: &str) -> SocketAddr {
    let name = format!("listener={listener:?}");
    until(&name, || server.log().contains(&name));
    let log = server.log();
    let line = log.lines().find(|line| line.contains(&name)).unwrap();
    let addr = line.split("listen_addr=").nth(1).unwrap();
    addr.split(' ').next().unwrap().parse().unwrap()
}

/// Returns the address of the server in the responses that have one.
fn advertised(client: &mut Client) -> (String, i32) {
    let broker = client
        .call(12, &MetadataRequest::default())
        .brokers
        .remove(0);
    let cluster = client.call(2, &DescribeClusterRequest::default());
    let find = FindCoordinatorRequest {
        coordinator_keys: vec!["billing".to_owned()],
        ..FindCoordinatorRequest::default()
    };
    let coordinator = client.call(6, &find).coordinators.remove(0);
    let node = &cluster.brokers[0];
    assert_eq!((&node.host, node.port), (&broker.host, broker.port));
    assert_eq!(coordinator.host, broker.host);
    assert_eq!(coordinator.port, broker.port);
    (broker.host, broker.port)
}

#[test]
fn clients_get_the_advertised_address_of_the_listener_they_came_in_on() {
    let server = Server::with(&[
        "--listen-addr",
        TWO,
        "--advertised-addr",
        "EXTERNAL://kafka.example:19092",
    ]);
    let internal = addr_of(&server, "INTERNAL");
    let external = addr_of(&server, "EXTERNAL");
    assert_eq!(server.kafka_addr(), internal, "run.json has the first one");
    let expected = ("127.0.0.1".to_owned(), i32::from(internal.port()));
    assert_eq!(advertised(&mut Client::connect(internal)), expected);
    let expected = ("kafka.example".to_owned(), 19092);
    assert_eq!(advertised(&mut Client::connect(external)), expected);
}

/// Sends requests and reads no responses, until neither side can send any more.
fn leave_responses_unread(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    let timeout = Duration::from_millis(500);
    stream.set_write_timeout(Some(timeout)).unwrap();
    let request = encode_request(1, 0, None, &ApiVersionsRequest::default()).unwrap();
    let many = request.repeat(1000);
    while stream.write_all(&many).is_ok() {}
    stream
}

#[test]
fn all_listeners_close_before_requests_in_flight_are_finished() {
    let mut server = Server::with(&["--listen-addr", TWO]);
    let addrs = ["INTERNAL", "EXTERNAL"].map(|name| addr_of(&server, name));
    let in_flight = leave_responses_unread(addrs[0]);
    server.signal("TERM");
    until("both ports are closed", || {
        addrs.iter().all(|addr| TcpStream::connect(addr).is_err())
    });
    assert!(server.is_running(), "{}", server.log());
    drop(in_flight);
    assert!(server.wait().success());
}

#[test]
fn wrong_listeners_fail_the_start() {
    for (listen, advertised, reason) in [
        ("A://:0,a://:0", "a:1", "a listener name of its own"),
        ("SSL://:0", "a:1", "SSL and SASL are not supported yet"),
        (":0,:0", "a:1", "a listener name of its own"),
        (
            "A://:19092,B://h:19092",
            "A://a:1",
            "addresses that do not overlap",
        ),
        (
            TWO,
            "OTHER://a:1",
            "listeners in listen_addr: INTERNAL, EXTERNAL",
        ),
        (TWO, "a:1", "listeners in listen_addr: INTERNAL, EXTERNAL"),
    ] {
        let flags = ["--listen-addr", listen, "--advertised-addr", advertised];
        let output = binary().args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{listen} {advertised}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(reason), "{stderr}");
    }
}
