//! `fdatasync` that fails or does not return.

use streamline::protocol::kafka::ErrorCode;
use streamline::protocol::messages::produce::ProduceRequest;

use crate::kafka::{
    PRODUCE, batch, create, fetch, only_partition, produce, produce_request, try_produce, values_of,
};
use crate::support::{Server, until};
use crate::tampering::{Tampering, segment};

#[test]
#[ignore = "needs strace, and root"]
fn a_failed_fdatasync_is_never_acknowledged_and_stops_only_its_partition() {
    let mut server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "t", 2);
    for partition in [0, 1] {
        produce(&mut client, &topic, partition, &batch(&["kept"]));
    }
    // Fails once: a retry would succeed, although the data may be lost.
    let tampering =
        Tampering::with_fdatasync(&server, &segment(&server, "t-0"), "error=EIO:when=1");
    let refused = try_produce(&mut client, &topic, 0, &batch(&["lost"]));
    assert_eq!(refused.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
    let mut refusals = 1;
    for acks in [-1, 1] {
        let records = batch(&["more"]).bytes().clone();
        let request = produce_request(&topic, acks, &[(0, records)]);
        let refused = only_partition(client.call(PRODUCE, &request));
        assert_eq!(refused.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
        refusals += 1;
    }
    assert_eq!(values_of(&fetch(&mut client, &topic, 0, 0)), ["kept"]);
    server.until_metric("streamline_log_flush_failures_total", &[], Some(1.0));
    until("it is unhealthy", || server.get("/health").0 == 503);
    let (_, body) = server.get("/health");
    assert!(body.contains("storage") && body.contains("t-0"), "{body}");
    assert_eq!(server.get("/health/ready").0, 503);
    assert_eq!(server.get("/health/live").0, 200);

    // The other partition is not affected.
    produce(&mut client, &topic, 1, &batch(&["beside"]));
    let beside = values_of(&fetch(&mut client, &topic, 1, 0));
    assert_eq!(beside, ["kept", "beside"]);
    let calls = tampering.calls();
    assert_eq!(calls, 1, "fdatasync was retried");
    drop(tampering);
    let refused = try_produce(&mut client, &topic, 0, &batch(&["later"]));
    assert_eq!(refused.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
    refusals += 1;

    // A restart reads what is really on the disk.
    server.kill9();
    server.restart();
    let mut client = server.connect();
    let found = values_of(&fetch(&mut client, &topic, 0, 0));
    assert!(found == ["kept"] || found == ["kept", "lost"], "{found:?}");
    until("it is healthy again", || server.get("/health").0 == 200);
    let next = produce(&mut client, &topic, 0, &batch(&["again"]));
    assert_eq!(next, found.len() as i64);
    println!(
        "figures: fdatasync was called {calls} time and failed; {refusals} records were rejected; the other partition accepted \
         {} records",
        beside.len()
    );
}

#[test]
#[ignore = "needs strace, and root"]
fn a_hanging_fdatasync_delays_only_requests_that_wait_for_it() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "t", 2);
    for partition in [0, 1] {
        produce(&mut client, &topic, partition, &batch(&["before"]));
    }
    let minute_us = "delay_enter=60000000";
    let tampering = Tampering::with_fdatasync(&server, &segment(&server, "t-0"), minute_us);
    let mut waiting = server.connect();
    let records = batch(&["held"]).bytes().clone();
    waiting.send(
        PRODUCE,
        &ProduceRequest {
            timeout_ms: 1,
            ..produce_request(&topic, -1, &[(0, records)])
        },
    );
    let labels = [("topic", "t"), ("partition", "0")];
    server.until_metric("streamline_log_end_offset", &labels, Some(2.0));

    // acks=1 does not wait for the disk, and the other partition has its own files.
    let records = batch(&["behind"]).bytes().clone();
    let request = produce_request(&topic, 1, &[(0, records)]);
    let answered = only_partition(client.call(PRODUCE, &request));
    assert_eq!(
        (answered.error_code, answered.base_offset),
        (ErrorCode::NONE, 2)
    );
    for round in 0..20 {
        let offset = produce(&mut client, &topic, 1, &batch(&["beside"]));
        assert_eq!(offset, round + 1);
    }
    assert_eq!(server.get("/health/live").0, 200);
    assert_eq!(values_of(&fetch(&mut client, &topic, 0, 0)), ["before"]);

    let (_, answered) = waiting.receive::<ProduceRequest>(PRODUCE);
    let answered = only_partition(answered);
    assert_eq!(answered.error_code, ErrorCode::REQUEST_TIMED_OUT);
    assert_eq!(server.get("/health/live").0, 200);
    drop(tampering);
    let offset = produce(&mut client, &topic, 0, &batch(&["after"]));
    assert_eq!(offset, 3);
    let found = values_of(&fetch(&mut client, &topic, 0, 0));
    assert_eq!(found, ["before", "held", "behind", "after"]);
    println!(
        "figures: 1 fdatasync hung: its acks=all request timed out, 1 with acks=1 and 20 with acks=all to the other partition \
         succeeded"
    );
}
