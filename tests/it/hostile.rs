//! Malformed, malicious and foreign input on the Kafka port: it closes only its own connection, takes hardly any memory,
//! is counted by reason and logged.

use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use crate::kafka::{
    batch, creatable, create, fetch_request, now_ms, only_partition, produce, produce_request,
    size_of,
};
use crate::support::{Client, PATIENCE, Server, pause, until};
use streamline::protocol::kafka::{ApiKey, ErrorCode, Request, Wire, encode_request};
use streamline::protocol::messages::api_versions::ApiVersionsRequest;
use streamline::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use streamline::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use streamline::protocol::messages::describe_groups::DescribeGroupsRequest;
use streamline::protocol::messages::fetch::FetchRequest;
use streamline::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use streamline::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use streamline::protocol::messages::metadata::MetadataRequest;
use streamline::protocol::messages::produce::ProduceRequest;
use streamline::record::{BatchBuilder, Compression};

#[track_caller]
fn assert_still_serving(server: &Server) {
    let response = server.connect().call(0, &ApiVersionsRequest::default());
    assert!(!response.api_keys.is_empty());
}

#[track_caller]
fn rejected(server: &Server, reason: &str, count: f64) {
    let labels = [("reason", reason)];
    server.until_metric("streamline_requests_rejected_total", &labels, Some(count));
}

