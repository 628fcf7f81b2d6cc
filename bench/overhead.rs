//! What the metrics cost: `cargo bench --bench overhead`.
//!
//! Two measurements of the same server with `metrics = "on"` and `"off"`, over small produce and fetch requests sent
//! one after the other on one connection:
//!
//! * **Instructions a request** under valgrind's callgrind, which counts and does not time: the difference between a
//!   long and a short run, so that start-up and shutdown cancel out.
//! * **CPU time a request** (user + system, from `/proc/<pid>/task/*/schedstat`) of two servers running side by side,
//!   loaded in turn A B A B …, so that the machine's mood falls on both alike.
//!
//! The report goes to standard output and to `bench/reports/overhead.md`. It takes about three minutes; valgrind comes
//! from the package of that name.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use streamline::protocol::kafka::{self, Request};
use streamline::protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use streamline::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use streamline::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use streamline::record::{BatchBuilder, Compression};

const TOPIC: &str = "overhead";
const RECORD_BYTES: usize = 100;
/// Requests of a short and a long run under callgrind.
const COUNTED: [u64; 2] = [2_000, 6_000];
/// Runs under callgrind of each kind; threads interleave differently each time, so one is not enough.
const COUNTED_RUNS: usize = 3;
/// Requests of one timed turn, and how many turns each side has.
const TIMED: u64 = 20_000;
const TIMED_PAIRS: usize = 25;
const REPORT: &str = "bench/reports/overhead.md";

fn main() {
    let mut report = String::from(
        "# What the metrics cost\n\n\
         Written by `cargo bench --bench overhead`: one connection, one request at a time, records of 100 bytes,\n\
         acks=1, each request about 200 bytes. \"Over\" is metrics on against metrics off.\n\n",
    );
    instructions(&mut report);
    cpu_time(&mut report);
    println!("{report}");
    fs::create_dir_all("bench/reports").expect("the reports' directory can be made");
    fs::write(REPORT, report).expect("the report can be written");
    eprintln!("written to {REPORT}");
}

#[derive(Debug, Clone, Copy)]
enum Load {
    Produce,
    Fetch,
}

impl Load {
    const ALL: [Load; 2] = [Load::Produce, Load::Fetch];

    fn name(self) -> &'static str {
        match self {
            Load::Produce => "produce",
            Load::Fetch => "fetch",
        }
    }

    fn frame(self) -> Bytes {
        match self {
            Load::Produce => produce(),
            Load::Fetch => fetch(),
        }
    }
}

fn instructions(report: &mut String) {
    report.push_str(
        "## Instructions a request (callgrind)\n\n| request | on | off | over |\n|---|---|---|---|\n",
    );
    for load in Load::ALL {
        let mut sides = [("on", Vec::new()), ("off", Vec::new())];
        for run in 0..COUNTED_RUNS {
            for (metrics, counts) in &mut sides {
                eprintln!(
                    "callgrind: {}, metrics {metrics}, run {}",
                    load.name(),
                    run + 1
                );
                let [short, long] = COUNTED.map(|requests| count(load, metrics, requests));
                counts.push((long as f64 - short as f64) / (COUNTED[1] - COUNTED[0]) as f64);
            }
        }
        let [on, off] = sides.map(|(_, counts)| median(counts));
        let _ = writeln!(
            report,
            "| {} | {on:.0} | {off:.0} | {:+.2} % |",
            load.name(),
            (on / off - 1.0) * 100.0
        );
    }
    let _ = writeln!(
        report,
        "\nMedian of {COUNTED_RUNS} runs of each; a run is the difference between {} and {} requests, divided by {}.\n\
         Callgrind sees user space alone. What the kernel does for a request comes on top of both sides, so that the share\n\
         of the whole is smaller than the one shown.\n",
        COUNTED[1],
        COUNTED[0],
        COUNTED[1] - COUNTED[0],
    );
}

/// Runs `requests` requests against a server under callgrind and returns the instructions of its whole life.
fn count(load: Load, metrics: &str, requests: u64) -> u64 {
    let out = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let mut valgrind = Command::new("valgrind");
    valgrind
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.path().display()))
        .arg(env!("CARGO_BIN_EXE_streamline"));
    let mut server = Server::start(valgrind, metrics);
    server.client.run(&load.frame(), requests);
    server.stop();
    let profile = fs::read_to_string(out.path()).expect("callgrind wrote its profile");
    profile
        .lines()
        .find_map(|line| {
            line.strip_prefix("totals: ")
                .or(line.strip_prefix("summary: "))
        })
        .and_then(|total| total.trim().parse().ok())
        .expect("the profile has a total")
}

