//! A recovery that takes minutes.

use std::net::{SocketAddr, TcpListener};

use crate::clock;
use crate::kafka::create;
use crate::support::{Exposition, Server, pause};

const PARTITIONS: i32 = 400;
/// Delay of each open.
const OPEN_DELAY_US: u32 = 9_000;
/// Speed of the server's clocks relative to the machine's, so that the test does not take minutes.
const SPEED: u32 = 20;
/// Minimum duration of the recovery on the server's clock for the test to be meaningful.
const RECOVERY_S: f64 = 300.0;

/// Returns an address on which nothing listens.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
#[ignore = "needs strace, faketime, and root"]
fn liveness_holds_throughout_a_recovery_of_minutes() {
    let http_addr = free_address();
    let mut server = Server::with(&["--http-addr", &http_addr.to_string()]);
    let names: Vec<String> = (0..4).map(|number| format!("t{number}")).collect();
    for name in &names {
        create(&mut server.connect(), name, PARTITIONS / 4);
    }
    server.kill9();

    let traced = server.scratch().join("strace").display().to_string();
    let preload = format!("LD_PRELOAD={}", clock::library().display());
    server.set_wrapper(&[
        // One processor, so that files are opened sequentially on every machine.
        "taskset",
        "--cpu-list",
        "0",
        "strace",
        // The tracer becomes a grandchild, so that the child is the server.
        "-D",
        "-f",
        "--seccomp-bpf",
        "-o",
        &traced,
        "-e",
        "trace=openat",
        "-e",
        &format!("inject=openat:delay_enter={OPEN_DELAY_US}"),
        "env",
        &preload,
        &format!("FAKETIME=+0 x{SPEED}"),
    ]);
    server.launch();

    let (mut probes, mut recovering, mut lasted_s) = (0, 0, 0.0);
    while !server.has_started() {
        pause();
        // HTTP is not served yet.
        let Ok((status, live)) = server.try_get(http_addr, "/health/live") else {
            assert_eq!(probes, 0, "HTTP was served before");
            continue;
        };
        assert_eq!(status, 200, "after {lasted_s} s: {live}");
        probes += 1;
        let (status, ready) = server.try_get(http_addr, "/health/ready").unwrap();
        recovering += u32::from(status == 503 && ready.contains("recovering"));
        let (_, metrics) = server.try_get(http_addr, "/metrics").unwrap();
        let uptime = Exposition::new(metrics).value("streamline_uptime_seconds", &[]);
        lasted_s = uptime.unwrap();
    }
    assert!(
        lasted_s >= RECOVERY_S,
        "it took only {lasted_s} s:\n{}",
        server.log()
    );
    assert!(recovering > 0, "readiness never reported recovery");
    assert_eq!(server.get("/health/live").0, 200);
    println!(
        "figures: a recovery of {PARTITIONS} partitions took {lasted_s:.0} s on the server's clock; {probes} of {probes} \
         liveness probes succeeded"
    );
}