/// Builds the frame of a request with any header and body.
fn frame(api_key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(api_key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(7_i32.to_be_bytes());
    frame.extend((-1_i16).to_be_bytes());
    frame.extend(body);
    let mut whole = (frame.len() as i32).to_be_bytes().to_vec();
    whole.extend(frame);
    whole
}

#[test]
fn other_protocols_on_the_kafka_port_are_named() {
    let server = Server::start();
    let hello = b"\x16\x03\x01\x00\xf1\x01\x00\x00\xed\x03\x03 and so on";
    for (bytes, reason, words) in [
        (&hello[..], "tls", "received a TLS handshake"),
        (
            b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            "http",
            "received an HTTP request",
        ),
        (
            b"POST / HTTP/1.1\r\n\r\n",
            "http",
            "received an HTTP request",
        ),
        (
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
            "other_protocol",
            "received an SSH banner; this port serves Kafka",
        ),
        (
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            "other_protocol",
            "received a PostgreSQL startup message; this port serves Kafka",
        ),
        (
            b"hello, is anybody there?",
            "frame_length",
            r#"first bytes "hello, is anybod"; allowed"#,
        ),
    ] {
        let mut client = server.connect();
        client.send_raw(bytes).unwrap();
        assert!(client.is_closed());
        assert!(server.log().contains(words), "{words}");
        let labels = [("reason", reason)];
        let metrics = server.metrics();
        let counted = metrics.value("streamline_requests_rejected_total", &labels);
        assert!(counted >= Some(1.0), "{reason}");
    }
    // The second of its kind from the same address is counted, but not logged again.
    rejected(&server, "http", 2.0);
    rejected(&server, "other_protocol", 2.0);
    assert_eq!(server.log().matches("received an HTTP request").count(), 1);
    assert_still_serving(&server);
}

#[test]
fn invalid_frame_lengths_close_the_connection() {
    let server = Server::start();
    let lengths = [-1, i32::MIN, i32::MAX, 0, 1, 7, 104_857_601];
    for length in lengths {
        let mut client = server.connect();
        client.send_raw(&i32::to_be_bytes(length)).unwrap();
        assert!(client.is_closed(), "{length}");
    }
    rejected(&server, "frame_length", lengths.len() as f64);
    assert_still_serving(&server);
}

#[test]
fn client_ids_that_are_not_utf_8_are_accepted() {
    let server = Server::start();
    let mut client = server.connect();
    for version in ApiVersionsRequest::VERSIONS {
        let request = ApiVersionsRequest {
            client_software_name: "c".to_owned(),
            client_software_version: "1".to_owned(),
            ..ApiVersionsRequest::default()
        };
        let frame = encode_request(version.into(), version, Some("caf?"), &request).unwrap();
        let mut frame = frame.to_vec();
        let letter = frame.iter().position(|byte| *byte == b'?').unwrap();
        frame[letter] = 0xe9;
        client.send_raw(&frame).unwrap();
        let (id, response) = client.receive::<ApiVersionsRequest>(version);
        assert_eq!(id, i32::from(version));
        assert!(!response.api_keys.is_empty());
    }
}

#[test]
fn unknown_apis_and_versions_close_the_connection_and_name_the_peer() {
    let server = Server::start();
    let mut client = server.connect();
    let peer = client.stream.local_addr().unwrap();
    client.send_raw(&frame(12_345, 0, b"")).unwrap();
    assert!(client.is_closed());
    let mut client = server.connect();
    client
        .send_raw(&frame(MetadataRequest::KEY as i16, 99, b"\0"))
        .unwrap();
    assert!(client.is_closed());
    rejected(&server, "unsupported", 2.0);
    let log = server.log();
    assert!(
        log.contains("12345") && log.contains(&peer.to_string()),
        "{log}"
    );
    let labels = [("api_key", "unknown"), ("error", "true")];
    server.until_metric("streamline_requests_total", &labels, Some(1.0));
    assert_still_serving(&server);
}

#[test]
fn false_array_lengths_allocate_no_memory_in_any_api_and_version() {
    let server = Server::start();
    let before_kib = server.resident_kib();
    let apis = server
        .connect()
        .call(0, &ApiVersionsRequest::default())
        .api_keys;
    let lies: [&[u8]; 4] = [
        b"\x7f\xff\xff\xff",
        b"\x00\xff\xff\xff\xff\x0f",
        b"\x00\xff\xff\xff\xff\x07\xff\xff\xff\xff\x07",
        b"\x00\x01\x61\x00\x00\x7f\xff\xff\xff\x7f\xff\xff\xff",
    ];
    let mut count = 0;
    for api in &apis {
        for version in api.min_version..=api.max_version {
            for lie in lies {
                count += 1;
                let mut client = server.connect();
                client.send_raw(&frame(api.api_key, version, lie)).unwrap();
                // Some of them are valid requests of some API and are answered. Nothing more is sent, so the connection
                // ends either way once the client's side is closed.
                client.stream.shutdown(std::net::Shutdown::Write).unwrap();
                let deadline = Instant::now() + PATIENCE;
                while client.receive_frame().is_ok() {
                    assert!(Instant::now() < deadline);
                }
            }
        }
    }
    assert_still_serving(&server);
    let grown_kib = server.resident_kib().saturating_sub(before_kib);
    assert!(grown_kib < 32 * 1024, "grew by {grown_kib} KiB");
    assert!(!server.log().contains("panic"), "{}", server.log());
    println!(
        "figures: {count} requests with false array lengths, to each version of {} APIs: {grown_kib} KiB more resident, no panic",
        apis.len()
    );
}

#[test]
fn announced_frames_that_never_arrive_hold_no_memory() {
    let server = Server::start();
    assert_still_serving(&server);
    let before_kib = server.resident_kib();
    let clients: Vec<Client> = (0..500)
        .map(|_| {
            let mut client = server.connect();
            // 100 MiB each, of which a kilobyte arrives.
            client.send_raw(&104_857_600_i32.to_be_bytes()).unwrap();
            client.send_raw(&[0; 1024]).unwrap();
            client
        })
        .collect();
    server.until_metric("streamline_connections_active", &[], Some(500.0));
    assert_still_serving(&server);
    let grown_kib = server.resident_kib().saturating_sub(before_kib);
    assert!(grown_kib < 500 * 96, "grew by {grown_kib} KiB");
    println!(
        "figures: {} announced frames of 100 MiB that never arrived: {grown_kib} KiB more resident",
        clients.len()
    );
    drop(clients);
    server.until_metric("streamline_connections_active", &[], Some(0.0));
}

#[test]
fn incomplete_requests_that_trickle_in_time_out() {
    let server = Server::with(&["--request-read-timeout-ms", "300"]);
    let mut client = server.connect();
    let request = frame(ApiKey::Metadata as i16, 1, &[0; 100]);
    let started = Instant::now();
    for byte in &request[..60] {
        if client.stream.write_all(&[*byte]).is_err() || started.elapsed() > PATIENCE {
            break;
        }
        pause();
        pause();
    }
    assert!(client.is_closed());
    rejected(&server, "timeout", 1.0);
    assert_still_serving(&server);
}

/// Opens `count` connections that each announce a request of `announced` bytes and send `sent` of them.
fn parts_of_requests(server: &Server, count: usize, announced: usize, sent: usize) -> Vec<Client> {
    let mut part = frame(ProduceRequest::KEY as i16, 9, &vec![0; sent]);
    part[..4].copy_from_slice(&(announced as i32).to_be_bytes());
    let connect = |_| {
        let mut client = server.connect();
        // Once memory is short, the socket may not accept all that the server does not read.
        client.stream.set_nonblocking(true).unwrap();
        let _ = client.send_raw(&part);
        client
    };
    (0..count).map(connect).collect()
}

#[test]
fn requests_hold_memory_for_arrived_bytes_and_not_for_announced_ones() {
    let server = Server::with(&["--queued-max-request-bytes", "33554432"]);
    let slow = parts_of_requests(&server, 30, 100 << 20, 200_000);
    until("all of it has arrived", || {
        let metrics = server.metrics();
        metrics.value("streamline_request_memory_bytes", &[]) >= Some(30.0 * 200_000.0)
    });
    let topic = create(&mut server.connect(), "beside", 1);
    let large = batch(&["x".repeat(900_000).as_str()]);
    for _ in 0..20 {
        produce(&mut server.connect(), &topic, 0, &large);
    }
    let metrics = server.metrics();
    let held = metrics.value("streamline_request_memory_bytes", &[]);
    assert!(held < Some(30.0 * 200_000.0 + 65_536.0), "{held:?}");
    let waits = metrics.value("streamline_request_memory_waits_total", &[]);
    assert_eq!(waits, Some(0.0));
    let active = metrics.value("streamline_connections_active", &[]);
    assert!(active >= Some(slow.len() as f64), "{active:?}");
}

#[test]
fn incomplete_requests_do_not_keep_other_clients_from_being_served() {
    const BUDGET: f64 = (4 << 20) as f64;
    let server = Server::with(&["--queued-max-request-bytes", "4194304"]);
    let mut ordinary = server.connect();
    let topic = create(&mut ordinary, "beside", 1);
    let slow = parts_of_requests(&server, 40, 1 << 20, 1_000_000);
    until("memory is short", || {
        // Small requests are served all the time.
        produce(&mut ordinary, &topic, 0, &batch(&["small"]));
        let metrics = server.metrics();
        metrics.value("streamline_connections_waiting_for_memory", &[]) > Some(0.0)
    });
    // Of those that wait for memory, the one that lacks the fewest bytes is served first.
    let mut large = server.connect();
    let records = batch(&["x".repeat(300_000).as_str()]);
    let request = produce_request(&topic, 1, &[(0, records.bytes().clone())]);
    large.send(9, &request);
    let rejected = [("reason", "request_memory")];
    until("memory is freed for the large request", || {
        produce(&mut ordinary, &topic, 0, &batch(&["small"]));
        let metrics = server.metrics();
        let held = metrics.value("streamline_request_memory_bytes", &[]);
        // One request may exceed the budget.
        assert!(held <= Some(BUDGET + 1_100_000.0), "{held:?}");
        metrics.value("streamline_requests_rejected_total", &rejected) >= Some(1.0)
    });
    let (_, response) = large.receive::<ProduceRequest>(9);
    assert_eq!(only_partition(response).error_code, ErrorCode::NONE);
    assert!(server.log().contains("queued_max_request_bytes"));
    let metrics = server.metrics();
    assert!(metrics.value("streamline_request_memory_waits_total", &[]) > Some(0.0));
    drop(slow);
    server.until_metric("streamline_connections_waiting_for_memory", &[], Some(0.0));
    server.until_metric("streamline_request_memory_bytes", &[], Some(0.0));
}

#[test]
fn waiting_fetches_release_their_memory_when_other_requests_need_it() {
    let server = Server::with(&["--queued-max-request-bytes", "1048576"]);
    let mut client = server.connect();
    let topic = create(&mut client, "silent", 1);
    let fetch = |partitions: usize| FetchRequest {
        max_wait_ms: i32::MAX,
        ..fetch_request(&topic, &vec![(0, 0); partitions])
    };
    let mut waiting: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for (each, partitions) in waiting.iter_mut().zip([20_000, 20_000, 3_000]) {
        for _ in 0..(60_000 / partitions) {
            each.send(12, &fetch(partitions));
        }
    }
    let answered = waiting[0].receive::<FetchRequest>(12).1;
    assert_eq!(answered.responses[0].partitions.len(), 20_000);
    assert_still_serving(&server);
}

#[test]
fn a_client_that_reads_no_responses_blocks_only_itself() {
    let server = Server::with(&["--response-write-timeout-ms", "300"]);
    let mut client = server.connect();
    client
        .stream
        .set_write_timeout(Some(std::time::Duration::from_millis(500)))
        .unwrap();
    let request = frame(ApiKey::ApiVersions as i16, 0, b"");
    let many: Vec<u8> = request
        .iter()
        .copied()
        .cycle()
        .take(request.len() * 1000)
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let before_kib = server.resident_kib();
    while client.stream.write_all(&many).is_ok() {
        assert!(Instant::now() < deadline, "is never pushed back");
    }
    assert_still_serving(&server);
    server.until_metric("streamline_connections_active", &[], Some(0.0));
    rejected(&server, "response_not_taken", 1.0);
    let grown_kib = server.resident_kib().saturating_sub(before_kib);
    assert!(grown_kib < 32 * 1024, "grew by {grown_kib} KiB");
}

#[test]
fn unread_responses_of_many_clients_are_bounded_by_one_budget() {
    const BUDGET: f64 = (1 << 20) as f64;
    // Memory that one connection may take on each of a few threads before it checks the budget again.
    const BURST: f64 = (16 << 20) as f64;
    let server = Server::with(&["--queued-max-response-bytes", "1048576"]);
    let mut reading = server.connect();
    create(&mut reading, "wide", 1000);
    let request = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    let response = reading.call(1, &request);
    let before_kib = server.resident_kib();
    let frame = encode_request(1, 1, None, &request).unwrap();
    let mut slow: Vec<Client> = (0..48).map(|_| server.connect_narrow()).collect();
    for each in &mut slow {
        // It may be disconnected before it has sent all of this.
        let _ = each.send_raw(&frame.repeat(200));
    }
    let rejected = [("reason", "response_memory")];
    until("those that hold the most are disconnected", || {
        let metrics = server.metrics();
        let held = metrics.value("streamline_responses_waiting_bytes", &[]);
        assert!(held <= Some(BUDGET + BURST), "{held:?} bytes are held");
        // A client that reads is served meanwhile.
        assert_eq!(reading.call(1, &request), response);
        metrics.value("streamline_requests_rejected_total", &rejected) >= Some(1.0)
    });
    let grown_kib = server.resident_kib().saturating_sub(before_kib);
    assert!(grown_kib < 64 * 1024, "grew by {grown_kib} KiB");
    assert!(server.log().contains("queued_max_response_bytes"));
    drop(slow);
    server.until_metric("streamline_responses_waiting_bytes", &[], Some(0.0));
    assert_eq!(reading.call(1, &request), response);
}

#[test]
fn random_bytes_close_only_their_own_connection() {
    let server = Server::start();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    for round in 0..300 {
        let mut client = server.connect();
        let length = (random() % 200) as usize;
        let bytes: Vec<u8> = (0..length).map(|_| random() as u8).collect();
        let bytes = if round % 3 == 0 {
            bytes
        } else {
            // A correct length and a known key, so that the body is decoded.
            frame((random() % 75) as i16, (random() % 14) as i16, &bytes)
        };
        // The server may have closed already.
        let _ = client.send_raw(&bytes);
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        while client.receive_frame().is_ok() {}
    }
    assert_still_serving(&server);
    assert!(!server.log().contains("panic"), "{}", server.log());
}

#[test]
fn batches_that_decompress_to_a_lot_do_not_block_other_clients() {
    let server = Server::start();
    let topic = create(&mut server.connect(), "bombs", 1);
    let mut builder = BatchBuilder::new(Compression::Zstd);
    builder.push(now_ms(), None, Some(&vec![0; 120 << 20]), &[]);
    let bomb = builder.build().unwrap().bytes().clone();
    assert!(bomb.len() < 64 << 10, "{}", bomb.len());
    // Takes much longer to process than this test runs.
    let request = produce_request(&topic, 1, &vec![(0, bomb); 400]);
    let version = *ProduceRequest::VERSIONS.end();
    // More attackers than the runtime has threads.
    let threads = std::thread::available_parallelism().map_or(4, usize::from);
    let mut attackers: Vec<_> = (0..=threads).map(|_| server.connect()).collect();
    for attacker in &mut attackers {
        attacker.send(version, &request);
    }
    until("the first batches are appended", || {
        let metrics = server.metrics();
        metrics.sum("streamline_log_end_offset", &[("topic", "bombs")]) > threads as f64
    });
    assert_still_serving(&server);
    let labels = [("api_key", "produce"), ("error", "false")];
    let answered = server
        .metrics()
        .value("streamline_requests_total", &labels)
        .unwrap_or_default();
    assert_eq!(
        answered, 0.0,
        "this client was served only after the attackers"
    );
}

/// Returns whether the response to a request has an error code and fits.
#[track_caller]
fn is_refused_in_a_response<R: Request>(server: &Server, request: &R) {
    for version in R::VERSIONS {
        let mut client = server.connect();
        client.send(version, request);
        let response = client.receive::<R>(version).1;
        assert!(response.has_error(), "{version}: {response:?}");
    }
}

#[test]
fn names_and_values_of_maximum_length_are_refused_in_a_response_that_fits() {
    let server = Server::start();
    create(&mut server.connect(), "t", 1);
    let long = "x".repeat(32_767);
    let topic = |name: &str, config: &str, value: &str| CreateTopicsRequest {
        topics: vec![CreatableTopic {
            configs: vec![CreatableTopicConfig {
                name: config.to_owned(),
                value: Some(value.to_owned()),
            }],
            ..creatable(name, 1, &[])
        }],
        timeout_ms: 1000,
        ..CreateTopicsRequest::default()
    };
    for (config, value) in [
        ("retention.ms", &*long),
        (&long, "1"),
        ("cleanup.policy", &long),
    ] {
        is_refused_in_a_response(&server, &topic("new", config, value));
        let edit = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: 2,
                resource_name: "t".to_owned(),
                configs: vec![AlterableConfig {
                    name: config.to_owned(),
                    config_operation: 0,
                    value: Some(value.to_owned()),
                }],
            }],
            ..IncrementalAlterConfigsRequest::default()
        };
        is_refused_in_a_response(&server, &edit);
    }
    is_refused_in_a_response(&server, &topic(&long, "retention.ms", "1"));
    is_refused_in_a_response(&server, &topic(&"\u{e9}".repeat(120), "retention.ms", "1"));
    let describe = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: long.clone(),
            configuration_keys: None,
        }],
        ..DescribeConfigsRequest::default()
    };
    is_refused_in_a_response(&server, &describe);
    let mut client = server.connect();
    let groups = DescribeGroupsRequest {
        groups: vec![long.clone()],
        ..DescribeGroupsRequest::default()
    };
    let highest = *DescribeGroupsRequest::VERSIONS.end();
    assert!(client.call(highest, &groups).has_error());
    // A member's id contains its name.
    let join = JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 1_000,
        protocol_type: "consumer".to_owned(),
        group_instance_id: Some(long),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            ..JoinGroupRequestProtocol::default()
        }],
        ..JoinGroupRequest::default()
    };
    let joined = client.call(5, &join);
    assert_eq!(joined.error_code, ErrorCode::NONE);
    assert!(joined.member_id.len() < 400);
    assert!(
        !server.log().contains("cannot be encoded"),
        "{}",
        server.log()
    );
}

