//! A slow disk.

use std::thread;
use std::time::{Duration, Instant};

use crate::kafka::{Topic, batch, create, produce};
use crate::support::{Exposition, Server};
use crate::tampering::{Tampering, segment};

const DELAY: Duration = Duration::from_millis(60);
const PRODUCERS: u32 = 16;
/// Successive requests of each producer.
const ROUNDS: u32 = 6;

/// Produces with acks=all from all producers at once. Returns the shortest time of a request.
fn produce_together(server: &Server, topic: &Topic) -> Duration {
    thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = server.connect();
                    let rounds = (0..ROUNDS).map(|_| {
                        let began = Instant::now();
                        produce(&mut client, topic, 0, &batch(&["value"]));
                        began.elapsed()
                    });
                    rounds.min().unwrap()
                })
            })
            .collect();
        let quickest = producers
            .into_iter()
            .map(|producer| producer.join().unwrap());
        quickest.min().unwrap()
    })
}

/// Returns the number of flushes, and of the requests that they served.
fn flushes(metrics: &Exposition) -> (f64, f64) {
    let name = "streamline_log_flush_batches";
    let of = |part: &str| metrics.value(&format!("{name}_{part}"), &[]).unwrap();
    (of("count"), of("sum"))
}

#[test]
#[ignore = "needs strace, and root"]
fn a_slow_disk_enlarges_flush_groups_and_nothing_fails() {
    let server = Server::start();
    let mut client = server.connect();
    let topic = create(&mut client, "t", 1);
    produce(&mut client, &topic, 0, &batch(&["first"]));
    let before = flushes(&server.metrics());
    let slow = format!("delay_exit={}", DELAY.as_micros());
    let tampering = Tampering::with_fdatasync(&server, &segment(&server, "t-0"), &slow);
    let quickest = produce_together(&server, &topic);
    drop(tampering);
    let metrics = server.metrics();
    let after = flushes(&metrics);
    let (flushes, served) = (after.0 - before.0, after.1 - before.1);
    assert_eq!(served, f64::from(PRODUCERS * ROUNDS));
    assert!(quickest >= DELAY, "acknowledged after {quickest:?}");
    // Producers served by one flush send their next requests together, and share the next flush.
    let group = served / flushes;
    assert!(
        group >= f64::from(PRODUCERS) / 4.0,
        "{served} requests were served by {flushes} flushes"
    );
    let slow = metrics.value("streamline_log_flush_duration_seconds_sum", &[]);
    assert!(slow >= Some(flushes * DELAY.as_secs_f64()), "{slow:?}");
    let failures = metrics.value("streamline_log_flush_failures_total", &[]);
    assert_eq!(failures, Some(0.0));
    let refused = [("api_key", "produce"), ("error", "true")];
    assert_eq!(metrics.sum("streamline_requests_total", &refused), 0.0);
    assert_eq!(server.get("/health").0, 200);
    println!(
        "figures: each fdatasync took {} ms longer: {served} acks=all requests of {PRODUCERS} producers succeeded \
         with {flushes} of them",
        DELAY.as_millis()
    );
}