fn cpu_time(report: &mut String) {
    report.push_str(
        "## CPU time a request (user + system)\n\n\
         | request | on, µs | off, µs | over, median of pairs | over, middle half of pairs | in the kernel |\n|---|---|---|---|---|---|\n",
    );
    let plain = || Command::new(env!("CARGO_BIN_EXE_streamline"));
    let mut servers = [Server::start(plain(), "on"), Server::start(plain(), "off")];
    for load in Load::ALL {
        let frame = load.frame();
        let mut times = [Vec::new(), Vec::new()];
        let ticks = servers[0].ticks();
        for pair in 0..=TIMED_PAIRS {
            eprintln!("CPU time: {}, pair {pair} of {TIMED_PAIRS}", load.name());
            for (server, times) in servers.iter_mut().zip(&mut times) {
                let before = server.cpu();
                server.client.run(&frame, TIMED);
                let spent = server.cpu() - before;
                // The first pair warms up and does not count.
                if pair > 0 {
                    times.push(spent.as_secs_f64() * 1e6 / TIMED as f64);
                }
            }
        }
        let [user, kernel] = [0, 1].map(|i| servers[0].ticks()[i] - ticks[i]);
        let [on, off] = times;
        let mut over: Vec<f64> = on
            .iter()
            .zip(&off)
            .map(|(on, off)| (on / off - 1.0) * 100.0)
            .collect();
        over.sort_by(f64::total_cmp);
        let _ = writeln!(
            report,
            "| {} | {:.2} | {:.2} | {:+.2} % | {:+.2} … {:+.2} % | {:.0} % |",
            load.name(),
            median(on),
            median(off),
            median(over.clone()),
            over[over.len() / 4],
            over[over.len() * 3 / 4],
            100.0 * kernel / (user + kernel),
        );
    }
    for server in &mut servers {
        server.stop();
    }
    let _ = writeln!(
        report,
        "\n{TIMED_PAIRS} pairs of {TIMED} requests, interleaved."
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A server of its own, on a directory of its own, with a topic and one record in it.
struct Server {
    process: Child,
    client: Client,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start(mut command: Command, metrics: &str) -> Server {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let process = command
            .args(["--listen-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"])
            .args(["--log-level", "warn", "--metrics", metrics, "--data-dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server can be started (is valgrind installed?)");
        let mut client = Client::connect(&listen_addr(dir.path()));
        client.run(&create_topic(), 1);
        client.run(&produce(), 1);
        Server {
            process,
            client,
            _dir: dir,
        }
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What the server's threads have spent on a CPU so far.
    fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the server runs");
        let spent = tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
            .filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok())
            .sum();
        Duration::from_nanos(spent)
    }

    /// Time in user space and in the kernel so far, in the clock ticks of proc(5).
    fn ticks(&self) -> [f64; 2] {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        // The command's name, in parentheses, may hold spaces; utime and stime are the 12th and 13th fields behind it.
        let (_, fields) = stat.rsplit_once(')').expect("the name is in parentheses");
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        [11, 12].map(|i| fields[i].parse().expect("ticks are numbers"))
    }

    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("the server can be signalled");
        let status = self.process.wait().expect("the server can be awaited");
        assert!(status.success(), "the server ended with {status}");
    }
}

/// Waits for the server to say where it listens.
fn listen_addr(dir: &Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Ok(text) = fs::read_to_string(dir.join("run.json"))
            && let Ok(run) = serde_json::from_str::<serde_json::Value>(&text)
            && let Some(address) = run["listen_addr"].as_str()
        {
            return address.to_owned();
        }
        assert!(
            Instant::now() < deadline,
            "the server did not start in a minute"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Client {
    stream: TcpStream,
    response: Vec<u8>,
}

impl Client {
    fn connect(address: &str) -> Client {
        let stream = TcpStream::connect(address).expect("the server accepts connections");
        stream
            .set_nodelay(true)
            .expect("a TCP socket takes TCP_NODELAY");
        Client {
            stream,
            response: Vec::new(),
        }
    }

    /// Sends the same request so many times, each after the answer to the last.
    fn run(&mut self, frame: &[u8], requests: u64) {
        for _ in 0..requests {
            self.stream.write_all(frame).expect("the server reads");
            let mut length = [0; 4];
            self.stream
                .read_exact(&mut length)
                .expect("the server answers");
            self.response.resize(u32::from_be_bytes(length) as usize, 0);
            self.stream
                .read_exact(&mut self.response)
                .expect("the server answers whole");
        }
    }
}

fn encode<R: Request>(version: i16, request: &R) -> Bytes {
    kafka::encode_request(1, version, Some("overhead"), request)
        .expect("the request fits its version")
}

fn create_topic() -> Bytes {
    encode(
        5,
        &CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: TOPIC.into(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            }],
            timeout_ms: 10_000,
            ..Default::default()
        },
    )
}

fn produce() -> Bytes {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(1_700_000_000_000, None, Some(&[b'x'; RECORD_BYTES]), &[]);
    let batch = batch.build().expect("one record makes a batch");
    encode(
        9,
        &ProduceRequest {
            acks: 1,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                name: TOPIC.into(),
                partition_data: vec![PartitionProduceData {
                    index: 0,
                    records: Some(batch.bytes().clone()),
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
    )
}

/// Asks for the first batch of the topic alone.
fn fetch() -> Bytes {
    encode(
        12,
        &FetchRequest {
            replica_id: -1,
            max_wait_ms: 1_000,
            min_bytes: 1,
            max_bytes: 1,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: TOPIC.into(),
                partitions: vec![FetchPartition {
                    partition: 0,
                    current_leader_epoch: -1,
                    fetch_offset: 0,
                    partition_max_bytes: 1,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
    )
}