#[test]
fn an_http_client_that_reads_no_response_is_disconnected() {
    // Long enough for an exposition to be rendered on a busy machine: one that is too late is answered instead.
    let server = Server::with(&["--http-request-timeout-ms", "3000"]);
    create(&mut server.connect(), "shown", 1_000);
    let mut client = TcpStream::connect(server.http_addr()).unwrap();
    let scrape = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // More than the sockets' buffers hold.
    client.write_all(&scrape.repeat(100)).unwrap();
    let labels = [("reason", "response_not_taken")];
    server.until_metric("streamline_http_rejected_total", &labels, Some(1.0));
}

#[test]
fn unread_fetch_responses_of_many_partitions_hold_little_memory() {
    let server = Server::start();
    let mut client = server.connect();
    let partitions = 600;
    let topic = create(&mut client, "many", partitions);
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(now_ms(), None, Some(&[7; 10_000]), &[]);
    let batch = builder.build().unwrap().bytes().clone();
    let all: Vec<_> = (0..partitions).map(|it| (it, batch.clone())).collect();
    client.call(9, &produce_request(&topic, 1, &all));
    let offsets: Vec<_> = (0..partitions).map(|it| (it, 0)).collect();
    let request = fetch_request(&topic, &offsets);
    let whole = client.call(12, &request);
    let sizes = whole.responses[0].partitions.iter().map(size_of);
    assert_eq!(sizes.sum::<usize>(), batch.len() * all.len());

    let before_kib = server.resident_kib();
    // Responses of 6 MiB each.
    for _ in 0..64 {
        client.send(12, &request);
    }
    let mut most_kib = 0;
    for _ in 0..200 {
        most_kib = most_kib.max(server.resident_kib());
        pause();
    }
    let grown_kib = most_kib.saturating_sub(before_kib);
    assert!(grown_kib < 96 * 1024, "grew by {grown_kib} KiB");
}
