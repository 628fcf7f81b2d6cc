//! `streamline health`, as run by the health check of a container.

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
fn a_running_server_passes_every_check() {
    let server = Server::start();
    for question in [&[][..], &["--live"], &["--ready"]] {
        let output = health(&server, question);
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{question:?}: {stdout}");
        assert!(stdout.starts_with("healthy"), "{stdout}");
    }
    let url = format!("http://{}/", server.http_addr());
    let output = binary().args(["health", "--url", &url]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_stopped_or_killed_server_is_unhealthy() {
    let mut server = Server::start();
    server.signal("STOP");
    let output = health(
        &server,
        &["--live", "--timeout-ms", "300", "--output", "json"],
    );
    server.signal("CONT");
    assert_eq!(output.status.code(), Some(1));
    let stdout: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(stdout["healthy"], false);
    server.kill9();
    let output = health(&server, &[]);
    assert_eq!(output.status.code(), Some(1));
}
