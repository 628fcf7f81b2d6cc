//! `streamline health`, as a container's check runs it.

use std::process::Output;

use serde_json::Value;

use crate::support::Server;
use crate::support::server::binary;

fn health(server: &Server, arguments: &[&str]) -> Output {
    binary()
        .args(["health", "--data-dir"])
        .arg(server.data_dir())
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn a_running_server_is_healthy_by_every_question() {
    let server = Server::start();
    for question in [&[][..], &["--live"], &["--ready"]] {
        let output = health(&server, question);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{question:?}: {said}");
        assert!(said.starts_with("healthy"), "{said}");
    }
    let url = format!("http://{}/", server.http_addr());
    let output = binary().args(["health", "--url", &url]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_server_that_is_gone_or_wedged_is_unhealthy() {
    let mut server = Server::start();
    server.signal("STOP");
    let output = health(
        &server,
        &["--live", "--timeout-ms", "300", "--output", "json"],
    );
    server.signal("CONT");
    assert_eq!(output.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["healthy"], false);
    server.kill9();
    let output = health(&server, &[]);
    assert_eq!(output.status.code(), Some(1));
}
