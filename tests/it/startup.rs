//! Start of the server: run.json, log, addresses, and starts that are refused.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::server::binary;
use crate::support::{Client, Server, until};
use streamline::protocol::messages::api_versions::ApiVersionsRequest;
use streamline::protocol::messages::metadata::MetadataRequest;

#[test]
fn run_json_log_and_info_show_the_addresses() {
    let server = Server::start();
    let text = std::fs::read_to_string(server.data_dir().join("run.json")).unwrap();
    let run: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(run["listen_addr"], server.kafka_addr().to_string());
    assert_eq!(run["http_addr"], server.http_addr().to_string());
    assert_eq!(run["pid"], server.pid());
    let log = server.log();
    for address in [server.kafka_addr(), server.http_addr()] {
        assert!(log.contains(&address.to_string()), "{address} in {log}");
    }
    assert!(log.lines().count() <= 8, "a few lines: {log}");
    let (status, info) = server.get("/info");
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(status, 200);
    assert_eq!(info["addresses"]["kafka"], server.kafka_addr().to_string());
    assert_eq!(info["cluster_id"], run["cluster_id"]);
}

#[test]
fn the_cluster_id_survives_restarts() {
    let mut server = Server::start();
    let id = |server: &Server| {
        let info: Value = serde_json::from_str(&server.get("/info").1).unwrap();
        info["cluster_id"].as_str().unwrap().to_string()
    };
    let first = id(&server);
    server.kill9();
    server.restart();
    assert_eq!(id(&server), first);
}

#[test]
fn metadata_returns_the_address_the_client_connected_to() {
    let server = Server::with(&["--listen-addr", ":0"]);
    let port = server.kafka_addr().port();
    for host in ["127.0.0.1", "127.0.0.2", "::1"] {
        let addr = std::net::SocketAddr::new(host.parse().unwrap(), port);
        if host == "::1" && TcpListener::bind((host, 0)).is_err() {
            continue; // a machine without IPv6
        }
        let response = Client::connect(addr).call(12, &MetadataRequest::default());
        assert_eq!(response.brokers[0].host, host);
        assert_eq!(response.brokers[0].port, i32::from(port));
    }
}

#[test]
fn metadata_returns_the_advertised_address_if_set() {
    let server = Server::with(&["--advertised-addr", "broker.example:19092"]);
    let response = server.connect().call(12, &MetadataRequest::default());
    assert_eq!(response.brokers[0].host, "broker.example");
    assert_eq!(response.brokers[0].port, 19092);
}

#[test]
fn a_second_server_on_the_same_data_directory_is_refused_with_the_pid_of_the_first() {
    let server = Server::start();
    let second = binary()
        .args(["--listen-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(server.data_dir())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let stderr = String::from_utf8(second.stderr).unwrap();
    assert!(stderr.contains("another server"), "{stderr}");
    assert!(
        stderr.contains(&format!("pid {}", server.pid())),
        "{stderr}"
    );
    server.connect().call(
        4,
        &ApiVersionsRequest {
            client_software_name: "test".to_string(),
            client_software_version: "1".to_string(),
            ..ApiVersionsRequest::default()
        },
    );
}

#[test]
fn a_port_in_use_is_reported_with_setting_and_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_addr = taken.local_addr().unwrap().to_string();
    for (taken_flag, free_flag) in [
        ("--listen-addr", "--http-addr"),
        ("--http-addr", "--listen-addr"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let refused = binary()
            .args([taken_flag, &taken_addr, free_flag, "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(dir.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{stderr}");
        let setting = taken_flag.trim_start_matches("--").replace('-', "_");
        assert!(
            stderr.contains(&setting) && stderr.contains(&taken_addr),
            "{stderr}"
        );
    }
}

#[test]
fn every_log_line_can_be_json() {
    let server = Server::with(&["--log-format", "json"]);
    // The server is ready before it has logged all of its start.
    until("the start is logged", || {
        server.log().contains(r#""durability":"acks""#)
    });
    for line in server.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string() && line["timestamp"].is_string());
    }
    let refused = binary()
        .args(["--log-format", "json", "--data-dir"])
        .arg(server.data_dir())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let stderr: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(stderr["level"], "ERROR");
    let message = stderr["message"].as_str().unwrap();
    assert!(message.contains("another server"), "{message}");
}
