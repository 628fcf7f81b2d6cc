//! A recovery that takes minutes.

use std::net::{SocketAddr, TcpListener};

use crate::clock;
use crate::kafka::create;
use crate::support::{Exposition, Server, pause};

const PARTITIONS: i32 = 400;
/// How long opening a file takes.
const OPEN_DELAY_US: u32 = 9_000;
/// How much faster the server's clocks run than the machine's, so that the test need not take the minutes it is about.
const SPEED: u32 = 20;
/// How long the recovery has to take on the server's clock for the test to say anything.
const RECOVERY_S: f64 = 300.0;

/// An address on which nothing listens.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
#[ignore = "needs strace, faketime, and root"]
fn a_recovery_of_minutes_is_live_from_beginning_to_end() {
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
        // One processor, so that the files are opened one after another on every machine.
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
        // Before HTTP is served nothing can be said.
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
        "it took {lasted_s} s only:\n{}",
        server.log()
    );
    assert!(recovering > 0, "readiness never said why");
    assert_eq!(server.get("/health/live").0, 200);
    println!(
        "figures: a recovery of {PARTITIONS} partitions took {lasted_s:.0} s on the server's clock; {probes} of {probes} \
         liveness probes were answered well"
    );
}
