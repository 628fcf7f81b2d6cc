//! Consumers that send requests and do not read the responses.

use streamline::protocol::kafka::encode_request;

use crate::kafka::{FETCH, batch, create, fetch_request, produce};
use crate::numbers::{numbered, read_numbers};
use crate::support::{Client, Server, until};

const CONSUMERS: usize = 40;
const BATCHES: usize = 64;
const VALUE_BYTES: usize = 128 << 10;

#[test]
fn consumers_that_stop_reading_are_disconnected_and_do_not_delay_others() {
    let mut server = Server::with(&[
        "--response-write-timeout-ms",
        "1000",
        "--queued-max-response-bytes",
        "1048576",
    ]);
    let mut reading = server.connect();
    let topic = create(&mut reading, "t", 1);
    for number in 0..BATCHES {
        let value = numbered(number, VALUE_BYTES);
        produce(&mut reading, &topic, 0, &batch(&[&value]));
    }
    let whole: Vec<usize> = (0..BATCHES).collect();
    assert_eq!(read_numbers(&mut reading, &topic, 0), whole);
    let before_kib = server.resident_kib();
    let request = fetch_request(&topic, &[(0, 0)]);
    let frame = encode_request(1, FETCH, None, &request).unwrap();
    let mut stopped: Vec<Client> = (0..CONSUMERS).map(|_| server.connect_narrow()).collect();
    for client in &mut stopped {
        // Each requests 160 MiB.
        client.send_raw(&frame.repeat(20)).unwrap();
    }
    let disconnected = |server: &Server| -> f64 {
        let metrics = server.metrics();
        ["response_not_taken", "response_memory"]
            .iter()
            .filter_map(|reason| {
                metrics.value("streamline_requests_rejected_total", &[("reason", reason)])
            })
            .sum()
    };
    let (mut rounds, mut most_kib, mut most_waiting) = (0, 0, 0.0_f64);
    until("all of them are disconnected", || {
        // A consumer that reads is served meanwhile.
        assert_eq!(read_numbers(&mut reading, &topic, 0), whole);
        rounds += 1;
        most_kib = most_kib.max(server.resident_kib());
        let waiting = server
            .metrics()
            .value("streamline_responses_waiting_bytes", &[]);
        most_waiting = most_waiting.max(waiting.unwrap());
        disconnected(&server) == CONSUMERS as f64
    });
    server.until_metric("streamline_connections_active", &[], Some(1.0));
    server.until_metric("streamline_responses_waiting_bytes", &[], Some(0.0));
    let grown_kib = most_kib.saturating_sub(before_kib);
    assert!(grown_kib < 32 << 10, "grew by {grown_kib} KiB");
    assert!(
        most_waiting <= 2_097_152.0,
        "{most_waiting} bytes were buffered"
    );
    assert!(server.is_running());
    println!(
        "figures: {CONSUMERS} consumers requested {} MiB and read nothing: at most {} KiB more resident, all disconnected and \
         counted; another consumer read the whole log {rounds} times meanwhile",
        (CONSUMERS * 20 * BATCHES * VALUE_BYTES) >> 20,
        grown_kib,
    );
}
