//! Stopping: in order when asked once, at once when asked twice.

use std::time::Duration;

use crate::support::{Server, until};
use streamline::protocol::messages::api_versions::ApiVersionsRequest;

#[test]
fn a_signal_stops_the_server_in_order() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start();
        let mut client = server.connect();
        client.call(0, &ApiVersionsRequest::default());
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{signal}\n{}", server.log());
        assert!(client.is_closed());
        assert!(!server.data_dir().join("run.json").exists());
        assert!(server.log().contains("stopped"));
        server.restart();
        server.connect().call(0, &ApiVersionsRequest::default());
    }
}

#[test]
fn readiness_ends_before_the_port_closes() {
    let mut server = Server::with(&["--shutdown-grace-ms", "700"]);
    assert_eq!(server.get("/health/ready").0, 200);
    server.signal("TERM");
    until("readiness says 503", || {
        server.get("/health/ready").0 == 503
    });
    assert_eq!(server.get("/health/live").0, 200);
    // Still served, for those who have not noticed yet.
    server.connect().call(0, &ApiVersionsRequest::default());
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::with(&["--shutdown-grace-ms", "600000"]);
    server.signal("TERM");
    until("it is stopping", || server.get("/health/ready").0 == 503);
    server.signal("INT");
    let before = std::time::Instant::now();
    assert_eq!(server.wait().code(), Some(130));
    assert!(before.elapsed() < Duration::from_secs(5));
}
